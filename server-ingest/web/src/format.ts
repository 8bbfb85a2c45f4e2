/** Numbers and moments as a person reads them. */

const SECOND = 1e9;

/** A duration in nanoseconds with three digits and its unit: `842 ns`, `6.41 ms`, `1.20 s`, `2 m 05 s`. */
export function duration(nanos: number | string): string {
  const value = Number(nanos);
  if (!Number.isFinite(value)) return "";
  if (value < 0) return `−${duration(-value)}`;
  if (value < 1000) return `${Math.round(value)} ns`;
  if (value < 1e6) return `${threeDigits(value / 1e3)} µs`;
  if (value < SECOND) return `${threeDigits(value / 1e6)} ms`;
  if (value < 60 * SECOND) return `${threeDigits(value / SECOND)} s`;
  const seconds = Math.round(value / SECOND);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${pad(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${pad(Math.floor((seconds % 3600) / 60))} m`;
  return `${Math.floor(seconds / 86400)} d ${pad(Math.floor((seconds % 86400) / 3600))} h`;
}

/** A round duration on an axis: `5 ms`, `2.5 s`, `0`. */
export function tickDuration(nanos: number): string {
  return nanos === 0
    ? "0"
    : duration(nanos)
        .replace(/(\.\d*?)0+ /, "$1 ")
        .replace(". ", " ");
}

function threeDigits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function pad(value: number, digits = 2): string {
  return String(value).padStart(digits, "0");
}

const grouped = new Intl.NumberFormat("en-US");
const compactFormat = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });

export function count(value: number): string {
  return grouped.format(value);
}

export function compact(value: number): string {
  return Math.abs(value) < 10000 ? grouped.format(value) : compactFormat.format(value);
}

/** `1 span`, `8 spans`. */
export function counted(value: number, what: string): string {
  return `${count(value)} ${what}${value === 1 ? "" : "s"}`;
}

export function decimal(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export function percent(part: number, whole: number): string {
  if (whole === 0 || part === 0) return "0 %";
  const share = (100 * part) / whole;
  return share < 0.1 ? "< 0.1 %" : `${share >= 10 ? share.toFixed(0) : share.toFixed(1)} %`;
}

export function milliseconds(nanos: string | number): number {
  return typeof nanos === "number" ? nanos / 1e6 : Number(BigInt(nanos) / 1000n) / 1000;
}

export function earliest(nanos: readonly string[]): string | null {
  return nanos.length === 0 ? null : String(nanos.map(BigInt).reduce((left, right) => (left < right ? left : right)));
}

export function latest(nanos: readonly string[]): string | null {
  return nanos.length === 0 ? null : String(nanos.map(BigInt).reduce((left, right) => (left > right ? left : right)));
}

/** `21:18:24.123`, and the day before it when that is not today. */
export function moment(nanos: string | number, now = Date.now()): string {
  const date = new Date(milliseconds(nanos));
  const time = `${clock(date)}.${pad(date.getMilliseconds(), 3)}`;
  return sameDay(date, new Date(now)) ? time : `${day(date)} ${time}`;
}

export function clock(date: Date): string {
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

export function day(date: Date): string {
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

export function sameDay(left: Date, right: Date): boolean {
  return day(left) === day(right);
}

/** `just now`, `5 min ago`, `3 h ago`, `2 d ago`. */
export function ago(nanos: string | number, now = Date.now()): string {
  const seconds = (now - milliseconds(nanos)) / 1000;
  if (seconds < -5) return "in the future";
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

/** A moment in full, with the zone of the reader. */
export function exact(nanos: string): string {
  const date = new Date(milliseconds(nanos));
  const fraction = (BigInt(nanos) % 1_000_000_000n).toString().padStart(9, "0");
  return `${day(date)} ${clock(date)}.${fraction} ${offset(date)}`;
}

/** The reader's zone as it is now: `UTC+01:00, Europe/Berlin`. */
export function zone(): string {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  return timeZone === "UTC" ? timeZone : `UTC${offset(new Date())}, ${timeZone}`;
}

function offset(date: Date): string {
  const minutes = -date.getTimezoneOffset();
  return `${minutes < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
}
