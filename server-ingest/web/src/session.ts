/**
 * Who is logged in. The token lives in the tab's session storage: it ends with the tab, no other site can have it sent along, and no file keeps it.
 * Tabs of the same origin hand it to each other, so that a link opened in a new tab needs no second login.
 */
import { createStore } from "./store";

interface Session {
  readonly user: string;
  readonly token: string;
  readonly since: number;
  readonly expires: number;
}

const KEY = "scouter.session";

function stored(): Session | null {
  try {
    const session = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Session | null;
    return session && typeof session.token === "string" && session.expires > Date.now() ? session : null;
  } catch {
    return null;
  }
}

export const session = createStore<Session | null>(stored());
/** Why the login is shown again; empty at first contact. */
export const farewell = createStore("");

const tabs = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("scouter.session");

function keep(next: Session | null): void {
  if (next) sessionStorage.setItem(KEY, JSON.stringify(next));
  else sessionStorage.clear();
  session.set(next);
}

interface Issued {
  token: string;
  expires_in_seconds: number;
}

function begin(user: string, issued: Issued): void {
  const now = Date.now();
  keep({ user, token: issued.token, since: now, expires: now + issued.expires_in_seconds * 1000 });
  farewell.set("");
  tabs?.postMessage(session.get());
}

/** Takes the login of another tab if there is one; answers when it is known that there is none. */
export async function joinOtherTabs(): Promise<void> {
  if (!tabs) return;
  await new Promise<void>(resolve => {
    tabs.onmessage = event => {
      const message = event.data as Session | "who" | "bye";
      if (message === "who") {
        if (session.get()) tabs.postMessage(session.get());
      } else if (message === "bye") {
        keep(null);
      } else if (message && message.expires > (session.get()?.expires ?? Date.now())) {
        keep(message);
        resolve();
      }
    };
    if (session.get()) resolve();
    else {
      tabs.postMessage("who");
      setTimeout(resolve, 80);
    }
  });
}

export class LoginRefused extends Error {}

export async function login(user: string, password: string): Promise<void> {
  let response: Response;
  try {
    response = await fetch("/scouter/auth/login", { headers: { Username: user, Password: password } });
  } catch (error) {
    // A header takes Latin letters only; fetch refuses others before anything is sent.
    if (/[^ -~\u00a0-\u00ff]/.test(user + password)) throw new LoginRefused("The user name or the password is wrong.");
    throw new LoginRefused(
      `The server cannot be reached (${(error as Error).message}). Is scouter-server still running?`,
    );
  }
  const body = (await response.json().catch(() => ({}))) as Partial<Issued> & { error?: string };
  if (!response.ok || !body.token) {
    throw new LoginRefused(sentence(body.error ?? `The server answered with status ${response.status}`));
  }
  begin(user, body as Issued);
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

export function logout(): void {
  const token = session.get()?.token;
  if (token)
    void fetch("/scouter/auth/logout", { method: "POST", headers: { Authorization: `Bearer ${token}` } }).catch(
      () => undefined,
    );
  tabs?.postMessage("bye");
  farewell.set("");
  keep(null);
}

/** The server does not take this token any more. */
export function expire(token: string): void {
  if (session.get()?.token !== token) return;
  farewell.set("Your session has ended. Log in again to go on where you were.");
  keep(null);
}

let renewal: Promise<void> | null = null;

/** The token for a request, renewed first when half of its life is over. */
export async function freshToken(): Promise<string | null> {
  const current = session.get();
  if (!current) return null;
  const half = current.since + (current.expires - current.since) / 2;
  if (Date.now() < half) return current.token;
  renewal ??= renew(current).finally(() => {
    renewal = null;
  });
  await renewal;
  return session.get()?.token ?? null;
}

async function renew(current: Session): Promise<void> {
  try {
    const response = await fetch("/scouter/auth/refresh", { headers: { Authorization: `Bearer ${current.token}` } });
    // Refused: another tab may have renewed it, and this one's token stays good to its end.
    if (!response.ok) return;
    const issued = (await response.json()) as Issued;
    // Whoever logged out meanwhile, here or in another tab, or came as somebody else, stays so.
    if (session.get()?.token === current.token) begin(current.user, issued);
  } catch {
    // The request that follows says that the server is away.
  }
}
