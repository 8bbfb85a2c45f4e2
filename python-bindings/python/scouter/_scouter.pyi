"""The Rust half of the package. Import from `scouter`, `scouter.tracing` and `scouter.transport` instead."""

import datetime
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, ClassVar, Literal, TypedDict, TypeVar, final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits
from opentelemetry.sdk.trace import SpanProcessor as SdkSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import AnyValue, Attributes
from typing_extensions import Self, disjoint_base

from scouter.transport import TransportConfig
from scouter.transport._configs import GrpcConfig as GrpcConfig
from scouter.transport._configs import HttpConfig as HttpConfig
from scouter.transport._configs import KafkaConfig as KafkaConfig
from scouter.transport._configs import RabbitMQConfig as RabbitMQConfig
from scouter.transport._configs import RedisConfig as RedisConfig
from scouter.transport._configs import TransportType as TransportType

__all__ = [
    "CurrentSpan",
    "EntityType",
    "EvalRecord",
    "Feature",
    "Features",
    "GrpcConfig",
    "HttpConfig",
    "KafkaConfig",
    "Metric",
    "Metrics",
    "OtlpTarget",
    "Queue",
    "RabbitMQConfig",
    "RecordQueue",
    "RedisConfig",
    "SpanCore",
    "SpanExporter",
    "SpanProcessor",
    "SpanSinks",
    "TracerCore",
    "TracerSetup",
    "TransportType",
    "__version__",
    "captured_json",
    "encode_spans",
    "flush_together",
    "shut_down_together",
]

_F = TypeVar("_F", bound=Callable[..., Any])

__version__: str

class _ShutdownReport(TypedDict):
    delivered: int
    undelivered: int
    last_error: str | None

@disjoint_base
class SpanProcessor:
    """The Rust half of `scouter.tracing.GrpcSpanProcessor`."""

    def __new__(
        cls,
        transport_config: TransportConfig | None = None,
        *,
        max_queue_size: int | None = None,
        scheduled_delay_ms: int | None = None,
        max_export_batch_size: int | None = None,
        max_queue_bytes: int | None = None,
        default_entity_key: str | None = None,
        otlp: OtlpTarget | None = None,
        sample_ratio: float | None = None,
    ) -> Self: ...
    def on_start(self, span: Span, parent_context: Context | None = None) -> None: ...
    def on_end(self, span: ReadableSpan) -> None: ...
    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Waits until every span that ended before is stored by the server.

        Args:
            timeout_millis: The longest it waits.

        Returns:
            False when time ran out, or a span was lost meanwhile.
        """
    def shutdown(self) -> None: ...
    def shutdown_within(self, timeout_secs: float) -> _ShutdownReport:
        """Delivers what is queued and stops. Spans that end later are dropped and counted.

        Args:
            timeout_secs: The longest it waits.

        Returns:
            ``delivered``, ``undelivered`` and ``last_error``, over the life of the processor.
        """
    @property
    def is_shut_down(self) -> bool: ...
    def stats(self) -> dict[str, int | str | None]: ...
    def _after_fork_in_child(self) -> None: ...

@disjoint_base
class SpanExporter:
    """The Rust half of `scouter.tracing.GrpcSpanExporter`."""

    def __new__(
        cls,
        transport_config: TransportConfig | None = None,
        *,
        otlp: OtlpTarget | None = None,
        sample_ratio: float | None = None,
    ) -> Self: ...
    def send(self, spans: Iterable[ReadableSpan]) -> None:
        """Encodes spans, sends them and waits for the server to have stored them, or raises an `ExportError`."""
    def force_flush(self, timeout_millis: int = 30000) -> bool: ...
    def shutdown(self, timeout_millis: float = 5000.0) -> None: ...
    def stats(self) -> dict[str, int | str | None]: ...
    def _after_fork_in_child(self) -> None: ...

@final
class OtlpTarget:
    """Where an OTLP server is: the settings given, then ``OTEL_EXPORTER_OTLP_*``, then the defaults."""

    def __new__(
        cls,
        is_grpc: bool,
        *,
        endpoint: str | None = None,
        timeout_secs: float | None = None,
        compression: str | None = None,
        headers: Mapping[str, str] | None = None,
        insecure: bool | None = None,
        ca_file: str | PathLike[str] | None = None,
        client_certificate_file: str | PathLike[str] | None = None,
        client_key_file: str | PathLike[str] | None = None,
    ) -> Self: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def timeout_secs(self) -> float: ...
    @property
    def compression(self) -> Literal["none", "gzip", "zstd"]: ...
    @property
    def headers(self) -> dict[str, str]: ...

def flush_together(processors: Sequence[SpanProcessor], timeout_secs: float) -> list[bool]: ...
def shut_down_together(processors: Sequence[SpanProcessor], timeout_secs: float) -> list[_ShutdownReport]: ...

@disjoint_base
class TracerCore:
    """The Rust half of `scouter.tracing.ScouterTracer`."""

    def __new__(cls, *_arguments: Any, **_keywords: Any) -> Self: ...
    def _configure(self, setup: TracerSetup) -> None: ...
    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        **scouter: Any,
    ) -> trace.Span:
        """Starts a span, which is not made the current one."""
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
        **scouter: Any,
    ) -> CurrentSpan:
        """Gives a context manager and decorator that starts a span and makes it the current one."""

@final
class TracerSetup:
    """What the tracers of one scope have in common."""

    def __new__(
        cls,
        *,
        span_class: type[SpanCore],
        sampler: Sampler,
        id_generator: IdGenerator,
        limits: SpanLimits,
        resource: Resource,
        scope: InstrumentationScope,
        sinks: SpanSinks,
        default_attributes: dict[str, AnyValue] | None = None,
        default_entity_uid: str | None = None,
        is_enabled: bool = True,
        metrics: Callable[[SpanContext | None, int], Callable[[], None]] | None = None,
    ) -> Self: ...

@final
class SpanSinks:
    """Where the spans of one provider go."""

    def __new__(cls) -> Self: ...
    def exchange(self, processors: Iterable[SdkSpanProcessor]) -> None: ...

@final
class CurrentSpan:
    """Starts a span where it is entered, makes it the current one, ends it where it is left.

    As a decorator it does so at each call, of plain functions and of coroutine functions.
    """

    def __enter__(self) -> trace.Span: ...
    def __exit__(self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None) -> bool: ...
    def __aenter__(self) -> Awaitable[trace.Span]: ...
    def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> Awaitable[bool]: ...
    def __call__(self, function: _F) -> _F: ...
    def _recreate_cm(self) -> CurrentSpan: ...

@disjoint_base
class SpanCore:
    """The Rust half of `scouter.tracing.ScouterSpan`."""

    def __new__(cls, *_arguments: Any, **_keywords: Any) -> Self: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None) -> None: ...
    def get_span_context(self) -> SpanContext: ...
    def is_recording(self) -> bool: ...
    def set_attribute(self, key: str, value: AnyValue) -> None: ...
    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None: ...
    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None: ...
    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None: ...
    def update_name(self, name: str) -> None: ...
    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None: ...
    def end(self, end_time: int | None = None) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def context(self) -> SpanContext: ...
    @property
    def trace_id(self) -> str: ...
    @property
    def span_id(self) -> str: ...
    @property
    def parent(self) -> SpanContext | None: ...
    @property
    def kind(self) -> SpanKind: ...
    @property
    def start_time(self) -> int | None: ...
    @property
    def end_time(self) -> int | None: ...
    @property
    def attributes(self) -> Mapping[str, AnyValue]: ...
    @property
    def dropped_attributes(self) -> int: ...
    @property
    def dropped_events(self) -> int: ...
    @property
    def dropped_links(self) -> int: ...
    @property
    def status(self) -> Status: ...
    @property
    def resource(self) -> Resource: ...
    @property
    def instrumentation_scope(self) -> InstrumentationScope: ...
    def _event_parts(self) -> list[tuple[str, Mapping[str, AnyValue], int, int]]: ...
    def _link_parts(self) -> list[tuple[Link | None, SpanContext, Mapping[str, AnyValue], int]]: ...

def captured_json(
    value: object, max_length: int, hides: Callable[[str], bool], fields_of: Callable[[Any], Mapping[Any, Any] | None]
) -> str:
    """The JSON of a value, cut at so many characters."""

def encode_spans(spans: Iterable[ReadableSpan]) -> bytes:
    """Encodes spans as they travel.

    The protobuf bytes of one Scouter `InsertMessageRequest`, whose field 2 holds OTLP's `ResourceSpans`.

    Args:
        spans: Ended spans.

    Returns:
        The request's bytes; empty without spans.
    """

@final
class EntityType:
    """The kinds of items."""

    Feature: ClassVar[EntityType]
    Metric: ClassVar[EntityType]
    Agent: ClassVar[EntityType]
    GenAI: ClassVar[EntityType]
    @property
    def name(self) -> str:
        """``Feature``, ``Metric`` or ``Agent``."""
    def __eq__(self, value: object, /) -> bool: ...
    def __ge__(self, value: object, /) -> bool: ...
    def __gt__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __int__(self) -> int: ...
    def __le__(self, value: object, /) -> bool: ...
    def __lt__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...

@final
class Feature:
    """One named value: a feature that a model was given.

    Args:
        name: The feature's name.
        value: A number or a text; scalars of numpy are numbers.

    Raises:
        TypeError: If it is neither. The message names the feature.
    """

    def __new__(cls, name: str, value: object) -> Self: ...
    @staticmethod
    def int(name: str, value: object) -> Feature:
        """A whole number."""
    @staticmethod
    def float(name: str, value: object) -> Feature:
        """A number."""
    @staticmethod
    def string(name: str, value: str) -> Feature:
        """A text."""
    @staticmethod
    def categorical(name: str, value: str) -> Feature:
        """A category; the same as `string`."""
    @property
    def name(self) -> str:
        """Its name."""
    @property
    def value(self) -> Any:
        """Its value."""

@final
class Features:
    """The features of one prediction.

    Args:
        features: A list of `Feature`, or names and values: a dict, a pydantic model, a dataclass, a row of pandas.

    Raises:
        TypeError: If a value is neither a number nor a text. The message names it.
    """

    def __new__(cls, features: object) -> Self: ...
    @property
    def features(self) -> list[Feature]:
        """In the order given."""
    @property
    def entity_type(self) -> EntityType:
        """`EntityType.Feature`."""

@final
class Metric:
    """A value of a metric. Its name becomes lower case.

    Args:
        name: The metric's name.
        value: A number; scalars of numpy are numbers.

    Raises:
        TypeError: If it is no number. The message names the metric.
    """

    def __new__(cls, name: str, value: object) -> Self: ...
    @property
    def name(self) -> str:
        """Its name, in lower case."""
    @property
    def value(self) -> float:
        """Its value."""

@final
class Metrics:
    """Values of metrics at one moment.

    Args:
        metrics: A list of `Metric`, or names and values: a dict, a pydantic model, a dataclass, a row of pandas.

    Raises:
        TypeError: If a value is no number. The message names it.
    """

    def __new__(cls, metrics: object) -> Self: ...
    @property
    def metrics(self) -> list[Metric]:
        """In the order given."""
    @property
    def entity_type(self) -> EntityType:
        """`EntityType.Metric`."""

@final
class EvalRecord:
    """One interaction of a model or an agent, to be evaluated.

    Args:
        context: What the evaluation looks at: a dict, a pydantic model or a dataclass. It is kept as JSON.
        id: An id of the caller's choice.
        session_id: What records of one session share; a UUID of version 7 when omitted.
        trace_id: The trace it belongs to, 32 hexadecimal digits; anything else is none. Where there is none, a queue
            takes that of the current span as the record is inserted.

    Raises:
        TypeError: If `context` is something else.
    """

    def __new__(cls, context: object = None, id: str | None = None, session_id: str | None = None, trace_id: str | None = None) -> Self: ...
    @property
    def uid(self) -> str:
        """The record's own id, a UUID of version 7."""
    @property
    def record_id(self) -> str:
        """The id of the caller's choice; empty for none."""
    @record_id.setter
    def record_id(self, value: str) -> None: ...
    @property
    def session_id(self) -> str:
        """What records of one session share."""
    @session_id.setter
    def session_id(self, value: str) -> None: ...
    @property
    def trace_id(self) -> str | None:
        """The trace it belongs to, in hexadecimal."""
    @trace_id.setter
    def trace_id(self, value: str | None) -> None: ...
    entity_uid: str
    """The profile it belongs to. A queue takes its own."""
    @property
    def created_at(self) -> datetime.datetime:
        """When it was made."""
    @property
    def tags(self) -> list[str]:
        """Its tags, as ``key=value``."""
    @property
    def entity_type(self) -> EntityType:
        """`EntityType.Agent`."""
    @property
    def context(self) -> Any:
        """What the evaluation looks at."""
    def add_tag(self, key: str, value: str) -> None:
        """Adds the tag ``key=value``."""
    def update_context_field(self, key: str, value: object) -> None:
        """Sets one field of the context."""
    def model_dump_json(self) -> str:
        """Gives the record as JSON, with the fields that Scouter gives it."""

@final
class Queue:
    """The queue of one profile."""

    def insert(self, item: object) -> None:
        """Counts an item. Never raises and never waits: what cannot be used is counted, and logged the first time.

        Args:
            item: `Features`, `Metrics` or an `EvalRecord`, as the profile asks; or a mapping, a pydantic model, a
                dataclass, or a row of pandas to make one of.
        """
    @property
    def identifier(self) -> str:
        """``space/name/vVERSION/type`` of the profile."""
    @property
    def entity_uid(self) -> str:
        """The profile's id."""
    def enable_capture(self) -> None:
        """Keeps the evaluation records that are inserted from now on, beside sending them."""
    def disable_capture(self) -> None:
        """Keeps no more records; those kept can still be drained."""
    def drain(self) -> list[EvalRecord]:
        """Gives the records kept, and forgets them."""

@final
class RecordQueue:
    """The Rust half of `scouter.ScouterQueue`."""

    @staticmethod
    def from_paths(paths: Sequence[tuple[str, str]], transport_config: TransportConfig | None = None) -> RecordQueue: ...
    @staticmethod
    def from_json(profiles: Sequence[tuple[str, str]], transport_config: TransportConfig | None = None) -> RecordQueue: ...
    def queues(self) -> list[tuple[str, Queue]]: ...
    def flush(self, timeout_secs: float) -> bool: ...
    def shutdown_within(self, timeout_secs: float) -> _ShutdownReport: ...
    def stats(self) -> dict[str, Any]: ...
    def set_sample_ratio(self, ratio: float) -> None: ...
    def _after_fork_in_child(self) -> None: ...
