/** The time range as the address holds it, and as the server takes it. */

/** Without a range in the address. */
export const DEFAULT_START = "now-1h";
export const ALL = "all";

/** `start` and `end` for the server; empty ones are not sent. */
export function rangeParameters(query: URLSearchParams): { start: string; end: string } {
  const start = query.get("start") ?? DEFAULT_START;
  return { start: start === ALL ? "" : start, end: query.get("end") ?? "" };
}

export function isAllTime(query: URLSearchParams): boolean {
  return query.get("start") === ALL && !query.get("end");
}

export const allTime = { start: ALL, end: null };

/** A range of milliseconds, as the address holds it. */
export function between(start: number, end: number): { start: string; end: string } {
  return { start: new Date(start).toISOString(), end: new Date(end).toISOString() };
}
