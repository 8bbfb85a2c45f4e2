/** Conversations with models: the list with what they cost, and one of them. */
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ask, useAnswer } from "../../api";
import { ago, compact, count, counted, duration, earliest, exact, latest, moment, percent } from "../../format";
import { address, go, rangeOf, setQuery } from "../../route";
import { useShortcuts } from "../../shortcuts";
import type {
  Conversation,
  ConversationSummary,
  GenAiSummary,
  ModelUse,
  ToolUse,
  TracePage,
  TraceSummary,
} from "../../types";
import { axisOf, fillBuckets } from "../../ui/buckets";
import { Chart } from "../../ui/chart";
import { Copy } from "../../ui/copy";
import { Icon } from "../../ui/icons";
import { Link } from "../../ui/link";
import { Empty, Failed, FailedLine, Waiting } from "../../ui/states";
import { between, chartParameters, isAllTime, rangeParameters } from "../../ui/time";
import { Newest } from "../search/nothing";
import { stepsOf } from "./messages";
import { Steps } from "./trace_conversation";

export function ConversationsView({ query }: { query: URLSearchParams }): JSX.Element {
  const range = rangeParameters(query);
  const key = `conversations|${range.start}|${range.end}`;
  const list = useAnswer(key, signal =>
    ask<{ conversations: ConversationSummary[]; next_cursor: string | null }>(
      "/api/v1/genai/conversations",
      range,
      signal,
    ),
  );
  const summary = useAnswer(key, signal => ask<GenAiSummary>("/api/v1/genai/summary", chartParameters(query), signal));
  const models = useAnswer(key, signal => ask<{ models: ModelUse[] }>("/api/v1/genai/models", range, signal));
  const tools = useAnswer(key, signal => ask<{ tools: ToolUse[] }>("/api/v1/genai/tools", range, signal));
  const reload = () => {
    for (const answer of [list, summary, models, tools]) answer.reload();
  };
  useShortcuts("Conversations", [{ keys: "r", what: "refresh", act: reload }]);
  useEffect(() => {
    document.title = "Conversations · Scouter";
  }, []);

  if (list.error && !list.value) return <Failed error={list.error} retry={reload} />;
  if (!list.value) return <Waiting what="Looking for conversations" />;
  if (list.value.conversations.length === 0) return <NoConversations query={query} />;
  return (
    <div class="scroll">
      <div class="page-body">
        {list.error && <FailedLine error={list.error} retry={reload} />}
        {summary.value && <Summary summary={summary.value} range={range} />}
        <div class="two-columns">
          {models.value && models.value.models.length > 0 && <Models models={models.value.models} />}
          {tools.value && tools.value.tools.length > 0 && <Tools tools={tools.value.tools} query={query} />}
        </div>
        <h2 class="section-title">Conversations</h2>
        <List key={key} first={list.value} query={query} range={range} />
      </div>
    </div>
  );
}

function Summary({ summary, range }: { summary: GenAiSummary; range: Range }): JSX.Element {
  const filled = fillBuckets(...axisOf(range, summary.points), summary.bucket_nano, summary.points);
  const zoom = (start: number, end: number) => setQuery(between(start, end));
  return (
    <>
      <dl class="numbers">
        <Number_ name="Model and tool calls" value={compact(summary.span_count)} />
        {summary.conversation_count > 0 ? (
          <Number_ name="Conversations" value={compact(summary.conversation_count)} />
        ) : (
          <Number_ name="Traces" value={compact(summary.trace_count)} />
        )}
        <Number_ name="Tokens in" value={compact(summary.input_tokens)} />
        <Number_ name="Tokens out" value={compact(summary.output_tokens)} />
        <Number_
          name="Failed calls"
          value={percent(summary.error_count, summary.span_count)}
          isBad={summary.error_count > 0}
        />
        <Number_ name="p50" value={duration(summary.p50_nano)} />
        <Number_ name="p95" value={duration(summary.p95_nano)} />
      </dl>
      {filled.starts.length > 1 && (
        <div class="charts">
          <Chart
            title="Tokens"
            kind="bars"
            buckets={filled.starts}
            bucketWidth={filled.width}
            lines={[
              { name: "in", look: "soft", values: filled.points.map(point => point?.input_tokens ?? 0) },
              { name: "out", look: "strong", values: filled.points.map(point => point?.output_tokens ?? 0) },
            ]}
            format={compact}
            onZoom={zoom}
            summary={`${count(summary.input_tokens)} in, ${count(summary.output_tokens)} out.`}
          />
          <Chart
            title="Calls"
            kind="bars"
            buckets={filled.starts}
            bucketWidth={filled.width}
            lines={[
              {
                name: "ok",
                look: "soft",
                values: filled.points.map(point => (point ? point.count - point.error_count : 0)),
              },
              { name: "errors", look: "bad", values: filled.points.map(point => point?.error_count ?? 0) },
            ]}
            format={compact}
            onZoom={zoom}
            summary={`${count(summary.span_count)} calls, ${count(summary.error_count)} failed.`}
          />
        </div>
      )}
    </>
  );
}

function Number_({ name, value, isBad = false }: { name: string; value: string; isBad?: boolean }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd class={isBad ? "bad-text" : undefined}>{value}</dd>
    </div>
  );
}

function Models({ models }: { models: readonly ModelUse[] }): JSX.Element {
  return (
    <section>
      <h2 class="section-title">Models</h2>
      <table class="table">
        <thead>
          <tr>
            <th>Model</th>
            <th class="number">Calls</th>
            <th class="number">Errors</th>
            <th class="number">Tokens in</th>
            <th class="number">Tokens out</th>
            <th class="number">p50</th>
            <th class="number">p95</th>
          </tr>
        </thead>
        <tbody>
          {models.map(model => (
            <tr key={`${model.provider}/${model.model}`}>
              <th scope="row">
                {model.model ?? <span class="muted">not said</span>}{" "}
                {model.provider && <span class="muted">{model.provider}</span>}
              </th>
              <td class="number">{count(model.span_count)}</td>
              <td class={`number${model.error_count > 0 ? " bad-text" : ""}`}>
                {percent(model.error_count, model.span_count)}
              </td>
              <td class="number">{compact(model.input_tokens)}</td>
              <td class="number">{compact(model.output_tokens)}</td>
              <td class="number">{duration(model.p50_nano)}</td>
              <td class="number">{duration(model.p95_nano)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Tools({ tools, query }: { tools: readonly ToolUse[]; query: URLSearchParams }): JSX.Element {
  return (
    <section>
      <h2 class="section-title">Tools</h2>
      <table class="table">
        <thead>
          <tr>
            <th>Tool</th>
            <th class="number">Calls</th>
            <th class="number">Errors</th>
            <th class="number">p50</th>
            <th class="number">p95</th>
          </tr>
        </thead>
        <tbody>
          {tools.map(tool => (
            <tr key={tool.tool}>
              <th scope="row">
                <Link to={address("/search", { ...rangeOf(query), attr: `gen_ai.tool.name=${tool.tool}` })}>
                  {tool.tool}
                </Link>
              </th>
              <td class="number">{count(tool.span_count)}</td>
              <td class={`number${tool.error_count > 0 ? " bad-text" : ""}`}>
                {percent(tool.error_count, tool.span_count)}
              </td>
              <td class="number">{duration(tool.p50_nano)}</td>
              <td class="number">{duration(tool.p95_nano)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

type Range = ReturnType<typeof rangeParameters>;

interface Page {
  conversations: ConversationSummary[];
  next_cursor: string | null;
}

interface ListProps {
  first: Page;
  query: URLSearchParams;
  range: Range;
}

function List({ first, query, range }: ListProps): JSX.Element {
  const [more, setMore] = useState<{ after: Page; pages: Page[] }>({ after: first, pages: [] });
  const [isLoading, setLoading] = useState(false);
  // A new first page makes the others old.
  const pages = more.after === first ? more.pages : [];
  const all = [first, ...pages].flatMap(page => page.conversations);
  const cursor = (pages.at(-1) ?? first).next_cursor;
  const traces = useTraces(all);
  const load = () => {
    setLoading(true);
    ask<Page>("/api/v1/genai/conversations", { ...range, cursor })
      .then(page => setMore({ after: first, pages: [...pages, page] }))
      .finally(() => setLoading(false));
  };
  return (
    <>
      <table class="table hover conversations">
        <thead>
          <tr>
            <th>Conversation</th>
            <th>Models</th>
            <th>Tools</th>
            <th class="number">Steps</th>
            <th class="number">Tokens in</th>
            <th class="number">Tokens out</th>
            <th class="number">Errors</th>
            <th class="number">Last active</th>
          </tr>
        </thead>
        <tbody>
          {all.map(conversation => (
            <tr key={conversation.id} onClick={() => go(conversationAddress(conversation.id, query))}>
              <th scope="row">
                <Link to={conversationAddress(conversation.id, query)} class={conversation.is_trace ? "" : "mono"}>
                  {conversation.is_trace ? rootOf(conversation, traces) : conversation.id}
                </Link>{" "}
                <span class="muted">
                  {conversation.is_trace && `trace ${conversation.id.slice(6, 14)}… · `}
                  {conversation.services.join(", ")}
                </span>
              </th>
              <td>{conversation.models.join(", ") || <span class="muted">–</span>}</td>
              <td>{conversation.tools.join(", ") || <span class="muted">–</span>}</td>
              <td class="number">{count(conversation.span_count)}</td>
              <td class="number">{count(conversation.input_tokens)}</td>
              <td class="number">{count(conversation.output_tokens)}</td>
              <td class={`number${conversation.error_count > 0 ? " bad-text" : " muted"}`}>
                {count(conversation.error_count)}
                <TraceErrors conversation={conversation} traces={traces} />
              </td>
              <td class="number" title={exact(conversation.last_unix_nano)}>
                {moment(conversation.last_unix_nano)}
                <span class="second muted">{ago(conversation.last_unix_nano)}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {cursor && (
        <button type="button" class="button more" disabled={isLoading} onClick={load}>
          {isLoading ? "Loading" : "Show more"}
        </button>
      )}
    </>
  );
}

/** What one question may ask for. */
const MOST_TRACES = 200;

type Traced = Pick<Conversation, "id" | "trace_ids" | "start_unix_nano" | "last_unix_nano">;

/** The traces of conversations, which do not tell how they began or whether they failed elsewhere: of each as many as fit one question. */
function useTraces(conversations: readonly Traced[]): ReadonlyMap<string, TraceSummary> {
  const each = Math.max(Math.floor(MOST_TRACES / conversations.length), 1);
  const ids = [...new Set(conversations.flatMap(conversation => conversation.trace_ids.slice(0, each)))];
  const asked = ids.slice(0, MOST_TRACES);
  const answer = useAnswer(asked.length > 0 ? `traces|${asked}` : null, signal => {
    const start = earliest(conversations.map(conversation => conversation.start_unix_nano));
    const end = latest(conversations.map(conversation => conversation.last_unix_nano));
    const range = { start, end: end && String(BigInt(end) + 1n) };
    return ask<TracePage>("/api/v1/traces", { ...range, trace_id: asked, limit: MOST_TRACES }, signal);
  });
  return useMemo(() => new Map(answer.value?.traces.map(trace => [trace.trace_id, trace])), [answer.value]);
}

function rootOf(conversation: Traced, traces: ReadonlyMap<string, TraceSummary>): string {
  const root = traces.get(conversation.trace_ids[0] ?? "")?.root;
  return root ? `${root.service} ${root.name}` : conversation.id.replace(":", " ");
}

/** Failures of its traces beyond those of its own steps. */
function TraceErrors({
  conversation,
  traces,
}: {
  conversation: ConversationSummary;
  traces: ReadonlyMap<string, TraceSummary>;
}): JSX.Element | null {
  const known = conversation.trace_ids.flatMap(id => traces.get(id) ?? []);
  const all = known.reduce((sum, trace) => sum + trace.error_count, 0);
  if (all <= conversation.error_count) return null;
  return (
    <span class="second bad-text" title="Spans of its traces that failed">
      {count(all)}
      {known.length < conversation.trace_count && "+"} in its {conversation.trace_count === 1 ? "trace" : "traces"}
    </span>
  );
}

function conversationAddress(id: string, query: URLSearchParams): string {
  return address(`/conversations/${encodeURIComponent(id)}`, rangeOf(query));
}

async function newestConversation(signal: AbortSignal): Promise<string | null> {
  const { conversations } = await ask<Page>("/api/v1/genai/conversations", { limit: 1 }, signal);
  return latest(conversations.map(conversation => conversation.last_unix_nano));
}

function NoConversations({ query }: { query: URLSearchParams }): JSX.Element {
  return (
    <Empty icon="chat" title={isAllTime(query) ? "No model was called yet" : "No model was called in this time"}>
      {!isAllTime(query) && <Newest what="conversation" find={newestConversation} />}
      <p>
        Spans with <code>gen_ai.operation.name</code> become conversations here; spans with the same{" "}
        <code>gen_ai.conversation.id</code> one conversation. OpenTelemetry's instrumentations for model clients write
        both.
      </p>
    </Empty>
  );
}

const TRACES_NAMED = 8;

/** A trace of a conversation; where something in it failed, it leads there. */
function TraceLink({ id, trace }: { id: string; trace: TraceSummary | undefined }): JSX.Element {
  const error = trace?.first_error;
  return (
    <Link
      to={address(`/trace/${id}`, { span: error?.span_id })}
      class={`mono trace-link${error ? " bad-text" : ""}`}
      title={error ? `${error.service} ${error.name} failed: ${error.message}` : undefined}
    >
      {error && <Icon name="error" size={12} />} {id.slice(0, 8)}
      {trace && trace.error_count > 0 && ` (${counted(trace.error_count, "error")})`}
    </Link>
  );
}

export function ConversationView({ id, query }: { id: string; query: URLSearchParams }): JSX.Element {
  const answer = useAnswer(id, signal =>
    ask<Conversation>(`/api/v1/genai/conversations/${encodeURIComponent(id)}`, undefined, signal),
  );
  const traces = useTraces(answer.value ? [answer.value] : []);
  useShortcuts("Conversation", [{ keys: "r", what: "refresh", act: answer.reload }]);
  useEffect(() => {
    document.title = `Conversation ${id} · Scouter`;
  }, [id]);
  if (answer.error?.status === 404) {
    return (
      <Empty icon="chat" title="There is no such conversation">
        <p>
          Nothing is stored under the id <span class="mono">{id}</span>.
        </p>
        <Link to={address("/conversations", rangeOf(query))} class="button">
          All conversations
        </Link>
      </Empty>
    );
  }
  if (answer.error && !answer.value) return <Failed error={answer.error} retry={answer.reload} />;
  if (!answer.value) return <Waiting what="Reading the conversation" />;
  const conversation = answer.value;
  return (
    <div class="scroll">
      <header class="trace-head">
        <div class="trace-title">
          <Link to={address("/conversations", rangeOf(query))} class="back" label="Back to all conversations">
            <Icon name="chevron" size={14} />
          </Link>
          <h1>
            <span class="muted">Conversation</span>{" "}
            {conversation.is_trace ? rootOf(conversation, traces) : conversation.id}
          </h1>
          {!conversation.is_trace && <Copy text={conversation.id} what="the id" />}
        </div>
        <p class="muted">
          {moment(conversation.start_unix_nano)} to {moment(conversation.last_unix_nano)},{" "}
          {counted(conversation.trace_ids.length, "trace")}:{" "}
          {conversation.trace_ids.slice(0, TRACES_NAMED).map(trace => (
            <TraceLink key={trace} id={trace} trace={traces.get(trace)} />
          ))}
          {conversation.truncated && " It is longer; the first 1000 steps are shown."}
        </p>
      </header>
      <Steps steps={stepsOf(conversation.steps)} />
    </div>
  );
}
