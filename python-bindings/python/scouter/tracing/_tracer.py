"""The tracer: Rust where it costs, OpenTelemetry's SDK by class."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Span, SpanContext, SpanKind, get_current_span
from opentelemetry.util.types import AnyValue

from scouter import _scouter
from scouter.tracing._local import TraceSpanRecord, capture
from scouter.tracing._span import ScouterSpan, _instrumentation_info
from scouter.tracing._spans import function_span, set_scouter_queue

if TYPE_CHECKING:
    from scouter.tracing._provider import ScouterTracerProvider

__all__ = ["ScouterTracer"]

_F = TypeVar("_F", bound=Callable[..., Any])


class _TracerClass(type(sdk.Tracer)):  # type: ignore[misc]
    """Lets wrappers of a tracer call ``tracer.__class__.start_span(wrapper, ...)``, as OpenInference does and the SDK's functions allow.

    Methods in Rust look at the kind of their first argument, and a wrapper is none of ours. On a tracer itself nothing changes.
    """

    def __getattribute__(cls, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in ("start_span", "start_as_current_span") and getattr(found, "__objclass__", None) is _scouter.TracerCore:

            @functools.wraps(found)
            def of_whoever_wraps_one(tracer: Any, *arguments: Any, **settings: Any) -> Any:
                while not issubclass(type(tracer), _scouter.TracerCore) and hasattr(tracer, "__wrapped__"):
                    tracer = tracer.__wrapped__
                return found(tracer, *arguments, **settings)

            return of_whoever_wraps_one
        return found


# What `start_as_current_span` gives is no subclass of the API's generator-based manager; it does all that one does, and more.
class ScouterTracer(_scouter.TracerCore, sdk.Tracer, metaclass=_TracerClass):  # type: ignore[misc]
    """A tracer of OpenTelemetry's; a provider makes it, and exchanges what it is made of when it is configured again.

    `start_span` and `start_as_current_span` take OpenTelemetry's arguments, and by name Scouter's: ``baggage`` (travels to all
    that is called inside), ``tags``, ``label``, ``headers`` (of a caller, whose span becomes the parent unless one is current),
    ``trace_id``, ``span_id``, ``remote_sampled`` and ``parent_context_id``.
    """

    scouter_queue: Any = None

    def __init__(self, provider: ScouterTracerProvider, scope: InstrumentationScope, tracer_config: Any = None) -> None:
        # As in the SDK, for those who look.
        self.instrumentation_info = _instrumentation_info(scope)
        self._instrumentation_scope = scope
        self._tracer_config = tracer_config
        self._provider = provider
        self._set_up()

    def _set_up(self) -> None:
        """Takes over what the provider decides."""
        provider = self._provider
        self.sampler = provider.sampler
        self.resource = provider.resource
        self.span_processor = provider._active_span_processor
        self.id_generator = provider.id_generator
        self._span_limits = provider._span_limits
        defaults = provider.defaults
        self._configure(
            _scouter.TracerSetup(
                span_class=ScouterSpan,
                sampler=self.sampler,
                id_generator=self.id_generator,
                limits=self._span_limits,
                resource=self.resource,
                scope=self._instrumentation_scope,
                sinks=provider.sinks,
                default_attributes=dict(defaults.attributes),
                default_entity_uid=defaults.entity_uid,
                is_enabled=self._is_enabled(),
                metrics=provider.metrics,
            )
        )

    def span(
        self,
        name: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: object = None,
        baggage: Sequence[Mapping[str, str]] | Mapping[str, str] | None = None,
        tags: Sequence[Mapping[str, str]] | Mapping[str, str] | None = None,
        label: str | None = None,
        max_length: int = 1000,
        capture_last_stream_item: bool = False,
        join_stream_items: bool = False,
        *,
        capture_input: bool = True,
        capture_output: bool = True,
        redact: Callable[[str], bool] | None = None,
    ) -> Callable[[_F], _F]:
        """Decorates a function: each call has a span, with its arguments and its result as JSON.

        It takes functions, coroutine functions, generator functions and asynchronous ones. A generator's span lasts until it is done, and
        is current while it runs, not between its steps.

        Args:
            name: Name of the spans; ``module.qualified_name`` of the function if omitted.
            kind: Their kind.
            attributes: Set on each span: a mapping, a pydantic model, or a list of them.
            baggage: Travels to all that the function calls.
            tags: Tags of the trace.
            label: Kept as ``scouter.tracing.label``.
            max_length: Characters kept of the arguments, and of the result.
            capture_last_stream_item: Of a generator, keep the last item only.
            join_stream_items: Of a generator, keep its items joined to one text.
            capture_input: Whether to keep the arguments.
            capture_output: Whether to keep the result.
            redact: Tells by its name whether an argument or a field is left out; passwords and tokens if omitted.

        Returns:
            The decorator.
        """
        return lambda function: function_span(
            self,
            function,
            name=name,
            kind=kind,
            attributes=attributes,
            baggage=baggage,
            tags=tags,
            label=label,
            max_length=max_length,
            capture_input=capture_input,
            capture_output=capture_output,
            capture_last_stream_item=capture_last_stream_item,
            join_stream_items=join_stream_items,
            redact=redact,
        )

    @property
    def current_span(self) -> Span:
        """The span that is current."""
        return get_current_span()

    def set_scouter_queue(self, queue: Any) -> None:
        """Makes `queue` the one that spans put monitoring records into.

        Args:
            queue: A `scouter.queue.ScouterQueue`.
        """
        set_scouter_queue(queue)

    def shutdown(self) -> None:
        """Delivers what is queued and stops, for all tracers of the provider."""
        self._provider.shutdown()

    def enable_local_capture(self) -> None:
        """From now on the spans of the provider stay in this process, where `drain_local_spans` gives them."""
        self._provider.capture_locally(True)

    def disable_local_capture(self) -> None:
        """From now on spans are sent again."""
        self._provider.capture_locally(False)

    def drain_local_spans(self) -> list[TraceSpanRecord]:
        """Gives the spans that local capture kept, and forgets them.

        Returns:
            The spans, oldest first.
        """
        return capture.drain()

    def get_local_spans_by_trace_ids(self, trace_ids: Sequence[str]) -> list[TraceSpanRecord]:
        """Gives the spans that local capture keeps of some traces.

        Args:
            trace_ids: Hexadecimal.

        Returns:
            The spans, oldest first.
        """
        return capture.of_traces(trace_ids)

    def _set_tracer_config(self, tracer_config: Any) -> None:
        self._tracer_config = tracer_config
        self._set_up()

    def _set_resource(self, resource: Resource) -> None:
        self._set_up()

    def _is_enabled(self) -> bool:
        return self._tracer_config is None or bool(self._tracer_config.is_enabled)


class Defaults:
    """What a provider sets on every span that does not have it.

    Args:
        attributes: The defaults. A value given to the span, at its start or later, wins.
        entity_uid: Set as ``scouter.entity.<uid>`` unless the span names an entity, or baggage does.
    """

    def __init__(self, attributes: Mapping[str, AnyValue] | None = None, entity_uid: str | None = None) -> None:
        self.attributes = dict(attributes or {})
        self.entity_uid = entity_uid


def metrics_of(tracer_metrics: Any) -> Callable[[SpanContext | None, int], Callable[[], None]]:
    """The SDK's metrics of tracers, in the form that Rust calls.

    Args:
        tracer_metrics: The SDK's object.

    Returns:
        What is called at a span's start, with its parent and the decision; it returns what is called at its end.
    """
    decisions = (Decision.DROP, Decision.RECORD_ONLY, Decision.RECORD_AND_SAMPLE)

    def started(parent: SpanContext | None, decision: int) -> Callable[[], None]:
        ended: Callable[[], None] = tracer_metrics.start_span(parent, decisions[decision])
        return ended

    return started
