"""The second service of the demo: answers a question with a "model", and writes the span a GenAI call should have.

The model is a lookup, so that the demo needs no key and no network; the attributes are those of OpenTelemetry's conventions for GenAI.

    ANSWERER_PORT=8102 python answerer.py
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
ANSWERS = {
    "order": "Your order has left our warehouse; it reaches you tomorrow.",
    "refund": "A refund takes three to five working days.",
}
OTHERWISE = "I do not know, but a colleague will write to you today."

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
    return Answer(answer=chat(question.question))


def chat(question: str) -> str:
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scouter.demo",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.temperature": 0.2,
    }
    with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=attributes) as span:
        text = next((text for word, text in ANSWERS.items() if word in question.lower()), OTHERWISE)
        span.add_event("gen_ai.choice", {"gen_ai.response.finish_reason": "stop", "gen_ai.choice.index": 0})
        span.set_attribute("gen_ai.response.model", f"{MODEL}-2026-01")
        span.set_attribute("gen_ai.usage.input_tokens", len(question.split()))
        span.set_attribute("gen_ai.usage.output_tokens", len(text.split()))
        return text


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("ANSWERER_PORT", "8102")), log_level="warning")
