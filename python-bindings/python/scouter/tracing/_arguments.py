"""The arguments that Scouter's tracer takes beyond OpenTelemetry's: baggage, tags, a label, and a parent by headers or by ids."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util.types import AnyValue, Attributes

from scouter import _scouter
from scouter.tracing._attributes import flatten_attributes
from scouter.tracing._headers import context_from_headers
from scouter.tracing._spans import LABEL, named_attributes, with_baggage

__all__ = ["start_as_current_span", "start_span"]

_Pairs = Sequence[Mapping[str, str]] | Mapping[str, str] | None


def start_span(
    tracer: _scouter.TracerCore,
    name: str,
    context: Context | None,
    kind: SpanKind | None,
    attributes: object,
    links: Sequence[Link] | None,
    start_time: int | None,
    record_exception: bool,
    set_status_on_exception: bool,
    **scouter: Any,
) -> Span:
    """`ScouterTracer.start_span` with arguments of Scouter's."""
    parent, _, merged = _merged(context, attributes, **scouter)
    return tracer.start_span(name, parent, kind, merged, links, start_time, record_exception, set_status_on_exception)


@_agnosticcontextmanager
def start_as_current_span(
    tracer: _scouter.TracerCore,
    name: str,
    context: Context | None,
    kind: SpanKind | None,
    attributes: object,
    links: Sequence[Link] | None,
    start_time: int | None,
    record_exception: bool,
    set_status_on_exception: bool,
    end_on_exit: bool,
    **scouter: Any,
) -> Iterator[Span]:
    """`ScouterTracer.start_as_current_span` with arguments of Scouter's."""
    parent, surrounding, merged = _merged(context, attributes, **scouter)
    inside = tracer.start_as_current_span(
        name, parent, kind, merged, links, start_time, record_exception, set_status_on_exception, end_on_exit
    )
    with contextlib.ExitStack() as stack:
        if surrounding is not None:
            stack.callback(context_api.detach, context_api.attach(surrounding))
        yield stack.enter_context(inside)


def _merged(
    context: Context | None,
    attributes: object,
    *,
    baggage: _Pairs = None,
    tags: _Pairs = None,
    label: str | None = None,
    headers: Mapping[str, str] | None = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    remote_sampled: bool | None = None,
    parent_context_id: str | None = None,
) -> tuple[Context | None, Context | None, Attributes]:
    """The parent's context, the context to be current around the span (None: as it is), and all attributes.

    A span that is current or is in `context` is the parent; else the caller's by `headers`; else the one of `trace_id` and `span_id`.
    """
    merged: dict[str, AnyValue] = flatten_attributes("attributes", attributes)
    merged.update(named_attributes(tags, baggage))
    if label is not None:
        merged[LABEL] = label
    if parent_context_id is not None:
        merged["scouter.tracing.parent_context_id"] = parent_context_id
    parent = context if context is not None else context_api.get_current()
    if not trace.get_current_span(parent).get_span_context().is_valid:
        parent = _remote(parent, headers, trace_id, span_id, remote_sampled)
    parent = with_baggage(baggage, parent) or parent
    surrounding = parent if baggage or headers else None
    return parent, surrounding, merged or None


def _remote(parent: Context, headers: Mapping[str, str] | None, trace_id: str | None, span_id: str | None, sampled: bool | None) -> Context:
    received = context_from_headers(headers) if headers else None
    if received is not None:
        # What the caller sent goes over what is here.
        for key, value in received.items():
            parent = context_api.set_value(key, value, parent)
        return parent
    try:
        ids = (int(trace_id, 16), int(span_id, 16)) if trace_id and span_id else None
    except ValueError:
        ids = None
    if ids is None:
        return parent
    flags = TraceFlags(TraceFlags.DEFAULT if sampled is False else TraceFlags.SAMPLED)
    span_context = SpanContext(*ids, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(span_context), parent) if span_context.is_valid else parent
