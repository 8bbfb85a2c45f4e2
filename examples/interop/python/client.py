"""The story of ../README.md, told by OpenTelemetry's SDK for Python. All about the destination is in OTEL_EXPORTER_OTLP_* variables."""

from __future__ import annotations

import importlib
import os
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

EXPORTERS = {"grpc": "grpc", "http/protobuf": "http"}
BEGIN_UNIX_NANO = 1_750_000_000_000_000_123


def after(milliseconds: int) -> int:
    return BEGIN_UNIX_NANO + milliseconds * 1_000_000


def main() -> int:
    exporter = importlib.import_module(
        f"opentelemetry.exporter.otlp.proto.{EXPORTERS[os.environ['OTEL_EXPORTER_OTLP_PROTOCOL']]}.trace_exporter"
    )
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter.OTLPSpanExporter()))
    tracer = provider.get_tracer("interop", "1.2.3")

    w3c = TraceContextTextMapPropagator()
    incoming = w3c.extract({"traceparent": os.environ["TRACEPARENT"], "tracestate": os.environ["TRACESTATE"]})

    linked = SpanContext(
        trace_id=0x0AF7651916CD43DD8448EB211C80319C,
        span_id=0xB7AD6B7169203331,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState([("linked", "yes")]),
    )
    order = tracer.start_span(
        "order",
        context=incoming,
        kind=SpanKind.SERVER,
        start_time=BEGIN_UNIX_NANO,
        links=[Link(linked, {"reason": "retry"})],
        attributes={
            "text": 'häl"lo\n✓',
            "flag": True,
            "count": 4_503_599_627_370_497,
            "ratio": 0.25,
            "texts": ["a", "b"],
            "flags": [True, False],
            "counts": [1, -2],
            "ratios": [0.5, -1.5],
            "bytes": b"\x00\x01\xff",
            "map": {"key": "value", "number": 7},
            "http.request.method": "POST",
            "http.response.status_code": 200,
        },
    )
    order.add_event("cache.miss", {"cache.key": "basket", "size": 3}, timestamp=after(100))

    in_order = trace.set_span_in_context(order, incoming)
    charge = tracer.start_span("charge", context=in_order, kind=SpanKind.CLIENT, start_time=after(200))
    in_charge = trace.set_span_in_context(charge, in_order)
    outgoing: dict[str, str] = {}
    w3c.inject(outgoing, in_charge)
    print(outgoing["traceparent"])
    charge.add_event("exception", {"exception.type": "CardRefused", "exception.message": "no funds"}, timestamp=after(250))
    charge.set_status(Status(StatusCode.ERROR, "card refused"))
    tracer.start_span("audit", context=in_charge, start_time=after(260)).end(after(270))
    charge.end(after(300))
    order.set_status(Status(StatusCode.OK))
    order.end(after(1500))

    flushed = provider.force_flush(60_000)
    provider.shutdown()
    return 0 if flushed else 1


if __name__ == "__main__":
    sys.exit(main())
