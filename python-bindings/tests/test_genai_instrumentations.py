"""The published instrumentations of OpenAI's client, OpenInference's and OpenTelemetry's, on our provider as they are."""

from __future__ import annotations

import asyncio
import http.server
import importlib
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from conftest import Server
from scouter.tracing import TestSpanExporter, flush_tracer, init_tracer

SECRET = "the eagle lands at noon"
USAGE = {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}


class Model(http.server.BaseHTTPRequestHandler):
    """OpenAI's API as far as a chat goes: whole, as a stream, and refusing."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        common = {"id": "chatcmpl-1", "created": 1, "model": "gpt-5-mini-0125"}
        if asked["model"] == "none":
            body = json.dumps({"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}})
            self.answer(404, "application/json", body)
        elif asked.get("stream"):
            chunks: list[dict[str, Any]] = [
                {"choices": [{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}]}
                for word in ("A ", "tool")
            ]
            chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            chunks.append({"choices": [], "usage": USAGE})
            lines = [json.dumps({**common, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
            self.answer(200, "text/event-stream", "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]))
        else:
            message = {"role": "assistant", "content": SECRET}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            self.answer(200, "application/json", json.dumps({**common, "object": "chat.completion", "choices": choices, "usage": USAGE}))

    def answer(self, status: int, kind: str, body: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def base_url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


MODULES = {"openinference": "openinference.instrumentation.openai", "opentelemetry": "opentelemetry.instrumentation.openai_v2"}


@pytest.fixture(params=["openinference", "opentelemetry"])
def vocabulary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", raising=False)
    monkeypatch.setenv("OPENINFERENCE_HIDE_INPUTS", "true")
    monkeypatch.setenv("OPENINFERENCE_HIDE_OUTPUTS", "true")
    instrumentor = importlib.import_module(MODULES[request.param]).OpenAIInstrumentor()
    instrumentor.instrument()
    yield request.param
    instrumentor.uninstrument()


MODEL = {"openinference": "llm.model_name", "opentelemetry": "gen_ai.response.model"}
TOKENS = {"openinference": "llm.token_count.prompt", "opentelemetry": "gen_ai.usage.input_tokens"}


def test_chats_are_spans_of_ours(vocabulary: str, base_url: str, server: Server) -> None:
    kept, service = TestSpanExporter(), f"genai-{uuid.uuid4()}"
    tracer = init_tracer(service, transport_config=server.config(), exporter=kept)
    messages: Any = [{"role": "user", "content": SECRET}]
    with openai.OpenAI(base_url=base_url, api_key="key", max_retries=0) as client, tracer.start_as_current_span("agent") as agent:
        whole = client.chat.completions.create(model="gpt-5-mini", messages=messages, temperature=0.5)
        assert whole.choices[0].message.content == SECRET
        stream = client.chat.completions.create(model="gpt-5-mini", messages=messages, stream=True, stream_options={"include_usage": True})
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "A tool"
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="none", messages=messages)

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="key") as client:
            await client.chat.completions.create(model="gpt-5-mini", messages=messages)

    asyncio.run(ask())
    whole_span, streamed, refused, parent, alone = kept.spans
    for span in (whole_span, streamed, alone):
        assert span.attributes[MODEL[vocabulary]] == "gpt-5-mini-0125", span
        assert span.attributes[TOKENS[vocabulary]] == 9, span
    for span in (whole_span, streamed, refused):
        assert (span.trace_id, span.parent_span_id) == (parent.trace_id, f"{agent.get_span_context().span_id:016x}")
    assert (alone.parent_span_id, refused.status_code) == (None, "ERROR")
    # Neither what was asked nor what was answered is kept, unless a variable asks for it.
    assert SECRET not in str(kept.spans)
    assert flush_tracer(10)
    rows = server.spans(service)
    assert len(rows) == 5
    if vocabulary == "opentelemetry":
        assert sorted(row["gen_ai_usage_input_tokens"] or 0 for row in rows) == [0, 0, 9, 9, 9]


def test_what_was_said_is_kept_when_it_is_asked_for(base_url: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENINFERENCE_HIDE_INPUTS", "OPENINFERENCE_HIDE_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)
    kept = TestSpanExporter()
    init_tracer("said", transport_config=server.config(), exporter=kept)
    instrumentor = importlib.import_module(MODULES["openinference"]).OpenAIInstrumentor()
    instrumentor.instrument()
    try:
        with openai.OpenAI(base_url=base_url, api_key="key") as client:
            client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": SECRET}])
    finally:
        instrumentor.uninstrument()
    (span,) = kept.spans
    assert span.attributes["llm.input_messages.0.message.content"] == SECRET
    assert span.attributes["llm.output_messages.0.message.content"] == SECRET
