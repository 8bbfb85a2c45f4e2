"""Tracing: `init_tracer` once, then OpenTelemetry as usual."""

from __future__ import annotations

from scouter.tracing._batch import BatchConfig
from scouter.tracing._exporter import GrpcSpanExporter
from scouter.tracing._init import get_tracer, init_tracer
from scouter.tracing._lifecycle import ShutdownReport, flush_tracer, shutdown_tracer, stats
from scouter.tracing._processors import GrpcSpanProcessor
from scouter.tracing._provider import ScouterTracerProvider

__all__ = [
    "BatchConfig",
    "GrpcSpanExporter",
    "GrpcSpanProcessor",
    "ScouterTracerProvider",
    "ShutdownReport",
    "flush_tracer",
    "get_tracer",
    "init_tracer",
    "shutdown_tracer",
    "stats",
]
