"""Published instrumentations feed the provider, and contexts cross processes by W3C headers."""

from __future__ import annotations

import asyncio
import uuid

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import propagate, trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from conftest import Server
from scouter.tracing import flush_tracer, init_tracer


def test_fastapi_and_httpx_make_one_trace(server: Server) -> None:
    service = f"web-{uuid.uuid4()}"
    tracer = init_tracer(service, transport_config=server.config())
    app = FastAPI()
    seen: dict[str, str] = {}

    @app.get("/answer/{number}")
    async def answer(number: int) -> dict[str, int]:
        with tracer.start_as_current_span("think") as span:
            seen["trace_id"] = trace.format_trace_id(span.get_span_context().trace_id)
        return {"answer": number}

    FastAPIInstrumentor.instrument_app(app)

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            HTTPXClientInstrumentor.instrument_client(client)
            with tracer.start_as_current_span("ask"):
                return (await client.get("/answer/42")).status_code

    assert asyncio.run(ask()) == 200
    assert flush_tracer(timeout=10)
    rows = server.spans(service)
    assert {row["trace_id"] for row in rows} == {seen["trace_id"]}
    by_id = {row["span_id"]: row for row in rows}
    (thought,) = [row for row in rows if row["name"] == "think"]
    path = []
    row = thought
    while row["parent_span_id"]:
        row = by_id[row["parent_span_id"]]
        path.append(row["name"])
    assert path == ["GET /answer/{number}", "GET", "ask"]


def test_under_load_every_request_has_its_whole_trace(server: Server) -> None:
    service, requests = f"load-{uuid.uuid4()}", 2000
    tracer = init_tracer(service, transport_config=server.config())
    app = FastAPI()

    @app.get("/answer/{number}")
    async def answer(number: int) -> dict[str, int]:
        with tracer.start_as_current_span("think", attributes={"number": number}):
            await asyncio.sleep(0)
            with tracer.start_as_current_span("look up"):
                return {"answer": number}

    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])

    async def load() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            HTTPXClientInstrumentor.instrument_client(client)
            gate = asyncio.Semaphore(50)

            async def ask(number: int) -> None:
                async with gate:
                    assert (await client.get(f"/answer/{number}")).json() == {"answer": number}

            await asyncio.gather(*(ask(number) for number in range(requests)))

    asyncio.run(load())
    assert flush_tracer(timeout=30)
    (row,) = server.sql(
        f"""SELECT count(*) AS traces, min(n) AS fewest, max(n) AS most, sum(roots) AS roots, sum(linked) AS linked FROM (
              SELECT s.trace_id, count(*) AS n, count(*) FILTER (WHERE s.parent_span_id IS NULL) AS roots, count(p.span_id) AS linked
              FROM spans s LEFT JOIN spans p ON s.trace_id = p.trace_id AND s.parent_span_id = p.span_id
              WHERE s.service_name = '{service}' GROUP BY s.trace_id)"""
    )
    assert row == {"traces": requests, "fewest": 4, "most": 4, "roots": requests, "linked": 3 * requests}


@pytest.mark.parametrize("header", ["traceparent", "baggage"])
def test_w3c_headers_are_injected(header: str, server: Server) -> None:
    from opentelemetry import baggage, context

    tracer = init_tracer(transport_config=server.config())
    token = context.attach(baggage.set_baggage("user", "ada"))
    try:
        with tracer.start_as_current_span("caller"):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
    finally:
        context.detach(token)
    assert header in carrier
