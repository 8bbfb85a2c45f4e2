"""Calls of models, tools and agents as spans: OpenTelemetry's ``gen_ai.*`` attributes and OpenInference's, written by one call.

Names, models, parameters and numbers of tokens are always kept. What was said is kept when one of these asks for it, and is bounded:
``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` (``true``, ``span_only`` or ``span_and_event``), or ``capture_content=True``.
OpenInference's ``OPENINFERENCE_HIDE_INPUTS`` and ``OPENINFERENCE_HIDE_OUTPUTS`` hide it again.

    with llm_call("openai", "gpt-5", messages=[{"role": "user", "content": "..."}]) as call:
        reply = client.chat(...)
        call.respond([{"role": "assistant", "content": reply.text}], input_tokens=12, output_tokens=30, finish_reasons=["stop"])
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AnyValue

from scouter.tracing._capture import captured

__all__ = ["AgentCall", "LlmCall", "ToolCall", "agent_call", "captures_content", "llm_call", "tool_call"]

MAX_CONTENT_CHARS = 16_384
"""Of each message, and of the arguments and the result of a tool."""

_MAX_MESSAGES = 64

_PARAMETERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}

_OPENINFERENCE_KINDS = {"embeddings": "EMBEDDING", "generate_content": "LLM", "text_completion": "LLM", "chat": "LLM"}


def captures_content() -> bool:
    """Whether the environment asks for what was said to be kept on spans.

    Returns:
        True when ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says so.
    """
    wish = os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").strip().lower()
    return wish in ("true", "1", "span_only", "span_and_event")


def _is_hidden(what: str) -> bool:
    return os.environ.get(f"OPENINFERENCE_HIDE_{what}", "").strip().lower() in ("true", "1")


class _Call:
    """What the spans here have in common."""

    def __init__(self, span: Span, capture_content: bool | None) -> None:
        self.span = span
        """OpenTelemetry's span."""
        wanted = captures_content() if capture_content is None else capture_content
        self._keeps_inputs = wanted and span.is_recording() and not _is_hidden("INPUTS")
        self._keeps_outputs = wanted and span.is_recording() and not _is_hidden("OUTPUTS")

    def _set(self, attributes: Mapping[str, AnyValue]) -> None:
        given = {key: value for key, value in attributes.items() if value is not None}
        if given and self.span.is_recording():
            self.span.set_attributes(given)


class LlmCall(_Call):
    """A call of a model, while it runs."""

    def _said(self, direction: str, messages: Sequence[Mapping[str, Any]] | str) -> None:
        listed: Sequence[Mapping[str, Any]] = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        kept = [dict(message) for message in listed[-_MAX_MESSAGES:]]
        attributes: dict[str, AnyValue] = {}
        parts: list[dict[str, Any]] = []
        for index, message in enumerate(kept):
            role, content = str(message.get("role", "")), message.get("content")
            text = captured("" if content is None else content, MAX_CONTENT_CHARS)
            attributes[f"llm.{direction}_messages.{index}.message.role"] = role
            attributes[f"llm.{direction}_messages.{index}.message.content"] = text
            parts.append({"role": role, "parts": [{"type": "text", "content": text}]})
            for number, tool in enumerate(message.get("tool_calls") or ()):
                call: Mapping[str, Any] = tool if isinstance(tool, Mapping) else {}  # pyright: ignore[reportUnknownVariableType]
                function: Mapping[str, Any] = call.get("function", call)
                name, arguments = str(function.get("name", "")), captured(function.get("arguments", ""), MAX_CONTENT_CHARS)
                prefix = f"llm.{direction}_messages.{index}.message.tool_calls.{number}.tool_call"
                attributes[f"{prefix}.function.name"] = name
                attributes[f"{prefix}.function.arguments"] = arguments
                parts[-1]["parts"].append({"type": "tool_call", "name": name, "arguments": arguments})
        attributes[f"gen_ai.{direction}.messages"] = captured(parts, MAX_CONTENT_CHARS * 4)
        if kept:
            attributes[f"{direction}.value"] = attributes[f"llm.{direction}_messages.{len(kept) - 1}.message.content"]
        self._set(attributes)

    def respond(
        self,
        messages: Sequence[Mapping[str, Any]] | str | None = None,
        *,
        model: str | None = None,
        response_id: str | None = None,
        finish_reasons: Sequence[str] | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_input_tokens: int | None = None,
    ) -> None:
        """Notes what the model answered. May be called again; the last word counts.

        Args:
            messages: What it said: messages with ``role``, ``content`` and ``tool_calls``, or a text.
            model: The model that answered.
            response_id: Its id of the answer.
            finish_reasons: Why it stopped, a choice each.
            input_tokens: Tokens read.
            output_tokens: Tokens written.
            cached_input_tokens: Of the tokens read, those from a cache.
        """
        total = None if input_tokens is None or output_tokens is None else input_tokens + output_tokens
        self._set(
            {
                "gen_ai.response.model": model,
                "gen_ai.response.id": response_id,
                "gen_ai.response.finish_reasons": None if finish_reasons is None else list(finish_reasons),
                "gen_ai.usage.input_tokens": input_tokens,
                "gen_ai.usage.output_tokens": output_tokens,
                "gen_ai.usage.cache_read.input_tokens": cached_input_tokens,
                "llm.token_count.prompt": input_tokens,
                "llm.token_count.completion": output_tokens,
                "llm.token_count.total": total,
                "llm.token_count.prompt_details.cache_read": cached_input_tokens,
            }
        )
        if messages is not None and self._keeps_outputs:
            self._said("output", [{"role": "assistant", "content": messages}] if isinstance(messages, str) else messages)


class ToolCall(_Call):
    """A call of a tool, while it runs."""

    def respond(self, result: object) -> None:
        """Notes what the tool gave.

        Args:
            result: Anything; kept as JSON when what is said is kept.
        """
        if self._keeps_outputs:
            text = captured(result, MAX_CONTENT_CHARS)
            self._set({"gen_ai.tool.call.result": text, "output.value": text})


class AgentCall(_Call):
    """A run of an agent."""

    def respond(self, result: object) -> None:
        """Notes what the agent came to.

        Args:
            result: Anything; kept as JSON when what is said is kept.
        """
        if self._keeps_outputs:
            self._set({"output.value": captured(result, MAX_CONTENT_CHARS)})


@contextlib.contextmanager
def llm_call(
    provider: str,
    model: str,
    *,
    operation: str = "chat",
    messages: Sequence[Mapping[str, Any]] | str | None = None,
    parameters: Mapping[str, Any] | None = None,
    conversation_id: str | None = None,
    capture_content: bool | None = None,
    tracer: trace.Tracer | None = None,
    attributes: Mapping[str, AnyValue] | None = None,
) -> Generator[LlmCall, None, None]:
    """A span around a call of a model, named ``"<operation> <model>"``.

    Args:
        provider: Whose model: ``"openai"``, ``"anthropic"``, ``"aws.bedrock"``, ...
        model: The model asked for.
        operation: ``"chat"``, ``"text_completion"``, ``"generate_content"`` or ``"embeddings"``.
        messages: What it is told: messages with ``role`` and ``content``, or a text. Kept only where content is.
        parameters: How it is asked, as given to the provider: ``temperature``, ``max_tokens``, ...
        conversation_id: What ties calls of one conversation.
        capture_content: Whether what is said is kept; by the environment if omitted.
        tracer: Makes the span; the global provider's if omitted.
        attributes: Further attributes.

    Yields:
        The call, to note its answer on.
    """
    start: dict[str, AnyValue] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "openinference.span.kind": _OPENINFERENCE_KINDS.get(operation, "LLM"),
        "llm.provider": provider,
        "llm.model_name": model,
    }
    if conversation_id is not None:
        start.update({"gen_ai.conversation.id": conversation_id, "session.id": conversation_id})
    for name, value in (parameters or {}).items():
        key = _PARAMETERS.get(name)
        if key is not None and isinstance(value, (int, float)):
            start[key] = value
    if parameters:
        start["llm.invocation_parameters"] = captured(dict(parameters), MAX_CONTENT_CHARS)
    start.update(attributes or {})
    with (tracer or _tracer()).start_as_current_span(f"{operation} {model}", kind=SpanKind.CLIENT, attributes=start) as span:
        call = LlmCall(span, capture_content)
        if messages is not None and call._keeps_inputs:
            call._said("input", messages)
        with _failing(span):
            yield call


@contextlib.contextmanager
def tool_call(
    name: str,
    arguments: object = None,
    *,
    call_id: str | None = None,
    description: str | None = None,
    capture_content: bool | None = None,
    tracer: trace.Tracer | None = None,
) -> Generator[ToolCall, None, None]:
    """A span around a call of a tool, named ``"execute_tool <name>"``.

    Args:
        name: The tool.
        arguments: What it is given. Kept only where content is.
        call_id: The model's id of the call.
        description: What the tool is for.
        capture_content: Whether arguments and result are kept; by the environment if omitted.
        tracer: Makes the span; the global provider's if omitted.

    Yields:
        The call, to note its result on.
    """
    start: dict[str, AnyValue] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, "openinference.span.kind": "TOOL"}
    start.update({"tool.name": name} | ({"gen_ai.tool.call.id": call_id} if call_id else {}))
    if description:
        start.update({"gen_ai.tool.description": description, "tool.description": description})
    with (tracer or _tracer()).start_as_current_span(f"execute_tool {name}", attributes=start) as span:
        call = ToolCall(span, capture_content)
        if arguments is not None and call._keeps_inputs:
            text = captured(arguments, MAX_CONTENT_CHARS)
            call._set({"gen_ai.tool.call.arguments": text, "input.value": text})
        with _failing(span):
            yield call


@contextlib.contextmanager
def agent_call(
    name: str,
    request: object = None,
    *,
    agent_id: str | None = None,
    conversation_id: str | None = None,
    capture_content: bool | None = None,
    tracer: trace.Tracer | None = None,
) -> Generator[AgentCall, None, None]:
    """A span around a run of an agent, named ``"invoke_agent <name>"``.

    Args:
        name: The agent.
        request: What it is asked. Kept only where content is.
        agent_id: Its id.
        conversation_id: What ties calls of one conversation.
        capture_content: Whether request and result are kept; by the environment if omitted.
        tracer: Makes the span; the global provider's if omitted.

    Yields:
        The run, to note its result on.
    """
    start: dict[str, AnyValue] = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, "openinference.span.kind": "AGENT"}
    if agent_id is not None:
        start["gen_ai.agent.id"] = agent_id
    if conversation_id is not None:
        start.update({"gen_ai.conversation.id": conversation_id, "session.id": conversation_id})
    with (tracer or _tracer()).start_as_current_span(f"invoke_agent {name}", attributes=start) as span:
        call = AgentCall(span, capture_content)
        if request is not None and call._keeps_inputs:
            call._set({"input.value": captured(request, MAX_CONTENT_CHARS)})
        with _failing(span):
            yield call


@contextlib.contextmanager
def _failing(span: Span) -> Generator[None, None, None]:
    try:
        yield
    except Exception as error:
        if span.is_recording():
            span.set_attribute("error.type", type(error).__qualname__)
        raise


def _tracer() -> trace.Tracer:
    return trace.get_tracer("scouter.genai")
