import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { EXAMPLES } from "../../src/views/sql/examples";
import { picture, query, Visitor } from "./browser";
import type { World } from "./page.test";
import { CONVERSATION, ENTITY } from "./seed";

export function otherTests(world: World): void {
  test("services show rates, errors, percentiles and who calls whom", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/services");
    await page.locator(".graph .node").nth(4).waitFor();
    await page.locator(".graph .edge.bad, .graph .edge").first().waitFor({ state: "attached" });
    const row = page.locator("tbody tr", { has: page.getByRole("button", { name: "scorer", exact: true }) });
    assert.match(await row.innerText(), /\d %/);
    assert.match(await row.innerText(), /ms/);
    // Of the chosen hour, however long ago the last span was.
    const [spans, perSecond] = (await row.locator("td.number").allInnerTexts()).map(text =>
      Number(text.replace(",", "")),
    );
    assert.ok(Math.abs(perSecond! * 3600 - spans!) < spans! / 500, `${spans} spans, ${perSecond} a second`);
    await page.getByRole("button", { name: "p95" }).click();
    assert.equal(await page.getByRole("columnheader", { name: "p95" }).getAttribute("aria-sort"), "descending");
    const slowest = await page.locator(".table tbody th").first().innerText();
    await page.getByRole("button", { name: "p95" }).click();
    await page.waitForFunction(name => document.querySelector(".table tbody th")?.textContent !== name, slowest);
    await row.getByRole("button", { name: "scorer" }).click();
    await page.getByText("Operations of scorer").waitFor();
    await page.getByRole("link", { name: "groundedness" }).waitFor();
    await picture(page, "services");
    assert.equal(query(page).get("service"), "scorer");
    await page.getByRole("link", { name: "Errors of scorer" }).click();
    await page.waitForURL(/\/search.*status=error/);
    await page.locator(".result-error").first().waitFor();
    await page.goBack();
    await page.locator(".graph .node").first().click();
    await page.waitForURL(/\/search.*service=/);
    await visitor.close();
  });

  test("records are charted by entity with the traces that belong to them", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/records");
    await page.getByRole("heading", { name: ENTITY }).waitFor();
    for (const title of ["groundedness", "answer_seconds", "question_length", "topic"]) {
      await page.locator(".chart-title").getByText(title, { exact: true }).waitFor();
    }
    await page.getByText("Linked traces").waitFor();
    await page.getByRole("link", { name: "gateway POST /ask" }).first().waitFor();
    await picture(page, "records");
    await page.locator(".newest summary").first().click();
    await page.locator(".record-list .trace-link").first().click();
    await page.waitForURL(/\/trace\//);
    await page.locator(".row").first().waitFor();
    await page.goto(`${world.server.url}/records?entity=nobody`);
    await page.getByText("Nothing of this entity in this time").waitFor();
    await visitor.close();
  });

  test("every example of the SQL box is answered", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/sql");
    await page.getByText("Queries to begin with").waitFor();
    for (const example of EXAMPLES) {
      await page.getByLabel("Examples").selectOption({ label: example.name });
      await page.waitForURL(address => address.searchParams.get("q") === example.query);
      await page.locator(".sql-answer tbody tr").first().waitFor();
      assert.equal(await page.locator(".sql-error").count(), 0, example.name);
    }
    await page.goto(`${world.server.url}/sql?${new URLSearchParams({ q: EXAMPLES[1]!.query })}`);
    await page.locator(".sql-answer tbody tr").first().waitFor();
    await page.getByText(/\d rows in \d+ ms/).waitFor();
    await picture(page, "sql");
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "CSV" }).click();
    const csv = readFileSync((await (await download).path())!, "utf8");
    assert.match(csv, /^service_name,spans,errors,p95_ms\r\n/);
    await visitor.close();
  });

  test("64-bit integers keep all their digits, in the table and in its CSV", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const sql = "SELECT 1795787259721359983 AS moment, 0.25 AS share UNION ALL SELECT -9223372036854775808, 1.0";
    const page = await visitor.enter(`/sql?${new URLSearchParams({ q: `SELECT * FROM (${sql}) ORDER BY moment` })}`);
    await page.locator(".sql-answer tbody tr").first().waitFor();
    const cells = await page.locator(".sql-answer td.number").evaluateAll(all => all.map(cell => cell.textContent));
    assert.deepEqual(cells, ["-9223372036854775808", "1.00", "1795787259721359983", "0.25"]);
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "CSV" }).click();
    const csv = readFileSync((await (await download).path())!, "utf8");
    assert.equal(csv, "moment,share\r\n-9223372036854775808,1.0\r\n1795787259721359983,0.25\r\n");
    await visitor.close();
  });

  test("SQL that cannot be asked is shown where it is wrong; a long answer keeps the document small", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/sql");
    const box = page.getByLabel("SQL", { exact: true });
    await box.fill("SELECT name\nFRM spans");
    await page.keyboard.press("Control+Enter");
    await page
      .getByRole("alert")
      .getByText(/Line \d+, column \d+/)
      .waitFor();
    assert.equal(((await page.getByRole("alert").innerText()).match(/column/gi) ?? []).length, 1, "its place once");
    await box.fill("SELECT\n  servce_name FROM spans");
    await page.keyboard.press("Control+Enter");
    await page.getByText("Line 2, column 3.").waitFor();
    await picture(page, "sql-error");
    await page.getByRole("button", { name: "Show it" }).click();
    const selected = await box.evaluate(element => {
      const area = element as HTMLTextAreaElement;
      return area.value.slice(area.selectionStart, area.selectionEnd);
    });
    assert.equal(selected, "servce_name");
    await box.fill("SELECT name, attributes FROM spans LIMIT 20000");
    await page.keyboard.press("Control+Enter");
    await page.getByText(/20,000 rows/).waitFor();
    assert.ok((await page.locator(".sql-answer tbody tr").count()) < 100);
    await visitor.close();
  });

  test("dark mode follows the system and can be chosen", async () => {
    const visitor = await Visitor.create(world.browser, world.server, { dark: true });
    const page = await visitor.enter("/search");
    await page.locator(".result").first().waitFor();
    const ground = (color: string) =>
      page.waitForFunction(wanted => getComputedStyle(document.body).backgroundColor === wanted, color);
    await ground("rgb(19, 21, 23)");
    await picture(page, "search-dark");
    await page.goto(`${world.server.url}/trace/${world.seeded.failed}?span=${world.seeded.failedSpan}`);
    await page.locator(".failure-message").waitFor();
    await picture(page, "span-dark");
    await page.getByRole("button", { name: "Light" }).click();
    await ground("rgb(251, 251, 250)");
    await page.reload();
    await page.locator(".failure-message").waitFor();
    await ground("rgb(251, 251, 250)");
    await page.getByRole("button", { name: "Dark" }).waitFor();
    await page.keyboard.press("d");
    await ground("rgb(19, 21, 23)");
    await visitor.close();
  });

  for (const width of [390, 1280]) {
    test(`at ${width} pixels nothing is wider than the screen, and no page is longer than its window`, async () => {
      const visitor = await Visitor.create(world.browser, world.server, { width, height: 780 });
      const page = await visitor.enter("/search");
      const fits = async (what: string) => {
        const wrong = await page.evaluate(() => {
          const root = document.documentElement;
          const inner = [...document.querySelectorAll(".scroll, .details, .top nav")];
          return [
            root.scrollWidth > innerWidth && `the page is ${root.scrollWidth} wide`,
            root.scrollHeight > innerHeight && `the page is ${root.scrollHeight} high`,
            ...inner.map(box => box.scrollWidth > box.clientWidth && `${box.className} is ${box.scrollWidth} wide`),
          ].filter(Boolean);
        });
        assert.deepEqual(wrong, [], what);
      };
      for (const path of [
        "/search",
        "/search?start=2020-01-01T00:00:00Z&end=2020-01-02T00:00:00Z",
        `/trace/${world.seeded.failed}`,
        `/trace/${world.seeded.failed}?span=${world.seeded.failedSpan}`,
        `/trace/${world.seeded.failed}?view=conversation`,
        "/conversations",
        `/conversations/${CONVERSATION}`,
        "/services",
        "/services?service=scorer",
        "/records",
        "/sql",
        `/sql?${new URLSearchParams({ q: EXAMPLES[0]!.query })}`,
      ]) {
        await page.goto(world.server.url + path);
        await page.locator(".result, .row, .table, .chart, .sql-start, .transcript, .state h2").first().waitFor();
        await page.locator(".spinner").first().waitFor({ state: "detached" });
        await fits(path);
      }
      await page.goto(`${world.server.url}/trace/${world.seeded.failed}`);
      await page.locator(".row").getByText("chat tiny-answerer").first().click();
      await page.locator(".attributes").first().waitFor();
      await fits("a span with messages");
      for (const path of ["/search", "/search?start=2020-01-01T00:00:00Z&end=2020-01-02T00:00:00Z"]) {
        await page.goto(world.server.url + path);
        await page.locator(".range .button").click();
        await page.getByRole("dialog", { name: "Time range" }).getByText("Times are UTC.").waitFor();
        await fits(`the time range on ${path}`);
      }
      await page.keyboard.press("Escape");
      await page.locator(".range-popover").waitFor({ state: "detached" });
      await page.keyboard.press("?");
      await page.getByRole("dialog", { name: "Keys" }).waitFor();
      const [wide, room] = await page
        .getByRole("dialog", { name: "Keys" })
        .evaluate(dialog => [dialog.scrollWidth, dialog.clientWidth] as const);
      assert.ok(wide <= room, `the keys take ${wide} of ${room}`);
      await visitor.close();
    });
  }

  test("every control has a name", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/search");
    for (const path of [
      "/search?service=scorer",
      `/trace/${world.seeded.failed}?span=${world.seeded.failedSpan}`,
      "/conversations",
      "/services?service=scorer",
      "/records",
      "/sql",
    ]) {
      await page.goto(world.server.url + path);
      await page.locator(".result, .row, .table, .chart, .sql-start").first().waitFor();
      const nameless = await page.evaluate(() =>
        [...document.querySelectorAll("button, a, input, select, textarea")]
          .filter(element => {
            const labels = (element as HTMLInputElement).labels;
            return !element.textContent?.trim() && !element.getAttribute("aria-label") && !labels?.length;
          })
          .map(element => element.outerHTML.slice(0, 120)),
      );
      assert.deepEqual(nameless, [], path);
    }
    await visitor.close();
  });
}
