/** Who are you? On a development server the answer is filled in. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, useAnswer } from "../api";
import { farewell, login } from "../session";
import { useStore } from "../store";
import type { AboutServer } from "../types";
import { Mark } from "../ui/mark";

export function Login(): JSX.Element {
  const about = useAnswer("about", signal => ask<AboutServer>("/api/v1/server", undefined, signal));
  const isDevelopment = about.value?.development ?? false;
  const [typedUser, setUser] = useState<string>();
  const [typedPassword, setPassword] = useState<string>();
  // Said with the words that explain it, and never over what somebody typed while the answer was on its way.
  const user = typedUser ?? (isDevelopment ? "guest" : "");
  const password = typedPassword ?? (isDevelopment ? "guest" : "");
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const passwordField = useRef<HTMLInputElement>(null);
  const words = useStore(farewell);

  useEffect(() => {
    document.title = "Log in · Scouter";
  }, []);
  useEffect(() => {
    if (isDevelopment) button.current?.focus();
  }, [isDevelopment]);

  const submit = (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    login(user, password)
      .catch((error: Error) => {
        setProblem(error.message);
        // What was wrong is typed over at once.
        passwordField.current?.select();
      })
      .finally(() => setBusy(false));
  };
  return (
    <main class="login">
      <form onSubmit={submit} aria-label="Log in">
        <div class="login-mark">
          <Mark size={30} />
          <h1>Scouter</h1>
        </div>
        {words && (
          <p class="farewell" role="status">
            {words}
          </p>
        )}
        <label class="field">
          User
          <input
            name="username"
            autocomplete="username"
            required
            value={user}
            autofocus={!isDevelopment}
            onInput={event => setUser(event.currentTarget.value)}
          />
        </label>
        <label class="field">
          Password
          <input
            ref={passwordField}
            name="password"
            type="password"
            autocomplete="current-password"
            required
            value={password}
            onInput={event => setPassword(event.currentTarget.value)}
          />
        </label>
        {problem && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <button ref={button} type="submit" class="button primary" disabled={isBusy}>
          {isBusy ? "Checking" : "Log in"}
        </button>
        {isDevelopment ? (
          <p class="muted small">
            This server is for development: it can be reached from this machine only, and everyone on it is{" "}
            <code>guest</code> with the password <code>guest</code>.
          </p>
        ) : (
          <p class="muted small">
            The user needs the permission to read. An administrator adds one with{" "}
            <code>scouter-server user add NAME --permissions read</code>.
          </p>
        )}
        {about.value && <p class="muted small version">scouter-server {about.value.version}</p>}
      </form>
    </main>
  );
}
