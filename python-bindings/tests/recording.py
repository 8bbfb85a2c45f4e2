"""A provider of ours whose spans are recorded by a processor written in Python."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from scouter.tracing import ScouterTracerProvider


class Recorded:
    """A provider of ours and what a processor written in Python saw of its spans."""

    def __init__(self, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = ScouterTracerProvider(shutdown_on_exit=False, **settings)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests", "1")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def one(self) -> ReadableSpan:
        (span,) = self.spans
        return span


def remote(flags: int = 1, state: TraceState | None = None) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(SpanContext(1 << 70, 7, True, TraceFlags(flags), state)))
