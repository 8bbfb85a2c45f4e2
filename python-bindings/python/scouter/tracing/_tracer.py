"""The tracer: Rust where it costs, OpenTelemetry's SDK by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext
from opentelemetry.util.types import AnyValue

from scouter import _scouter
from scouter.tracing._span import ScouterSpan, _instrumentation_info

if TYPE_CHECKING:
    from scouter.tracing._provider import ScouterTracerProvider

__all__ = ["ScouterTracer"]


# What `start_as_current_span` gives is no subclass of the API's generator-based manager; it does all that one does, and more.
class ScouterTracer(_scouter.TracerCore, sdk.Tracer):  # type: ignore[misc]
    """A tracer of OpenTelemetry's; a provider makes it, and exchanges what it is made of when it is configured again."""

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
