/** The time range as the address holds it, and as the server takes it. */

import { milliseconds } from "../format";
import type { QueryChange } from "../route";

/** Without a range in the address. */
export const DEFAULT_START = "now-1h";
export const ALL = "all";

/** Ranges that end now, shortest first. */
export const PRESETS: readonly (readonly [value: string, name: string])[] = [
  ["now-15m", "Last 15 minutes"],
  ["now-1h", "Last hour"],
  ["now-6h", "Last 6 hours"],
  ["now-24h", "Last 24 hours"],
  ["now-7d", "Last 7 days"],
  ["now-30d", "Last 30 days"],
  [ALL, "All time"],
];

/** `start` and `end` for the server; empty ones are not sent. */
export function rangeParameters(query: URLSearchParams): { start: string; end: string } {
  const start = query.get("start") ?? DEFAULT_START;
  return { start: start === ALL ? "" : start, end: query.get("end") ?? "" };
}

/** The same for charts, which go on to now where the range does: the server's own end is the last span that it has. */
export function chartParameters(query: URLSearchParams): { start: string; end: string } {
  const { start, end } = rangeParameters(query);
  return { start, end: end || "now" };
}

const UNITS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A moment as the address and the server write it, in milliseconds; null when it is none. */
export function momentOf(text: string, now: number): number | null {
  const relative = /^now(?:-(\d+)([smhd]))?$/.exec(text);
  if (relative) return now - Number(relative[1] ?? 0) * UNITS[relative[2] ?? "s"]!;
  const moment = /^\d+$/.test(text) ? milliseconds(text) : Date.parse(text);
  return Number.isNaN(moment) ? null : moment;
}

/** The chosen range if it holds the moment, else the shortest of those that end now and do. */
export function rangeHolding(query: URLSearchParams, nanos: string, now = Date.now()): QueryChange {
  const at = milliseconds(nanos);
  const holds = ({ start, end }: { start: string; end: string }) =>
    at >= (momentOf(start, now) ?? 0) && at < (momentOf(end, now) ?? Number.POSITIVE_INFINITY);
  if (holds(rangeParameters(query))) return { start: query.get("start"), end: query.get("end") };
  const start = PRESETS.find(([value]) => holds({ start: value, end: "" }))?.[0] ?? ALL;
  return { start, end: null };
}

export function isAllTime(query: URLSearchParams): boolean {
  return query.get("start") === ALL && !query.get("end");
}

export const allTime = { start: ALL, end: null };

/** A range of milliseconds, as the address holds it. */
export function between(start: number, end: number): { start: string; end: string } {
  return { start: new Date(start).toISOString(), end: new Date(end).toISOString() };
}
