/**
 * A trace ready to be drawn: times as numbers from its start, subtrees as ranges of rows, the critical path.
 *
 * Spans come from the server in tree order, so a subtree is a range: the rows after its root that are deeper. All of it is done in loops, since a
 * trace may be 100,000 spans deep.
 */
import type { LeanSpan, TraceAnswer } from "../../types";

/** A stretch of the critical path in nanoseconds from the trace's start. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
}

export interface Trace {
  readonly answer: TraceAnswer;
  readonly spans: readonly (LeanSpan & { status_message?: string })[];
  /** Nanoseconds from the trace's start. */
  readonly start: Float64Array;
  readonly end: Float64Array;
  /** How many rows below a row belong to it. */
  readonly below: Int32Array;
  /** How many of them failed. */
  readonly errorsBelow: Int32Array;
  readonly critical: ReadonlyMap<number, readonly Stretch[]>;
  /** Rows of spans that failed, in order. */
  readonly errors: readonly number[];
  readonly byId: ReadonlyMap<string, number>;
  readonly duration: number;
}

export function traceOf(answer: TraceAnswer): Trace {
  const { spans } = answer;
  const origin = BigInt(answer.start_unix_nano);
  const start = new Float64Array(spans.length);
  const end = new Float64Array(spans.length);
  const byId = new Map<string, number>();
  const errors: number[] = [];
  let duration = Number(answer.duration_nano);
  spans.forEach((span, index) => {
    start[index] = Number(BigInt(span.start_unix_nano) - origin);
    end[index] = start[index]! + Math.max(Number(span.duration_nano), 0);
    duration = Math.max(duration, end[index]!);
    if (!byId.has(span.span_id)) byId.set(span.span_id, index);
    if (span.status === "error") errors.push(index);
  });
  const below = new Int32Array(spans.length);
  const errorsBelow = new Int32Array(spans.length);
  for (let index = spans.length - 1; index >= 0; index--) {
    const parent = spans[index]!.parent_index;
    if (parent === null) continue;
    below[parent]! += below[index]! + 1;
    errorsBelow[parent]! += errorsBelow[index]! + (spans[index]!.status === "error" ? 1 : 0);
  }
  const critical = criticalPath(spans, start, end, below);
  return { answer, spans, start, end, below, errorsBelow, critical, errors, byId, duration: Math.max(duration, 1) };
}

/**
 * What the duration of the trace was made of: walking back from the end of its longest root, the child that ended last had to end first. A span is on
 * the path while none of its children is.
 */
export function criticalPath(
  spans: readonly { parent_index: number | null }[],
  start: Float64Array,
  end: Float64Array,
  below: Int32Array,
): Map<number, Stretch[]> {
  const path = new Map<number, Stretch[]>();
  let root = -1;
  spans.forEach((span, index) => {
    const length = end[index]! - start[index]!;
    if (span.parent_index === null && (root < 0 || length > end[root]! - start[root]!)) root = index;
  });
  if (root < 0) return path;
  const add = (index: number, from: number, to: number) => {
    if (to <= from) return;
    const stretches = path.get(index);
    if (stretches) stretches.push({ from, to });
    else path.set(index, [{ from, to }]);
  };
  // A child may begin before its parent and end after it; only what lies within counts.
  const pending = [{ index: root, from: start[root]!, until: end[root]! }];
  for (let task = pending.pop(); task; task = pending.pop()) {
    const { index, from } = task;
    let cursor = Math.min(end[index]!, task.until);
    for (const child of childrenByEnd(index, end, below)) {
      if (cursor <= from) break;
      const childStart = Math.max(start[child]!, from);
      const childEnd = Math.min(end[child]!, cursor);
      if (childEnd <= childStart) continue;
      add(index, childEnd, cursor);
      pending.push({ index: child, from: childStart, until: childEnd });
      cursor = childStart;
    }
    add(index, from, cursor);
  }
  for (const stretches of path.values()) stretches.sort((left, right) => left.from - right.from);
  return path;
}

function childrenByEnd(index: number, end: Float64Array, below: Int32Array): number[] {
  const children = [];
  const last = index + below[index]!;
  for (let child = index + 1; child <= last; child += below[child]! + 1) children.push(child);
  return children.sort((left, right) => end[right]! - end[left]!);
}

/** The rows that are shown when the subtrees of `collapsed` are folded. */
export function visibleRows(trace: Trace, collapsed: ReadonlySet<number>): number[] {
  const rows = [];
  for (let index = 0; index < trace.spans.length; index++) {
    rows.push(index);
    if (collapsed.has(index)) index += trace.below[index]!;
  }
  return rows;
}

/** `collapsed` without what hides `index`. */
export function revealed(trace: Trace, collapsed: ReadonlySet<number>, index: number): ReadonlySet<number> {
  let parent = trace.spans[index]?.parent_index ?? null;
  let next: Set<number> | null = null;
  while (parent !== null) {
    if (collapsed.has(parent)) {
      next ??= new Set(collapsed);
      next.delete(parent);
    }
    parent = trace.spans[parent]!.parent_index;
  }
  return next ?? collapsed;
}

/** The next row after `from` that failed, round to the first. */
export function nextError(trace: Trace, from: number): number | null {
  return trace.errors.find(index => index > from) ?? trace.errors[0] ?? null;
}

/** The failed span where the failure began: the deepest of the first that failed. */
export function originOfError(trace: Trace): number | null {
  let origin = trace.errors[0];
  if (origin === undefined) return null;
  // Deeper errors come right behind, in tree order.
  for (const index of trace.errors) {
    if (index > origin && index <= origin + trace.below[origin]!) origin = index;
  }
  return origin;
}

/** Rows whose name, service or status message contains `text`. */
export function find(trace: Trace, text: string): number[] {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  const rows = [];
  for (let index = 0; index < trace.spans.length; index++) {
    const span = trace.spans[index]!;
    if (
      span.name.toLowerCase().includes(wanted) ||
      span.service.toLowerCase().includes(wanted) ||
      span.span_id === wanted
    )
      rows.push(index);
  }
  return rows;
}
