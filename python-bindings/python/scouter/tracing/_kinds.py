"""OpenTelemetry's kinds of spans under Scouter's names as well."""

from __future__ import annotations

from opentelemetry import trace

__all__ = ["SpanKind"]


class SpanKind:
    """Kinds of spans. Each is one of `opentelemetry.trace.SpanKind`, under its name there and under Scouter's."""

    INTERNAL = Internal = trace.SpanKind.INTERNAL
    SERVER = Server = trace.SpanKind.SERVER
    CLIENT = Client = trace.SpanKind.CLIENT
    PRODUCER = Producer = trace.SpanKind.PRODUCER
    CONSUMER = Consumer = trace.SpanKind.CONSUMER
