/** Everything a span says: failure first, then attributes with types, events, links, and where it came from. */
import type { ComponentChildren, JSX } from "preact";
import { ask, useAnswer } from "../../api";
import { count, duration, exact } from "../../format";
import { address, go, place } from "../../route";
import type { Attribute, FullSpan, SpanEvent, SpanLink } from "../../types";
import { AttributeTable, LongText, textOf } from "../../ui/attributes";
import { Copy } from "../../ui/copy";
import { Icon } from "../../ui/icons";
import { Link } from "../../ui/link";
import { Failed, Waiting } from "../../ui/states";
import { rangeHolding } from "../../ui/time";
import { stepOfSpan } from "../genai/messages";
import { StepMessages } from "../genai/steps";
import type { Trace } from "./model";

interface DetailsProps {
  trace: Trace;
  index: number;
  color: number;
  onClose: () => void;
}

export function Details({ trace, index, color, onClose }: DetailsProps): JSX.Element {
  const lean = trace.spans[index]!;
  const { trace_id } = trace.answer;
  const isFull = trace.answer.detail === "full";
  const answer = useAnswer<FullSpan>(isFull ? null : `${trace_id}/${lean.span_id}`, signal =>
    ask<FullSpan>(`/api/v1/traces/${trace_id}/spans/${lean.span_id}`, undefined, signal),
  );
  const span = isFull ? (lean as unknown as FullSpan) : answer.value;
  return (
    <aside class="details" aria-label={`Span ${lean.name}`}>
      <header class={`service-${color}`}>
        <div class="details-title">
          <span class="swatch" />
          <h2>{lean.name || "(no name)"}</h2>
          <button type="button" class="icon-button" aria-label="Close the span" title="Close (Esc)" onClick={onClose}>
            <Icon name="close" />
          </button>
        </div>
        <dl class="facts">
          <Fact name="Service">{lean.service}</Fact>
          <Fact name="Duration">{duration(lean.duration_nano)}</Fact>
          <Fact name="Starts at">+{duration(trace.start[index]!)}</Fact>
          <Fact name="Kind">{lean.kind.toLowerCase()}</Fact>
          <Fact name="Status">
            <span class={`status-${lean.status}`}>{lean.status}</span>
          </Fact>
        </dl>
      </header>
      {answer.error && <Failed error={answer.error} retry={answer.reload} />}
      {!span && !answer.error && <Waiting what="Reading the span" />}
      {span && <Body span={span} trace={trace} index={index} />}
    </aside>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Body({ span, trace, index }: { span: FullSpan; trace: Trace; index: number }): JSX.Element {
  const exceptions = span.events.filter(event => event.name === "exception");
  const others = span.events.filter(event => event.name !== "exception");
  const step = stepOfSpan(trace.answer.trace_id, span);
  const filter = (attribute: Attribute) =>
    go(address("/search", { attr: filterText(attribute), ...rangeHolding(place.get().query, span.start_unix_nano) }));
  const onPath = (trace.critical.get(index) ?? []).reduce((sum, stretch) => sum + stretch.to - stretch.from, 0);
  return (
    <div class="details-body">
      {(span.status === "error" || exceptions.length > 0) && <Failure span={span} exceptions={exceptions} />}
      {step && (
        <Section name="Messages">
          <StepMessages step={step} />
        </Section>
      )}
      {span.attributes.length > 0 && (
        <Section name="Attributes" count={span.attributes.length} dropped={span.dropped_attributes_count}>
          <AttributeTable attributes={span.attributes} onFilter={filter} />
        </Section>
      )}
      <Json name="Input" value={span.input} />
      <Json name="Output" value={span.output} />
      {others.length > 0 && (
        <Section name="Events" count={others.length} dropped={span.dropped_events_count}>
          <Events events={others} start={span.start_unix_nano} />
        </Section>
      )}
      {span.links.length > 0 && (
        <Section name="Links" count={span.links.length} dropped={span.dropped_links_count}>
          <Links links={span.links} here={trace} />
        </Section>
      )}
      {(span.tags.length > 0 || span.entity_ids.length > 0) && (
        <Section name="Scouter">
          <dl class="pairs">
            {span.tags.map(tag => (
              <div key={tag.key}>
                <dt>{tag.key}</dt>
                <dd>{tag.value}</dd>
              </div>
            ))}
            {span.entity_ids.map(entity => (
              <div key={entity}>
                <dt>entity</dt>
                <dd>
                  <Link to={address("/records", { entity })}>{entity}</Link>
                </dd>
              </div>
            ))}
          </dl>
        </Section>
      )}
      {span.resource.attributes.length > 0 && (
        <Section name="Resource" count={span.resource.attributes.length}>
          <AttributeTable attributes={span.resource.attributes} onFilter={filter} />
        </Section>
      )}
      <Section name="Identity">
        <dl class="pairs">
          <Pair name="span id" text={span.span_id} />
          {span.parent_span_id && <Pair name="parent span id" text={span.parent_span_id} />}
          <Pair name="started" text={exact(span.start_unix_nano)} />
          <Pair name="critical path" text={onPath > 0 ? duration(onPath) : "not on it"} isPlain />
          {span.scope.name && <Pair name="scope" text={`${span.scope.name} ${span.scope.version}`.trim()} isPlain />}
          {span.trace_state && <Pair name="trace state" text={span.trace_state} />}
        </dl>
        {span.scope.attributes.length > 0 && <AttributeTable attributes={span.scope.attributes} />}
      </Section>
    </div>
  );
}

/** `KEY[TYPE]=VALUE` as the filter reads it. */
export function filterText(attribute: Attribute): string {
  const key = /[=!<>~?[" ]/.test(attribute.key) ? JSON.stringify(attribute.key) : attribute.key;
  return `${key}[${attribute.type}]=${textOf(attribute)}`;
}

interface SectionProps {
  name: string;
  count?: number;
  dropped?: number;
  children: ComponentChildren;
}

function Section({ name, count: many, dropped = 0, children }: SectionProps): JSX.Element {
  return (
    <details class="section" open>
      <summary>
        <h3>{name}</h3>
        {many !== undefined && <span class="muted">{count(many)}</span>}
        {dropped > 0 && <span class="muted">and {count(dropped)} that the sender dropped</span>}
      </summary>
      {children}
    </details>
  );
}

function Pair({ name, text, isPlain = false }: { name: string; text: string; isPlain?: boolean }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <span class={isPlain ? undefined : "mono"}>{text}</span>
        {!isPlain && <Copy text={text} what={name} />}
      </dd>
    </div>
  );
}

function Failure({ span, exceptions }: { span: FullSpan; exceptions: readonly SpanEvent[] }): JSX.Element {
  return (
    <section class="failure" aria-label="Error">
      {span.status === "error" && (
        <p class="failure-message">
          <Icon name="error" />
          <span>
            {span.status_message ||
              (exceptions.length > 0 ? "The span failed" : "The span failed and does not say why")}
          </span>
        </p>
      )}
      {exceptions.map(event => {
        const get = (key: string) => event.attributes.find(attribute => attribute.key === key);
        const text = (key: string) => {
          const attribute = get(key);
          return attribute ? textOf(attribute) : "";
        };
        const type = text("exception.type");
        const said = text("exception.message");
        // A message that is the status's too is not said twice, and a trace of no calls is none.
        const message = type || said !== span.status_message ? said : "";
        const stack = text("exception.stacktrace");
        if (!type && !message && (!stack || stack === "[]")) return null;
        return (
          <div key={event.time_unix_nano} class="exception">
            {(type || message) && (
              <p>
                {type && <strong>{type}</strong>}
                {type && message && ": "}
                {message}
              </p>
            )}
            {stack && stack !== "[]" && <LongText text={stack} kind="code" />}
          </div>
        );
      })}
    </section>
  );
}

function Events({ events, start }: { events: readonly SpanEvent[]; start: string }): JSX.Element {
  return (
    <ol class="events">
      {events.map((event, index) => (
        <li key={index}>
          <div class="event-head">
            <span class="event-name">{event.name}</span>
            <span class="number muted" title={exact(event.time_unix_nano)}>
              +{duration(Number(BigInt(event.time_unix_nano) - BigInt(start)))}
            </span>
          </div>
          {event.attributes.length > 0 && <AttributeTable attributes={event.attributes} />}
        </li>
      ))}
    </ol>
  );
}

function Links({ links, here }: { links: readonly SpanLink[]; here: Trace }): JSX.Element {
  return (
    <ul class="links">
      {links.map((link, index) => {
        const inside = link.trace_id === here.answer.trace_id ? here.byId.get(link.span_id) : undefined;
        const name =
          inside === undefined ? `trace ${link.trace_id.slice(0, 8)}…, span ${link.span_id}` : here.spans[inside]!.name;
        return (
          <li key={index}>
            <Link
              to={address(`/trace/${link.trace_id}`, { span: link.span_id })}
              title={`trace ${link.trace_id}, span ${link.span_id}`}
            >
              <Icon name="link" size={13} /> {name}
            </Link>
            {inside !== undefined && <span class="muted"> in this trace</span>}
            {link.attributes.length > 0 && <AttributeTable attributes={link.attributes} />}
          </li>
        );
      })}
    </ul>
  );
}

function Json({ name, value }: { name: string; value: unknown }): JSX.Element | null {
  if (value === null || value === undefined) return null;
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return (
    <Section name={name}>
      <div class="block">
        <LongText text={text} kind="code" />
        <Copy text={text} what={name.toLowerCase()} />
      </div>
    </Section>
  );
}
