"""Puts our provider in place of the SDK's, before pytest imports a test. Loaded with ``-p plugin``."""

from __future__ import annotations

from opentelemetry.sdk import trace

from scouter.tracing import ScouterSpan, ScouterTracer, ScouterTracerProvider

trace.TracerProvider = ScouterTracerProvider  # type: ignore[misc]
trace.Tracer = ScouterTracer  # type: ignore[misc]
trace.Span = ScouterSpan  # type: ignore[misc]
