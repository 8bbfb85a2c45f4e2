/** Traces: how they went over time, and the list of those that pass the filter. */
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ask, useAnswer } from "../../api";
import { ago, compact, count, counted, duration, exact, moment, tickDuration } from "../../format";
import { address, go, rangeOf, setQuery } from "../../route";
import { useShortcuts } from "../../shortcuts";
import type { SeriesAnswer, TracePage, TraceSummary } from "../../types";
import { fillBuckets } from "../../ui/buckets";
import { Chart } from "../../ui/chart";
import { colorsOf } from "../../ui/colors";
import { Icon } from "../../ui/icons";
import { isPlainClick, Link } from "../../ui/link";
import { Failed, FailedLine, Waiting } from "../../ui/states";
import { between, chartParameters } from "../../ui/time";
import { openTrace } from "../trace/trace";
import { filterOf, isNarrowed } from "./filter";
import { Filters } from "./filters";
import { Nothing } from "./nothing";

export function SearchView({ query }: { query: URLSearchParams }): JSX.Element {
  const filter = filterOf(query);
  const sort = query.get("sort") === "slowest" ? "slowest" : "newest";
  const key = `search|${filter}|${sort}`;
  const first = useAnswer(key, signal => {
    const parameters = new URLSearchParams(filter);
    parameters.set("sort", sort);
    return ask<TracePage>("/api/v1/traces", parameters, signal);
  });
  const isWhole = !isNarrowed(query);
  const overTime = new URLSearchParams(filter);
  overTime.set("end", chartParameters(query).end);
  const series = useAnswer(`series|${filter}`, signal =>
    isWhole ? seriesOfTraces(overTime, signal) : seriesOfSpans(overTime, signal),
  );
  const reload = () => {
    first.reload();
    series.reload();
  };
  useEffect(() => {
    document.title = "Traces · Scouter";
  }, []);
  // An id that is pasted into the search opens the trace.
  const text = query.get("text") ?? "";
  useEffect(() => {
    if (/^[0-9a-f]{32}$/i.test(text)) openTrace(text);
  }, [text]);

  return (
    <div class="scroll">
      <div class="page-body search-view">
        <Filters query={query} />
        {series.value && series.value.answer.groups.length > 0 && <Charts series={series.value} />}
        {first.error && !first.value && <Failed error={first.error} retry={reload} />}
        {first.error && first.value && <FailedLine error={first.error} retry={reload} />}
        {!first.value && !first.error && <Waiting what="Looking for traces" />}
        {first.value &&
          (first.value.traces.length === 0 ? (
            <Nothing query={query} />
          ) : (
            <Results
              first={first.value}
              filter={filter}
              sort={sort}
              query={query}
              reload={reload}
              isLoading={first.loading}
            />
          ))}
      </div>
    </div>
  );
}

interface Series {
  readonly answer: SeriesAnswer;
  /** Failed spans by the start of their bucket; without them failures are among what `answer` counts. */
  readonly failed: ReadonlyMap<string, number> | null;
}

async function seriesOfSpans(filter: URLSearchParams, signal: AbortSignal): Promise<Series> {
  return { answer: await ask<SeriesAnswer>("/api/v1/series", filter, signal), failed: null };
}

/** Each trace once, by its root, and beside it the spans that failed: a root seldom fails with what it called. */
async function seriesOfTraces(filter: URLSearchParams, signal: AbortSignal): Promise<Series> {
  const roots = new URLSearchParams(filter);
  roots.set("root", "true");
  const answer = await ask<SeriesAnswer>("/api/v1/series", roots, signal);
  if (answer.groups.length === 0) return { answer, failed: new Map() };
  const { start_unix_nano: start, end_unix_nano: end, bucket_nano: bucket } = answer;
  const errors = await ask<SeriesAnswer>("/api/v1/series", { start, end, bucket, status: "error" }, signal);
  return { answer, failed: new Map(errors.groups[0]?.points.map(point => [point.start_unix_nano, point.count])) };
}

function Charts({ series: { answer: series, failed } }: { series: Series }): JSX.Element | null {
  const group = series.groups[0];
  const filled = useMemo(
    () => fillBuckets(series.start_unix_nano, series.end_unix_nano, series.bucket_nano, group?.points ?? []),
    [series, group],
  );
  if (!group || filled.starts.length === 0) return null;
  const value = (of: (point: NonNullable<(typeof filled.points)[number]>) => string) =>
    filled.points.map(point => (point ? Number(of(point)) : null));
  const zoom = (start: number, end: number) => setQuery({ ...between(start, end), cursor: null });
  const failures = failed
    ? filled.starts.map(start => failed.get(String(BigInt(Math.round(start * 1000)) * 1000n)) ?? 0)
    : filled.points.map(point => point?.error_count ?? 0);
  const failureCount = failures.reduce((sum, value) => sum + value, 0);
  return (
    <div class="charts">
      <Chart
        title={failed ? "Traces" : "Matching spans"}
        kind="bars"
        buckets={filled.starts}
        bucketWidth={filled.width}
        lines={[
          {
            name: failed ? "traces" : "ok",
            look: "soft",
            values: filled.points.map(point => (point ? point.count - (failed ? 0 : point.error_count) : 0)),
          },
          {
            name: failed ? "failed spans" : "errors",
            look: "bad",
            values: failures,
            // Spans do not add up with traces.
            isInFront: failed !== null,
          },
        ]}
        format={compact}
        onZoom={zoom}
        summary={`${count(group.total.count)} ${failed ? "traces" : "matching spans"}, ${counted(failureCount, "span")} failed. Drag to look closer.`}
      />
      <Chart
        title="Latency"
        kind="lines"
        isLogarithmic
        buckets={filled.starts}
        bucketWidth={filled.width}
        lines={[
          { name: "p50", look: "p50", values: value(point => point.p50_nano) },
          { name: "p95", look: "p95", values: value(point => point.p95_nano) },
          { name: "p99", look: "p99", values: value(point => point.p99_nano) },
        ]}
        format={duration}
        tickFormat={tickDuration}
        onZoom={zoom}
        summary={`p50 ${duration(group.total.p50_nano)}, p95 ${duration(group.total.p95_nano)}, p99 ${duration(group.total.p99_nano)}. Drag to look closer.`}
      />
    </div>
  );
}

interface ResultsProps {
  first: TracePage;
  filter: URLSearchParams;
  sort: string;
  query: URLSearchParams;
  reload: () => void;
  isLoading: boolean;
}

function Results({ first, filter, sort, query, reload, isLoading }: ResultsProps): JSX.Element {
  const [more, setMore] = useState<{ after: TracePage; pages: TracePage[]; failed: string }>({
    after: first,
    pages: [],
    failed: "",
  });
  const [isLoadingMore, setLoadingMore] = useState(false);
  const [chosen, setChosen] = useState({ after: first, index: -1 });
  // A new first page makes the others old.
  const pages = more.after === first ? more.pages : [];
  const active = chosen.after === first ? chosen.index : -1;
  const traces = [first, ...pages].flatMap(page => page.traces);
  const cursor = (pages.at(-1) ?? first).next_cursor;
  const longest = Math.max(...traces.map(trace => Number(trace.duration_nano)), 1);
  const colors = colorsOf(traces.flatMap(trace => trace.services.map(service => service.service)));

  const load = () => {
    const parameters = new URLSearchParams(filter);
    parameters.set("sort", sort);
    parameters.set("cursor", cursor ?? "");
    setLoadingMore(true);
    ask<TracePage>("/api/v1/traces", parameters)
      .then(
        page => setMore({ after: first, pages: [...pages, page], failed: "" }),
        (error: Error) => setMore({ after: first, pages, failed: error.message }),
      )
      .finally(() => setLoadingMore(false));
  };
  const move = (to: number) => {
    const next = Math.min(Math.max(to, 0), traces.length - 1);
    setChosen({ after: first, index: next });
    document.getElementById(`result-${next}`)?.scrollIntoView({ block: "nearest" });
  };
  useShortcuts("Traces", [
    { keys: "/", what: "search for a text", act: () => document.getElementById("search-text")?.focus() },
    { keys: "a", what: "filter by an attribute", act: () => document.getElementById("add-attribute")?.click() },
    {
      keys: "x",
      what: "only traces with errors, and back",
      act: () => setQuery({ status: query.get("status") === "error" ? null : "error", cursor: null }),
    },
    {
      keys: "s",
      what: "slowest first, and back",
      act: () => setQuery({ sort: sort === "slowest" ? null : "slowest" }),
    },
    { keys: "j", what: "next trace", act: () => move(active + 1) },
    { keys: "k", what: "previous trace", act: () => move(active - 1) },
    {
      keys: "Enter",
      what: "open the trace",
      act: () => {
        const trace = traces[active];
        if (trace) go(traceAddress(trace, query));
      },
    },
    { keys: "r", what: "refresh", act: reload },
  ]);

  return (
    <section aria-label="Traces" aria-busy={isLoading}>
      <div class="results-head">
        <h2 class="section-title">
          {cursor ? `The first ${counted(traces.length, "trace")}` : counted(traces.length, "trace")}
        </h2>
        <span class="spacer" />
        <label class="inline-select">
          <span class="muted">Order</span>
          <select
            value={sort}
            onChange={event => setQuery({ sort: event.currentTarget.value === "slowest" ? "slowest" : null })}
          >
            <option value="newest">newest first</option>
            {/* With a filter it is the span that passes whose duration counts. */}
            <option value="slowest">{isNarrowed(query) ? "slowest match first" : "slowest first"}</option>
          </select>
        </label>
        <button type="button" class="icon-button" aria-label="Refresh" title="Refresh (r)" onClick={reload}>
          <Icon name="reload" />
        </button>
      </div>
      <ol class="results">
        {traces.map((trace, index) => (
          <Result
            key={trace.trace_id}
            trace={trace}
            index={index}
            isActive={index === active}
            longest={longest}
            colors={colors}
            query={query}
          />
        ))}
      </ol>
      {more.failed && <p class="bad-text">{more.failed}</p>}
      {cursor && (
        <button type="button" class="button more" disabled={isLoadingMore} onClick={load}>
          {isLoadingMore ? "Loading" : "Show more"}
        </button>
      )}
    </section>
  );
}

function traceAddress(trace: TraceSummary, query: URLSearchParams, span?: string): string {
  return address(`/trace/${trace.trace_id}`, { ...rangeOf(query), span });
}

interface ResultProps {
  trace: TraceSummary;
  index: number;
  isActive: boolean;
  longest: number;
  colors: ReadonlyMap<string, number>;
  query: URLSearchParams;
}

/** Services are named in a row up to here. */
const SERVICES_SHOWN = 4;

function Result({ trace, index, isActive, longest, colors, query }: ResultProps): JSX.Element {
  const error = trace.first_error;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the link inside has the keys
    <li
      id={`result-${index}`}
      class={`result${isActive ? " active" : ""}${trace.error_count > 0 ? " failed-result" : ""}`}
      onClick={event => {
        if (isPlainClick(event) && !(event.target as Element).closest("a")) go(traceAddress(trace, query));
      }}
    >
      <div class="result-time number" title={exact(trace.start_unix_nano)}>
        <span>{moment(trace.start_unix_nano)}</span>
        <span class="muted">{ago(trace.start_unix_nano)}</span>
      </div>
      <div class="result-main">
        <Link to={traceAddress(trace, query)} class="result-name">
          <span class={`swatch service-${colors.get(trace.root.service)}`} />
          <span class="muted">{trace.root.service}</span> {trace.root.name || "(no name)"}
        </Link>
        {trace.is_root_missing && (
          <span class="badge" title="Its first span is not stored: it was not sent, or has not come yet">
            no root
          </span>
        )}
        <div class="result-notes">
          {error && (
            <Link
              to={traceAddress(trace, query, error.span_id)}
              class="result-error"
              title="Go to the span that failed"
            >
              <Icon name="error" size={13} />
              <span>
                {error.service} {error.name}
                {error.message && `: ${error.message}`}
              </span>
            </Link>
          )}
          {trace.genai && (
            <Link
              to={address(`/trace/${trace.trace_id}`, { ...rangeOf(query), view: "conversation" })}
              class="result-genai"
              title="Read the conversation"
            >
              <Icon name="spark" size={12} />
              <span>
                {trace.genai.models.slice(0, 2).join(", ") || trace.genai.operations.slice(0, 2).join(", ")}
                {trace.genai.input_tokens + trace.genai.output_tokens > 0 &&
                  ` · ${compact(trace.genai.input_tokens)} → ${compact(trace.genai.output_tokens)} tokens`}
              </span>
            </Link>
          )}
        </div>
      </div>
      <div class="result-services">
        {trace.services.slice(0, SERVICES_SHOWN).map(service => (
          <span key={service.service} class={`service-tag service-${colors.get(service.service)}`}>
            <span class="swatch" />
            {service.service} <span class="muted number">{count(service.span_count)}</span>
          </span>
        ))}
        {trace.services.length > SERVICES_SHOWN && <span class="muted">+{trace.services.length - SERVICES_SHOWN}</span>}
      </div>
      <div class="result-spans number">
        {count(trace.span_count)} <span class="muted">{trace.span_count === 1 ? "span" : "spans"}</span>
        {trace.error_count > 0 && <span class="bad-text">{counted(trace.error_count, "error")}</span>}
      </div>
      <div class="result-duration number">
        <span>{duration(trace.duration_nano)}</span>
        <span class="length" aria-hidden="true">
          <span style={{ width: `${(100 * Number(trace.duration_nano)) / longest}%` }} />
        </span>
      </div>
    </li>
  );
}
