"""The first service of the demo: takes a question, has it answered and scored.

Its spans come from two published instrumentations, FastAPI's and httpx's. They know nothing of Scouter: `init_tracer` makes Scouter's
tracer the process's OpenTelemetry provider, and that is what they write to. httpx's adds the W3C headers by which the next services
continue the trace.

    GATEWAY_PORT=8101 ANSWERER_URL=http://127.0.0.1:8102 SCORER_URL=http://127.0.0.1:8103 python gateway.py
    curl -X POST http://127.0.0.1:8101/ask -H 'content-type: application/json' -d '{"question": "Where is my order?"}'
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from pydantic import BaseModel
from scouter.tracing import init_tracer, shutdown_tracer
from scouter.transport import GrpcConfig

ANSWERER_URL = os.environ.get("ANSWERER_URL", "http://127.0.0.1:8102")
SCORER_URL = os.environ.get("SCORER_URL", "http://127.0.0.1:8103")

# SCOUTER_GRPC_URI, SCOUTER_USERNAME and SCOUTER_PASSWORD say where to; without them it is guest on localhost:50051.
init_tracer(service_name="gateway", transport_config=GrpcConfig())
HTTPXClientInstrumentor().instrument()


class Question(BaseModel):
    question: str


class Reply(BaseModel):
    answer: str
    relevance: float
    groundedness: float | None
    trace_id: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(timeout=10) as client:
        app.state.client = client
        yield
    # uvicorn comes here on SIGTERM: whatever ended is sent before the process does.
    shutdown_tracer()


app = FastAPI(lifespan=lifespan)
# One span for a request is enough here; without `exclude_spans` there are three more, one for each ASGI message.
FastAPIInstrumentor.instrument_app(app, excluded_urls="healthz", exclude_spans=["receive", "send"])


@app.get("/healthz")
async def healthz() -> str:
    return "ok"


@app.post("/ask")
async def ask(question: Question, request: Request) -> Reply:
    client: httpx.AsyncClient = request.app.state.client
    span = trace.get_current_span()
    span.set_attribute("question.length", len(question.question))

    answered = await client.post(f"{ANSWERER_URL}/answer", json={"question": question.question})
    answer = answered.raise_for_status().json()["answer"]

    scored = await client.post(f"{SCORER_URL}/score", json={"question": question.question, "answer": answer})
    scores = scored.raise_for_status().json()

    trace_id = format(span.get_span_context().trace_id, "032x")
    return Reply(answer=answer, relevance=scores["relevance"], groundedness=scores["groundedness"], trace_id=trace_id)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("GATEWAY_PORT", "8101")), log_level="warning")
