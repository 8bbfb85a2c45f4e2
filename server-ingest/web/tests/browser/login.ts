import assert from "node:assert/strict";
import { test } from "node:test";
import { picture, Visitor } from "./browser";
import type { World } from "./page.test";

export function loginTests(world: World): void {
  test("on a development server guest is one click away, and a wrong password is named", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.open("/");
    await page.getByText("This server is for development").waitFor();
    assert.equal(await page.getByLabel("User").inputValue(), "guest");
    await picture(page, "login");

    await page.getByLabel("Password").fill("wrong");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("alert").getByText("The user name or the password is wrong.").waitFor();
    await page.waitForFunction(() => document.activeElement?.getAttribute("name") === "password");
    await page.getByLabel("Password").fill("wörd 密码");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("alert").getByText("The user name or the password is wrong.").waitFor();

    await page.getByLabel("Password").fill("guest");
    await page.keyboard.press("Enter");
    await page.locator("header.top").waitFor();
    await page.waitForURL("**/search");
    await visitor.close();
  });

  test("the login leads where the address pointed, lasts in the tab, and other tabs join it", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const address = `/trace/${world.seeded.failed}?span=${world.seeded.failedSpan}`;
    const page = await visitor.enter(address);
    await page.locator(".failure-message").waitFor();
    assert.ok(page.url().endsWith(address));
    await page.reload();
    await page.locator(".failure-message").waitFor();

    const second = await visitor.open("/sql");
    await second.getByLabel("SQL", { exact: true }).waitFor();

    await page.getByRole("button", { name: "Log out guest" }).click();
    await page.getByRole("button", { name: "Log in" }).waitFor();
    await second.getByRole("button", { name: "Log in" }).waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0);
    await visitor.close();
  });

  test("a session that the server ended asks for a login and goes on where it was", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/search?start=all");
    await page.locator(".result").first().waitFor();
    await page.evaluate(async () => {
      const { token } = JSON.parse(sessionStorage.getItem("scouter.session") ?? "{}") as { token: string };
      await fetch("/scouter/auth/logout", { method: "POST", headers: { authorization: `Bearer ${token}` } });
    });
    await page.keyboard.press("r");
    await page.getByText("Your session has ended.").waitFor();
    await page.getByRole("button", { name: "Log in" }).click();
    await page.locator(".result").first().waitFor();
    assert.ok(page.url().endsWith("/search?start=all"));
    await visitor.close();
  });
}
