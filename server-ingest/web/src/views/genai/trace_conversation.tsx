/** What was said to models in one trace. */
import type { JSX } from "preact";
import { ApiError, ask, useAnswer } from "../../api";
import { count, duration } from "../../format";
import type { Conversation, FullSpan, Step } from "../../types";
import { Empty, Failed, Waiting } from "../../ui/states";
import type { Trace } from "../trace/model";
import { stepOfSpan, stepsOf, withKnownMessages } from "./messages";
import { Transcript } from "./steps";

export function TraceConversation({ trace }: { trace: Trace }): JSX.Element {
  const id = trace.answer.trace_id;
  const answer = useAnswer<Step[]>(id, async signal => {
    const conversation = await ask<Conversation>(`/api/v1/traces/${id}/genai`, undefined, signal).catch(error => {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    });
    return conversation && conversation.steps.length > 0
      ? stepsOf(conversation.steps)
      : openInferenceSteps(trace, signal);
  });
  if (answer.error && !answer.value) return <Failed error={answer.error} retry={answer.reload} />;
  if (!answer.value) return <Waiting what="Reading the conversation" />;
  if (answer.value.length === 0) return <NoConversation />;
  return <Steps steps={answer.value} />;
}

export function Steps({ steps }: { steps: readonly Step[] }): JSX.Element {
  const sum = (of: (step: Step) => number | null) => steps.reduce((total, step) => total + (of(step) ?? 0), 0);
  // Only calls of models: an agent's span repeats the tokens of the calls below it.
  const calls = steps.filter(step => step.operation !== "invoke_agent" && step.operation !== "chain");
  const tokens = (of: (step: Step) => number | null) => calls.reduce((total, step) => total + (of(step) ?? 0), 0);
  const models = [...new Set(steps.flatMap(step => step.response_model ?? step.request_model ?? []))];
  const tools = steps.filter(step => step.operation === "execute_tool");
  const errors = steps.filter(step => step.status === "error").length;
  return (
    <div class="conversation">
      <dl class="facts conversation-facts">
        <Fact name={models.length === 1 ? "Model" : "Models"} value={models.join(", ") || "–"} />
        <Fact name="Steps" value={count(steps.length)} />
        <Fact name="Tool calls" value={count(tools.length)} />
        <Fact name="Tokens in" value={count(tokens(step => step.input_tokens))} />
        <Fact name="Tokens out" value={count(tokens(step => step.output_tokens))} />
        <Fact name="Time in steps" value={duration(sum(step => Number(step.duration_nano)))} />
        {errors > 0 && <Fact name="Errors" value={count(errors)} isBad />}
      </dl>
      <Transcript steps={steps} />
    </div>
  );
}

function Fact({ name, value, isBad = false }: { name: string; value: string; isBad?: boolean }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd class={isBad ? "bad-text" : undefined}>{value}</dd>
    </div>
  );
}

function NoConversation(): JSX.Element {
  return (
    <Empty icon="chat" title="No model was called in this trace">
      <p>
        Spans with the attribute <code>gen_ai.operation.name</code> (OpenTelemetry) or{" "}
        <code>openinference.span.kind</code> (OpenInference) are shown here as a conversation.
      </p>
    </Empty>
  );
}

/** Spans that are read one by one when the trace came lean. */
const MOST_READ = 100;

async function openInferenceSteps(trace: Trace, signal: AbortSignal): Promise<Step[]> {
  const id = trace.answer.trace_id;
  let spans = trace.spans as unknown as FullSpan[];
  if (trace.answer.detail === "lean") {
    const found = trace.spans.filter(span => span.genai).slice(0, MOST_READ);
    spans = await Promise.all(
      found.map(span => ask<FullSpan>(`/api/v1/traces/${id}/spans/${span.span_id}`, undefined, signal)),
    );
  }
  const steps = spans.flatMap(span => stepOfSpan(id, span) ?? []);
  steps.sort((left, right) => (BigInt(left.start_unix_nano) < BigInt(right.start_unix_nano) ? -1 : 1));
  return withKnownMessages(steps);
}
