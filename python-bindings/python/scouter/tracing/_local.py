"""Spans for the eyes of this process: kept for tests, kept for a while, printed as a tree."""

from __future__ import annotations

import json
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import StatusCode

from scouter._tags import TagRecord
from scouter.errors import ConfigError
from scouter.tracing._spans import BAGGAGE_PREFIX, INPUT, OUTPUT, TAG_PREFIX

__all__ = ["LocalCapture", "StdoutSpanExporter", "TagRecord", "TestSpanExporter", "TraceBaggageRecord", "TraceSpanRecord", "capture"]

MAX_CAPTURED = 20_000
"""Spans that local capture keeps; the oldest make room."""


@dataclass(frozen=True)
class TraceSpanRecord:
    """An ended span in plain values."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    service_name: str
    scope_name: str
    span_name: str
    span_kind: str
    start_unix_nano: int
    end_unix_nano: int
    duration_ms: float
    status_code: str
    status_message: str | None
    attributes: dict[str, Any]
    events: list[dict[str, Any]]
    links: list[dict[str, Any]]
    input: Any
    output: Any

    @classmethod
    def of(cls, span: ReadableSpan) -> TraceSpanRecord:
        """Reads an ended span.

        Args:
            span: The span.

        Returns:
            Its record.
        """
        context = span.get_span_context()
        attributes = dict(span.attributes or {})
        start, end = span.start_time or 0, span.end_time or 0
        return cls(
            trace_id=trace.format_trace_id(context.trace_id if context else 0),
            span_id=trace.format_span_id(context.span_id if context else 0),
            parent_span_id=None if span.parent is None else trace.format_span_id(span.parent.span_id),
            service_name=str(span.resource.attributes.get("service.name", "")),
            scope_name=span.instrumentation_scope.name if span.instrumentation_scope else "",
            span_name=span.name,
            span_kind=span.kind.name,
            start_unix_nano=start,
            end_unix_nano=end,
            duration_ms=(end - start) / 1e6,
            status_code=span.status.status_code.name,
            status_message=span.status.description,
            attributes=attributes,
            events=[
                {"name": event.name, "timestamp": event.timestamp, "attributes": dict(event.attributes or {})} for event in span.events
            ],
            links=[
                {
                    "trace_id": trace.format_trace_id(link.context.trace_id),
                    "span_id": trace.format_span_id(link.context.span_id),
                    "attributes": dict(link.attributes or {}),
                }
                for link in span.links
            ],
            input=_parsed(attributes.get(INPUT)),
            output=_parsed(attributes.get(OUTPUT)),
        )


@dataclass(frozen=True)
class TraceBaggageRecord:
    """An entry of baggage that was given to a span."""

    trace_id: str
    scope: str
    key: str
    value: str


def _parsed(text: object) -> Any:
    """The value behind captured text; the text itself where it was text or was cut."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


class TestSpanExporter(SpanExporter):
    """Keeps ended spans, for tests of code that makes them. Pass it to `init_tracer` as ``exporter``.

    Args:
        batch_export: Accepted for Scouter's sake. Spans are here as soon as they have ended, either way.
    """

    __test__ = False
    exports_at_once = True

    def __init__(self, batch_export: bool = True) -> None:
        self.batch_export = batch_export
        self._lock = threading.Lock()
        self._spans: list[TraceSpanRecord] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keeps spans.

        Args:
            spans: Ended spans.

        Returns:
            Success.
        """
        records = [TraceSpanRecord.of(span) for span in spans]
        with self._lock:
            self._spans.extend(records)
        return SpanExportResult.SUCCESS

    @property
    def spans(self) -> list[TraceSpanRecord]:
        """The spans that ended, in that order."""
        with self._lock:
            return list(self._spans)

    @property
    def traces(self) -> dict[str, list[TraceSpanRecord]]:
        """The same by trace id."""
        traces: dict[str, list[TraceSpanRecord]] = {}
        for span in self.spans:
            traces.setdefault(span.trace_id, []).append(span)
        return traces

    @property
    def tags(self) -> list[TagRecord]:
        """The tags on them."""
        return [
            TagRecord("trace", span.trace_id, key.removeprefix(TAG_PREFIX), str(value))
            for span in self.spans
            for key, value in span.attributes.items()
            if key.startswith(TAG_PREFIX)
        ]

    @property
    def baggage(self) -> list[TraceBaggageRecord]:
        """The baggage that was given to them."""
        return [
            TraceBaggageRecord(span.trace_id, span.scope_name, key.removeprefix(BAGGAGE_PREFIX), str(value))
            for span in self.spans
            for key, value in span.attributes.items()
            if key.startswith(BAGGAGE_PREFIX)
        ]

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._spans.clear()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


class StdoutSpanExporter(SpanExporter):
    """Prints each trace as a tree, when its root in this process has ended. Pass it to `init_tracer` as ``exporter``.

    Args:
        batch_export: Print from a thread of its own rather than where a span ends.
        sample_ratio: Share of the recorded traces that is printed, 0 to 1.
        out: Where to; standard output if omitted.

    Raises:
        ConfigError: If the ratio is none.
    """

    _MAX_TRACES = 1000

    def __init__(self, batch_export: bool = False, sample_ratio: float | None = None, *, out: TextIO | None = None) -> None:
        if sample_ratio is not None and not 0 <= sample_ratio <= 1:
            raise ConfigError(f"sample_ratio must be a number from 0 to 1, not {sample_ratio!r}")
        self.sample_ratio = sample_ratio
        self._bound = TraceIdRatioBased.get_bound_for_rate(1.0 if sample_ratio is None else sample_ratio)
        self.batch_export = batch_export
        self.exports_at_once = not batch_export
        self._out = out
        self._lock = threading.Lock()
        self._open: OrderedDict[str, list[TraceSpanRecord]] = OrderedDict()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Prints the traces that these spans complete.

        Args:
            spans: Ended spans.

        Returns:
            Success.
        """
        complete: list[list[TraceSpanRecord]] = []
        with self._lock:
            for span in spans:
                record = TraceSpanRecord.of(span)
                if int(record.trace_id, 16) & TraceIdRatioBased.TRACE_ID_LIMIT >= self._bound:
                    continue
                self._open.setdefault(record.trace_id, []).append(record)
                if span.parent is None or span.parent.is_remote:
                    complete.append(self._open.pop(record.trace_id))
            while len(self._open) > self._MAX_TRACES:
                complete.append(self._open.popitem(last=False)[1])
        self._print(complete)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Prints what has no root yet."""
        with self._lock:
            rest = list(self._open.values())
            self._open.clear()
        self._print(rest)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits here but traces whose root has not ended.

        Args:
            timeout_millis: Not needed.

        Returns:
            True.
        """
        return True

    def _print(self, traces: Iterable[list[TraceSpanRecord]]) -> None:
        out = self._out or sys.stdout
        for spans in traces:
            print("\n".join(_tree(spans)), file=out, flush=True)


def _tree(spans: list[TraceSpanRecord]) -> list[str]:
    ids = {span.span_id for span in spans}
    children: dict[str | None, list[TraceSpanRecord]] = {}
    for span in sorted(spans, key=lambda span: (span.start_unix_nano, span.end_unix_nano)):
        children.setdefault(span.parent_span_id if span.parent_span_id in ids else None, []).append(span)
    lines = [f"trace {spans[0].trace_id}  {spans[0].service_name}"]

    def put(parent: str | None, indent: str) -> None:
        siblings = children.get(parent, [])
        for index, span in enumerate(siblings):
            is_last = index == len(siblings) - 1
            lines.append(f"{indent}{'└─' if is_last else '├─'} {_line(span)}")
            put(span.span_id, indent + ("   " if is_last else "│  "))

    put(None, "")
    return lines


def _line(span: TraceSpanRecord) -> str:
    failed = ""
    if span.status_code == StatusCode.ERROR.name:
        failed = f"  ERROR {span.status_message}" if span.status_message else "  ERROR"
    attributes = ", ".join(f"{key}={_short(value)}" for key, value in span.attributes.items())
    return f"{span.span_name}  {span.duration_ms:.2f} ms{failed}{f'  [{attributes}]' if attributes else ''}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


class LocalCapture(SpanProcessor):
    """Keeps the spans of this process while it is on, for whoever looks at them here: evaluations and tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: deque[TraceSpanRecord] = deque(maxlen=MAX_CAPTURED)
        self.is_on = False

    def on_end(self, span: ReadableSpan) -> None:
        """Keeps a span."""
        if self.is_on:
            record = TraceSpanRecord.of(span)
            with self._lock:
                self._spans.append(record)

    def drain(self) -> list[TraceSpanRecord]:
        """Gives the spans kept, and forgets them.

        Returns:
            The spans, oldest first.
        """
        with self._lock:
            spans = list(self._spans)
            self._spans.clear()
        return spans

    def of_traces(self, trace_ids: Iterable[str]) -> list[TraceSpanRecord]:
        """The spans of some traces; they stay.

        Args:
            trace_ids: Hexadecimal.

        Returns:
            The spans, oldest first.
        """
        wanted = set(trace_ids)
        with self._lock:
            return [span for span in self._spans if span.trace_id in wanted]

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


capture = LocalCapture()
"""The one of this process."""
