/**
 * Where the reader is. The address holds all of it, so that every view can be sent to somebody else: the path names the view and its thing, the
 * query the filter, the time range and what is selected.
 */
import { createStore } from "./store";

export interface Place {
  readonly path: string;
  readonly query: URLSearchParams;
}

function read(): Place {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

export const place = createStore<Place>(read());

export function startRouting(): void {
  addEventListener("popstate", () => place.set(read()));
}

export type QueryChange = Record<string, string | readonly string[] | null | undefined>;

/** `query` with some parameters replaced; null, undefined and empty ones are left out. */
export function changed(query: URLSearchParams, change: QueryChange): URLSearchParams {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(change)) {
    next.delete(name);
    for (const item of typeof value === "string" ? [value] : (value ?? [])) {
      if (item !== "") next.append(name, item);
    }
  }
  return next;
}

export function address(path: string, query?: URLSearchParams | QueryChange): string {
  const text = (query instanceof URLSearchParams ? query : changed(new URLSearchParams(), query ?? {})).toString();
  return text ? `${path}?${text}` : path;
}

export function go(to: string, how: "push" | "replace" = "push"): void {
  if (to === location.pathname + location.search) return;
  if (how === "push") history.pushState(null, "", to);
  else history.replaceState(null, "", to);
  place.set(read());
}

/** Changes parameters of the present view. */
export function setQuery(change: QueryChange, how: "push" | "replace" = "push"): void {
  const { path, query } = place.get();
  go(address(path, changed(query, change)), how);
}

/** What follows the reader from view to view. */
export function rangeOf(query: URLSearchParams): QueryChange {
  return { start: query.get("start"), end: query.get("end") };
}
