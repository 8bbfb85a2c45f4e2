import assert from "node:assert/strict";
import { test } from "node:test";
import type { Attribute, FullSpan, SpanEvent } from "../../src/types";
import { stepOfSpan, withKnownMessages } from "../../src/views/genai/messages";

function attributes(values: Record<string, string | number>): Attribute[] {
  return Object.entries(values).map(([key, value]) =>
    typeof value === "string" ? { key, type: "string", value } : { key, type: "int", value: String(value) },
  );
}

function span(values: Record<string, string | number>, events: SpanEvent[] = []): FullSpan {
  return {
    span_id: "00f067aa0ba902b7",
    parent_span_id: null,
    service: "answerer",
    name: "call",
    kind: "CLIENT",
    status: "unset",
    start_unix_nano: "1",
    duration_nano: "2",
    event_count: events.length,
    link_count: 0,
    genai: null,
    status_message: "",
    trace_state: "",
    flags: 0,
    scope: { name: "", version: "", schema_url: "", attributes: [] },
    resource: { schema_url: "", attributes: [] },
    attributes: attributes(values),
    events,
    links: [],
    dropped_attributes_count: 0,
    dropped_events_count: 0,
    dropped_links_count: 0,
    tags: [],
    entity_ids: [],
    queue_ids: [],
    input: null,
    output: null,
  };
}

function event(name: string, values: Record<string, string>): SpanEvent {
  return { time_unix_nano: "1", name, attributes: attributes(values), dropped_attributes_count: 0 };
}

const HELLO = { role: "user", name: null, finish_reason: null, parts: [{ type: "text", content: "hello" }] };

test("messages of OpenInference are read from their numbered keys", () => {
  const step = stepOfSpan(
    "t",
    span({
      "openinference.span.kind": "LLM",
      "llm.model_name": "small",
      "llm.token_count.prompt": 7,
      "llm.token_count.completion": 3,
      "llm.input_messages.0.message.role": "user",
      "llm.input_messages.0.message.content": "hello",
      "llm.input_messages.1.message.role": "tool",
      "llm.input_messages.1.message.content": '{"found": 2}',
      "llm.input_messages.1.message.tool_call_id": "c1",
      "llm.output_messages.0.message.role": "assistant",
      "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c2",
      "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "search",
      "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"q": "x"}',
    }),
  );
  assert.ok(step);
  assert.deepEqual(
    [step.operation, step.request_model, step.input_tokens, step.output_tokens],
    ["chat", "small", 7, 3],
  );
  assert.deepEqual(step.input_messages, [
    HELLO,
    {
      role: "tool",
      name: null,
      finish_reason: null,
      parts: [{ type: "tool_call_response", id: "c1", result: { found: 2 } }],
    },
  ]);
  assert.deepEqual(step.output_messages[0]?.parts, [
    { type: "tool_call", id: "c2", name: "search", arguments: { q: "x" } },
  ]);
});

test("a tool of OpenInference has its arguments and its result", () => {
  const step = stepOfSpan(
    "t",
    span({
      "openinference.span.kind": "TOOL",
      "tool.name": "search",
      "input.value": '{"q": "x"}',
      "output.value": "two things",
    }),
  );
  assert.equal(step?.operation, "execute_tool");
  assert.deepEqual([step?.tool?.name, step?.tool?.arguments, step?.tool?.result], ["search", { q: "x" }, "two things"]);
  assert.deepEqual([step?.input_messages, step?.output_messages], [[], []]);
});

test("messages of OpenTelemetry are read from attributes and from events", () => {
  const text = JSON.stringify([{ role: "user", parts: [{ type: "text", content: "hello" }] }]);
  const base = { "gen_ai.operation.name": "chat" };
  assert.deepEqual(stepOfSpan("t", span({ ...base, "gen_ai.input.messages": text }))?.input_messages, [HELLO]);
  const details = event("gen_ai.client.inference.operation.details", {
    "gen_ai.input.messages": text,
    "gen_ai.system_instructions": '[{"type": "text", "content": "be brief"}]',
  });
  assert.deepEqual(stepOfSpan("t", span(base, [details]))?.input_messages, [HELLO]);
  assert.deepEqual(stepOfSpan("t", span(base, [details]))?.system_instructions, [
    { type: "text", content: "be brief" },
  ]);
  const older = [
    event("gen_ai.user.message", { content: "hello" }),
    event("gen_ai.choice", { message: '{"content": "hi"}', finish_reason: "stop" }),
  ];
  const step = stepOfSpan("t", span(base, older));
  assert.deepEqual(step?.input_messages, [HELLO]);
  assert.deepEqual(step?.output_messages, [
    { role: "assistant", name: null, finish_reason: "stop", parts: [{ type: "text", content: "hi" }] },
  ]);
  assert.deepEqual(
    stepOfSpan("t", span({ ...base, "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "hello" }))
      ?.input_messages,
    [HELLO],
  );
});

test("damaged messages are shown as they came, and other spans are no steps", () => {
  const step = stepOfSpan(
    "t",
    span({ "gen_ai.operation.name": "chat", "gen_ai.input.messages": "[{broken", "input.value": "left" }),
  );
  assert.deepEqual(step?.input_messages[0]?.parts, [{ type: "text", content: "left" }]);
  assert.equal(stepOfSpan("t", span({ "http.route": "/a" })), null);
});

test("what was said before is told from what is new", () => {
  const call = (inputs: string[], output: string) => ({
    ...stepOfSpan("t", span({ "gen_ai.operation.name": "chat" }))!,
    input_messages: inputs.map((content, index) => ({
      ...HELLO,
      role: index % 2 === 0 ? "user" : "assistant",
      parts: [{ type: "text" as const, content }],
    })),
    output_messages: [{ ...HELLO, role: "assistant", parts: [{ type: "text" as const, content: output }] }],
  });
  const steps = withKnownMessages([
    call(["hello"], "hi"),
    call(["hello", "hi", "hello"], "again?"),
    call(["other"], "new"),
  ]);
  assert.deepEqual(
    steps.map(step => step.known_input_messages),
    [0, 2, 0],
  );
});
