"""`init_tracer`: arguments checked, a pipeline built, a provider set up or set up again."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from opentelemetry import trace
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.environment_variables import OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
    _get_from_env_or_default,
)
from opentelemetry.util.types import AnyValue, Attributes

from scouter._scouter import __version__
from scouter.errors import ConfigError
from scouter.tracing._attributes import flatten_attributes
from scouter.tracing._batch import BatchConfig, warn_of_unreadable_variables
from scouter.tracing._exporter import NativeSpanExporter
from scouter.tracing._lifecycle import (
    EXIT_TIMEOUT_SECS,
    Installation,
    deliver_on_sigterm,
    installations,
    prepare_exit,
    shut_down_processors,
    wants_delivery_on_sigterm,
)
from scouter.tracing._processors import ENTITY_KEY, DefaultsProcessor, GrpcSpanProcessor
from scouter.tracing._provider import ProcessorSlot, ScouterTracerProvider
from scouter.tracing._spans import set_scouter_queue
from scouter.tracing._tracer import Defaults
from scouter.transport import TransportConfig

__all__ = ["get_tracer", "init_tracer"]

DEFAULT_SERVICE_NAME = "scouter_service"
DEFAULT_SCOPE = f"scouter.tracer.{__version__}"


def init_tracer(
    service_name: str | None = None,
    scope: str = DEFAULT_SCOPE,
    transport_config: TransportConfig | None = None,
    exporter: SpanExporter | None = None,
    batch_config: BatchConfig | None = None,
    sample_ratio: float | None = None,
    scouter_queue: Any = None,
    schema_url: str | None = None,
    scope_attributes: Attributes = None,
    default_attributes: object = None,
    default_entity_uid: str | None = None,
    *,
    resource: Resource | Mapping[str, AnyValue] | None = None,
    sampler: Sampler | None = None,
    span_processors: Sequence[sdk.SpanProcessor] = (),
    global_provider: Literal["set", "attach", "none"] = "set",
    flush_on_sigterm: bool | None = None,
) -> trace.Tracer:
    """Traces this process: spans of OpenTelemetry go to a Scouter server from now on.

    The provider becomes OpenTelemetry's global one, so `trace.get_current_span` sees the spans and every published
    instrumentation feeds them. Calling it again reconfigures: transport, resource, sampler and defaults are exchanged
    under all tracers handed out before, and what was queued is delivered to the former server first.

    Neither a network nor a server is needed; no thread starts before the first span ends. After this function has
    returned nothing is raised into the program: trouble is logged to the logger ``scouter`` and counted in `stats`.

    Args:
        service_name: ``service.name`` of the resource, and scope name of the returned tracer. If omitted,
            ``OTEL_SERVICE_NAME``, then ``OTEL_RESOURCE_ATTRIBUTES``, then ``"scouter_service"``.
        scope: Resource attribute ``scouter.scope``.
        transport_config: Server and credentials. From the environment if omitted, see `GrpcConfig`.
        exporter: A second destination: `HttpSpanExporter` or `GrpcSpanExporter`, which get the bytes that were encoded for the first,
            or any exporter of OpenTelemetry's SDK. It has a queue and a thread of its own.
        batch_config: Size and pace of the queue.
        sample_ratio: Share of root spans to record, 0 to 1; children follow their parents. If omitted,
            ``OTEL_TRACES_SAMPLER`` decides, then every trace is recorded.
        scouter_queue: Where `ScouterSpan.add_queue_item` puts monitoring records, a `scouter.queue.ScouterQueue`.
        schema_url: Schema of the returned tracer's scope.
        scope_attributes: Attributes of the returned tracer's scope.
        default_attributes: Set on every span that does not have them. A mapping, a pydantic model, or a list of
            them; nested mappings become dotted keys.
        default_entity_uid: Set as ``scouter.entity.<uid>`` on every span that names no entity itself, and where
            baggage names none.
        resource: More attributes of the resource, or a whole one. `service_name` wins over it, it wins over the
            environment.
        sampler: A sampler of OpenTelemetry's SDK, in place of `sample_ratio`.
        span_processors: Further processors for this configuration.
        global_provider: ``"set"`` makes the provider the global one. ``"attach"`` adds Scouter to an SDK provider
            that is global already; resource and sampler are that provider's. ``"none"`` makes a private provider
            each time, which only the returned tracer uses.
        flush_on_sigterm: Whether to deliver what is queued before SIGTERM ends the process, unless the program handles that signal
            itself. Python runs nothing then, and servers such as uvicorn end so. ``SCOUTER_FLUSH_ON_SIGTERM`` if omitted, else False.

    Returns:
        A tracer of the provider: a `ScouterTracer`, unless ``global_provider="attach"`` says that the provider is another's.

    Raises:
        ConfigError: If a setting is wrong.
        TypeError: If an argument is of the wrong kind, as an exporter that is none.
    """
    _check_kinds(transport_config, exporter, batch_config, scouter_queue, sampler, span_processors)
    if global_provider not in ("set", "attach", "none"):
        raise ConfigError(f'global_provider must be "set", "attach" or "none", not {global_provider!r}')
    if global_provider == "attach":
        ignored = {
            "service_name": service_name,
            "sample_ratio": sample_ratio,
            "sampler": sampler,
            "resource": resource,
        }
        given = [name for name, value in ignored.items() if value is not None]
        if given:
            raise ConfigError(f'with global_provider="attach" the existing provider decides: leave out {", ".join(given)}')

    defaults = flatten_attributes("default_attributes", default_attributes)
    if default_entity_uid is not None and (not isinstance(default_entity_uid, str) or not default_entity_uid):
        raise ConfigError(f"default_entity_uid must be a non-empty string, not {default_entity_uid!r}")
    chosen_sampler = _sampler(sample_ratio, sampler)
    built_resource = _resource(service_name, scope, resource)
    batch = batch_config or BatchConfig()
    warn_of_unreadable_variables()

    native = GrpcSpanProcessor(
        transport_config,
        max_queue_size=batch.max_queue_size,
        scheduled_delay_ms=batch.scheduled_delay_ms,
        max_export_batch_size=batch.max_export_batch_size,
        max_queue_bytes=batch.max_queue_bytes,
        default_entity_key=None if default_entity_uid is None else f"{ENTITY_KEY}.{default_entity_uid}",
    )
    processors: list[sdk.SpanProcessor] = []
    if global_provider == "attach" and (defaults or default_entity_uid is not None):
        processors.append(DefaultsProcessor(defaults, default_entity_uid))
    processors.append(native)
    if exporter is not None:
        processors.append(_second_destination(exporter, batch))
    processors.extend(span_processors)

    with installations.lock:
        installation = _install(global_provider, built_resource, chosen_sampler, Defaults(defaults, default_entity_uid))
        former = installation.slot.exchange(processors)
        installations.retire(former)
        installations.make_current(installation)
        installations.arrange_exit()
    if former:
        shut_down_processors(former, EXIT_TIMEOUT_SECS)
        installations.retired()
    prepare_exit(processors)
    if wants_delivery_on_sigterm(otherwise=False) if flush_on_sigterm is None else flush_on_sigterm:
        deliver_on_sigterm()
    if scouter_queue is not None:
        set_scouter_queue(scouter_queue)

    name = str(installation.provider.resource.attributes.get(SERVICE_NAME) or DEFAULT_SERVICE_NAME)
    return _tracer_of(installation.provider, name, DEFAULT_SCOPE, schema_url, scope_attributes)


def get_tracer(name: str, version: str | None = None, schema_url: str | None = None, attributes: Attributes = None) -> trace.Tracer:
    """Returns a tracer of the provider that `init_tracer` made last.

    Args:
        name: Name of the instrumentation scope.
        version: Version of that scope.
        schema_url: Schema of what the scope emits.
        attributes: Attributes of the scope.

    Returns:
        The tracer. Before `init_tracer` it is one of OpenTelemetry's global provider, and begins to record when
        `init_tracer` is called.
    """
    current = installations.current()
    provider = trace.get_tracer_provider() if current is None else current.provider
    return _tracer_of(provider, name, version, schema_url, attributes)


def _tracer_of(
    provider: trace.TracerProvider, name: str, version: str | None, schema_url: str | None, attributes: Attributes
) -> trace.Tracer:
    tracer = provider.get_tracer(name, version, schema_url, attributes)
    if isinstance(tracer, trace.NoOpTracer) and isinstance(provider, ScouterTracerProvider):
        return provider.disabled_tracer(name)
    return tracer


def _check_kinds(
    transport_config: object,
    exporter: object,
    batch_config: object,
    scouter_queue: object,
    sampler: object,
    span_processors: Sequence[object],
) -> None:
    if transport_config is not None and not isinstance(transport_config, TransportConfig):
        kinds = ", ".join(kind.__name__ for kind in get_args(TransportConfig))
        raise TypeError(f"transport_config must be one of scouter.transport's {kinds}, not {_kind(transport_config)}")
    if exporter is not None and not isinstance(exporter, SpanExporter):
        raise TypeError(f"exporter must be an opentelemetry.sdk.trace.export.SpanExporter, not {_kind(exporter)}")
    if batch_config is not None and not isinstance(batch_config, BatchConfig):
        raise TypeError(f"batch_config must be a scouter.tracing.BatchConfig, not {_kind(batch_config)}")
    if scouter_queue is not None and not hasattr(scouter_queue, "__getitem__"):
        raise TypeError(f"scouter_queue must be a scouter.queue.ScouterQueue, not {_kind(scouter_queue)}")
    if sampler is not None and not isinstance(sampler, Sampler):
        raise TypeError(f"sampler must be an opentelemetry.sdk.trace.sampling.Sampler, not {_kind(sampler)}")
    for processor in span_processors:
        if not isinstance(processor, sdk.SpanProcessor):
            raise TypeError(f"span_processors must be opentelemetry.sdk.trace.SpanProcessor, not {_kind(processor)}")


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _sampler(ratio: float | None, sampler: Sampler | None) -> Sampler:
    if sampler is not None:
        if ratio is not None:
            raise ConfigError("give sample_ratio or sampler, not both")
        return sampler
    if ratio is None:
        return _get_from_env_or_default()
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or math.isnan(ratio) or not 0 <= ratio <= 1:
        raise ConfigError(f"sample_ratio must be a number from 0 to 1, not {ratio!r}")
    return ParentBased(ALWAYS_ON if ratio == 1 else TraceIdRatioBased(ratio))


def _resource(service_name: str | None, scope: str, resource: Resource | Mapping[str, AnyValue] | None) -> Resource:
    if service_name is not None and (not isinstance(service_name, str) or not service_name):
        raise ConfigError(f"service_name must be a non-empty string, not {service_name!r}")
    if resource is not None and not isinstance(resource, (Resource, Mapping)):
        raise TypeError(f"resource must be a Resource or a mapping, not {_kind(resource)}")
    base = Resource.create({"scouter.scope": scope})
    environment = OTELResourceDetector().detect().attributes
    if not environment.get(SERVICE_NAME) and not os.environ.get(OTEL_SERVICE_NAME):
        base = base.merge(Resource({SERVICE_NAME: DEFAULT_SERVICE_NAME}))
    if isinstance(resource, Resource):
        # A resource that was made without a name carries the SDK's placeholder, which names nobody.
        attributes = dict(resource.attributes)
        if str(attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            del attributes[SERVICE_NAME]
        base = base.merge(Resource(attributes, resource.schema_url))
    elif resource is not None:
        base = base.merge(Resource(flatten_attributes("resource", resource)))
    if service_name is not None:
        base = base.merge(Resource({SERVICE_NAME: service_name}))
    return base


def _second_destination(exporter: SpanExporter, batch: BatchConfig) -> sdk.SpanProcessor:
    if isinstance(exporter, NativeSpanExporter):
        return exporter._as_destination(batch)
    if getattr(exporter, "exports_at_once", False):
        return SimpleSpanProcessor(exporter)
    # What is None here is the SDK's business: the same variables, its own defaults.
    size, delay, count = batch.max_queue_size, batch.scheduled_delay_ms, batch.max_export_batch_size
    if size is not None and count is None:
        count = min(size, 512)
    return BatchSpanProcessor(exporter, max_queue_size=size, schedule_delay_millis=delay, max_export_batch_size=count)


def _install(mode: Literal["set", "attach", "none"], resource: Resource, sampler: Sampler, defaults: Defaults) -> Installation:
    """Finds or makes the provider. Called with the lock of `installations` held."""
    if mode == "none":
        return _new_installation("none", resource, sampler, defaults)
    current = trace.get_tracer_provider()
    if mode == "attach":
        return _attach(current)
    if isinstance(current, ScouterTracerProvider):
        # It may have been made private, or by hand, and become the global one since.
        found = installations.find(current) or Installation("set", current, current.processors)
        found.mode = "set"
        current.reconfigure(resource=resource, sampler=sampler, defaults=defaults)
        return found
    installation = _new_installation("set", resource, sampler, defaults)
    if isinstance(current, trace.ProxyTracerProvider):
        trace.set_tracer_provider(installation.provider)
    if trace.get_tracer_provider() is not installation.provider:
        raise ConfigError(
            f"OpenTelemetry's global provider is already a {_kind(trace.get_tracer_provider())} and can be set once only: "
            'call init_tracer before whatever sets it, or pass global_provider="attach" to feed Scouter from it, '
            'or global_provider="none" for a tracer of its own'
        )
    return installation


def _new_installation(mode: Literal["set", "attach", "none"], resource: Resource, sampler: Sampler, defaults: Defaults) -> Installation:
    # The end of the process is arranged for all providers together.
    provider = ScouterTracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
    provider.reconfigure(resource=resource, sampler=sampler, defaults=defaults)
    return Installation(mode, provider, provider.processors)


def _attach(provider: object) -> Installation:
    if not isinstance(provider, sdk.TracerProvider):
        raise ConfigError(
            'global_provider="attach" needs an opentelemetry.sdk.trace.TracerProvider to be the global provider already, '
            f'but it is {_kind(provider)}: set one first, or use global_provider="set"'
        )
    found = installations.find(provider)
    if found is not None:
        return found
    slot = ProcessorSlot()
    provider.add_span_processor(slot)
    return Installation("attach", provider, slot)
