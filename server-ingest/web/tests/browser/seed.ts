/** What the server is filled with: a shop's assistant over an hour, with failures, conversations and records. The same at each run but for the time. */
import { type Server, sendRecords, sendSpans } from "./server";

type Values = Record<string, string | number | boolean | string[]>;

interface SpanOptions {
  parent?: string;
  kind?: number;
  attributes?: Values;
  error?: string;
  events?: { name: string; at: number; attributes: Values }[];
  links?: { traceId: string; spanId: string; attributes: Values }[];
}

const KIND = { internal: 1, server: 2, client: 3 };
const MS = 1_000_000;

function attributes(values: Values): unknown[] {
  return Object.entries(values).map(([key, value]) => ({ key, value: anyValue(value) }));
}

function anyValue(value: Values[string]): unknown {
  if (typeof value === "string") return { stringValue: value };
  if (typeof value === "boolean") return { boolValue: value };
  if (Array.isArray(value)) return { arrayValue: { values: value.map(anyValue) } };
  return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value };
}

/** The same numbers at each run. */
export class Random {
  constructor(private seed: number) {}
  next(): number {
    this.seed = (Math.imul(this.seed, 1103515245) + 12345) & 0x7fffffff;
    return (this.seed >>> 8) / 0x7fffff;
  }
  between(from: number, to: number): number {
    return from + (to - from) * this.next();
  }
}

/** Collects spans by service. */
export class Spans {
  private readonly byService = new Map<string, unknown[]>();
  private count = 0;

  constructor(
    readonly traceId: string,
    /** Unix nanoseconds. */
    readonly start: bigint,
  ) {}

  /** `at` and `length` in nanoseconds; the id. */
  add(service: string, name: string, at: number, length: number, options: SpanOptions = {}): string {
    this.count++;
    const spanId = (BigInt(`0x${this.traceId.slice(16)}`) ^ (BigInt(this.count) << 40n)).toString(16).padStart(16, "0");
    const from = this.start + BigInt(Math.round(at));
    const time = (offset: number) => String(from + BigInt(Math.round(offset)));
    const events = (options.events ?? []).map(event => ({
      name: event.name,
      timeUnixNano: time(event.at),
      attributes: attributes(event.attributes),
    }));
    const span = {
      traceId: this.traceId,
      spanId,
      parentSpanId: options.parent ?? "",
      name,
      kind: options.kind ?? KIND.internal,
      startTimeUnixNano: time(0),
      endTimeUnixNano: time(length),
      attributes: attributes(options.attributes ?? {}),
      events,
      links: (options.links ?? []).map(link => ({ ...link, attributes: attributes(link.attributes) })),
      status: options.error === undefined ? {} : { code: 2, message: options.error },
    };
    const spans = this.byService.get(service) ?? [];
    spans.push(span);
    this.byService.set(service, spans);
    return spanId;
  }

  /** The same trace, its spans so far left behind. */
  next(): Spans {
    const next = new Spans(this.traceId, this.start);
    next.count = this.count;
    return next;
  }

  resourceSpans(): unknown[] {
    return [...this.byService].map(([service, spans]) => ({
      resource: {
        attributes: attributes({
          "service.name": service,
          "service.version": "1.4.2",
          "deployment.environment.name": "demo",
          "telemetry.sdk.language": service === "scorer" ? "rust" : "python",
        }),
      },
      scopeSpans: [{ scope: { name: `${service}.tracing`, version: "1.0" }, spans }],
    }));
  }
}

export const ENTITY = "0196d2c0-7a5e-7f31-9c4a-2f6f5d1c0a11";
export const CONVERSATION = "order-1723";
export const HUGE_SPANS = 50_000;

const QUESTIONS = [
  {
    ask: "Where is my order?",
    tool: "lookup_order",
    result: { state: "left the warehouse", arrives: "tomorrow" },
    reply: "Your order has left our warehouse; it reaches you tomorrow.",
  },
  {
    ask: "How long does a refund take?",
    tool: "refund_policy",
    result: { days: "3 to 5" },
    reply: "A refund takes three to five working days.",
  },
  {
    ask: "Can I change the address of my order?",
    tool: "lookup_order",
    result: { state: "being packed" },
    reply: "Yes, as long as it is being packed. What is the new address?",
  },
] as const;
const INSTRUCTIONS =
  "You answer customers of a small shop. Be brief, be kind, and look things up before you promise them.";

export interface Seeded {
  /** The newest trace whose score failed. */
  readonly failed: string;
  readonly failedSpan: string;
  /** Its first span links to the failed one. */
  readonly linking: string;
  readonly openInference: string;
  readonly huge: string;
  readonly traces: number;
}

const text = (content: string) => ({ type: "text", content });

interface Asked {
  spans: Spans;
  groundedness: string;
}

/** One question: gateway, answerer with an agent that searches, thinks and calls a tool, scorer. */
function asked(
  traceId: string,
  start: bigint,
  random: Random,
  turn: number,
  conversation: string,
  history: unknown[],
  fails: boolean,
): Asked {
  const question = QUESTIONS[turn % QUESTIONS.length]!;
  const spans = new Spans(traceId, start);
  const slow = random.next() < 0.06 ? 4 : 1;
  const first = random.between(180, 320) * MS * slow;
  const second = random.between(120, 260) * MS;
  const tool = random.between(12, 40) * MS;
  const search = random.between(8, 30) * MS;
  const agent = search + first + tool + second + 6 * MS;
  const root = spans.add("gateway", "POST /ask", 0, agent + 62 * MS, {
    kind: KIND.server,
    attributes: {
      "http.request.method": "POST",
      "http.route": "/ask",
      "url.path": "/ask",
      "http.response.status_code": 200,
      "question.length": question.ask.length,
      "user.id": `customer-${turn % 17}`,
    },
  });
  const call = spans.add("gateway", "POST", 4 * MS, agent + 14 * MS, {
    parent: root,
    kind: KIND.client,
    attributes: { "http.request.method": "POST", "server.address": "answerer", "http.response.status_code": 200 },
  });
  const answer = spans.add("answerer", "POST /answer", 8 * MS, agent + 6 * MS, {
    parent: call,
    kind: KIND.server,
    attributes: { "http.route": "/answer", "http.request.method": "POST" },
  });
  const genai = { "gen_ai.provider.name": "scouter.demo", "gen_ai.conversation.id": conversation };
  const loop = spans.add("answerer", "invoke_agent support", 10 * MS, agent, {
    parent: answer,
    attributes: { ...genai, "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support" },
  });
  let at = 12 * MS;
  const retrieve = spans.add("answerer", "retrieve documents", at, search, {
    parent: loop,
    attributes: { "documents.count": 4, "documents.best_score": 0.83 },
  });
  spans.add("postgres", "SELECT documents", at + 1 * MS, search - 2 * MS, {
    parent: retrieve,
    kind: KIND.client,
    attributes: {
      "db.system.name": "postgresql",
      "db.operation.name": "SELECT",
      "db.query.text": "SELECT id, text FROM documents ORDER BY embedding <-> $1 LIMIT 4",
    },
  });
  at += search;
  const said = [...history, { role: "user", parts: [text(question.ask)] }];
  const callPart = {
    type: "tool_call",
    id: `call_${turn}`,
    name: question.tool,
    arguments: { order_id: `A-${1700 + turn}` },
  };
  const model = (messages: unknown[], output: unknown[], finish: string, tokens: [number, number]) => ({
    ...genai,
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "tiny-answerer",
    "gen_ai.response.model": "tiny-answerer-2026-01",
    "gen_ai.request.temperature": 0.2,
    "gen_ai.usage.input_tokens": tokens[0],
    "gen_ai.usage.output_tokens": tokens[1],
    "gen_ai.response.finish_reasons": [finish],
    "gen_ai.system_instructions": JSON.stringify([text(INSTRUCTIONS)]),
    "gen_ai.input.messages": JSON.stringify(messages),
    "gen_ai.output.messages": JSON.stringify([{ role: "assistant", parts: output, finish_reason: finish }]),
  });
  spans.add("answerer", "chat tiny-answerer", at, first, {
    parent: loop,
    kind: KIND.client,
    attributes: model(said, [callPart], "tool_call", [38 + 31 * history.length, 14]),
  });
  at += first;
  spans.add("answerer", `execute_tool ${question.tool}`, at, tool, {
    parent: loop,
    attributes: {
      ...genai,
      "gen_ai.operation.name": "execute_tool",
      "gen_ai.tool.name": question.tool,
      "gen_ai.tool.type": "function",
      "gen_ai.tool.call.id": callPart.id,
      "gen_ai.tool.call.arguments": JSON.stringify(callPart.arguments),
      "gen_ai.tool.call.result": JSON.stringify(question.result),
    },
    events: [
      { name: "cache.miss", at: 2 * MS, attributes: { "cache.key": callPart.arguments.order_id, "cache.size": 128 } },
    ],
  });
  at += tool;
  const after = [
    ...said,
    { role: "assistant", parts: [callPart] },
    { role: "tool", parts: [{ type: "tool_call_response", id: callPart.id, response: question.result }] },
  ];
  spans.add("answerer", "chat tiny-answerer", at, second, {
    parent: loop,
    kind: KIND.client,
    attributes: model(after, [text(question.reply)], "stop", [71 + 31 * history.length, 19]),
  });
  history.push(...after.slice(history.length), { role: "assistant", parts: [text(question.reply)] });

  const scoreAt = agent + 24 * MS;
  const scoring = spans.add("gateway", "POST", scoreAt, 30 * MS, {
    parent: root,
    kind: KIND.client,
    attributes: { "http.request.method": "POST", "server.address": "scorer" },
  });
  const score = spans.add("scorer", "POST /score", scoreAt + 3 * MS, 22 * MS, {
    parent: scoring,
    kind: KIND.server,
    attributes: { "http.route": "/score", "scouter.entity": ENTITY },
  });
  spans.add("scorer", "relevance", scoreAt + 4 * MS, 6 * MS, {
    parent: score,
    attributes: { "score.relevance": 0.71 },
  });
  const message = "no sources to check the answer against";
  const groundedness = spans.add("scorer", "groundedness", scoreAt + 11 * MS, 9 * MS, {
    parent: score,
    attributes: { "sources.count": fails ? 0 : 4, "scouter.entity": ENTITY },
    ...(fails && {
      error: message,
      events: [
        {
          name: "exception",
          at: 8 * MS,
          attributes: {
            "exception.type": "NoSources",
            "exception.message": message,
            "exception.stacktrace":
              "NoSources: no sources to check the answer against\n    at scorer::groundedness (scorer.rs:131)\n    at scorer::score (scorer.rs:101)",
          },
        },
      ],
    }),
  });
  return { spans, groundedness };
}

function id(index: number): string {
  return (
    (0x4bf92f3577b34da6n * BigInt(index + 3)).toString(16).slice(-16).padStart(16, "0") +
    (0xa3ce929d0e0e4736n + BigInt(index) * 0x10001n).toString(16).slice(-16)
  );
}

const TRACES = 160;

export async function seed(server: Server): Promise<Seeded> {
  const random = new Random(7);
  const now = BigInt(Date.now()) * 1_000_000n;
  const ago = (seconds: number) => now - BigInt(Math.round(seconds * 1e9));
  let resourceSpans: unknown[] = [];
  let failed = { trace: "", span: "" };
  const histories = new Map<string, unknown[]>();
  const scores: unknown[] = [];
  for (let index = 0; index < TRACES; index++) {
    // Busier in waves, over some 50 minutes, the last one just now.
    const share = index / TRACES;
    const seconds = 3000 * (1 - share) + 90 * Math.sin(share * 20) + 4;
    const conversation = index >= TRACES - 3 ? CONVERSATION : `conversation-${Math.floor(index / 3)}`;
    const history = histories.get(conversation) ?? [];
    histories.set(conversation, history);
    const fails = index === TRACES - 2 || (index > 60 && index < 78 && index % 3 === 0) || index % 41 === 5;
    const traceId = id(index);
    const made = asked(traceId, ago(seconds), random, index, conversation, history, fails);
    resourceSpans.push(...made.spans.resourceSpans());
    if (fails) failed = { trace: traceId, span: made.groundedness };
    scores.push(...recordsOf(traceId, now - BigInt(Math.round(seconds * 1e9)), random, fails));
  }
  const linking = new Spans(id(900), ago(2));
  const run = linking.add("evaluator", "re-evaluate failed answers", 0, 900 * MS, {
    links: [{ traceId: failed.trace, spanId: failed.span, attributes: { reason: "failed score" } }],
  });
  linking.add("evaluator", "<img src=x onerror=alert(1)>", 10 * MS, 300 * MS, { parent: run });
  const openInference = inOpenInference(id(901), ago(3));
  resourceSpans.push(...linking.resourceSpans(), ...openInference.resourceSpans());
  await sendSpans(server, { resourceSpans });
  resourceSpans = [];
  await sendRecords(server, scores);
  const huge = id(902);
  await sendHuge(server, huge, ago(3100));
  return {
    failed: failed.trace,
    failedSpan: failed.span,
    linking: linking.traceId,
    openInference: openInference.traceId,
    huge,
    traces: TRACES + 3,
  };
}

function recordsOf(traceId: string, at: bigint, random: Random, fails: boolean): unknown[] {
  const created_at = new Date(Number(at / 1_000_000n)).toISOString();
  const common = { created_at, uid: ENTITY, entity_id: 0 };
  const drift = Number((at / 1_000_000_000n) % 3000n) / 3000;
  return [
    { Custom: { ...common, metric: "groundedness", value: fails ? 0 : random.between(0.7, 0.98) } },
    { Custom: { ...common, metric: "answer_seconds", value: random.between(0.4, 0.9) } },
    { Spc: { ...common, feature: "question_length", value: random.between(18, 30) + 6 * drift } },
    ...[0, 1, 2, 3].map(bin => ({
      Psi: { ...common, feature: "topic", bin_id: bin, bin_count: Math.round(random.between(4, 10) + bin * 3 * drift) },
    })),
    {
      AgentEval: {
        record: {
          record_id: `answer-${traceId.slice(0, 6)}`,
          session_id: CONVERSATION,
          created_at,
          uid: traceId.slice(0, 12),
          context: { answer_is_grounded: !fails },
          id: 0,
          updated_at: null,
          entity_id: 0,
          entity_uid: ENTITY,
          status: fails ? "Failed" : "Processed",
          entity_type: "Agent",
          retry_count: 0,
          trace_id: traceId,
          record_source: "User",
          tags: [],
        },
      },
    },
  ];
}

/** The session of the spans that are written in OpenInference's words. */
export const NOTEBOOK_SESSION = "notebook-session-7";

function inOpenInference(traceId: string, start: bigint): Spans {
  const spans = new Spans(traceId, start);
  const agent = spans.add("notebook", "agent", 0, 800 * MS, {
    attributes: {
      "openinference.span.kind": "AGENT",
      "session.id": NOTEBOOK_SESSION,
      "input.value": "What is the capital of Peru?",
      "output.value": "Lima.",
    },
  });
  spans.add("notebook", "search", 20 * MS, 120 * MS, {
    parent: agent,
    attributes: {
      "openinference.span.kind": "TOOL",
      "tool.name": "search",
      "input.value": '{"q": "capital of Peru"}',
      "output.value": "Lima is the capital of Peru.",
    },
  });
  spans.add("notebook", "llm", 160 * MS, 600 * MS, {
    parent: agent,
    attributes: {
      "openinference.span.kind": "LLM",
      "llm.model_name": "small-model",
      "llm.token_count.prompt": 42,
      "llm.token_count.completion": 5,
      "llm.input_messages.0.message.role": "user",
      "llm.input_messages.0.message.content": "What is the capital of Peru?",
      "llm.output_messages.0.message.role": "assistant",
      "llm.output_messages.0.message.content": "Lima.",
    },
  });
  return spans;
}

/** One trace that is longer than any page could hold. */
async function sendHuge(server: Server, traceId: string, start: bigint): Promise<void> {
  const random = new Random(11);
  const services = ["indexer", "worker", "postgres", "cache"];
  const names = ["read batch", "embed", "write index", "rank", "cache get", "SELECT chunks", "render"];
  const total = 90_000 * MS;
  let spans = new Spans(traceId, start);
  const root = spans.add("indexer", "rebuild the index", 0, total, {});
  // Each batch of 500 has a tree of its own below the root.
  let open: { id: string; at: number; length: number }[] = [];
  const request: unknown[] = [];
  for (let index = 1; index < HUGE_SPANS; index++) {
    const isBatch = index % 500 === 1;
    if (isBatch) open = [];
    else while (open.length > 1 && random.next() < 0.4) open.pop();
    const parent = open.at(-1);
    const length = parent ? parent.length * random.between(0.1, 0.5) : (total / 100) * random.between(0.6, 1);
    const at = parent ? parent.at + (parent.length - length) * random.next() : (total / 100) * Math.floor(index / 500);
    const fails = index % 9_973 === 0;
    const id = spans.add(
      services[index % 4]!,
      isBatch ? `batch ${Math.floor(index / 500)}` : names[index % 7]!,
      at,
      Math.max(length, 1),
      {
        parent: parent?.id ?? root,
        ...(fails && { error: "the chunk is empty" }),
      },
    );
    if (open.length < 12) open.push({ id, at, length });
    if (index % 10_000 === 0 || index === HUGE_SPANS - 1) {
      request.push(...spans.resourceSpans());
      await sendSpans(server, { resourceSpans: request.splice(0) });
      spans = spans.next();
    }
  }
}
