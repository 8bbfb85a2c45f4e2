/** Ticks of the axes: round numbers, round moments. */
import { clock, day, sameDay } from "../format";

/** Up to `most` + 1 round values from 0 to at least `max`; of what is counted, only whole ones. */
export function valueTicks(max: number, isCount: boolean, most = 3): number[] {
  if (!(max > 0)) return [0, 1];
  const raw = max / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const steps = [1, 2, 2.5, 5, 10, 20, 50].map(factor => factor * power);
  const step = steps.find(candidate => candidate >= raw && (!isCount || Number.isInteger(candidate))) ?? 1;
  const ticks = [];
  for (let index = 0; index * step < max + step; index++) ticks.push(Number((index * step).toPrecision(12)));
  return ticks;
}

/** Powers of ten around `min` and `max`, some left out when they are many. */
export function decadeTicks(min: number, max: number): number[] {
  if (!(min > 0) || !(max > 0)) return [1, 10];
  const first = Math.floor(Math.log10(min));
  const last = Math.max(Math.ceil(Math.log10(max)), first + 1);
  const step = Math.ceil((last - first) / 4);
  const ticks = [];
  for (let power = first; power < last + step; power += step) ticks.push(10 ** power);
  return ticks;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const TIME_STEPS = [
  1,
  2,
  5,
  10,
  20,
  50,
  100,
  200,
  500,
  SECOND,
  2 * SECOND,
  5 * SECOND,
  10 * SECOND,
  15 * SECOND,
  30 * SECOND,
  MINUTE,
  2 * MINUTE,
  5 * MINUTE,
  10 * MINUTE,
  15 * MINUTE,
  30 * MINUTE,
  HOUR,
  2 * HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
  DAY,
  2 * DAY,
  7 * DAY,
  14 * DAY,
  30 * DAY,
  90 * DAY,
  365 * DAY,
];

export interface TimeTick {
  readonly at: number;
  readonly text: string;
}

/** Round local moments between `start` and `end` (milliseconds), at most `most`. */
export function timeTicks(start: number, end: number, most: number): TimeTick[] {
  const span = end - start;
  if (!(span > 0) || most < 1) return [];
  const step = TIME_STEPS.find(candidate => span / candidate <= most) ?? span;
  // Local midnight and local hours are round for a reader, also where the zone is not a whole hour.
  const offset = new Date(start).getTimezoneOffset() * MINUTE;
  const ticks: TimeTick[] = [];
  let before: Date | null = null;
  for (let at = Math.ceil((start - offset) / step) * step + offset; at <= end && ticks.length <= most; at += step) {
    const date = new Date(at);
    ticks.push({ at, text: tickText(date, step, before) });
    before = date;
  }
  return ticks;
}

function tickText(date: Date, step: number, before: Date | null): string {
  if (step >= DAY) return day(date).slice(5);
  if (before && !sameDay(before, date)) return day(date).slice(5);
  if (step >= MINUTE) return clock(date).slice(0, 5);
  if (step >= SECOND) return clock(date);
  return `${clock(date)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Between 0 and `most` steps, for a time axis that begins with a trace; nanoseconds. */
export function durationTicks(from: number, to: number, most: number): number[] {
  const span = to - from;
  if (!(span > 0)) return [from];
  const raw = span / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(candidate => candidate >= raw) ?? 10 * power;
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at);
  return ticks;
}
