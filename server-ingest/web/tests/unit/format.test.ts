import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, compact, decimal, duration, exact, milliseconds, percent, tickDuration } from "../../src/format";
import { axisOf, fillBuckets } from "../../src/ui/buckets";
import { colorsOf } from "../../src/ui/colors";
import { durationTicks, timeTicks, valueTicks } from "../../src/ui/scale";
import { momentOf, rangeHolding } from "../../src/ui/time";
import { layoutOf } from "../../src/views/services/layout";
import { fractionDigits, isNumeric, positionOf, withoutPosition } from "../../src/views/sql/text";

test("durations have three digits and their unit", () => {
  const cases: [number | string, string][] = [
    [0, "0 ns"],
    [842, "842 ns"],
    ["6410000", "6.41 ms"],
    [42_500, "42.5 µs"],
    [1_200_000_000, "1.20 s"],
    [125e9, "2 m 05 s"],
    [3_600e9 * 5.5, "5 h 30 m"],
    [86_400e9 * 2, "2 d 00 h"],
    [-1500, "−1.50 µs"],
  ];
  for (const [nanos, text] of cases) assert.equal(duration(nanos), text);
  assert.deepEqual([0, 5e6, 15e6, 2.5e6, 1e9].map(tickDuration), ["0", "5 ms", "15 ms", "2.5 ms", "1 s"]);
});

test("moments keep their nanoseconds", () => {
  assert.match(exact("1777151904123456789"), /:24\.123456789 [+-]\d\d:\d\d$/);
  assert.equal(milliseconds("1777151904123456789"), 1777151904123.456);
  assert.equal(ago("1000000000", 1000), "just now");
  assert.equal(ago("0", 90_000), "1 min ago");
  assert.equal(ago("0", 3 * 86_400_000), "3 d ago");
});

test("shares and counts are short and never a lie", () => {
  assert.equal(percent(0, 10), "0 %");
  assert.equal(percent(1, 100_000), "< 0.1 %");
  assert.equal(percent(1, 3), "33 %");
  assert.equal(compact(9999), "9,999");
  assert.equal(compact(1_234_567), "1.23M");
  assert.equal(decimal(0.30000000000000004), "0.3");
});

test("ticks are round and reach over the values", () => {
  assert.deepEqual(valueTicks(7, false), [0, 2.5, 5, 7.5]);
  assert.deepEqual(valueTicks(0, false), [0, 1]);
  assert.ok(valueTicks(101, false).at(-1)! >= 101);
  const counts: [number, number[]][] = [
    [1, [0, 1]],
    [3, [0, 1, 2, 3]],
    [7, [0, 5, 10]],
    [75, [0, 25, 50, 75]],
  ];
  for (const [most, ticks] of counts) assert.deepEqual(valueTicks(most, true), ticks);
  assert.deepEqual(durationTicks(0, 10, 5), [0, 2, 4, 6, 8, 10]);
  const start = new Date(2026, 3, 25, 21, 18).getTime();
  assert.deepEqual(
    timeTicks(start, start + 3_600_000, 4).map(tick => tick.text),
    ["21:30", "21:45", "22:00", "22:15"],
  );
  assert.deepEqual(timeTicks(5, 5, 4), []);
});

test("buckets that the server left out are filled", () => {
  const filled = fillBuckets("1000000000", "5000000000", "1000000000", [
    { start_unix_nano: "2000000000", count: 3 },
    { start_unix_nano: "4000000000", count: 5 },
  ]);
  assert.deepEqual(filled.starts, [1000, 2000, 3000, 4000]);
  assert.deepEqual(
    filled.points.map(point => point?.count ?? null),
    [null, 3, null, 5],
  );
  // Buckets that begin elsewhere than at a multiple of their width.
  const moved = fillBuckets("700", "2000", "1000", [{ start_unix_nano: "1500" }]);
  assert.deepEqual(
    moved.points.map(point => point?.start_unix_nano ?? null),
    [null, "1500"],
  );
  assert.equal(fillBuckets("0", "9000000000000000000", "1", []).starts.length, 4000);
});

test("services keep their colours and differ while there are enough", () => {
  const names = Array.from({ length: 10 }, (_, index) => `service-${index}`);
  const colors = colorsOf(names);
  assert.equal(new Set(colors.values()).size, 10);
  assert.deepEqual(colorsOf(["service-7"]).get("service-7"), colors.get("service-7"));
  assert.ok([...colorsOf([...names, "one more"]).values()].every(color => color >= 0 && color < 10));
});

test("callers stand left of what they call, also in circles", () => {
  const layout = layoutOf(
    ["a", "b", "c", "d"],
    [
      { caller: "a", callee: "b" },
      { caller: "b", callee: "c" },
      { caller: "a", callee: "c" },
      { caller: "c", callee: "a" },
      { caller: "d", callee: "d" },
    ],
  );
  const layers = Object.fromEntries([...layout].map(([name, { layer }]) => [name, layer]));
  assert.ok(layers["a"]! < layers["b"]! && layers["b"]! < layers["c"]!, JSON.stringify(layers));
  assert.equal(layers["d"], 0);
});

test("an error of SQL is shown where it is", () => {
  const of = (message: string, text: string) => {
    const position = positionOf(message, text);
    return position && [position.line, position.column, text.slice(position.offset, position.offset + position.length)];
  };
  const broken = "SELECT a,\n  FRM spans";
  assert.deepEqual(of("the query is not one SQL statement: found: FRM at Line: 2, Column: 3", broken), [2, 3, "FRM"]);
  assert.deepEqual(of("there is no column servce; did you mean service_name?", "SELECT\n servce FROM spans"), [
    2,
    2,
    "servce",
  ]);
  assert.deepEqual(of("there is no table spns; there are spans", "SELECT 1 FROM spns"), [1, 15, "spns"]);
  assert.deepEqual(of("Invalid function 'foo'.\nDid you mean 'row'?", "SELECT foo(1)"), [1, 8, "foo"]);
  assert.deepEqual(of("Expected: ), found: EOF", "SELECT (1 \n"), [1, 10, ""]);
  assert.equal(of("it took too long", broken), null);
  assert.equal(withoutPosition("found: FRM at Line: 2, Column: 3"), "found: FRM");
});

test("what a column of SQL is, is told by its type, since large integers come as text", () => {
  for (const type of ["Int64", "UInt8", "Float64", "Decimal128(10, 2)"]) assert.ok(isNumeric(type), type);
  for (const type of ["Utf8", "Dictionary(Int32, Utf8)", "List(Int64)", "Interval(DayTime)", undefined])
    assert.ok(!isNumeric(type), type);
  assert.deepEqual(["1.25", "-3", "1e-7", "1795787259721359983", "a.bc"].map(fractionDigits), [2, 0, 0, 0, 0]);
});

test("a range goes on to now, and a chart with it", () => {
  const now = Date.parse("2026-11-27T14:00:00Z");
  assert.equal(momentOf("now-15m", now), now - 900_000);
  assert.equal(momentOf("now", now), now);
  assert.equal(momentOf("2026-11-27T13:00:00Z", now), now - 3_600_000);
  assert.equal(momentOf(String(BigInt(now) * 1_000_000n), now), now);
  assert.equal(momentOf("", now), null);
  const nanos = (moment: number) => String(BigInt(moment) * 1_000_000n);
  const point = { start_unix_nano: nanos(now - 60_000) };
  assert.deepEqual(axisOf({ start: "now-1h", end: "now" }, [point], now), [nanos(now - 3_600_000), nanos(now)]);
  assert.deepEqual(axisOf({ start: "", end: "now" }, [point], now), [point.start_unix_nano, nanos(now)]);
});

test("a search for a value keeps the chosen range, and widens it to hold the span", () => {
  const now = Date.parse("2026-11-27T14:00:00Z");
  const of = (query: string, secondsAgo: number) =>
    rangeHolding(new URLSearchParams(query), String(BigInt(now - secondsAgo * 1000) * 1_000_000n), now);
  assert.deepEqual(of("", 60), { start: null, end: null });
  assert.deepEqual(of("start=now-15m", 60), { start: "now-15m", end: null });
  assert.deepEqual(of("start=now-15m", 1800), { start: "now-1h", end: null });
  assert.deepEqual(of("start=2026-11-27T10:00:00Z&end=2026-11-27T11:00:00Z", 60), { start: "now-15m", end: null });
  assert.deepEqual(of("", 90 * 86_400), { start: "all", end: null });
});
