/** The server leaves out empty buckets; a chart needs them. */
import { momentOf } from "./time";

interface Point {
  start_unix_nano: string;
}

export interface Buckets<P> {
  /** Starts, in milliseconds. */
  readonly starts: number[];
  /** Milliseconds. */
  readonly width: number;
  readonly points: (P | null)[];
}

/** More than any screen has pixels for. */
const MOST = 4000;

export function fillBuckets<P extends Point>(
  start: string,
  end: string,
  bucket: string,
  points: readonly P[],
): Buckets<P> {
  const width = BigInt(bucket);
  if (width <= 0n) return { starts: [], width: 1, points: [] };
  let first = floor(BigInt(start), width);
  let last = BigInt(end);
  const byStart = new Map(points.map(point => [BigInt(point.start_unix_nano), point]));
  // Buckets need not begin at a multiple of their width.
  const known = points[0];
  if (known) first += (((BigInt(known.start_unix_nano) - first) % width) + width) % width;
  if (known && first > BigInt(start)) first -= width;
  if ((last - first) / width > BigInt(MOST)) last = first + width * BigInt(MOST);
  const starts: number[] = [];
  const filled: (P | null)[] = [];
  for (let at = first; at < last; at += width) {
    starts.push(Number(at / 1000n) / 1000);
    filled.push(byStart.get(at) ?? null);
  }
  return { starts, width: Number(width) / 1e6, points: filled };
}

/** From where to where a chart goes whose answer does not say it: the chosen range, and whatever points there are. */
export function axisOf(
  range: { start: string; end: string },
  points: readonly Point[],
  now = Date.now(),
): [start: string, end: string] {
  const starts = points.map(point => BigInt(point.start_unix_nano));
  const from = momentOf(range.start, now);
  const to = momentOf(range.end, now) ?? now;
  const nanos = (milliseconds: number) => BigInt(Math.round(milliseconds)) * 1_000_000n;
  const first = starts.reduce((left, right) => (left < right ? left : right), nanos(from ?? to));
  const last = starts.reduce((left, right) => (left > right ? left : right + 1n), nanos(to));
  return [String(first), String(last)];
}

function floor(value: bigint, width: bigint): bigint {
  const rest = value % width;
  return value - (rest < 0n ? rest + width : rest);
}
