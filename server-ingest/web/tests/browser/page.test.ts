/** The page in a real browser against a real server: each view, each state. `npm run test:browser`. */
import { after, before, describe } from "node:test";
import type { Browser } from "playwright-core";
import { startBrowser } from "./browser";
import { genAiTests } from "./genai";
import { loginTests } from "./login";
import { otherTests } from "./other";
import { searchTests } from "./search";
import { type Seeded, seed } from "./seed";
import { type Server, startServer } from "./server";
import { stateTests } from "./states";
import { traceTests } from "./trace";

/** What the tests share; filled before the first of them. */
export interface World {
  browser: Browser;
  server: Server;
  seeded: Seeded;
}

const world = {} as World;

describe("the page", () => {
  before(async () => {
    world.server = await startServer();
    world.seeded = await seed(world.server);
    world.browser = await startBrowser();
  });
  after(async () => {
    await world.browser?.close();
    await world.server?.stop();
  });
  loginTests(world);
  searchTests(world);
  traceTests(world);
  genAiTests(world);
  otherTests(world);
  stateTests(world);
});
