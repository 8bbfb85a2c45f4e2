"""Tracing: `init_tracer` once, then OpenTelemetry as usual."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from scouter.tracing._batch import BatchConfig
from scouter.tracing._exporter import GrpcSpanExporter
from scouter.tracing._headers import (
    ScouterTracingMiddleware,
    extract_span_context_from_headers,
    get_current_active_span,
    get_tracing_headers_from_current_span,
)
from scouter.tracing._init import get_tracer, init_tracer
from scouter.tracing._instrumentor import ScouterInstrumentor, active_profile, instrument, uninstrument
from scouter.tracing._lifecycle import ShutdownReport, flush_tracer, shutdown_tracer, stats
from scouter.tracing._local import StdoutSpanExporter, TagRecord, TestSpanExporter, TraceSpanRecord
from scouter.tracing._processors import GrpcSpanProcessor
from scouter.tracing._provider import ScouterTracerProvider
from scouter.tracing._span import ScouterSpan
from scouter.tracing._spans import set_scouter_queue
from scouter.tracing._tracer import ScouterTracer

__all__ = [
    "BatchConfig",
    "GrpcSpanExporter",
    "GrpcSpanProcessor",
    "ScouterInstrumentor",
    "ScouterSpan",
    "ScouterTracer",
    "ScouterTracerProvider",
    "ScouterTracingMiddleware",
    "ShutdownReport",
    "SpanKind",
    "StdoutSpanExporter",
    "TagRecord",
    "TestSpanExporter",
    "TraceSpanRecord",
    "active_profile",
    "extract_span_context_from_headers",
    "flush_tracer",
    "get_current_active_span",
    "get_tracer",
    "get_tracing_headers_from_current_span",
    "init_tracer",
    "instrument",
    "set_scouter_queue",
    "shutdown_tracer",
    "stats",
    "uninstrument",
]
