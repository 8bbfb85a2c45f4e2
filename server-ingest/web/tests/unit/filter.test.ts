import assert from "node:assert/strict";
import { test } from "node:test";
import { conditionOf, conditionText, isDuration } from "../../src/views/search/filter";

test("a condition is written as the server reads it, and read back", () => {
  const cases = [
    [{ key: "http.route", type: "", operator: "=", value: "/ask" }, "http.route=/ask"],
    [
      { key: "http.response.status_code", type: "int", operator: ">=", value: "500" },
      "http.response.status_code[int]>=500",
    ],
    [{ key: "user.id", type: "string", operator: "!=", value: "a=b" }, "user.id[string]!=a=b"],
    [{ key: "odd=key", type: "", operator: "=", value: "1" }, '"odd=key"=1'],
    [{ key: 'a"b', type: "int", operator: "<", value: "-3" }, '"a\\"b"[int]<-3'],
    [{ key: "text", type: "", operator: "=", value: "two\nlines" }, "text=two\nlines"],
  ] as const;
  for (const [condition, text] of cases) {
    assert.equal(conditionText(condition), text);
    assert.deepEqual(conditionOf(text), condition);
  }
});

test("whether a key is there, and what a text contains, know no type", () => {
  assert.equal(conditionText({ key: "error.type", type: "string", operator: "?", value: "left" }), "error.type?");
  assert.equal(conditionText({ key: "error.type", type: "string", operator: "!?", value: "" }), "error.type!?");
  assert.equal(
    conditionText({ key: "db.query.text", type: "string", operator: "~", value: "select" }),
    "db.query.text~select",
  );
  assert.deepEqual(conditionOf("error.type!?"), { key: "error.type", type: "", operator: "!?", value: "" });
  assert.equal(conditionOf("nothing"), null);
  assert.equal(conditionOf('"open=1'), null);
});

test("durations are what the server takes", () => {
  for (const good of ["", "10ms", "1.5s", "250us", "2m", "100", "1 h"]) assert.ok(isDuration(good), good);
  for (const bad of ["ten", "ms", "-1s", "1.s", "1e3", "5 apples"]) assert.ok(!isDuration(bad), bad);
});
