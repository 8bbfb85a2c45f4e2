import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { picture, Visitor } from "./browser";
import type { World } from "./page.test";
import { startServer } from "./server";

export function stateTests(world: World): void {
  test("a server that is away or refuses is named, with what to do, and asked again", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/services");
    await page.locator(".table").first().waitFor();
    await page.route("**/api/v1/traces?*", route => route.abort());
    await page.goto(`${world.server.url}/search`);
    await page.getByRole("alert").getByText("The server cannot be reached.").waitFor();
    await page.getByText("Check that scouter-server is running").waitFor();
    await picture(page, "unreachable");
    await page.unroute("**/api/v1/traces?*");
    await page.getByRole("button", { name: "Try again" }).click();
    await page.locator(".result").first().waitFor();

    const refusal = {
      error: "the question took longer than 60 s",
      code: "DEADLINE_EXCEEDED",
      suggested_action: "narrow the time range",
    };
    await page.route("**/api/v1/traces?*", route => route.fulfill({ status: 504, json: refusal }));
    // What was there stays, with the news above it.
    await page.keyboard.press("r");
    await page.locator(".failed-line").getByText("Narrow the time range.").waitFor();
    assert.ok((await page.locator(".result").count()) > 0);
    await page.unroute("**/api/v1/traces?*");

    await page.goto(`${world.server.url}/search?min_duration=ten`);
    await page
      .getByRole("alert")
      .getByText(/min_duration/)
      .waitFor();
    await visitor.close();
  });

  test("an address that leads nowhere in the page offers the traces", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/sql");
    await page.evaluate(() => {
      history.pushState(null, "", "/nowhere");
      dispatchEvent(new PopStateEvent("popstate"));
    });
    await page.getByText("There is no such page").waitFor();
    await page.getByRole("link", { name: "All traces" }).last().click();
    await page.locator(".result").first().waitFor();
    await visitor.close();
  });

  test("an empty server says how to send the first span, and the command works", async () => {
    const server = await startServer();
    try {
      const visitor = await Visitor.create(world.browser, server);
      const page = await visitor.enter("/");
      await page.getByText("Send the first span").waitFor();
      await picture(page, "first-span");
      const command = await page.locator(".command pre").first().innerText();
      assert.ok(command.includes(`${server.url}/v1/traces`), command);
      const python = await page.locator(".command pre").nth(1).innerText();
      assert.ok(python.includes(`http://${server.grpc}`), python);
      assert.equal(execFileSync("bash", ["-euc", command], { encoding: "utf8" }).trim(), "{}");
      await page.getByRole("button", { name: "I have sent one" }).click();
      await page.locator(".result").getByText("hello").waitFor();
      for (const [path, words] of [
        ["/records", "No monitoring record"],
        ["/conversations", "No model was called"],
      ] as const) {
        await page.goto(server.url + path);
        await page.getByText(words).first().waitFor();
      }
      await visitor.close();
    } finally {
      await server.stop();
    }
  });
}
