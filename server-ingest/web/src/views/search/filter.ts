/** The filter of the search: parameters of the address, which are those of the server. */
import { rangeParameters } from "../../ui/time";

export const REPEATED = ["attr", "tag", "entity", "queue", "trace_id", "kind"] as const;
const SINGLE = ["service", "operation", "status", "min_duration", "max_duration", "text", "root"] as const;

/** What the server is asked, from the address. */
export function filterOf(query: URLSearchParams): URLSearchParams {
  const filter = new URLSearchParams();
  const { start, end } = rangeParameters(query);
  if (start) filter.set("start", start);
  if (end) filter.set("end", end);
  for (const name of [...SINGLE, ...REPEATED]) {
    for (const value of query.getAll(name)) if (value) filter.append(name, value);
  }
  return filter;
}

/** Whether anything but the time narrows the search. */
export function isNarrowed(query: URLSearchParams): boolean {
  return [...SINGLE, ...REPEATED].some(name => query.get(name));
}

export const nothingNarrowed = Object.fromEntries([...SINGLE, ...REPEATED].map(name => [name, null]));

export interface Condition {
  readonly key: string;
  readonly type: string;
  readonly operator: string;
  readonly value: string;
}

/** In the order in which a longer one wins over its beginning. */
export const OPERATORS = [
  { sign: "=", words: "is" },
  { sign: "!=", words: "is not" },
  { sign: "~", words: "contains" },
  { sign: ">=", words: "≥" },
  { sign: "<=", words: "≤" },
  { sign: ">", words: ">" },
  { sign: "<", words: "<" },
  { sign: "?", words: "is there" },
  { sign: "!?", words: "is not there" },
] as const;

export function takesValue(operator: string): boolean {
  return operator !== "?" && operator !== "!?";
}

/** `KEY[TYPE]OPVALUE`, as the server reads it. */
export function conditionText({ key, type, operator, value }: Condition): string {
  const name = /[=!<>~?[" ]/.test(key) ? JSON.stringify(key) : key;
  // Whether a key is there, and what a text contains, know no type.
  const isTyped = type !== "" && takesValue(operator) && operator !== "~";
  return `${name}${isTyped ? `[${type}]` : ""}${operator}${takesValue(operator) ? value : ""}`;
}

const PARTS = /^("(?:[^"\\]|\\.)*"|[^=!<>~?["]+)(?:\[(\w+)\])?(!=|<=|>=|!\?|=|<|>|~|\?)([\s\S]*)$/;

/** The parts of a condition; null when it is not one. */
export function conditionOf(text: string): Condition | null {
  const match = PARTS.exec(text);
  if (!match) return null;
  const [, name, type, operator, value] = match;
  let key = name!;
  if (key.startsWith('"')) {
    try {
      key = String(JSON.parse(key));
    } catch {
      return null;
    }
  }
  return { key, type: type ?? "", operator: operator!, value: value! };
}

export function isDuration(text: string): boolean {
  return text === "" || /^\d+(\.\d+)?\s*(ns|us|µs|ms|s|m|h|d)$/.test(text) || /^\d+$/.test(text);
}
