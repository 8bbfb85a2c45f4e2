"""The span: Rust where it costs, OpenTelemetry's SDK by class, so that whatever asks `isinstance` or reads a property finds it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationInfo, InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status
from opentelemetry.util.types import AnyValue, Attributes

from scouter import _scouter
from scouter.tracing._spans import SpanHelpers

__all__ = ["ScouterSpan"]

_logger = logging.getLogger("scouter")


def _bounded(attributes: Mapping[str, AnyValue], dropped: int) -> BoundedAttributes:
    bounded = BoundedAttributes(attributes=dict(attributes))
    bounded.dropped = dropped
    return bounded


class ScouterSpan(_scouter.SpanCore, SpanHelpers, sdk.Span):
    """A span of OpenTelemetry's.

    A tracer makes it; see `opentelemetry.trace.Span` for what it does. When it ends it is encoded once, and can be read for as long as
    somebody holds it. Nothing that is done to it raises; what comes after its end is ignored, and a warning says so.
    """

    # The SDK keeps its spans in fields of these names; code that reads them, and there is some, finds them.
    @property
    def _name(self) -> str:  # type: ignore[override]
        return self.name

    @property
    def _context(self) -> SpanContext:  # type: ignore[override]
        return self.get_span_context()

    @property
    def _parent(self) -> SpanContext | None:  # type: ignore[override]
        return self.parent

    @property
    def _kind(self) -> SpanKind:  # type: ignore[override]
        return self.kind

    @property
    def _start_time(self) -> int | None:  # type: ignore[override]
        return self.start_time

    @property
    def _end_time(self) -> int | None:  # type: ignore[override]
        return self.end_time

    @property
    def _attributes(self) -> BoundedAttributes:  # type: ignore[override]
        return _bounded(self.attributes, self.dropped_attributes)

    @property
    def _status(self) -> Status:  # type: ignore[override]
        return self.status

    @property
    def _resource(self) -> object:  # type: ignore[override]
        return self.resource

    @property
    def _instrumentation_scope(self) -> InstrumentationScope:  # type: ignore[override]
        return self.instrumentation_scope

    @property
    def _instrumentation_info(self) -> object:  # type: ignore[override]
        return _instrumentation_info(self.instrumentation_scope)

    @property
    def _events(self) -> Sequence[sdk.Event]:  # type: ignore[override]
        events: BoundedList[sdk.Event] = BoundedList(None)
        events.extend(self.events)
        events.dropped = self.dropped_events
        return events

    @property
    def _links(self) -> Sequence[Link]:  # type: ignore[override]
        links: BoundedList[Link] = BoundedList(None)
        links.extend(self.links)
        links.dropped = self.dropped_links
        return links

    @property
    def events(self) -> tuple[sdk.Event, ...]:
        """The events so far."""
        return tuple(
            sdk.Event(name, attributes=_bounded(attributes, dropped), timestamp=timestamp)
            for name, attributes, dropped, timestamp in self._event_parts()
        )

    @property
    def links(self) -> tuple[Link, ...]:
        """The links so far."""
        return tuple(
            Link(context, _bounded(attributes, dropped)) if original is None else original
            for original, context, attributes, dropped in self._link_parts()
        )

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Adds an event that describes an exception.

        Args:
            exception: The exception.
            attributes: More attributes of the event; they win over those made here.
            timestamp: Nanoseconds since 1970; now if omitted.
            escaped: Whether the exception leaves the span's scope.
        """
        try:
            kind = type(exception)
            name = kind.__qualname__ if kind.__module__ in ("builtins", None) else f"{kind.__module__}.{kind.__qualname__}"
            described: dict[str, AnyValue] = {
                "exception.type": name,
                "exception.message": str(exception),
                "exception.stacktrace": "".join(traceback.format_exception(exception)),
                "exception.escaped": str(bool(escaped)),
            }
            if attributes:
                described.update(attributes)
            self.add_event("exception", described, timestamp)
        except Exception:
            _logger.warning("an exception was not recorded on its span", exc_info=True)

    def to_json(self, indent: int | None = 4) -> str:
        """The span as JSON, as the SDK's console exporter prints it."""
        text: str = self._readable_span().to_json(indent)
        return text

    def _readable_span(self) -> sdk.ReadableSpan:
        """What processors and exporters written in Python see: a copy, of the SDK's own class."""
        return sdk.ReadableSpan(
            name=self.name,
            context=self.get_span_context(),
            parent=self.parent,
            resource=self.resource,
            attributes=self._attributes,
            events=self._events,
            links=self._links,
            kind=self.kind,
            instrumentation_info=_instrumentation_info(self.instrumentation_scope),
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=self.instrumentation_scope,
        )

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name="{self.name}", context={self.get_span_context()})'


def _instrumentation_info(scope: InstrumentationScope) -> InstrumentationInfo:
    # Its constructor warns that it is old. Exporters that still read it are older.
    info = object.__new__(InstrumentationInfo)
    info._name, info._version, info._schema_url = scope.name, scope.version, scope.schema_url or ""
    return info
