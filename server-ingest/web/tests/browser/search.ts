import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { picture, query, Visitor } from "./browser";
import type { World } from "./page.test";

async function choose(page: Page, label: string, typed: string, option: string): Promise<void> {
  const box = page.getByRole("combobox", { name: label, exact: true });
  await box.click();
  await box.fill(typed);
  await page.getByRole("option", { name: option }).first().click();
}

/** The list of before stays until the new one is there. */
async function onlyErrors(page: Page): Promise<void> {
  await page.waitForFunction(() => {
    const rows = document.querySelectorAll(".result").length;
    return rows > 0 && rows === document.querySelectorAll(".result .result-error").length;
  });
}

export function searchTests(world: World): void {
  test("the search lists traces with their failures and conversations, and pages on", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/search");
    await page.locator(".result").first().waitFor();
    assert.equal(await page.locator(".result").count(), 50);
    await page.getByText("no sources to check the answer against").first().waitFor();
    await page.getByText("tiny-answerer").first().waitFor();
    await page.locator(".chart").nth(1).waitFor();
    assert.match(
      (await page.locator(".chart svg").first().getAttribute("aria-label")) ?? "",
      /\d traces, \d+ spans failed/,
    );
    await picture(page, "search");
    await page.getByRole("button", { name: "Show more" }).click();
    await page.locator(".result").nth(50).waitFor();
    const ids = await page
      .locator(".result-name")
      .evaluateAll(links => links.map(link => new URL((link as HTMLAnchorElement).href).pathname));
    assert.equal(new Set(ids).size, ids.length, "no trace twice");
    await visitor.close();
  });

  test("the filter suggests what is stored, and the address holds it", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/search");
    await page.getByRole("combobox", { name: "Service", exact: true }).click();
    for (const service of ["answerer", "gateway", "scorer", "postgres"])
      await page.getByRole("option", { name: service }).waitFor();
    await picture(page, "suggestions");
    await page.keyboard.press("Escape");
    await choose(page, "Service", "score", "scorer");
    await choose(page, "Operation", "ground", "groundedness");
    await page.getByLabel("Status").selectOption("error");
    await page.waitForURL(/status=error/);
    const asked = query(page);
    assert.deepEqual(
      [asked.get("service"), asked.get("operation"), asked.get("status")],
      ["scorer", "groundedness", "error"],
    );
    await page.locator(".result .result-error").first().waitFor();
    await onlyErrors(page);

    await page.getByRole("button", { name: "Clear the filter" }).click();
    await page.getByRole("button", { name: "Attribute" }).click();
    await choose(page, "Key", "tool.name", "gen_ai.tool.name");
    await choose(page, "Value", "refund", "refund_policy");
    await page.getByRole("button", { name: "Add", exact: true }).click();
    await page.waitForURL(/attr=/);
    assert.deepEqual(query(page).getAll("attr"), ["gen_ai.tool.name[string]=refund_policy"]);
    await page.locator(".chip").getByText("refund_policy").waitFor();
    await page.locator(".result").first().waitFor();

    // The same address, anew.
    await page.reload();
    await page.locator(".chip").getByText("refund_policy").waitFor();
    await page.getByRole("button", { name: /^Remove gen_ai/ }).click();
    await page.waitForURL(address => !address.search.includes("attr="));

    await page.getByLabel("Longer than").fill("ten");
    await page.getByText("e.g. 10ms, 1.5s").waitFor();
    await page.getByLabel("Longer than").fill("60s");
    await page.keyboard.press("Enter");
    await page.waitForURL(/min_duration=60s/);
    await page.waitForFunction(() => document.querySelectorAll(".result").length === 1);
    await page.getByText("rebuild the index").waitFor();
    await visitor.close();
  });

  test("dragging over a chart looks closer, and back goes back", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/search");
    const chart = page.locator(".chart svg").first();
    await chart.waitFor();
    const box = (await chart.boundingBox())!;
    await page.mouse.move(box.x + box.width * 0.4, box.y + 50);
    await page.locator(".tooltip").waitFor();
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, box.y + 60, { steps: 4 });
    await page.mouse.up();
    await page.waitForURL(/start=20.*end=20/);
    const seconds = (Date.parse(query(page).get("end")!) - Date.parse(query(page).get("start")!)) / 1000;
    assert.ok(seconds > 60 && seconds < 1800, `${seconds} s`);
    await page.locator(".result").first().waitFor();
    await page.goBack();
    await page.waitForURL(address => !address.search.includes("end="));
    await page.getByRole("button", { name: "Last hour" }).waitFor();
    await visitor.close();
  });

  test("keys choose and open traces, order them, and show themselves", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/search");
    await page.locator(".result").first().waitFor();
    await page.keyboard.press("s");
    await page.waitForURL(/sort=slowest/);
    await page.locator(".result").first().getByText("rebuild the index").waitFor();
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keys" }).getByText("only traces with errors").waitFor();
    await picture(page, "keys");
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.keyboard.press("x");
    await page.waitForURL(/status=error/);
    await onlyErrors(page);
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    const name = await page.locator(".result.active .result-name").getAttribute("href");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/trace\//);
    assert.equal(new URL(page.url()).pathname, name?.split("?")[0]);
    await page.keyboard.press("g");
    await page.keyboard.press("s");
    await page.waitForURL(/\/services/);
    await visitor.close();
  });

  test("a search without an answer says what to do", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/search?service=nobody");
    await page.getByText("No trace matches").waitFor();
    assert.equal(await page.getByText("The newest").count(), 0, "the filter is why, not the time");
    await page.locator(".state").getByRole("button", { name: "Clear the filter" }).click();
    await page.locator(".result").first().waitFor();

    await page.goto(`${world.server.url}/search?start=2020-01-01T00:00:00Z&end=2020-01-02T00:00:00Z`);
    await page.getByText("No trace in this time").waitFor();
    await picture(page, "nothing");
    await page.getByRole("button", { name: "Go to the newest traces" }).click();
    await page.locator(".result").first().waitFor();
    await page.getByRole("button", { name: /–/ }).click();
    await page.getByRole("button", { name: "Last 15 minutes" }).click();
    await page.waitForURL(/start=now-15m/);
    await visitor.close();
  });

  test("an id in the search opens its trace", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/search");
    await page.locator(".result").first().waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type(world.seeded.failed);
    await page.keyboard.press("Enter");
    await page.waitForURL(`**/trace/${world.seeded.failed}*`);
    await page.locator(".waterfall").waitFor();
    await visitor.close();
  });
}
