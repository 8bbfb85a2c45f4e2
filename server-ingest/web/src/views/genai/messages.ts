/**
 * What a span says to or of a model: OpenTelemetry's GenAI conventions in attributes or events, their older forms, and OpenInference.
 */
import type { Attribute, FullSpan, Message, MessagePart, Step } from "../../types";
import { plain } from "../../ui/attributes";

/** The event that carries all messages of a call. */
const DETAILS = "gen_ai.client.inference.operation.details";
const INSTRUCTIONS = "gen_ai.system_instructions";

type Values = Map<string, unknown>;

function valuesOf(attributes: readonly Attribute[]): Values {
  return new Map(attributes.map(attribute => [attribute.key, plain(attribute)]));
}

function text(values: Values, ...keys: string[]): string | null {
  for (const key of keys) {
    const value = values.get(key);
    if (typeof value === "string" && value !== "") return value;
  }
  return null;
}

function tokens(values: Values, ...keys: string[]): number | null {
  for (const key of keys) {
    const value = Number(values.get(key) ?? Number.NaN);
    if (Number.isFinite(value)) return value;
  }
  return null;
}

/** JSON text as what it says, any other value as it is. */
export function parsed(value: unknown): unknown {
  if (typeof value !== "string" || !/^\s*[[{]/.test(value)) return value ?? null;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

const OPERATIONS: Record<string, string> = {
  LLM: "chat",
  TOOL: "execute_tool",
  AGENT: "invoke_agent",
  EMBEDDING: "embeddings",
  RETRIEVER: "retrieval",
  CHAIN: "chain",
  RERANKER: "rerank",
  GUARDRAIL: "guardrail",
  EVALUATOR: "evaluate",
};

/** The GenAI step that a span is, or null if it is none. */
export function stepOfSpan(traceId: string, span: FullSpan): Step | null {
  const step = stepOf(traceId, span);
  return step.operation === null ? null : step;
}

/** The steps of a conversation, with what each of them says that was not said before. */
export function stepsOf(spans: readonly (FullSpan & { trace_id: string })[]): Step[] {
  return withKnownMessages(spans.map(span => stepOf(span.trace_id, span)));
}

function stepOf(traceId: string, span: FullSpan): Step {
  const values = valuesOf(span.attributes);
  const kind = text(values, "openinference.span.kind");
  const operation =
    text(values, "gen_ai.operation.name") ?? (kind ? (OPERATIONS[kind.toUpperCase()] ?? kind.toLowerCase()) : null);
  const isTool = operation === "execute_tool";
  const input = inputMessages(values, span, isTool);
  const output = outputMessages(values, span, isTool);
  const toolName = text(values, "gen_ai.tool.name", "tool.name") ?? (isTool ? span.name : null);
  return {
    trace_id: traceId,
    span_id: span.span_id,
    parent_span_id: span.parent_span_id,
    service: span.service,
    name: span.name,
    operation,
    provider: text(values, "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
    request_model: text(values, "gen_ai.request.model", "llm.model_name", "embedding.model_name"),
    response_model: text(values, "gen_ai.response.model"),
    agent: text(values, "gen_ai.agent.name", "agent.name"),
    start_unix_nano: span.start_unix_nano,
    duration_nano: span.duration_nano,
    status: span.status,
    status_message: span.status_message,
    error_type: text(values, "error.type"),
    input_tokens: tokens(values, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    output_tokens: tokens(
      values,
      "gen_ai.usage.output_tokens",
      "gen_ai.usage.completion_tokens",
      "llm.token_count.completion",
    ),
    finish_reasons: [values.get("gen_ai.response.finish_reasons") ?? []].flat().map(String),
    system_instructions: instructions(values, span),
    input_messages: input,
    known_input_messages: 0,
    output_messages: output,
    tool: toolName
      ? {
          name: toolName,
          call_id: text(values, "gen_ai.tool.call.id", "tool_call.id"),
          type: text(values, "gen_ai.tool.type"),
          description: text(values, "gen_ai.tool.description", "tool.description"),
          arguments: parsed(
            values.get("gen_ai.tool.call.arguments") ??
              values.get("tool.parameters") ??
              (isTool ? values.get("input.value") : null),
          ),
          result: parsed(values.get("gen_ai.tool.call.result") ?? (isTool ? values.get("output.value") : null)),
        }
      : null,
  };
}

function instructions(values: Values, span: FullSpan): MessagePart[] {
  const details = span.events.find(event => event.name === DETAILS);
  const said = values.get(INSTRUCTIONS) ?? (details ? valuesOf(details.attributes).get(INSTRUCTIONS) : null);
  return partsOf(parsed(said));
}

function inputMessages(values: Values, span: FullSpan, isTool: boolean): Message[] {
  return (
    some(messagesOf(parsed(values.get("gen_ai.input.messages")))) ??
    some(indexed(values, "llm.input_messages")) ??
    some(indexed(values, "gen_ai.prompt")) ??
    some(messagesOfEvents(span, false)) ??
    (isTool ? [] : plainMessage("user", values.get("input.value") ?? values.get("gen_ai.prompt") ?? span.input))
  );
}

function outputMessages(values: Values, span: FullSpan, isTool: boolean): Message[] {
  return (
    some(messagesOf(parsed(values.get("gen_ai.output.messages")))) ??
    some(indexed(values, "llm.output_messages")) ??
    some(indexed(values, "gen_ai.completion")) ??
    some(messagesOfEvents(span, true)) ??
    (isTool
      ? []
      : plainMessage("assistant", values.get("output.value") ?? values.get("gen_ai.completion") ?? span.output))
  );
}

function some<T>(list: T[]): T[] | null {
  return list.length > 0 ? list : null;
}

function plainMessage(role: string, value: unknown): Message[] {
  if (value === null || value === undefined || value === "") return [];
  const content = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return [{ role, name: null, finish_reason: null, parts: [{ type: "text", content }] }];
}

function record(value: unknown): Record<string, unknown> | null {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : null;
}

function string(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

/** `gen_ai.input.messages` and its like, structured. */
export function messagesOf(value: unknown): Message[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap(item => {
    const message = record(item);
    if (!message) return [];
    const parts = Array.isArray(message["parts"]) ? partsOf(message["parts"]) : partsOf(message["content"]);
    return [
      {
        role: string(message["role"]) ?? "user",
        name: string(message["name"]),
        finish_reason: string(message["finish_reason"]),
        parts: [...parts, ...toolCalls(message["tool_calls"])],
      },
    ];
  });
}

export function partsOf(value: unknown): MessagePart[] {
  if (value === null || value === undefined || value === "") return [];
  if (typeof value === "string") return [{ type: "text", content: value }];
  const list = Array.isArray(value) ? value : [value];
  return list.map(item => {
    if (typeof item === "string") return { type: "text", content: item };
    const part = record(item);
    const type = string(part?.["type"]);
    if ((type === "text" || type === "reasoning") && part)
      return { type, content: String(part["content"] ?? part["text"] ?? "") };
    if (type === "tool_call" && part) {
      return {
        type,
        id: string(part["id"]),
        name: string(part["name"]) ?? "tool",
        arguments: parsed(part["arguments"]),
      };
    }
    if (type === "tool_call_response" && part) {
      return { type, id: string(part["id"]), result: parsed(part["response"] ?? part["result"]) };
    }
    return { type: "other", value: item };
  });
}

function toolCalls(value: unknown): MessagePart[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap(item => {
    const call = record(item);
    const function_ = record(call?.["function"]) ?? call;
    if (!function_) return [];
    return [
      {
        type: "tool_call",
        id: string(call?.["id"]),
        name: string(function_["name"]) ?? "tool",
        arguments: parsed(function_["arguments"]),
      },
    ];
  });
}

/** More messages than this are not in one span. */
const MOST_MESSAGES = 2000;

/** Messages that were flattened into numbered keys: `llm.input_messages.0.message.content`, `gen_ai.prompt.0.content`. */
function indexed(values: Values, prefix: string): Message[] {
  const messages: Message[] = [];
  for (let index = 0; index < MOST_MESSAGES; index++) {
    const at = `${prefix}.${index}.${prefix.startsWith("llm.") ? "message." : ""}`;
    const role = text(values, `${at}role`);
    const parts: MessagePart[] = partsOf(values.get(`${at}content`));
    for (let part = 0; part < MOST_MESSAGES; part++) {
      const content = text(values, `${at}contents.${part}.message_content.text`);
      if (content === null) break;
      parts.push({ type: "text", content });
    }
    for (let call = 0; call < MOST_MESSAGES; call++) {
      const inference = `${at}tool_calls.${call}.tool_call.`;
      const flat = `${at}tool_calls.${call}.`;
      const name = text(values, `${inference}function.name`, `${flat}name`);
      if (name === null) break;
      const arguments_ = parsed(values.get(`${inference}function.arguments`) ?? values.get(`${flat}arguments`));
      parts.push({ type: "tool_call", id: text(values, `${inference}id`, `${flat}id`), name, arguments: arguments_ });
    }
    if (role === null && parts.length === 0) break;
    const callId = text(values, `${at}tool_call_id`);
    const isResult = role === "tool" && parts.length === 1 && parts[0]?.type === "text";
    messages.push({
      role: role ?? "user",
      name: text(values, `${at}name`),
      finish_reason: text(values, `${at}finish_reason`),
      parts: isResult
        ? [{ type: "tool_call_response", id: callId, result: parsed((parts[0] as { content: string }).content) }]
        : parts,
    });
  }
  return messages;
}

/** Events that carry one message each, and the event that carries all. */
function messagesOfEvents(span: FullSpan, isOutput: boolean): Message[] {
  return span.events.flatMap(event => {
    const values = valuesOf(event.attributes);
    if (event.name === DETAILS) {
      return messagesOf(parsed(values.get(isOutput ? "gen_ai.output.messages" : "gen_ai.input.messages")));
    }
    if (event.name === (isOutput ? "gen_ai.content.completion" : "gen_ai.content.prompt")) {
      const content = parsed(values.get(isOutput ? "gen_ai.completion" : "gen_ai.prompt"));
      return some(messagesOf(content)) ?? plainMessage(isOutput ? "assistant" : "user", content);
    }
    const role =
      /^gen_ai\.(system|user|assistant|tool)\.message$/.exec(event.name)?.[1] ??
      (event.name === "gen_ai.choice" ? "choice" : null);
    if (role === null || (role === "choice") !== isOutput) return [];
    const inner = record(parsed(values.get("message") ?? values.get("gen_ai.event.content")));
    const content = parsed(values.get("content") ?? inner?.["content"] ?? record(inner?.["message"])?.["content"]);
    const calls = toolCalls(parsed(values.get("tool_calls") ?? inner?.["tool_calls"]));
    const parts: MessagePart[] =
      role === "tool"
        ? [{ type: "tool_call_response", id: text(values, "id"), result: content }]
        : [...partsOf(content), ...calls];
    if (parts.length === 0) return [];
    const finish = text(values, "finish_reason", "gen_ai.response.finish_reason");
    return [{ role: role === "choice" ? "assistant" : role, name: null, finish_reason: finish, parts }];
  });
}

/** Marks what was said before: models are sent the whole history again with each call. */
export function withKnownMessages(steps: Step[]): Step[] {
  // How often each message has been said; the same words said once more are news.
  const said = new Map<string, number>();
  return steps.map(step => {
    const here = new Map<string, number>();
    let isKnown = true;
    let count = 0;
    for (const message of step.input_messages) {
      const key = identity(message);
      const times = (here.get(key) ?? 0) + 1;
      here.set(key, times);
      isKnown &&= times <= (said.get(key) ?? 0);
      if (isKnown) count++;
    }
    for (const message of step.output_messages) here.set(identity(message), (here.get(identity(message)) ?? 0) + 1);
    for (const [key, times] of here) said.set(key, Math.max(times, said.get(key) ?? 0));
    return { ...step, known_input_messages: count };
  });
}

function identity(message: Message): string {
  return JSON.stringify([message.role, message.parts]);
}
