/** Answers as text, and what the words of an error say of its place. */

export interface Position {
  readonly line: number;
  readonly column: number;
  readonly offset: number;
  readonly length: number;
}

/** Where the parser or the planner says that the question is wrong; null when it does not say. */
export function positionOf(message: string, text: string): Position | null {
  const match = /line:?\s*(\d+),?\s*col(?:umn)?:?\s*(\d+)/i.exec(message);
  if (match) {
    const line = Number(match[1]);
    const column = Number(match[2]);
    const before = text.split("\n").slice(0, line - 1);
    const offset = before.reduce((sum, item) => sum + item.length + 1, 0) + column - 1;
    return { line, column, offset, length: wordAt(text, offset) };
  }
  if (/found: EOF/.test(message)) return placeOf(text, text.trimEnd().length, 0);
  // The server names what is not there.
  const name = /(?:no (?:column|table|function|field named)|invalid function) ['"]?(\w+(?:\.\w+)*)/i.exec(message)?.[1];
  const word = name?.split(".").at(-1)?.toLowerCase();
  const offset = word ? text.toLowerCase().indexOf(word) : -1;
  return word && offset >= 0 ? placeOf(text, offset, word.length) : null;
}

function placeOf(text: string, offset: number, length: number): Position {
  const before = text.slice(0, offset).split("\n");
  return { line: before.length, column: before.at(-1)!.length + 1, offset, length };
}

function wordAt(text: string, offset: number): number {
  return /^[\w.]+|^\S/.exec(text.slice(offset))?.[0].length ?? 0;
}

export function cellText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Whether a column of this Arrow type is of numbers. Large integers come as text, so values do not tell it. */
export function isNumeric(type: string | undefined): boolean {
  return /^(U?Int|Float|Decimal)\d/.test(type ?? "");
}

export function hasFraction(type: string | undefined): boolean {
  return /^(Float|Decimal)\d/.test(type ?? "");
}

/** How many digits a number has behind its point; what is written with an exponent has none. */
export function fractionDigits(text: string): number {
  return /^-?\d+\.(\d+)$/.exec(text)?.[1]?.length ?? 0;
}

/** The message without its place, for where that is told apart. */
export function withoutPosition(message: string): string {
  return message.replace(/ at Line: \d+, Column: \d+/, "");
}
