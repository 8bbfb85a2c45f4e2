/** How soon a trace of 50,000 spans is there: `npm run speed`, with SCOUTER_SERVER_BIN naming the server. Prints milliseconds; asserts nothing. */
import { performance } from "node:perf_hooks";
import { startBrowser, Visitor } from "./browser";
import { HUGE_SPANS, seed } from "./seed";
import { startServer } from "./server";

const ROUNDS = 9;

const server = await startServer();
const browser = await startBrowser();
try {
  const seeded = await seed(server);
  const visitor = await Visitor.create(browser, server);
  await visitor.enter("/search");
  const rows: Record<string, number[]> = {
    "answer, read to its end": [],
    "first picture": [],
    "scrolled to the end": [],
  };
  for (let round = 0; round <= ROUNDS; round++) {
    const page = await visitor.context.newPage();
    // The token is in the tab's own storage and is handed over by the others.
    const started = performance.now();
    await page.goto(`${server.url}/trace/${seeded.huge}`, { waitUntil: "commit" });
    await page.locator(".row").first().waitFor();
    // The frame after the next one has been painted.
    const times = await page.evaluate(
      () =>
        new Promise<{ painted: number; answered: number }>(resolve =>
          requestAnimationFrame(() =>
            setTimeout(() => {
              const asked = performance
                .getEntriesByType("resource")
                .find(entry => entry.name.includes("/api/v1/traces/"));
              resolve({
                painted: performance.now(),
                answered: (asked as PerformanceResourceTiming | undefined)?.responseEnd ?? Number.NaN,
              });
            }),
          ),
        ),
    );
    const scrolling = performance.now();
    await page.locator(".waterfall").focus();
    await page.keyboard.press("End");
    await page.locator(`#span-${HUGE_SPANS - 1}.selected`).waitFor();
    if (round > 0) {
      rows["answer, read to its end"]!.push(times.answered);
      rows["first picture"]!.push(times.painted);
      rows["scrolled to the end"]!.push(performance.now() - scrolling);
    } else {
      process.stdout.write(
        `${HUGE_SPANS} spans; the first time ${(performance.now() - started).toFixed(0)} ms in all\n`,
      );
    }
    await page.close();
  }
  for (const [name, times] of Object.entries(rows)) {
    times.sort((a, b) => a - b);
    const at = (share: number) => times[Math.floor((times.length - 1) * share)]!.toFixed(0);
    process.stdout.write(`${name}: median ${at(0.5)} ms, ${at(0)} to ${at(1)} ms\n`);
  }
  await visitor.context.close();
} finally {
  await browser.close();
  await server.stop();
}
