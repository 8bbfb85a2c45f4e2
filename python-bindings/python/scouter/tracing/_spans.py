"""What Scouter adds to a span, a span a call of a function, and both for tracers and spans of any OpenTelemetry provider's."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextvars import Token
from typing import Any, TypeVar

from opentelemetry import baggage as baggage_api
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AnyValue

from scouter.tracing._attributes import flatten_attributes
from scouter.tracing._capture import Arguments, captured, is_secret

__all__ = [
    "BAGGAGE_PREFIX",
    "INPUT",
    "OUTPUT",
    "TAG_PREFIX",
    "SpanHelpers",
    "function_span",
    "named_attributes",
    "queue_of",
    "set_scouter_queue",
    "with_baggage",
]

INPUT = "scouter.tracing.input"
OUTPUT = "scouter.tracing.output"
LABEL = "scouter.tracing.label"
TAG_PREFIX = "scouter.tracing.tag."
BAGGAGE_PREFIX = "baggage."
ENTITY = "scouter.entity"
QUEUE_EVENT = "scouter.queue.event"
QUEUE_RECORD = "scouter.queue.record"

DEFAULT_MAX_LENGTH = 1000

_logger = logging.getLogger("scouter")
_F = TypeVar("_F", bound=Callable[..., Any])

_queue: Any = None


def set_scouter_queue(queue: Any) -> None:
    """Makes `queue` the one that `ScouterSpan.add_queue_item` puts records into.

    Args:
        queue: A `scouter.queue.ScouterQueue`, or whatever gives by ``queue[alias]`` something with ``insert(item)``; None for no queue.
    """
    global _queue
    _queue = queue


def queue_of(tracer: object = None) -> Any:
    """The queue of a tracer, else that of the process."""
    own = getattr(tracer, "scouter_queue", None)
    return _queue if own is None else own


class SpanHelpers:
    """What a span of Scouter's can do beyond OpenTelemetry's. None of it raises."""

    __slots__ = ()

    @property
    def context_id(self: Any) -> str:
        """The span's id in the form in which Scouter tells spans of a process apart."""
        return f"span_{self.span_id}"

    def set_input(self: Any, value: object, max_length: int = DEFAULT_MAX_LENGTH) -> None:
        """Keeps what the work began with, as JSON in ``scouter.tracing.input``.

        Args:
            value: Anything; passwords and tokens in fields named so are left out.
            max_length: Characters kept.
        """
        if self.is_recording():
            self.set_attribute(INPUT, captured(value, max_length))

    def set_output(self: Any, value: object, max_length: int = DEFAULT_MAX_LENGTH) -> None:
        """Keeps what the work came to, as JSON in ``scouter.tracing.output``.

        Args:
            value: Anything; passwords and tokens in fields named so are left out.
            max_length: Characters kept.
        """
        if self.is_recording():
            self.set_attribute(OUTPUT, captured(value, max_length))

    def set_tag(self: Any, key: str, value: object) -> None:
        """Tags the trace: Scouter finds it by its tags.

        Args:
            key: Name of the tag.
            value: Its value, kept as text.
        """
        self.set_attribute(f"{TAG_PREFIX}{key}", value if isinstance(value, str) else str(value))

    def set_entity(self: Any, uid: str) -> None:
        """Names the entity (a drift or evaluation profile) that the span belongs to.

        Args:
            uid: The entity's uid.
        """
        self.set_attribute(ENTITY, uid)

    def add_queue_item(self: Any, alias: str, item: Any) -> None:
        """Puts a monitoring record into the queue, tied to this trace. Records of spans that are not sampled are left out.

        Args:
            alias: Which of the queue's profiles the record is for.
            item: The record, as `scouter.queue.ScouterQueue` takes it.
        """
        queue = queue_of()
        context = self.get_span_context()
        if queue is None:
            _logger.warning("add_queue_item: there is no queue; pass scouter_queue to init_tracer, or call set_scouter_queue")
            return
        if not (self.is_recording() and context.trace_flags.sampled):
            return
        try:
            if hasattr(item, "trace_id"):
                item.trace_id = trace.format_trace_id(context.trace_id)
            target = queue[alias]
            target.insert(item)
            uid = getattr(item, "uid", None)
            if uid is None:
                return
            attributes: dict[str, AnyValue] = {QUEUE_RECORD: str(uid)}
            kind = getattr(item, "entity_type", None)
            if kind is not None:
                attributes["entity"] = str(getattr(kind, "name", kind))
            entity = getattr(target, "entity_uid", None)
            if entity is not None:
                attributes[ENTITY] = str(entity)
            self.add_event(QUEUE_EVENT, attributes)
        except Exception:
            _logger.warning("a record was not put into the queue %r", alias, exc_info=True)


def with_baggage(pairs: Sequence[Mapping[str, str]] | Mapping[str, str] | None, context: Context | None = None) -> Context | None:
    """A context with these entries of baggage, which travels to everything that is called in it; None when there are none."""
    if not pairs:
        return context
    merged: Context | None = context
    for pair in [pairs] if isinstance(pairs, Mapping) else pairs:
        for key, value in pair.items():
            merged = baggage_api.set_baggage(str(key), str(value), merged)
    return merged


def named_attributes(
    tags: Sequence[Mapping[str, str]] | Mapping[str, str] | None, baggage: Sequence[Mapping[str, str]] | Mapping[str, str] | None
) -> dict[str, AnyValue]:
    """The attributes by which a server knows tags and baggage that were given to a span."""
    named: dict[str, AnyValue] = {}
    for prefix, pairs in ((TAG_PREFIX, tags), (BAGGAGE_PREFIX, baggage)):
        for pair in [pairs] if isinstance(pairs, Mapping) else pairs or ():
            named.update({f"{prefix}{key}": str(value) for key, value in pair.items()})
    return named


class StreamSpan:
    """One run of a generator. Its span is current while the generator runs; between its steps the caller's own is."""

    def __init__(self, span: Span, inside: Context, keeps: str, max_length: int, finish: Callable[[Span, object], None]) -> None:
        self._span = span
        self._inside = inside
        self._keeps = keeps
        self._max_length = max_length
        self._finish = finish
        self._items: list[Any] = []
        self._kept = 0
        self._left_out = 0

    @contextlib.contextmanager
    def current(self) -> Generator[None, None, None]:
        token = context_api.attach(self._inside)
        try:
            yield
        finally:
            context_api.detach(token)

    def add(self, item: object) -> None:
        if self._keeps == "nothing":
            return
        if self._keeps == "last":
            self._items = [item]
        elif self._kept <= self._max_length:
            # What is beyond the limit is counted, not held.
            self._items.append(item)
            self._kept += max(1, len(item)) if isinstance(item, str) else 1
        else:
            self._left_out += 1

    def failed(self, error: BaseException) -> None:
        # The end of a generator that is left early is no error.
        if isinstance(error, Exception):
            self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))

    def end(self) -> None:
        if self._keeps == "last":
            self._finish(self._span, self._items[-1] if self._items else None)
        elif self._keeps == "joined":
            self._finish(self._span, "".join(str(item) for item in self._items))
        elif self._keeps == "all":
            self._finish(self._span, [*self._items, f"... {self._left_out} more"] if self._left_out else self._items)
        self._span.end()


def function_span(
    tracer: trace.Tracer,
    function: _F,
    *,
    name: str | None,
    kind: SpanKind,
    attributes: object,
    baggage: Sequence[Mapping[str, str]] | Mapping[str, str] | None,
    tags: Sequence[Mapping[str, str]] | Mapping[str, str] | None,
    label: str | None,
    max_length: int,
    capture_input: bool,
    capture_output: bool,
    capture_last_stream_item: bool,
    join_stream_items: bool,
    redact: Callable[[str], bool] | None,
) -> _F:
    """Wraps a function so that each call has a span; see `ScouterTracer.span`."""
    span_name = name or f"{function.__module__}.{function.__qualname__}"
    hides = redact or is_secret
    fixed: dict[str, AnyValue] = flatten_attributes("attributes", attributes)
    fixed.update(named_attributes(tags, baggage))
    if label is not None:
        fixed[LABEL] = label
    arguments = Arguments(function)

    def outside() -> Token[Context] | None:
        context = with_baggage(baggage)
        return None if context is None else context_api.attach(context)

    def begin(span: Span, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if capture_input and span.is_recording():
            span.set_attribute(INPUT, captured(arguments.of(args, kwargs), max_length, hides))

    def finish(span: Span, value: object) -> None:
        if capture_output and span.is_recording():
            span.set_attribute(OUTPUT, captured(value, max_length, hides))

    def stream(args: tuple[Any, ...], kwargs: dict[str, Any]) -> StreamSpan:
        token = outside()
        span = tracer.start_span(span_name, kind=kind, attributes=fixed or None)
        begin(span, args, kwargs)
        inside = trace.set_span_in_context(span)
        if token is not None:
            context_api.detach(token)
        keeps = "nothing" if not capture_output else "last" if capture_last_stream_item else "joined" if join_stream_items else "all"
        return StreamSpan(span, inside, keeps, max_length, finish)

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def traced_async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            run = stream(args, kwargs)
            generator = function(*args, **kwargs)
            step = functools.partial(generator.asend, None)
            try:
                while True:
                    with run.current():
                        item = await step()
                    run.add(item)
                    try:
                        sent: Any = yield item
                        step = functools.partial(generator.asend, sent)
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        step = functools.partial(generator.athrow, thrown)
            except StopAsyncIteration:
                return
            except BaseException as error:
                run.failed(error)
                raise
            finally:
                await generator.aclose()
                run.end()

        return traced_async_generator  # type: ignore[return-value]

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def traced_generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            run = stream(args, kwargs)
            generator = function(*args, **kwargs)
            step = functools.partial(generator.send, None)
            try:
                while True:
                    with run.current():
                        item = step()
                    run.add(item)
                    try:
                        sent: Any = yield item
                        step = functools.partial(generator.send, sent)
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        step = functools.partial(generator.throw, thrown)
            except StopIteration as done:
                result: Any = done.value
                return result
            except BaseException as error:
                run.failed(error)
                raise
            finally:
                generator.close()
                run.end()

        return traced_generator  # type: ignore[return-value]

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def traced_coroutine(*args: Any, **kwargs: Any) -> Any:
            token = outside()
            try:
                with tracer.start_as_current_span(span_name, kind=kind, attributes=fixed or None) as span:
                    begin(span, args, kwargs)
                    result = await function(*args, **kwargs)
                    finish(span, result)
                    return result
            finally:
                if token is not None:
                    context_api.detach(token)

        return traced_coroutine  # type: ignore[return-value]

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        token = outside()
        try:
            with tracer.start_as_current_span(span_name, kind=kind, attributes=fixed or None) as span:
                begin(span, args, kwargs)
                result = function(*args, **kwargs)
                finish(span, result)
                return result
        finally:
            if token is not None:
                context_api.detach(token)

    return traced  # type: ignore[return-value]
