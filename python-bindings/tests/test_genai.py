"""Calls of models, tools and agents: both vocabularies from one call, and nothing that was said unless it is asked for."""

from __future__ import annotations

import pytest

from scouter import GrpcConfig
from scouter.genai import agent_call, llm_call, tool_call
from scouter.tracing import TestSpanExporter, init_tracer

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SECRET = "the eagle lands at noon"


@pytest.fixture
def kept(unreachable: GrpcConfig, monkeypatch: pytest.MonkeyPatch) -> TestSpanExporter:
    for name in (CAPTURE, "OPENINFERENCE_HIDE_INPUTS", "OPENINFERENCE_HIDE_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)
    exporter = TestSpanExporter()
    init_tracer("genai", transport_config=unreachable, exporter=exporter)
    return exporter


def converse() -> None:
    with agent_call("planner", SECRET, conversation_id="c-1") as agent:
        messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": SECRET}]
        with llm_call("openai", "gpt-5", messages=messages, parameters={"temperature": 0.5, "max_tokens": 100, "stop": ["x"]}) as call:
            tools = [{"function": {"name": "look", "arguments": {"q": SECRET}}}]
            call.respond(
                [{"role": "assistant", "content": SECRET, "tool_calls": tools}],
                model="gpt-5-mini",
                response_id="r-1",
                finish_reasons=["tool_calls"],
                input_tokens=12,
                output_tokens=30,
            )
        with tool_call("look", {"q": SECRET}, call_id="t-1") as tool:
            tool.respond({"found": SECRET})
        agent.respond(SECRET)


def test_both_vocabularies_and_no_content_by_default(kept: TestSpanExporter) -> None:
    converse()
    llm, tool, agent = kept.spans
    assert [span.span_name for span in kept.spans] == ["chat gpt-5", "execute_tool look", "invoke_agent planner"]
    assert (llm.parent_span_id, tool.parent_span_id, llm.span_kind) == (agent.span_id, agent.span_id, "CLIENT")
    assert llm.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "openinference.span.kind": "LLM",
        "llm.provider": "openai",
        "llm.model_name": "gpt-5",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 100,
        "llm.invocation_parameters": '{"temperature": 0.5, "max_tokens": 100, "stop": ["x"]}',
        "gen_ai.response.model": "gpt-5-mini",
        "gen_ai.response.id": "r-1",
        "gen_ai.response.finish_reasons": ("tool_calls",),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 30,
        "llm.token_count.prompt": 12,
        "llm.token_count.completion": 30,
        "llm.token_count.total": 42,
    }
    assert (tool.attributes["gen_ai.tool.name"], tool.attributes["gen_ai.tool.call.id"]) == ("look", "t-1")
    assert (agent.attributes["gen_ai.agent.name"], agent.attributes["session.id"]) == ("planner", "c-1")
    assert SECRET not in str(kept.spans)


def test_what_was_said_is_kept_when_a_variable_asks(kept: TestSpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE, "true")
    converse()
    llm, tool, agent = (span.attributes for span in kept.spans)
    assert llm["llm.input_messages.1.message.content"] == llm["input.value"] == llm["output.value"] == SECRET
    assert llm["llm.output_messages.0.message.tool_calls.0.tool_call.function.name"] == "look"
    assert '"role": "user", "parts": [{"type": "text", "content": "the eagle' in llm["gen_ai.input.messages"]
    assert tool["gen_ai.tool.call.arguments"] == tool["input.value"] == f'{{"q": "{SECRET}"}}'
    assert (agent["input.value"], agent["output.value"]) == (SECRET, SECRET)


def test_it_is_hidden_again_by_openinference(kept: TestSpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE, "span_only")
    monkeypatch.setenv("OPENINFERENCE_HIDE_INPUTS", "true")
    with llm_call("openai", "gpt-5", messages="in") as call:
        call.respond("out")
    (span,) = kept.spans
    assert ("input.value" in span.attributes, span.attributes["output.value"]) == (False, "out")


def test_a_failure_has_its_type(kept: TestSpanExporter) -> None:
    with pytest.raises(TimeoutError), llm_call("openai", "gpt-5"):
        raise TimeoutError("late")
    (span,) = kept.spans
    assert (span.attributes["error.type"], span.status_code) == ("TimeoutError", "ERROR")
