"""The trace in headers: what is sent to whom we call, and what callers sent us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = [
    "ScouterTracingMiddleware",
    "context_from_headers",
    "extract_span_context_from_headers",
    "get_current_active_span",
    "get_tracing_headers_from_current_span",
]

_trace_context = TraceContextTextMapPropagator()
_baggage = W3CBaggagePropagator()

_CARRIED = ("traceparent", "tracestate", "baggage", "trace_id", "span_id", "is_sampled")


def get_current_active_span() -> Span:
    """The span that is current.

    Returns:
        The span.

    Raises:
        RuntimeError: If none is.
    """
    span = trace.get_current_span()
    if not span.get_span_context().is_valid:
        raise RuntimeError("no span is current: call this inside `with tracer.start_as_current_span(...)`")
    return span


def get_tracing_headers_from_current_span() -> dict[str, str]:
    """Headers that make whom we call a part of this trace: W3C's, with baggage, and Scouter's older ones.

    Returns:
        ``traceparent``, where there is some ``tracestate`` and ``baggage``; and ``trace_id``, ``span_id``, ``is_sampled``.

    Raises:
        RuntimeError: If no span is current.
    """
    context = get_current_active_span().get_span_context()
    headers: dict[str, str] = {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
        "is_sampled": "true" if context.trace_flags.sampled else "false",
    }
    _trace_context.inject(headers)
    _baggage.inject(headers)
    return headers


def context_from_headers(headers: Mapping[str, str]) -> Context | None:
    """The context that a caller sent: its span as a remote parent, and its baggage.

    Args:
        headers: Names in any case. ``traceparent`` wins over Scouter's older ``trace_id`` and ``span_id``, for which a missing
            ``is_sampled`` means sampled.

    Returns:
        The context, None when there is nothing that can be read.
    """
    carried = {key.lower(): value for key, value in headers.items() if key.lower() in _CARRIED}
    context = _baggage.extract(carried, _trace_context.extract(carried, Context()))
    if not trace.get_current_span(context).get_span_context().is_valid:
        span_context = _older_headers(carried)
        if span_context is not None:
            context = trace.set_span_in_context(NonRecordingSpan(span_context), context)
    return context if len(context) else None


def extract_span_context_from_headers(headers: Mapping[str, str]) -> dict[str, str] | None:
    """The caller's span, as texts.

    Args:
        headers: Names in any case.

    Returns:
        ``trace_id``, ``span_id`` and ``is_sampled``; None when there is none.
    """
    context = context_from_headers(headers)
    if context is None:
        return None
    span_context = trace.get_current_span(context).get_span_context()
    if not span_context.is_valid:
        return None
    return {
        "trace_id": trace.format_trace_id(span_context.trace_id),
        "span_id": trace.format_span_id(span_context.span_id),
        "is_sampled": "true" if span_context.trace_flags.sampled else "false",
    }


def _older_headers(headers: Mapping[str, str]) -> SpanContext | None:
    try:
        trace_id, span_id = int(headers["trace_id"], 16), int(headers["span_id"], 16)
    except (KeyError, ValueError):
        return None
    flags = TraceFlags.DEFAULT if headers.get("is_sampled", "true").lower() == "false" else TraceFlags.SAMPLED
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None


_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class ScouterTracingMiddleware:
    """An ASGI application around another, with a span a request that goes on with the caller's trace and baggage.

    It needs nothing installed. `opentelemetry-instrumentation-fastapi` and its like do more; use one of them or this, not both.

    Args:
        app: The application.
        tracer: Makes the spans; the global provider's if omitted.
    """

    def __init__(self, app: _App, tracer: trace.Tracer | None = None) -> None:
        self._app = app
        self._tracer = tracer or trace.get_tracer("scouter.asgi")

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serves one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = str(scope.get("method", "")), str(scope.get("path", ""))
        context = context_from_headers(_decoded(scope.get("headers", ())))
        token = None if context is None else context_api.attach(context)
        try:
            attributes = {"http.request.method": method, "url.path": path, "url.scheme": str(scope.get("scheme", "http"))}
            with self._tracer.start_as_current_span(f"{method} {path}", kind=SpanKind.SERVER, attributes=attributes) as span:

                async def send_and_note(message: MutableMapping[str, Any]) -> None:
                    if message["type"] == "http.response.start":
                        status = int(message["status"])
                        span.set_attribute("http.response.status_code", status)
                        route = getattr(scope.get("route"), "path", None)
                        if isinstance(route, str):
                            span.update_name(f"{method} {route}")
                            span.set_attribute("http.route", route)
                        if status >= 500:
                            span.set_status(Status(StatusCode.ERROR))
                    await send(message)

                await self._app(scope, receive, send_and_note)
        finally:
            if token is not None:
                context_api.detach(token)


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    # A header that comes twice, as `baggage` may, is one list.
    decoded: dict[str, str] = {}
    for raw_key, raw_value in headers:
        key, value = raw_key.decode("latin-1").lower(), raw_value.decode("latin-1")
        decoded[key] = f"{decoded[key]},{value}" if key in decoded else value
    return decoded
