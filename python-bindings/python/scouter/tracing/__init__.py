"""Tracing: `init_tracer` once, then OpenTelemetry as usual."""

from __future__ import annotations

from scouter.tracing._batch import BatchConfig
from scouter.tracing._exporter import GrpcSpanExporter
from scouter.tracing._init import get_tracer, init_tracer
from scouter.tracing._lifecycle import ShutdownReport, flush_tracer, shutdown_tracer, stats
from scouter.tracing._processors import GrpcSpanProcessor
from scouter.tracing._provider import ScouterTracerProvider
from scouter.tracing._span import ScouterSpan
from scouter.tracing._tracer import ScouterTracer

__all__ = [
    "BatchConfig",
    "GrpcSpanExporter",
    "GrpcSpanProcessor",
    "ScouterSpan",
    "ScouterTracer",
    "ScouterTracerProvider",
    "ShutdownReport",
    "flush_tracer",
    "get_tracer",
    "init_tracer",
    "shutdown_tracer",
    "stats",
]
