"""Tracing: `init_tracer` once, then OpenTelemetry as usual."""

from __future__ import annotations

from scouter.tracing._batch import BatchConfig
from scouter.tracing._exporter import GrpcSpanExporter, HttpSpanExporter
from scouter.tracing._headers import (
    ScouterTracingMiddleware,
    extract_span_context_from_headers,
    get_current_active_span,
    get_tracing_headers_from_current_span,
)
from scouter.tracing._init import get_tracer, init_tracer
from scouter.tracing._instrumentor import (
    ScouterInstrumentor,
    active_profile,
    disable_local_span_capture,
    drain_local_span_capture,
    enable_local_span_capture,
    instrument,
    uninstrument,
)
from scouter.tracing._kinds import SpanKind
from scouter.tracing._lifecycle import ShutdownReport, flush_tracer, shutdown_tracer, stats
from scouter.tracing._local import StdoutSpanExporter, TagRecord, TestSpanExporter, TraceBaggageRecord, TraceSpanRecord
from scouter.tracing._otlp import OtelExportConfig, OtelProtocol
from scouter.tracing._processors import GrpcSpanProcessor
from scouter.tracing._provider import ScouterTracerProvider
from scouter.tracing._span import ScouterSpan
from scouter.tracing._span import ScouterSpan as ActiveSpan
from scouter.tracing._spans import set_scouter_queue
from scouter.tracing._tracer import ScouterTracer
from scouter.tracing._tracer import ScouterTracer as Tracer

__all__ = [
    "ActiveSpan",
    "BatchConfig",
    "GrpcSpanExporter",
    "GrpcSpanProcessor",
    "HttpSpanExporter",
    "OtelExportConfig",
    "OtelProtocol",
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
    "TraceBaggageRecord",
    "TraceSpanRecord",
    "Tracer",
    "active_profile",
    "disable_local_span_capture",
    "drain_local_span_capture",
    "enable_local_span_capture",
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
