/** The answers of the server's API (docs/http-api.md), as far as the page reads them. Large integers are decimal text. */

export type Nanos = string;

export type AttributeType = "string" | "bool" | "int" | "double" | "bytes" | "array" | "map" | "null";

export interface TypedValue {
  type: AttributeType;
  value: string | number | boolean | null | TypedValue[] | Attribute[];
}

export interface Attribute extends TypedValue {
  key: string;
}

export interface ServiceCount {
  service: string;
  span_count: number;
  error_count: number;
}

export interface ServiceSummary extends ServiceCount {
  first_seen_unix_nano: Nanos;
  last_seen_unix_nano: Nanos;
}

export interface Operation {
  service: string;
  operation: string;
  kind: string;
  span_count: number;
  error_count: number;
  avg_duration_nano: Nanos;
  max_duration_nano: Nanos;
}

export interface AttributeKey {
  key: string;
  where: string[];
  types: { type: AttributeType; count: number }[];
  count: number;
}

export interface AttributeValue {
  type: AttributeType;
  value: string | number | boolean | null;
  count: number;
}

export interface TraceSummary {
  trace_id: string;
  root: { span_id: string; service: string; name: string; kind: string; status: string };
  is_root_missing: boolean;
  start_unix_nano: Nanos;
  duration_nano: Nanos;
  span_count: number;
  error_count: number;
  matched_span_count: number;
  services: ServiceCount[];
  first_error: { span_id: string; service: string; name: string; message: string } | null;
  genai: {
    span_count: number;
    input_tokens: number;
    output_tokens: number;
    models: string[];
    operations: string[];
    conversation_ids: string[];
  } | null;
}

export interface TracePage {
  traces: TraceSummary[];
  next_cursor: string | null;
}

export interface SpanEvent {
  time_unix_nano: Nanos;
  name: string;
  attributes: Attribute[];
  dropped_attributes_count: number;
}

export interface SpanLink {
  trace_id: string;
  span_id: string;
  trace_state: string;
  attributes: Attribute[];
}

/** What a span has in a trace of any size. */
export interface LeanSpan {
  span_id: string;
  parent_span_id: string | null;
  parent_index: number | null;
  depth: number;
  service: string;
  name: string;
  kind: string;
  status: string;
  start_unix_nano: Nanos;
  duration_nano: Nanos;
  event_count: number;
  link_count: number;
  genai: string | null;
}

export interface FullSpan extends Omit<LeanSpan, "parent_index" | "depth"> {
  status_message: string;
  trace_state: string;
  flags: number;
  scope: { name: string; version: string; schema_url: string; attributes: Attribute[] };
  resource: { schema_url: string; attributes: Attribute[] };
  attributes: Attribute[];
  events: SpanEvent[];
  links: SpanLink[];
  dropped_attributes_count: number;
  dropped_events_count: number;
  dropped_links_count: number;
  tags: { key: string; value: string }[];
  entity_ids: string[];
  queue_ids: string[];
  input: unknown;
  output: unknown;
}

export interface TraceAnswer {
  trace_id: string;
  detail: "full" | "lean";
  start_unix_nano: Nanos;
  duration_nano: Nanos;
  span_count: number;
  error_count: number;
  services: ServiceCount[];
  spans: (LeanSpan & Partial<FullSpan>)[];
}

export interface Percentiles {
  count: number;
  error_count: number;
  p50_nano: Nanos;
  p95_nano: Nanos;
  p99_nano: Nanos;
  max_nano: Nanos;
}

export interface SeriesGroup {
  group: string | null;
  is_rest: boolean;
  total: Percentiles;
  points: (Percentiles & { start_unix_nano: Nanos })[];
}

export interface SeriesAnswer {
  start_unix_nano: Nanos;
  end_unix_nano: Nanos;
  bucket_nano: Nanos;
  groups: SeriesGroup[];
}

export interface GraphAnswer {
  start_unix_nano: Nanos;
  end_unix_nano: Nanos;
  sampled_one_in: number;
  nodes: { service: string; span_count: number; error_count: number; entry_count: number }[];
  edges: {
    caller: string;
    callee: string;
    call_count: number;
    error_count: number;
    p50_nano: Nanos;
    p95_nano: Nanos;
    p99_nano: Nanos;
  }[];
}

export interface ConversationSummary {
  id: string;
  is_trace: boolean;
  start_unix_nano: Nanos;
  last_unix_nano: Nanos;
  span_count: number;
  error_count: number;
  trace_count: number;
  trace_ids: string[];
  input_tokens: number;
  output_tokens: number;
  models: string[];
  agents: string[];
  tools: string[];
  services: string[];
}

export type MessagePart =
  | { type: "text" | "reasoning"; content: string }
  | { type: "tool_call"; id: string | null; name: string; arguments: unknown }
  | { type: "tool_call_response"; id: string | null; result: unknown }
  | { type: "other"; value: unknown };

export interface Message {
  role: string;
  name: string | null;
  finish_reason: string | null;
  parts: MessagePart[];
}

/** A span of a conversation, as `messages.ts` reads it. */
export interface Step {
  trace_id: string;
  span_id: string;
  parent_span_id: string | null;
  service: string;
  name: string;
  operation: string | null;
  provider: string | null;
  request_model: string | null;
  response_model: string | null;
  agent: string | null;
  start_unix_nano: Nanos;
  duration_nano: Nanos;
  status: string;
  status_message: string;
  error_type: string | null;
  input_tokens: number | null;
  output_tokens: number | null;
  finish_reasons: string[];
  system_instructions: MessagePart[];
  input_messages: Message[];
  known_input_messages: number;
  output_messages: Message[];
  tool: {
    name: string;
    call_id: string | null;
    type: string | null;
    description: string | null;
    arguments: unknown;
    result: unknown;
  } | null;
}

export interface Conversation {
  id: string;
  is_trace: boolean;
  start_unix_nano: Nanos;
  last_unix_nano: Nanos;
  input_tokens: number;
  output_tokens: number;
  error_count: number;
  trace_ids: string[];
  truncated: boolean;
  steps: (FullSpan & { trace_id: string })[];
}

export interface ModelUse {
  provider: string | null;
  model: string | null;
  span_count: number;
  error_count: number;
  input_tokens: number;
  output_tokens: number;
  p50_nano: Nanos;
  p95_nano: Nanos;
  p99_nano: Nanos;
  last_seen_unix_nano: Nanos;
}

export interface ToolUse {
  tool: string;
  span_count: number;
  error_count: number;
  p50_nano: Nanos;
  p95_nano: Nanos;
  last_seen_unix_nano: Nanos;
}

export interface GenAiSummary {
  span_count: number;
  error_count: number;
  trace_count: number;
  conversation_count: number;
  input_tokens: number;
  output_tokens: number;
  p50_nano: Nanos;
  p95_nano: Nanos;
  bucket_nano: Nanos;
  points: { start_unix_nano: Nanos; count: number; error_count: number; input_tokens: number; output_tokens: number }[];
}

export interface RecordKinds {
  kinds: {
    kind: string;
    table: string;
    row_count: number;
    entities: { entity: string; row_count: number; first_unix_nano: Nanos; last_unix_nano: Nanos; names: string[] }[];
  }[];
}

export interface RecordPoint {
  start_unix_nano: Nanos;
  count: number;
  mean?: number | string;
  min?: number | string;
  max?: number | string;
  sum?: number;
  passed?: number;
  bins?: { bin_id: number; bin_count: number }[];
}

export interface RecordSeries {
  kind: string;
  entity: string;
  bucket_nano: Nanos;
  series: { name: string; points: RecordPoint[] }[];
  records: Record<string, unknown>[];
}

export interface SqlAnswer {
  columns: string[];
  types: string[];
  rows: unknown[][];
}

/** What the server says of itself to anyone. */
export interface AboutServer {
  version: string;
  /** guest/guest may log in, from this machine only. */
  development: boolean;
  grpc: string;
}
