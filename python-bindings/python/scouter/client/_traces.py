"""What is asked about traces and tags, and what is answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from scouter._tags import TagRecord
from scouter.client._tables import Rows, read_moment, text_of

__all__ = [
    "Attribute",
    "SpanEvent",
    "SpanLink",
    "TagRecord",
    "TagsResponse",
    "TraceBaggageRecord",
    "TraceBaggageResponse",
    "TraceCursor",
    "TraceFilters",
    "TraceListItem",
    "TraceMetricBucket",
    "TraceMetricsRequest",
    "TraceMetricsResponse",
    "TracePaginationResponse",
    "TraceSpan",
    "TraceSpansResponse",
]


@dataclass(frozen=True)
class Attribute:
    """A key and its value."""

    key: str
    value: Any


@dataclass(frozen=True)
class SpanEvent:
    """Something that happened during a span."""

    timestamp: datetime
    name: str
    attributes: list[Attribute]
    dropped_attributes_count: int


@dataclass(frozen=True)
class SpanLink:
    """Another span that belongs to a span."""

    trace_id: str
    span_id: str
    trace_state: str
    attributes: list[Attribute]
    dropped_attributes_count: int


@dataclass(frozen=True)
class TraceSpan:
    """A span as it is stored, and its place in the tree of its trace."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    span_name: str
    span_kind: str | None
    start_time: datetime
    end_time: datetime
    duration_ms: int
    duration_nano: int
    status_code: int
    status_message: str | None
    attributes: list[Attribute]
    events: list[SpanEvent]
    links: list[SpanLink]
    depth: int
    path: list[str]
    root_span_id: str
    service_name: str
    span_order: int
    input: Any
    output: Any


@dataclass(frozen=True)
class TraceSpansResponse(Rows):
    """The spans of a trace, depth first."""

    spans: list[TraceSpan]
    _ITEM = TraceSpan

    def get_span_by_name(self, span_name: str) -> TraceSpan | None:
        """Finds a span.

        Args:
            span_name: Its name.

        Returns:
            The first one of that name, or None.
        """
        return next((span for span in self.spans if span.span_name == span_name), None)

    def _items(self) -> list[TraceSpan]:
        return self.spans

    def __iter__(self) -> Iterator[TraceSpan]:
        return iter(self.spans)

    def __len__(self) -> int:
        return len(self.spans)


@dataclass(frozen=True)
class TraceListItem:
    """A trace in a list of traces."""

    trace_id: str
    service_name: str
    scope_name: str
    scope_version: str
    root_operation: str
    start_time: datetime
    end_time: datetime | None
    duration_ms: int | None
    status_code: int
    status_message: str | None
    span_count: int
    has_errors: bool
    error_count: int
    resource_attributes: list[Attribute]
    entity_ids: list[str]
    queue_ids: list[str]


@dataclass(frozen=True)
class TraceCursor:
    """A place in a list of traces. `TraceFilters.at` goes there."""

    start_time: datetime
    trace_id: str
    exact_start_time: str
    """The same to the nanosecond, which a `datetime` cannot hold: two traces may start in one microsecond."""

    @classmethod
    def _read(cls, value: Mapping[str, str]) -> TraceCursor:
        return cls(read_moment(value["start_time"]), value["trace_id"], value["start_time"])


@dataclass(frozen=True)
class TracePaginationResponse(Rows):
    """A page of a list of traces, latest first."""

    items: list[TraceListItem]
    has_next: bool
    next_cursor: TraceCursor | None
    has_previous: bool
    previous_cursor: TraceCursor | None
    _ITEM = TraceListItem

    def _items(self) -> list[TraceListItem]:
        return self.items

    def __iter__(self) -> Iterator[TraceListItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass
class TraceFilters:
    """Which traces. What is None does not matter.

    Args:
        service_name: A span ran in this service.
        has_errors: Whether a span failed.
        status_code: 0 unset, 1 ok, 2 error.
        start_time: Not before; a time without a zone is in UTC.
        end_time: Not after.
        limit: Traces of a page: 50, at most 1000.
        cursor_start_time: With `cursor_trace_id`: where another page ended.
        cursor_trace_id: See `cursor_start_time`; `at` sets both.
        attribute_filters: ``key=value`` or ``key:value``; a span has one of them as attribute or tag.
        trace_ids: One of these, in hexadecimal.
        entity_uid: A span names this entity.
        queue_uid: A span names this record.
        direction: ``"next"`` or ``"previous"``, from the cursor.
    """

    service_name: str | None = None
    has_errors: bool | None = None
    status_code: int | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    limit: int | None = None
    cursor_start_time: datetime | str | None = None
    cursor_trace_id: str | None = None
    attribute_filters: Sequence[str] | None = None
    trace_ids: Sequence[str] | None = None
    entity_uid: str | None = None
    queue_uid: str | None = None
    direction: Literal["next", "previous"] | None = None

    def at(self, cursor: TraceCursor, direction: Literal["next", "previous"] = "next") -> TraceFilters:
        """The same question for another page.

        Args:
            cursor: ``next_cursor`` or ``previous_cursor`` of a page.
            direction: Where to.

        Returns:
            The question.
        """
        return dataclasses.replace(self, cursor_start_time=cursor.exact_start_time, cursor_trace_id=cursor.trace_id, direction=direction)

    def _body(self) -> dict[str, Any]:
        given = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        lists = ("attribute_filters", "trace_ids")
        times = ("start_time", "end_time", "cursor_start_time")
        return {
            name: text_of(value) if name in times else list(value) if name in lists else value
            for name, value in given.items()
            if value is not None
        }


@dataclass
class TraceMetricsRequest:
    """How many traces, how long, how many failed, over time.

    Args:
        start_time: Not before; a time without a zone is in UTC.
        end_time: Not after.
        bucket_interval: ``"5 minutes"``, ``"hour"``, ``"1 week"``: a number and a unit from second to year.
        service_name: Only traces in which this service had a span.
        attribute_filters: See `TraceFilters`.
        entity_uid: Only traces that name this entity.
    """

    start_time: datetime
    end_time: datetime
    bucket_interval: str
    service_name: str | None = None
    attribute_filters: Sequence[str] | None = None
    entity_uid: str | None = None

    def _body(self) -> dict[str, Any]:
        given = {
            "start_time": text_of(self.start_time),
            "end_time": text_of(self.end_time),
            "bucket_interval": self.bucket_interval,
            "service_name": self.service_name,
            "attribute_filters": None if self.attribute_filters is None else list(self.attribute_filters),
            "entity_uid": self.entity_uid,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class TraceMetricBucket:
    """The traces that began in one interval."""

    bucket_start: datetime
    trace_count: int
    avg_duration_ms: float
    p50_duration_ms: float | None
    p95_duration_ms: float | None
    p99_duration_ms: float | None
    error_rate: float


@dataclass(frozen=True)
class TraceMetricsResponse(Rows):
    """Intervals in which traces began, in their order."""

    metrics: list[TraceMetricBucket]
    _ITEM = TraceMetricBucket

    def _items(self) -> list[TraceMetricBucket]:
        return self.metrics


@dataclass(frozen=True)
class TraceBaggageRecord:
    """An entry of baggage that came with a span."""

    created_at: datetime
    trace_id: str
    scope: str
    key: str
    value: str


@dataclass(frozen=True)
class TraceBaggageResponse(Rows):
    """The baggage of a trace."""

    baggage: list[TraceBaggageRecord]
    _ITEM = TraceBaggageRecord

    def _items(self) -> list[TraceBaggageRecord]:
        return self.baggage


@dataclass(frozen=True)
class TagsResponse(Rows):
    """The tags of an entity."""

    tags: list[TagRecord]
    _ITEM = TagRecord

    def _items(self) -> list[TagRecord]:
        return self.tags
