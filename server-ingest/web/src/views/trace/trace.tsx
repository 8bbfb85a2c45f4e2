/** A trace: what it was, the waterfall, one span in full, and what was said to models in it. */
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiError, ask, useAnswer } from "../../api";
import { ago, count, counted, duration, exact, moment } from "../../format";
import { address, go, place, rangeOf, setQuery } from "../../route";
import { useShortcuts } from "../../shortcuts";
import type { TraceAnswer } from "../../types";
import { colorsOf } from "../../ui/colors";
import { Copy } from "../../ui/copy";
import { Icon } from "../../ui/icons";
import { Link } from "../../ui/link";
import { Empty, Failed, Waiting } from "../../ui/states";
import { TraceConversation } from "../genai/trace_conversation";
import { Details } from "./details";
import { Minimap } from "./minimap";
import { find, nextError, originOfError, revealed, type Stretch, type Trace, traceOf } from "./model";
import { Waterfall } from "./waterfall";

export function TraceView({ id, query }: { id: string; query: URLSearchParams }): JSX.Element {
  const isId = /^[0-9a-f]{32}$/i.test(id);
  const traceId = id.toLowerCase();
  const answer = useAnswer<Trace>(isId ? traceId : null, signal =>
    ask<TraceAnswer>(`/api/v1/traces/${traceId}`, undefined, signal).then(traceOf),
  );
  if (!isId) {
    return (
      <Empty icon="search" title="That is not the id of a trace">
        <p>An id is 32 hexadecimal digits. This address has “{id}”.</p>
      </Empty>
    );
  }
  if (answer.error?.status === 404) return <NoTrace id={traceId} retry={answer.reload} />;
  if (answer.error && !answer.value) return <Failed error={answer.error} retry={answer.reload} />;
  if (!answer.value) return <Waiting what="Reading the trace" />;
  return <Shown key={traceId} trace={answer.value} query={query} reload={answer.reload} />;
}

function NoTrace({ id, retry }: { id: string; retry: () => void }): JSX.Element {
  return (
    <Empty icon="search" title="No span of this trace is stored">
      <p>
        Nothing has come with the id <span class="mono">{id}</span>. It may not have been sampled, its spans may still
        be on their way (clients send every few seconds), or they are past their retention.
      </p>
      <button type="button" class="button" onClick={retry}>
        Look again
      </button>
    </Empty>
  );
}

interface ShownProps {
  trace: Trace;
  query: URLSearchParams;
  reload: () => void;
}

function Shown({ trace, query, reload }: ShownProps): JSX.Element {
  const { answer } = trace;
  const colors = useMemo(() => colorsOf(answer.services.map(service => service.service)), [answer]);
  const [collapsed, setCollapsed] = useState<ReadonlySet<number>>(new Set<number>());
  const selectedId = query.get("span");
  const selected = selectedId === null ? null : (trace.byId.get(selectedId) ?? null);
  const isConversation = query.get("view") === "conversation";
  const window = windowOf(query.get("zoom"), trace);
  const showCritical = query.get("critical") !== "off";
  const text = query.get("find") ?? "";
  const found = useMemo(() => find(trace, text), [trace, text]);
  const origin = useMemo(() => originOfError(trace), [trace]);
  const genaiCount = useMemo(() => trace.spans.filter(isGenAi).length, [trace]);
  const root = trace.spans[0];

  useEffect(() => {
    if (selected !== null) setCollapsed(old => revealed(trace, old, selected));
  }, [trace, selected]);
  useEffect(() => {
    document.title = `${root?.service ?? ""} ${root?.name ?? ""} · Scouter`;
  }, [root]);

  const select = (index: number | null) =>
    setQuery(
      { span: index === null ? null : trace.spans[index]!.span_id, view: null },
      selected === null ? "push" : "replace",
    );
  const toggle = (index: number, all: boolean) => setCollapsed(old => folded(trace, old, index, all));
  const goToError = () => {
    const next = selected === null || trace.spans[selected]!.status !== "error" ? origin : nextError(trace, selected);
    if (next !== null) select(next);
  };
  const goToFound = (step: 1 | -1) => {
    if (found.length === 0) return;
    const from = selected ?? -1;
    const next =
      step > 0
        ? (found.find(index => index > from) ?? found[0])
        : (found.findLast(index => index < from) ?? found.at(-1));
    if (next !== undefined) select(next);
  };
  const foldAll = () =>
    setCollapsed(new Set(trace.spans.flatMap((_, index) => (trace.below[index]! > 0 && index > 0 ? [index] : []))));
  const showAll = () => setQuery({ zoom: null }, "replace");
  const focusFind = () => document.getElementById("find-span")?.focus();

  useShortcuts("Trace", [
    { keys: "e", what: "go to the error, then to the next", act: goToError },
    {
      keys: "c",
      what: "show or hide the critical path",
      act: () => setQuery({ critical: showCritical ? "off" : null }, "replace"),
    },
    {
      keys: "v",
      what: "waterfall or conversation",
      act: () => setQuery({ view: isConversation ? null : "conversation" }),
    },
    { keys: "/", what: "find a span; n and N go on", act: focusFind },
    { keys: "n", what: "next span found", act: () => goToFound(1) },
    { keys: "N", what: "previous span found", act: () => goToFound(-1) },
    { keys: "[", what: "fold everything", act: foldAll },
    { keys: "]", what: "unfold everything", act: () => setCollapsed(new Set()) },
    { keys: "z", what: "the whole time again", act: showAll },
    { keys: "r", what: "refresh", act: reload },
    { keys: "Escape", what: "close the span", act: () => select(null) },
    { keys: "ArrowDown", what: "next span (↑ ↓ move, ← → fold and unfold)", act: () => select(selected ?? 0) },
  ]);

  return (
    <div class="trace-view">
      <header class="trace-head">
        <div class="trace-title">
          <Link to={address("/search", { ...rangeOf(query) })} class="back" label="Back to all traces">
            <Icon name="chevron" size={14} />
          </Link>
          <h1>
            <span class="muted">{root?.service}</span> {root?.name}
          </h1>
          <span class="trace-id mono">
            {answer.trace_id}
            <Copy text={answer.trace_id} what="the trace id" />
          </span>
        </div>
        <dl class="facts">
          <div>
            <dt>Started</dt>
            <dd title={exact(answer.start_unix_nano)}>
              {moment(answer.start_unix_nano)} <span class="muted">{ago(answer.start_unix_nano)}</span>
            </dd>
          </div>
          <div>
            <dt>Duration</dt>
            <dd>{duration(trace.duration)}</dd>
          </div>
          <div>
            <dt>Spans</dt>
            <dd>{count(answer.span_count)}</dd>
          </div>
          <div>
            <dt>Services</dt>
            <dd class="service-list">
              {answer.services.slice(0, 12).map(service => (
                <span key={service.service} class={`service-tag service-${colors.get(service.service)}`}>
                  <span class="swatch" />
                  {service.service}
                </span>
              ))}
              {answer.services.length > 12 && <span class="muted">and {answer.services.length - 12} more</span>}
            </dd>
          </div>
        </dl>
        <div class="trace-actions">
          <div class="tabs" role="tablist" aria-label="What to show">
            <button type="button" role="tab" aria-selected={!isConversation} onClick={() => setQuery({ view: null })}>
              Waterfall
            </button>
            <button
              type="button"
              role="tab"
              aria-selected={isConversation}
              onClick={() => setQuery({ view: "conversation" })}
            >
              Conversation {genaiCount > 0 && <span class="tab-count">{count(genaiCount)}</span>}
            </button>
          </div>
          {answer.error_count > 0 && (
            <button type="button" class="button bad" onClick={goToError} title="Go to the error (e)">
              <Icon name="error" size={14} /> {counted(answer.error_count, "error")}
            </button>
          )}
          {!isConversation && (
            <>
              <span class="spacer" />
              {query.has("zoom") && (
                <button type="button" class="button" title="The whole time again (z)" onClick={showAll}>
                  <Icon name="close" size={12} /> Show all
                </button>
              )}
              <FindBox text={text} found={found.length} go={goToFound} />
              <label class="check" title="The line below the bars: what the duration was made of (c)">
                <input
                  type="checkbox"
                  checked={showCritical}
                  onChange={() => setQuery({ critical: showCritical ? "off" : null }, "replace")}
                />
                Critical path
                <span class="critical-key" aria-hidden="true" />
              </label>
              <button
                type="button"
                class="button"
                onClick={collapsed.size > 0 ? () => setCollapsed(new Set()) : foldAll}
              >
                {collapsed.size > 0 ? "Unfold all" : "Fold all"}
              </button>
            </>
          )}
        </div>
      </header>
      {isConversation ? (
        <div class="scroll">
          <TraceConversation trace={trace} />
        </div>
      ) : (
        <div class={`trace-body${selected === null ? "" : " with-details"}`}>
          <div class="trace-left">
            <Minimap
              trace={trace}
              colors={colors}
              window={window}
              onWindow={next => setQuery({ zoom: zoomText(next, trace) }, "replace")}
            />
            <Waterfall
              trace={trace}
              colors={colors}
              window={window}
              collapsed={collapsed}
              showCritical={showCritical}
              selected={selected}
              found={found}
              onSelect={select}
              onToggle={toggle}
              onOpen={() => document.querySelector<HTMLElement>(".details summary")?.focus()}
            />
          </div>
          {selected !== null && (
            <Details
              key={selected}
              trace={trace}
              index={selected}
              color={colors.get(trace.spans[selected]!.service) ?? 0}
              onClose={() => select(null)}
            />
          )}
          {selectedId !== null && selected === null && (
            <aside class="details">
              <Failed
                error={
                  new ApiError(
                    404,
                    "NOT_FOUND",
                    `Span ${selectedId} is not in this trace.`,
                    "It may still be on its way.",
                  )
                }
                retry={reload}
              />
            </aside>
          )}
        </div>
      )}
    </div>
  );
}

function FindBox({ text, found, go: step }: { text: string; found: number; go: (step: 1 | -1) => void }): JSX.Element {
  return (
    <div class="find">
      <Icon name="search" size={14} />
      <input
        id="find-span"
        type="search"
        placeholder="Find a span"
        aria-label="Find a span by name, service or id"
        value={text}
        onInput={event => setQuery({ find: event.currentTarget.value }, "replace")}
        onKeyDown={event => {
          if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
          if (event.key === "Escape") event.currentTarget.blur();
        }}
      />
      {text && <span class="find-count number">{count(found)}</span>}
    </div>
  );
}

function isGenAi(span: Trace["spans"][number]): boolean {
  if (span.genai) return true;
  const attributes = (span as { attributes?: { key: string }[] }).attributes;
  return attributes?.some(attribute => attribute.key === "openinference.span.kind") ?? false;
}

/** Folds or unfolds a span; with `all`, its whole subtree. */
function folded(trace: Trace, collapsed: ReadonlySet<number>, index: number, all: boolean): ReadonlySet<number> {
  const next = new Set(collapsed);
  const isFolding = !collapsed.has(index);
  const last = all ? index + trace.below[index]! : index;
  for (let row = index; row <= last; row++) {
    if (!isFolding) next.delete(row);
    else if (trace.below[row]! > 0) next.add(row);
  }
  return next;
}

/** `zoom=from-to`, in nanoseconds from the trace's start. */
function windowOf(text: string | null, trace: Trace): Stretch {
  const [from, to] = (text ?? "").split("-").map(Number);
  const isGood = from !== undefined && to !== undefined && from >= 0 && to > from && from < trace.duration;
  return isGood ? { from, to } : { from: 0, to: trace.duration };
}

function zoomText(window: Stretch | null, trace: Trace): string | null {
  if (!window || (window.from <= 0 && window.to >= trace.duration)) return null;
  return `${Math.floor(window.from)}-${Math.ceil(window.to)}`;
}

/** Goes to a trace by its id, typed or pasted somewhere. */
export function openTrace(id: string): void {
  go(address(`/trace/${id.trim().toLowerCase()}`, rangeOf(place.get().query)));
}
