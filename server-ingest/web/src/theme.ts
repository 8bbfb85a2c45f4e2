/** Light or dark: the system's, until somebody chooses. */
import { createStore } from "./store";

export type Theme = "light" | "dark";

const KEY = "scouter.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function chosen(): Theme | null {
  const value = localStorage.getItem(KEY);
  return value === "light" || value === "dark" ? value : null;
}

function present(): Theme {
  return chosen() ?? (system.matches ? "dark" : "light");
}

export const theme = createStore<Theme>(present());

export function startTheme(): void {
  const apply = () => {
    theme.set(present());
    document.documentElement.dataset["theme"] = theme.get();
  };
  system.addEventListener("change", apply);
  addEventListener("storage", event => event.key === KEY && apply());
  apply();
}

export function switchTheme(): void {
  const next = theme.get() === "dark" ? "light" : "dark";
  // The system's own choice needs no note, so that the page follows it again.
  if (next === (system.matches ? "dark" : "light")) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, next);
  theme.set(next);
  document.documentElement.dataset["theme"] = next;
}
