/** Debian's Chromium, and what the tests do with it again and again. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import type { Server } from "./server";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export async function startBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium", args: FLAGS });
}

/** A context that notes whatever should not happen: requests elsewhere, errors of the page. */
export class Visitor {
  readonly faults: string[] = [];
  private constructor(
    readonly context: BrowserContext,
    readonly server: Server,
  ) {}

  static async create(
    browser: Browser,
    server: Server,
    options: { dark?: boolean; width?: number; height?: number } = {},
  ): Promise<Visitor> {
    const context = await browser.newContext({
      viewport: { width: options.width ?? 1280, height: options.height ?? 800 },
      colorScheme: options.dark ? "dark" : "light",
      timezoneId: "UTC",
      reducedMotion: "reduce",
    });
    context.setDefaultTimeout(30_000);
    const visitor = new Visitor(context, server);
    context.on("request", request => {
      if (!request.url().startsWith(`${server.url}/`) && !request.url().startsWith("blob:"))
        visitor.faults.push(`a request went to ${request.url()}`);
    });
    context.on("weberror", error => visitor.faults.push(String(error.error())));
    context.on("console", message => {
      // A refused request is told here too; the tests provoke some.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
        visitor.faults.push(message.text());
    });
    return visitor;
  }

  async open(path: string): Promise<Page> {
    const page = await this.context.newPage();
    await page.goto(this.server.url + path);
    return page;
  }

  /** A page, logged in as guest. */
  async enter(path: string): Promise<Page> {
    const page = await this.open(path);
    // The page fills in who one is on a development server once it has heard from it; before that the browser asks for a name.
    await page.waitForFunction(() => document.querySelector<HTMLInputElement>("input[name=password]")?.value);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.locator("header.top, .problem").waitFor();
    assert.deepEqual(await page.locator(".problem").allInnerTexts(), []);
    return page;
  }

  async close(): Promise<void> {
    await this.context.close();
    assert.deepEqual(this.faults, []);
  }
}

export function query(page: Page): URLSearchParams {
  return new URL(page.url()).searchParams;
}

/** Keeps a picture for the documents when SCOUTER_SCREENSHOTS names a folder. */
export async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env["SCOUTER_SCREENSHOTS"];
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.mouse.move(0, 0);
  await page.screenshot({ path: `${folder}/${name}.png` });
}
