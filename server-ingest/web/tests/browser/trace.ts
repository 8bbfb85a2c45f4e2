import assert from "node:assert/strict";
import { test } from "node:test";
import { picture, query, Visitor } from "./browser";
import type { World } from "./page.test";
import { HUGE_SPANS } from "./seed";

export function traceTests(world: World): void {
  test("from the list to the error it is one click, and another to any span of its trace", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/search");
    await page.locator(".result-error").first().click();
    await page.waitForURL(`**/trace/${world.seeded.failed}*`);
    assert.equal(query(page).get("span"), world.seeded.failedSpan);
    await page.locator(".failure-message").getByText("no sources to check the answer against").waitFor();
    await page.locator(".exception").getByText("NoSources").first().waitFor();
    await page.locator(".row.selected.error").waitFor();
    await picture(page, "span");
    await page.getByRole("button", { name: "Close the span" }).click();
    await picture(page, "trace");
    await page.getByRole("button", { name: "1 error" }).click();
    await page.locator(".failure-message").waitFor();
    assert.equal(query(page).get("span"), world.seeded.failedSpan);
    await visitor.close();
  });

  test("a span shows its attributes with types, its events and its messages", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter(`/trace/${world.seeded.failed}`);
    await page.locator(".row").getByText("POST /ask").click();
    const row = (key: string) =>
      page.locator(".attributes tr", {
        has: page.locator("th", { hasText: new RegExp(`^${key.replaceAll(".", "\\.")}$`) }),
      });
    for (const [key, value, type] of [
      ["http.route", "/ask", "string"],
      ["http.response.status_code", "200", "int"],
      ["service.version", "1.4.2", "string"],
    ] as const) {
      assert.equal(await row(key).locator(".value").innerText(), value);
      assert.equal(await row(key).locator(".type").innerText(), type);
    }
    await page.locator(".row").getByText("relevance").click();
    await row("score.relevance").waitFor();
    assert.equal(await row("score.relevance").locator(".type").innerText(), "double");
    await page.locator(".row").getByText("execute_tool").click();
    await page.locator(".event-name").getByText("cache.miss").waitFor();
    await page.locator(".said.tool").getByText("order_id").waitFor();
    await page.locator(".row").getByText("chat tiny-answerer").first().click();
    await page.locator(".details .said.user").first().waitFor();
    assert.equal(await row("gen_ai.request.temperature").locator(".value").innerText(), "0.2");

    await row("gen_ai.request.model").hover();
    await row("gen_ai.request.model").getByRole("button", { name: "find" }).click();
    await page.waitForURL(/\/search/);
    assert.deepEqual(query(page).getAll("attr"), ["gen_ai.request.model[string]=tiny-answerer"]);
    assert.equal(query(page).get("start"), null, "the range that was chosen");
    await page.locator(".result").first().waitFor();
    await visitor.close();
  });

  test("keys walk, fold and find; the address holds what is shown", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter(`/trace/${world.seeded.failed}`);
    const rows = page.locator(".row");
    await rows.first().waitFor();
    const all = await rows.count();
    await rows.first().click();
    await page.locator(".waterfall").focus();
    await page.keyboard.press("ArrowLeft");
    await page.waitForFunction(() => document.querySelectorAll(".row").length === 1);
    assert.equal(await rows.first().getAttribute("aria-expanded"), "false");
    await page
      .locator(".row .badge.bad")
      .getByText(`+${all - 1}`)
      .waitFor();
    // What hides the error unfolds by itself.
    await page.keyboard.press("e");
    await page.locator(".row.selected.error").waitFor();
    await page.keyboard.press("ArrowUp");
    await page.locator(".row.selected").getByText("relevance").waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".details").waitFor({ state: "detached" });

    await page.keyboard.press("/");
    await page.keyboard.type("postgres");
    await page.keyboard.press("Enter");
    await page.locator(".row.selected.found").getByText("SELECT documents").waitFor();
    await page.keyboard.press("Escape");
    await page.keyboard.press("c");
    await page.waitForURL(/critical=off/);
    assert.equal(await page.locator(".critical").count(), 0);
    await page.keyboard.press("c");
    await page.locator(".critical").first().waitFor();

    const box = (await page.locator(".minimap").boundingBox())!;
    await page.mouse.move(box.x + box.width * 0.5, box.y + 20);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.8, box.y + 20, { steps: 4 });
    await page.mouse.up();
    await page.waitForURL(/zoom=\d+-\d+/);
    assert.equal(query(page).get("find"), "postgres");
    await page.locator(".bar.cut-left.cut-right").first().waitFor();
    await page.getByRole("button", { name: "Show all" }).click();
    await page.waitForURL(address => !address.search.includes("zoom"));
    await visitor.close();
  });

  test("a link leads to the span in the other trace, and names that are HTML are text", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter(`/trace/${world.seeded.linking}`);
    await page.locator(".row .span-name").getByText("<img src=x onerror=alert(1)>").waitFor();
    assert.equal(await page.locator("img").count(), 0);
    await page.locator(".row").first().click();
    await page.locator(".links a").click();
    await page.waitForURL(`**/trace/${world.seeded.failed}?span=${world.seeded.failedSpan}`);
    await page.locator(".failure-message").waitFor();
    await visitor.close();
  });

  test(`a trace of ${HUGE_SPANS} spans keeps the document small wherever one looks`, async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter(`/trace/${world.seeded.huge}`);
    const isSmall = async (where: string) => {
      const [rows, nodes] = await page.evaluate(
        () => [document.querySelectorAll(".row").length, document.querySelectorAll("*").length] as const,
      );
      assert.ok(rows > 10 && rows < 100 && nodes < 3000, `${where}: ${rows} rows, ${nodes} nodes`);
    };
    await page.locator(".row").first().waitFor();
    assert.equal(await page.locator(".waterfall").getAttribute("aria-rowcount"), String(HUGE_SPANS));
    await isSmall("at the start");
    await picture(page, "huge");
    await page.locator(".waterfall").evaluate(element => {
      element.scrollTop = element.scrollHeight / 2;
    });
    await page.waitForFunction(
      () => !document.getElementById("span-0") && document.querySelectorAll(".row").length > 10,
    );
    await isSmall("in the middle");
    await page.locator(".waterfall").focus();
    await page.keyboard.press("End");
    await page.locator(`#span-${HUGE_SPANS - 1}.selected`).waitFor();
    await isSmall("at the end");
    await page.locator(".pairs").getByText("span id", { exact: true }).waitFor();

    await page.keyboard.press("e");
    await page.locator(".row.selected.error").waitFor();
    await page.locator(".failure-message").getByText("the chunk is empty").waitFor();
    const first = query(page).get("span");
    await page.keyboard.press("e");
    await page.waitForFunction(old => new URL(location.href).searchParams.get("span") !== old, first);
    await page.locator(".failure-message").getByText("the chunk is empty").waitFor();

    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Fold all" }).click();
    await page.waitForFunction(() => document.querySelector(".waterfall")?.getAttribute("aria-rowcount") === "101");
    await page.keyboard.press("]");
    await page.waitForFunction(
      count => document.querySelector(".waterfall")?.getAttribute("aria-rowcount") === String(count),
      HUGE_SPANS,
    );
    await page.keyboard.press("/");
    await page.keyboard.type("write index");
    await page.keyboard.press("Enter");
    await page.locator(".row.selected.found").waitFor();
    await isSmall("after a search");
    await visitor.close();
  });

  test("traces and spans that are not there say so", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/trace/0123456789abcdef0123456789abcdef");
    await page.getByText("No span of this trace is stored").waitFor();
    await page.getByRole("button", { name: "Look again" }).waitFor();
    await page.goto(`${world.server.url}/trace/xyz`);
    await page.getByText("That is not the id of a trace").waitFor();
    await page.goto(`${world.server.url}/trace/${world.seeded.failed}?span=00000000000000ff`);
    await page.getByText("is not in this trace").waitFor();
    await page.locator(".row").first().waitFor();
    await visitor.close();
  });
}
