/** A conversation: what was said, by whom, which tools were called, and what each call took. */
import type { JSX } from "preact";
import { count, counted, duration, exact, moment } from "../../format";
import { address } from "../../route";
import type { Message, MessagePart, Step } from "../../types";
import { LongText } from "../../ui/attributes";
import { Icon } from "../../ui/icons";
import { Link } from "../../ui/link";

/** Operations whose output is a message of the model. */
const SPEAKS = new Set(["chat", "text_completion", "generate_content"]);

export function Transcript({ steps }: { steps: readonly Step[] }): JSX.Element {
  const calls = new Set(steps.flatMap(step => (step.operation === "execute_tool" ? (step.tool?.call_id ?? []) : [])));
  return (
    <ol class="transcript">
      {steps.map(step => (
        <li key={`${step.trace_id}/${step.span_id}`} class="step">
          {step.tool && !SPEAKS.has(step.operation ?? "") ? (
            <ToolStep step={step} />
          ) : (
            <ModelStep step={step} calls={calls} />
          )}
        </li>
      ))}
    </ol>
  );
}

/** The messages of one step, all of them. */
export function StepMessages({ step }: { step: Step }): JSX.Element | null {
  if (step.tool && !SPEAKS.has(step.operation ?? "")) return <ToolBody step={step} />;
  const isSilent = step.system_instructions.length + step.input_messages.length + step.output_messages.length === 0;
  if (isSilent) return <p class="muted quiet">{NOT_RECORDED}</p>;
  return (
    <div class="messages">
      {step.system_instructions.length > 0 && (
        <Said message={{ role: "system", name: null, finish_reason: null, parts: step.system_instructions }} />
      )}
      {[...step.input_messages, ...step.output_messages].map((message, index) => (
        <Said key={index} message={message} />
      ))}
    </div>
  );
}

const NOT_RECORDED =
  "The messages were not recorded. Instrumentations leave them out unless they are asked to capture message content.";

/** `calls` are those whose results have a step of their own. */
function ModelStep({ step, calls }: { step: Step; calls: ReadonlySet<string> }): JSX.Element {
  const unknown = step.input_messages.slice(step.known_input_messages);
  const news = unknown.filter(
    message =>
      !message.parts.every(part => part.type === "tool_call_response" && part.id !== null && calls.has(part.id)),
  );
  const repeated = step.input_messages.length - news.length;
  const isFirst = step.known_input_messages === 0;
  const isSilent = SPEAKS.has(step.operation ?? "") && step.input_messages.length + step.output_messages.length === 0;
  return (
    <>
      {repeated > 0 && <p class="known">({counted(repeated, "earlier message")} sent again, shown above)</p>}
      {isFirst && step.system_instructions.length > 0 && (
        <Said message={{ role: "system", name: null, finish_reason: null, parts: step.system_instructions }} />
      )}
      {news.map((message, index) => (
        <Said key={index} message={message} />
      ))}
      {step.output_messages.map((message, index) => (
        <Said key={index} message={message} />
      ))}
      <Meta step={step} isSilent={isSilent} />
    </>
  );
}

function ToolStep({ step }: { step: Step }): JSX.Element {
  return (
    <>
      <ToolBody step={step} />
      <Meta step={step} isSilent={false} />
    </>
  );
}

function ToolBody({ step }: { step: Step }): JSX.Element {
  const tool = step.tool!;
  return (
    <div class={`said tool${step.status === "error" ? " bad" : ""}`}>
      <div class="who">
        <Icon name="tool" size={13} /> {tool.name}
      </div>
      {tool.arguments !== null && <Data name="arguments" value={tool.arguments} />}
      {tool.result !== null && <Data name="result" value={tool.result} />}
      {tool.arguments === null && tool.result === null && step.status !== "error" && (
        <p class="muted quiet">Arguments and result were not recorded.</p>
      )}
    </div>
  );
}

/** What a call was and took, below what it said. */
function Meta({ step, isSilent }: { step: Step; isSilent: boolean }): JSX.Element {
  const model = step.response_model ?? step.request_model;
  const isError = step.status === "error";
  return (
    <div class={`meta${isError ? " bad" : ""}`}>
      {isSilent && !step.tool && <p class="muted quiet">{NOT_RECORDED}</p>}
      {isError && (
        <p class="meta-error">
          <Icon name="error" size={14} />
          <span>
            {step.error_type && <strong>{step.error_type}</strong>} {step.status_message || "This step failed"}
          </span>
        </p>
      )}
      <p class="meta-line">
        <Link to={address(`/trace/${step.trace_id}`, { span: step.span_id })} title="Show it in its trace">
          {step.operation ?? step.name}
        </Link>
        {model && <span title={step.provider ?? undefined}>{model}</span>}
        {step.agent && <span>agent {step.agent}</span>}
        {(step.input_tokens !== null || step.output_tokens !== null) && (
          <span class="number" title="Tokens read and written">
            {count(step.input_tokens ?? 0)} → {count(step.output_tokens ?? 0)} tokens
          </span>
        )}
        <span class="number">{duration(step.duration_nano)}</span>
        {step.finish_reasons.some(reason => reason !== "stop") && (
          <span>ended by {step.finish_reasons.join(", ")}</span>
        )}
        <span class="number" title={exact(step.start_unix_nano)}>
          {moment(step.start_unix_nano)}
        </span>
        <span>{step.service}</span>
      </p>
    </div>
  );
}

const ROLES: Record<string, string> = {
  user: "User",
  assistant: "Assistant",
  system: "System",
  tool: "Tool",
  developer: "Developer",
};

function Said({ message }: { message: Message }): JSX.Element {
  const role = ROLES[message.role] ? message.role : "other";
  return (
    <div class={`said ${role}`}>
      <div class="who">
        {ROLES[message.role] ?? message.role}
        {message.name && ` · ${message.name}`}
      </div>
      {message.parts.map((part, index) => (
        <Part key={index} part={part} />
      ))}
      {message.parts.length === 0 && <p class="muted quiet">nothing</p>}
    </div>
  );
}

function Part({ part }: { part: MessagePart }): JSX.Element {
  switch (part.type) {
    case "text":
      return (
        <div class="text">
          <LongText text={part.content} kind="text" />
        </div>
      );
    case "reasoning":
      return (
        <div class="text reasoning">
          <LongText text={part.content} kind="text" />
        </div>
      );
    case "tool_call":
      return (
        <div class="call">
          <span class="call-name">
            <Icon name="tool" size={13} /> calls {part.name}
          </span>
          <Data name="arguments" value={part.arguments} />
        </div>
      );
    case "tool_call_response":
      return <Data name="result" value={part.result} />;
    default:
      return <Data name="part" value={(part as { value: unknown }).value} />;
  }
}

function Data({ name, value }: { name: string; value: unknown }): JSX.Element | null {
  if (value === null || value === undefined) return null;
  const text = typeof value === "string" ? value : JSON.stringify(value, null, isShort(value) ? undefined : 2);
  return (
    <div class="data">
      <span class="data-name">{name}</span>
      <LongText text={text} kind="code" />
    </div>
  );
}

function isShort(value: unknown): boolean {
  return JSON.stringify(value).length < 72;
}
