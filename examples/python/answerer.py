"""The second service of the demo: answers a question with a "model" that calls a tool, and writes the spans that GenAI calls should have.

The model is a few lines, so that the demo needs no key and no network; attributes and messages are those of OpenTelemetry's conventions for
GenAI, with which the server's page shows the calls as a conversation.

    ANSWERER_PORT=8102 python answerer.py
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue
from pydantic import BaseModel
from scouter.tracing import init_tracer, shutdown_tracer
from scouter.transport import GrpcConfig

MODEL = "tiny-answerer"
INSTRUCTIONS = "Answer customers of a small shop in one sentence. Look things up before you promise them."
# What the tool knows of a topic, and how the model says it.
KNOWN = {
    "order": ("left the warehouse, arrives tomorrow", "Your order has left our warehouse; it reaches you tomorrow."),
    "refund": ("3 to 5 working days", "A refund takes three to five working days."),
}
OTHERWISE = ("nothing", "I do not know, but a colleague will write to you today.")

Message = dict[str, Any]

init_tracer(service_name="answerer", transport_config=GrpcConfig())
tracer = trace.get_tracer("answerer")


class Question(BaseModel):
    question: str


class Answer(BaseModel):
    answer: str


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    shutdown_tracer()


app = FastAPI(lifespan=lifespan)
FastAPIInstrumentor.instrument_app(app, excluded_urls="healthz", exclude_spans=["receive", "send"])


@app.get("/healthz")
async def healthz() -> str:
    return "ok"


@app.post("/answer")
async def answer(question: Question) -> Answer:
    return Answer(answer=converse(question.question))


def converse(question: str) -> str:
    topic = next((word for word in KNOWN if word in question.lower()), "other")
    known, reply = KNOWN.get(topic, OTHERWISE)
    call = {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"topic": topic}}
    messages: list[Message] = [{"role": "user", "parts": [{"type": "text", "content": question}]}]
    messages.append(chat(messages, call, "tool_call"))
    result = look_up("call_1", topic, known)
    messages.append({"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": result}]})
    chat(messages, {"type": "text", "content": reply}, "stop")
    return reply


def chat(messages: list[Message], part: Message, finish_reason: str) -> Message:
    """One call of the model: it is sent what was said so far, and says `part`."""
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scouter.demo",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.temperature": 0.2,
    }
    with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=attributes) as span:
        output = {"role": "assistant", "parts": [part], "finish_reason": finish_reason}
        span.set_attribute("gen_ai.response.model", f"{MODEL}-2026-01")
        span.set_attribute("gen_ai.response.finish_reasons", [finish_reason])
        span.set_attribute("gen_ai.usage.input_tokens", count_words([{"content": INSTRUCTIONS}, *messages]))
        span.set_attribute("gen_ai.usage.output_tokens", count_words(part))
        said = {
            "gen_ai.system_instructions": json.dumps([{"type": "text", "content": INSTRUCTIONS}]),
            "gen_ai.input.messages": json.dumps(messages),
            "gen_ai.output.messages": json.dumps([output]),
        }
        span.add_event("gen_ai.client.inference.operation.details", said)
        return output


def look_up(call_id: str, topic: str, known: str) -> str:
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look_up",
        "gen_ai.tool.call.id": call_id,
        "gen_ai.tool.call.arguments": json.dumps({"topic": topic}),
    }
    with tracer.start_as_current_span("execute_tool look_up", attributes=attributes) as span:
        span.set_attribute("gen_ai.tool.call.result", known)
        return known


def count_words(value: object) -> int:
    """A "token" of this model is a word."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, dict):
        return sum(count_words(item) for key, item in value.items() if key not in ("type", "role", "id", "finish_reason"))
    return sum(count_words(item) for item in value) if isinstance(value, list) else 0


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("ANSWERER_PORT", "8102")), log_level="warning")
