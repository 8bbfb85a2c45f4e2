"""`ScouterInstrumentor`: tracing switched on and off in one place, and what `opentelemetry-instrument` finds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Sequence
from typing import Any

from opentelemetry import baggage, context, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from scouter.tracing._batch import BatchConfig
from scouter.tracing._init import init_tracer
from scouter.tracing._lifecycle import installations, shutdown_tracer, wants_delivery_on_sigterm
from scouter.tracing._local import TraceSpanRecord, capture
from scouter.tracing._processors import ACTIVE_ENTITY_BAGGAGE
from scouter.tracing._provider import ScouterTracerProvider
from scouter.transport import TransportConfig

__all__ = [
    "ScouterConfigurator",
    "ScouterInstrumentor",
    "active_profile",
    "disable_local_span_capture",
    "drain_local_span_capture",
    "enable_local_span_capture",
    "instrument",
    "uninstrument",
]


class ScouterInstrumentor:
    """Switches tracing on for the whole process, and off. There is one of it a process: each call of the class gives the same.

    `instrument` may be called again, and then configures again.
    """

    _one: ScouterInstrumentor | None = None
    _lock = threading.Lock()

    def __new__(cls) -> ScouterInstrumentor:
        """Gives the one of this process."""
        with cls._lock:
            if cls._one is None:
                cls._one = super().__new__(cls)
                cls._one._is_on = False
                cls._one._former = None
            return cls._one

    _is_on: bool
    _former: TextMapPropagator | None

    @property
    def is_instrumented(self) -> bool:
        """Whether tracing is on."""
        return self._is_on

    def instrument(
        self,
        transport_config: TransportConfig | None = None,
        exporter: SpanExporter | None = None,
        batch_config: BatchConfig | None = None,
        sample_ratio: float | None = None,
        scouter_queue: Any = None,
        attributes: object = None,
        eval_profiles: Sequence[Any] | None = None,
        propagate_baggage: bool = True,
        **settings: Any,
    ) -> None:
        """Switches tracing on. `init_tracer` says what the arguments mean.

        Args:
            transport_config: Server and credentials.
            exporter: A second destination.
            batch_config: Size and pace of the queue.
            sample_ratio: Share of traces to record.
            scouter_queue: Where spans put monitoring records.
            attributes: Set on every span that does not have them.
            eval_profiles: The first one's ``config.uid`` is the entity of spans that name none.
            propagate_baggage: Whether baggage travels in headers, beside the trace.
            settings: Further arguments of `init_tracer`.

        Raises:
            ConfigError: If a setting is wrong.
        """
        if eval_profiles and settings.get("default_entity_uid") is None:
            settings["default_entity_uid"] = eval_profiles[0].config.uid
        init_tracer(
            transport_config=transport_config,
            exporter=exporter,
            batch_config=batch_config,
            sample_ratio=sample_ratio,
            scouter_queue=scouter_queue,
            default_attributes=attributes,
            **settings,
        )
        propagators: list[TextMapPropagator] = [TraceContextTextMapPropagator()]
        if propagate_baggage:
            propagators.append(W3CBaggagePropagator())
        if self._former is None:
            self._former = propagate.get_global_textmap()
        propagate.set_global_textmap(CompositePropagator(propagators))
        self._is_on = True

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether tracing is on, as OpenTelemetry's instrumentors say it."""
        return self._is_on

    def instrumentation_dependencies(self) -> Sequence[str]:
        """Packages without which there is nothing to instrument: none."""
        return ()

    def enable_local_capture(self) -> None:
        """See `enable_local_span_capture`."""
        enable_local_span_capture()

    def disable_local_capture(self) -> None:
        """See `disable_local_span_capture`."""
        disable_local_span_capture()

    def drain_local_spans(self) -> list[TraceSpanRecord]:
        """See `drain_local_span_capture`."""
        return drain_local_span_capture()

    def get_local_spans_by_trace_ids(self, trace_ids: Sequence[str]) -> list[TraceSpanRecord]:
        """Gives the spans that local capture keeps of some traces.

        Args:
            trace_ids: 32 hexadecimal digits each.

        Returns:
            The spans, oldest first.
        """
        return capture.of_traces(trace_ids)

    def uninstrument(self) -> None:
        """Delivers what is queued and stops. Spans that end later are dropped and counted."""
        if not self._is_on:
            return
        self._is_on = False
        if self._former is not None:
            propagate.set_global_textmap(self._former)
            self._former = None
        shutdown_tracer()


def instrument(**settings: Any) -> None:
    """`ScouterInstrumentor().instrument(...)`."""
    ScouterInstrumentor().instrument(**settings)


def uninstrument() -> None:
    """`ScouterInstrumentor().uninstrument()`."""
    ScouterInstrumentor().uninstrument()


@contextlib.contextmanager
def active_profile(profile: Any) -> Generator[None, None, None]:
    """Spans inside belong to this profile's entity rather than to the default one; baggage tells it to services that are called.

    Args:
        profile: A profile with ``config.uid``, or a uid.
    """
    uid = profile if isinstance(profile, str) else profile.config.uid
    token = context.attach(baggage.set_baggage(ACTIVE_ENTITY_BAGGAGE, uid))
    try:
        yield
    finally:
        context.detach(token)


def enable_local_span_capture() -> None:
    """From now on the spans of this process stay in it, where `drain_local_span_capture` gives them."""
    _capture(True)


def disable_local_span_capture() -> None:
    """From now on spans are sent again."""
    _capture(False)


def drain_local_span_capture() -> list[TraceSpanRecord]:
    """Gives the spans that local capture kept, and forgets them.

    Returns:
        The spans, oldest first.
    """
    return capture.drain()


def _capture(on: bool) -> None:
    for installation in installations.all():
        if isinstance(installation.provider, ScouterTracerProvider):
            installation.provider.capture_locally(on)


class ScouterConfigurator:
    """What `opentelemetry-instrument` runs when ``OTEL_PYTHON_CONFIGURATOR=scouter``: `init_tracer` by the environment."""

    def configure(self, **_settings: Any) -> None:
        """Sets the global provider."""
        # Nobody changes the program, so nobody else sees to its end.
        init_tracer(flush_on_sigterm=wants_delivery_on_sigterm(otherwise=True))
