import assert from "node:assert/strict";
import { test } from "node:test";
import type { LeanSpan, TraceAnswer } from "../../src/types";
import {
  find,
  nextError,
  originOfError,
  revealed,
  type Trace,
  traceOf,
  visibleRows,
} from "../../src/views/trace/model";

type Given = [parent: number | null, start: number, length: number, status?: string, name?: string];

/** A trace of spans in tree order, times in nanoseconds from its start. */
function trace(...given: Given[]): Trace {
  const origin = 1_790_000_000_123_456_789n;
  const spans: LeanSpan[] = [];
  for (const [parent, start, length, status = "unset", name = "span"] of given) {
    spans.push({
      span_id: String(spans.length).padStart(16, "0"),
      parent_span_id: parent === null ? null : spans[parent]!.span_id,
      parent_index: parent,
      depth: parent === null ? 0 : spans[parent]!.depth + 1,
      service: "a",
      name,
      kind: "INTERNAL",
      status,
      start_unix_nano: String(origin + BigInt(start)),
      duration_nano: String(length),
      event_count: 0,
      link_count: 0,
      genai: null,
    });
  }
  const answer: TraceAnswer = {
    trace_id: "0".repeat(32),
    detail: "lean",
    start_unix_nano: String(origin),
    duration_nano: "0",
    span_count: spans.length,
    error_count: 0,
    services: [],
    spans,
  };
  return traceOf(answer);
}

function path(of: Trace): Record<number, [number, number][]> {
  return Object.fromEntries([...of.critical].map(([index, all]) => [index, all.map(({ from, to }) => [from, to])]));
}

test("nanoseconds of today are exact", () => {
  const { start, end } = trace([null, 1, 3]);
  assert.deepEqual([start[0], end[0]], [1, 4]);
});

test("the critical path goes through the child that ended last", () => {
  // 0 to 100; a child from 10 to 40, one from 20 to 90, which has one from 30 to 60.
  const of = trace([null, 0, 100], [0, 10, 30], [0, 20, 70], [2, 30, 30]);
  assert.deepEqual(path(of), {
    0: [
      [0, 10],
      [90, 100],
    ],
    1: [[10, 20]],
    2: [
      [20, 30],
      [60, 90],
    ],
    3: [[30, 60]],
  });
});

test("the critical path covers the root once, whatever children do", () => {
  let seed = 1;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return seed % below;
  };
  for (let round = 0; round < 200; round++) {
    const given: Given[] = [[null, 0, 1000]];
    // Tree order: a child of the last span or of one of its ancestors.
    const open = [0];
    for (let index = 1; index < 40; index++) {
      while (open.length > 1 && random(3) === 0) open.pop();
      given.push([open.at(-1)!, random(1200), random(900)]);
      open.push(index);
    }
    const covered = [...trace(...given).critical.values()].flat().sort((left, right) => left.from - right.from);
    let at = 0;
    for (const stretch of covered) {
      assert.equal(stretch.from, at, `round ${round}: a gap or an overlap`);
      at = stretch.to;
    }
    assert.equal(at, 1000, `round ${round}`);
  }
});

test("a span that ends before it starts has no length and does no harm", () => {
  const of = trace([null, 0, 10], [0, 5, -3]);
  assert.equal(of.end[1], 5);
  assert.deepEqual(path(of), { 0: [[0, 10]] });
});

test("folding hides a subtree and nothing else", () => {
  const of = trace([null, 0, 9], [0, 0, 1], [1, 0, 1], [2, 0, 1], [0, 2, 1], [null, 3, 1]);
  assert.deepEqual([...of.below], [4, 2, 1, 0, 0, 0]);
  assert.deepEqual(visibleRows(of, new Set()), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(visibleRows(of, new Set([1])), [0, 1, 4, 5]);
  assert.deepEqual(visibleRows(of, new Set([0])), [0, 5]);
  assert.deepEqual([...revealed(of, new Set([0, 1, 2, 5]), 3)], [5]);
});

test("the error to look at first is where it began", () => {
  const of = trace([null, 0, 9], [0, 0, 1, "error"], [1, 0, 1, "error"], [2, 0, 1], [0, 2, 1, "error"]);
  assert.equal(originOfError(of), 2);
  assert.deepEqual([...of.errorsBelow], [3, 1, 0, 0, 0]);
  assert.deepEqual([nextError(of, 2), nextError(of, 4), nextError(trace([null, 0, 1]), 0)], [4, 1, null]);
});

test("spans are found by name and by id", () => {
  const of = trace([null, 0, 9, "unset", "GET /a"], [0, 0, 1, "unset", "load"], [0, 0, 1, "unset", "get b"]);
  assert.deepEqual(find(of, " get "), [0, 2]);
  assert.deepEqual(find(of, "0000000000000001"), [1]);
  assert.deepEqual(find(of, ""), []);
});

test("a trace of 100,000 spans, each below the last, is laid out", () => {
  const given: Given[] = Array.from({ length: 100_000 }, (_, index) => [
    index === 0 ? null : index - 1,
    index,
    200_000 - 2 * index,
  ]);
  const of = trace(...given);
  assert.equal(of.below[0], 99_999);
  assert.equal(visibleRows(of, new Set([50_000])).length, 50_001);
  assert.equal(of.critical.size, 100_000);
  assert.equal(revealed(of, new Set([0]), 99_999).size, 0);
});
