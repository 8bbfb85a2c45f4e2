import assert from "node:assert/strict";
import { test } from "node:test";

const stored = new Map<string, string>();
const now = Date.now();
// Half of its life is over, so that the next question renews it.
stored.set("scouter.session", JSON.stringify({ user: "ada", token: "old", since: now - 2000, expires: now + 1000 }));
Object.assign(globalThis, {
  sessionStorage: {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => stored.set(key, value),
    clear: () => stored.clear(),
  },
  BroadcastChannel: undefined,
});

interface Asked {
  readonly path: string;
  answer(body: unknown): void;
}

function listening(): Asked[] {
  const asked: Asked[] = [];
  globalThis.fetch = ((path: string) =>
    new Promise<Response>(resolve => {
      asked.push({ path, answer: body => resolve(new Response(JSON.stringify(body))) });
    })) as typeof fetch;
  return asked;
}

const renewed = { token: "new", expires_in_seconds: 3600 };

test("a renewal that comes after the logout logs nobody in again", async () => {
  const { freshToken, logout, session } = await import("../../src/session");
  const before = session.get();
  assert.equal(before?.token, "old");

  let asked = listening();
  const kept = freshToken();
  asked[0]?.answer(renewed);
  assert.equal(await kept, "new");

  session.set(before);
  asked = listening();
  const left = freshToken();
  assert.deepEqual(
    asked.map(({ path }) => path),
    ["/scouter/auth/refresh"],
  );
  logout();
  asked[0]?.answer(renewed);
  assert.equal(await left, null);
  assert.equal(session.get(), null);
  assert.equal(stored.size, 0);
});

test("a renewal that comes when somebody else has logged in changes nothing", async () => {
  const { freshToken, session } = await import("../../src/session");
  session.set({ user: "ada", token: "old", since: now - 2000, expires: now + 1000 });
  const asked = listening();
  const late = freshToken();
  session.set({ user: "grace", token: "hers", since: now, expires: now + 3_600_000 });
  asked[0]?.answer(renewed);
  assert.equal(await late, "hers");
});
