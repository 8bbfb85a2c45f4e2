"""The tracer provider that can be configured again.

OpenTelemetry lets a process set its global provider once. Tracers are handed out, and kept in module variables, before and
after that. So the provider object and its tracers live for ever, and what they are made of is exchanged inside them: the
resource, the sampler and the processors.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

__all__ = ["ProcessorSlot", "ScouterTracerProvider"]


class ProcessorSlot(sdk.SynchronousMultiSpanProcessor):
    """Our processors, which are exchanged together, beside those that others added, which stay."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ours: tuple[sdk.SpanProcessor, ...] = ()

    @property
    def ours(self) -> tuple[sdk.SpanProcessor, ...]:
        """The processors of the last `exchange`."""
        return self._ours

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
            return former


class _SamplerSlot(Sampler):
    """A sampler that can be exchanged under the tracers that hold it."""

    def __init__(self, inner: Sampler) -> None:
        self.inner = inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        return self.inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return self.inner.get_description()


class ScouterTracerProvider(sdk.TracerProvider):
    """OpenTelemetry's SDK provider, feeding Scouter, that `init_tracer` can configure again in place.

    It is what `opentelemetry.trace.get_tracer_provider` returns after `init_tracer`, so that every published
    instrumentation feeds it. Processors added with `add_span_processor` stay over a reconfiguration.

    Args:
        resource: What describes this process in every span.
        sampler: Decides which traces are recorded.
    """

    def __init__(self, *, resource: Resource, sampler: Sampler) -> None:
        self._slot = ProcessorSlot()
        self._sampler_slot = _SamplerSlot(sampler)
        self._handed_out: weakref.WeakSet[trace.Tracer] = weakref.WeakSet()
        self._handed_out_lock = threading.Lock()
        super().__init__(
            sampler=self._sampler_slot,
            resource=resource,
            shutdown_on_exit=False,
            active_span_processor=self._slot,
        )

    @property
    def processors(self) -> ProcessorSlot:
        """Where the processors of this provider are exchanged."""
        return self._slot

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
            The tracer. It follows every later reconfiguration.
        """
        tracer = super().get_tracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        if isinstance(tracer, sdk.Tracer):
            with self._handed_out_lock:
                # A tracer made while `reconfigure` ran may carry the resource of before.
                tracer.resource = self._resource
                self._handed_out.add(tracer)
        return tracer

    def reconfigure(self, *, resource: Resource, sampler: Sampler) -> None:
        """Gives this provider and all its tracers another resource and sampler.

        Args:
            resource: The new resource; spans already started keep the old one.
            sampler: The new sampler.
        """
        with self._handed_out_lock:
            self._resource = resource
            self._sampler_slot.inner = sampler
            for tracer in self._handed_out:
                if isinstance(tracer, sdk.Tracer):
                    tracer.resource = resource

    def _after_fork_in_child(self) -> None:
        self._handed_out_lock = threading.Lock()
        self._slot._lock = threading.Lock()
