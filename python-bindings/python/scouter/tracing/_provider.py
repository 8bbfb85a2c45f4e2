"""The tracer provider that can be configured again.

OpenTelemetry lets a process set its global provider once. Tracers are handed out, and kept in module variables, before and
after that. So the provider object and its tracers live for ever, and what they are made of is exchanged inside them: the
resource, the sampler, the processors and the defaults.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import metrics as metrics_api
from opentelemetry import trace
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext
from opentelemetry.util.types import Attributes

from scouter import _scouter
from scouter._scouter import SpanSinks
from scouter.tracing._fork import renew_in_child
from scouter.tracing._local import capture
from scouter.tracing._tracer import Defaults, ScouterTracer, metrics_of

__all__ = ["ProcessorSlot", "ScouterTracerProvider"]

_logger = logging.getLogger("scouter")

_INTERNAL_METRICS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"


class _Disabled:
    is_enabled = False


_DISABLED = _Disabled()


class ProcessorSlot(sdk.SynchronousMultiSpanProcessor):
    """Our processors, which are exchanged together, beside those that others added, which stay."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ours: tuple[sdk.SpanProcessor, ...] = ()
        self._changed: Callable[[], Callable[[], None] | None] = lambda: None

    @property
    def ours(self) -> tuple[sdk.SpanProcessor, ...]:
        """The processors of the last `exchange`."""
        return self._ours

    @property
    def all(self) -> tuple[sdk.SpanProcessor, ...]:
        """All processors, ours first."""
        return self._span_processors

    def tell(self, changed: Callable[[], None]) -> None:
        """Calls a method of somebody, as long as he lives, after each change."""
        self._changed = weakref.WeakMethod(changed)

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        """Adds a processor that stays."""
        super().add_span_processor(span_processor)
        self._tell()

    def exchange(self, processors: Sequence[sdk.SpanProcessor]) -> tuple[sdk.SpanProcessor, ...]:
        """Puts `processors` first, in order, in place of the former ones.

        Args:
            processors: The new processors. Spans that end from now on reach them.

        Returns:
            The former ones, still open; the caller flushes and shuts them down.
        """
        with self._lock:
            former = self._ours
            others = tuple(p for p in self._span_processors if not any(p is f for f in former))
            self._ours = tuple(processors)
            self._span_processors = self._ours + others
        self._tell()
        return former

    def _tell(self) -> None:
        changed = self._changed()
        if changed is not None:
            changed()


class ScouterTracerProvider(sdk.TracerProvider):
    """OpenTelemetry's tracer provider with spans in Rust, which can be configured again in place.

    It takes the arguments of the SDK's provider and is one. After `init_tracer`, `opentelemetry.trace.get_tracer_provider` returns one, so
    that every published instrumentation feeds it. Processors added with `add_span_processor` stay over a reconfiguration.

    A `GrpcSpanProcessor` takes the spans' bytes. For processors written in Python a copy of each span is made for them to read.

    Args:
        sampler: Decides which traces are recorded. ``OTEL_TRACES_SAMPLER`` if omitted, then parent-based, all roots.
        resource: What describes this process in every span.
        shutdown_on_exit: Whether to shut down at the end of the process.
        active_span_processor: What the processors are added to.
        id_generator: Makes trace and span ids.
        span_limits: Bounds of a span; ``OTEL_SPAN_*`` and ``OTEL_ATTRIBUTE_*`` if omitted.
        settings: Further settings of the SDK's provider.
    """

    def __init__(
        self,
        sampler: Sampler | None = None,
        resource: Resource | None = None,
        shutdown_on_exit: bool = True,
        active_span_processor: sdk.SynchronousMultiSpanProcessor | sdk.ConcurrentMultiSpanProcessor | None = None,
        id_generator: IdGenerator | None = None,
        span_limits: sdk.SpanLimits | None = None,
        **settings: Any,
    ) -> None:
        self._slot = ProcessorSlot()
        self._sinks = SpanSinks()
        self._defaults = Defaults()
        self._captures = False
        super().__init__(
            sampler=sampler,
            resource=resource,
            shutdown_on_exit=shutdown_on_exit,
            active_span_processor=self._slot if active_span_processor is None else active_span_processor,
            id_generator=id_generator,
            span_limits=span_limits,
            **settings,
        )
        self._metrics = _metrics(settings.get("meter_provider"))
        # Fields of the SDK's provider of today, which those of before do not have.
        self._tracers_lock = threading.Lock()
        self._tracers: dict[InstrumentationScope, ScouterTracer] = {}  # type: ignore[assignment]
        self._by_name: dict[tuple[str, str, str | None], ScouterTracer] = {}
        self._slot.tell(self._exchange_sinks)
        self._exchange_sinks()
        renew_in_child(self)

    @property
    def processors(self) -> ProcessorSlot:
        """Where the processors of this provider are exchanged."""
        return self._slot

    @property
    def sinks(self) -> SpanSinks:
        """Where the spans go."""
        return self._sinks

    @property
    def defaults(self) -> Defaults:
        """What is set on every span that does not have it."""
        return self._defaults

    @property
    def metrics(self) -> Callable[[SpanContext | None, int], Callable[[], None]] | None:
        """What counts spans, if that is asked for."""
        return self._metrics

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """Returns a tracer, as `opentelemetry.trace.TracerProvider.get_tracer` does.

        Args:
            instrumenting_module_name: Name of the instrumentation scope.
            instrumenting_library_version: Version of that scope.
            schema_url: Schema of what the scope emits.
            attributes: Attributes of the scope.

        Returns:
            The tracer, the same for the same arguments. It follows every later reconfiguration.
        """
        if self._disabled:
            return trace.NoOpTracer()
        if not instrumenting_module_name:
            _logger.error("get_tracer was called without a name")
        name, version = instrumenting_module_name or "", instrumenting_library_version or ""
        if not attributes and (known := self._by_name.get((name, version, schema_url))) is not None:
            return known
        scope = InstrumentationScope(name, version, schema_url, attributes)
        with self._tracers_lock:
            tracer = self._tracers.get(scope)
            if tracer is None:
                tracer = self._tracers[scope] = ScouterTracer(self, scope, self._config_of(scope))  # pyright: ignore[reportArgumentType]
            if not attributes:
                self._by_name[name, version, schema_url] = tracer
        return tracer

    def disabled_tracer(self, name: str) -> ScouterTracer:
        """A tracer of ours for ``OTEL_SDK_DISABLED``: all of Scouter's methods are there, and none of its spans records.

        Args:
            name: Name of the instrumentation scope.

        Returns:
            The tracer.
        """
        return ScouterTracer(self, InstrumentationScope(name), _DISABLED)  # pyright: ignore[reportArgumentType]

    def reconfigure(self, *, resource: Resource, sampler: Sampler, defaults: Defaults | None = None) -> None:
        """Gives this provider and all its tracers another resource, another sampler and other defaults.

        Args:
            resource: The new resource; spans already started keep the old one.
            sampler: The new sampler.
            defaults: What is set on every span that does not have it.
        """
        self._resource = resource
        self.sampler = sampler
        self._defaults = defaults or Defaults()
        self._set_up_tracers()

    def capture_locally(self, on: bool) -> None:
        """Whether the spans stay in this process, in `scouter.tracing._local.capture`, instead of being sent to Scouter.

        Args:
            on: True: they stay, and processors that others added see them as before.
        """
        self._captures = on
        capture.is_on = on
        self._exchange_sinks()

    def _exchange_sinks(self) -> None:
        processors: tuple[sdk.SpanProcessor, ...] = self._slot.all
        if self._captures:
            processors = (capture, *(p for p in processors if not isinstance(p, _scouter.SpanProcessor)))
        # Who brought a collection of his own adds to it himself.
        self._sinks.exchange(processors if self._active_span_processor is self._slot else (*processors, self._active_span_processor))

    def _set_up_tracers(self) -> None:
        with self._tracers_lock:
            tracers = list(self._tracers.values())
        for tracer in tracers:
            tracer._set_up()

    def _config_of(self, scope: InstrumentationScope) -> Any:
        apply = getattr(self, "_apply_tracer_configurator", None)
        return None if apply is None else apply(scope)

    def _after_fork_in_child(self) -> None:
        self._tracers_lock = threading.Lock()
        self._slot._lock = threading.Lock()


def _metrics(meter_provider: metrics_api.MeterProvider | None) -> Callable[[SpanContext | None, int], Callable[[], None]] | None:
    """The SDK's metrics of tracers, where it has them and they are switched on."""
    if os.environ.get(_INTERNAL_METRICS, "").strip().lower() != "true":
        return None
    try:
        from opentelemetry.sdk.trace._tracer_metrics import create_tracer_metrics
    except ImportError:
        return None
    return metrics_of(create_tracer_metrics(meter_provider or metrics_api.get_meter_provider(), True))
