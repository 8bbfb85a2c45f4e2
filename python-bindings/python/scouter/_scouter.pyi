"""The Rust half of the package. Import from `scouter`, `scouter.tracing` and `scouter.transport` instead."""

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

from scouter.transport._http import HttpConfig

__all__ = [
    "CurrentSpan",
    "GrpcConfig",
    "SpanCore",
    "SpanExporter",
    "SpanProcessor",
    "SpanSinks",
    "TracerCore",
    "TracerSetup",
    "TransportType",
    "__version__",
    "encode_spans",
]

_F = TypeVar("_F", bound=Callable[..., Any])

__version__: str

class _ShutdownReport(TypedDict):
    delivered: int
    undelivered: int
    last_error: str | None

@final
class TransportType:
    """The kinds of transport a configuration can stand for."""

    Grpc: ClassVar[TransportType]
    Http: ClassVar[TransportType]
    def __eq__(self, value: object, /) -> bool: ...
    def __ge__(self, value: object, /) -> bool: ...
    def __gt__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __int__(self) -> int: ...
    def __le__(self, value: object, /) -> bool: ...
    def __lt__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...

@disjoint_base
class GrpcConfig:
    """Where Scouter's gRPC server is and who calls it.

    What is omitted comes from the environment, then from the defaults.

    Args:
        server_uri: ``http://host:port`` or ``https://host:port``. ``SCOUTER_GRPC_URI``, else ``http://localhost:50051``.
        username: ``SCOUTER_USERNAME``, else ``guest``.
        password: ``SCOUTER_PASSWORD``, else ``guest``. Never shown.
        timeout_secs: One deadline for connect, login and all attempts of a request. 10 by default.
        connect_timeout_secs: The longest a connection may take to come up.
        keep_alive_interval_secs: Interval of pings on the connection. None by default.
        keep_alive_timeout_secs: How long the answer to a ping may take.
        keep_alive_while_idle: Whether to ping while nothing is sent.
        insecure: Whether credentials may cross plaintext to another host. ``SCOUTER_GRPC_INSECURE``, else False.
        ca_file: PEM file of certificate authorities to trust beside the system's. ``SCOUTER_GRPC_CA_FILE``.
        compression: ``"none"``, ``"gzip"`` or ``"zstd"``. None by default.
        headers: Metadata for gateways on the way.

    Raises:
        ConfigError: A `ValueError` that names every fault.
    """

    def __new__(
        cls,
        server_uri: str | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout_secs: float | None = None,
        connect_timeout_secs: float | None = None,
        keep_alive_interval_secs: float | None = None,
        keep_alive_timeout_secs: float | None = None,
        keep_alive_while_idle: bool | None = None,
        *,
        insecure: bool | None = None,
        ca_file: str | PathLike[str] | None = None,
        compression: Literal["none", "gzip", "zstd"] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self: ...
    @property
    def server_uri(self) -> str:
        """Address of the server."""
    @server_uri.setter
    def server_uri(self, value: str) -> None: ...
    @property
    def username(self) -> str:
        """Who logs in."""
    @username.setter
    def username(self, value: str) -> None: ...
    password: str
    """What they log in with. Can be set, not read."""
    @property
    def timeout_secs(self) -> float:
        """Deadline of a request, in seconds."""
    @property
    def connect_timeout_secs(self) -> float | None:
        """The longest a connection may take to come up, in seconds."""
    @property
    def keep_alive_interval_secs(self) -> float | None:
        """Interval of pings, in seconds."""
    @property
    def keep_alive_timeout_secs(self) -> float | None:
        """How long the answer to a ping may take, in seconds."""
    @property
    def keep_alive_while_idle(self) -> bool:
        """Whether pings are sent while nothing else is."""
    @property
    def insecure(self) -> bool:
        """Whether credentials may cross plaintext to another host."""
    @property
    def ca_file(self) -> str | None:
        """PEM file of certificate authorities."""
    @property
    def compression(self) -> Literal["none", "gzip", "zstd"]:
        """How requests are compressed."""
    @property
    def transport_type(self) -> TransportType:
        """`TransportType.Grpc`."""

@disjoint_base
class SpanProcessor:
    """The Rust half of `scouter.tracing.GrpcSpanProcessor`."""

    def __new__(
        cls,
        transport_config: GrpcConfig | HttpConfig | None = None,
        *,
        max_queue_size: int | None = None,
        scheduled_delay_ms: int | None = None,
        max_export_batch_size: int | None = None,
        max_queue_bytes: int | None = None,
        default_entity_key: str | None = None,
    ) -> Self: ...
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Does nothing: a span is of interest when it ends."""
    def on_end(self, span: ReadableSpan) -> None:
        """Encodes and queues an ended span. Never raises and never waits."""
    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Waits until every span that ended before is stored by the server.

        Args:
            timeout_millis: The longest it waits.

        Returns:
            False when time ran out, or a span was lost meanwhile.
        """
    def shutdown(self) -> None:
        """Delivers what is queued within five seconds and stops."""
    def shutdown_within(self, timeout_secs: float) -> _ShutdownReport:
        """Delivers what is queued and stops. Spans that end later are dropped and counted.

        Args:
            timeout_secs: The longest it waits.

        Returns:
            ``delivered``, ``undelivered`` and ``last_error``, over the life of the processor.
        """
    @property
    def is_shut_down(self) -> bool:
        """Whether it was shut down."""
    def stats(self) -> dict[str, int | str | None]:
        """What became of the spans, by name."""
    def _after_fork_in_child(self) -> None: ...

@disjoint_base
class SpanExporter:
    """The Rust half of `scouter.tracing.GrpcSpanExporter`."""

    def __new__(cls, transport_config: GrpcConfig | None = None) -> Self: ...
    def send(self, spans: Iterable[ReadableSpan]) -> None:
        """Encodes spans, sends them and waits for the server to have stored them.

        Args:
            spans: Ended spans.

        Raises:
            ExportError: If not every one is stored; by kind, see `scouter.errors`.
        """
    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Waits for exports that run on other threads."""
    def shutdown(self, timeout_millis: float = 5000.0) -> None:
        """Closes the connection, waiting for running exports."""
    def stats(self) -> dict[str, int | str | None]:
        """What became of the spans, by name."""
    def _after_fork_in_child(self) -> None: ...

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
    def exchange(self, processors: Iterable[SdkSpanProcessor]) -> None:
        """Puts these processors in place of the former ones."""

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
    def get_span_context(self) -> SpanContext:
        """The span's context, OpenTelemetry's object."""
    def is_recording(self) -> bool:
        """Whether the span has not ended."""
    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Sets an attribute."""
    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Sets several attributes."""
    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Adds an event."""
    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Adds a link to another span."""
    def update_name(self, name: str) -> None:
        """Gives the span another name."""
    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Sets the outcome: Ok is final, Unset is ignored, of errors the last one counts."""
    def end(self, end_time: int | None = None) -> None:
        """Ends the span."""
    @property
    def name(self) -> str:
        """The span's name."""
    @property
    def context(self) -> SpanContext:
        """The span's context, OpenTelemetry's object."""
    @property
    def trace_id(self) -> str:
        """The trace's id in 32 hexadecimal digits."""
    @property
    def span_id(self) -> str:
        """The span's id in 16 hexadecimal digits."""
    @property
    def parent(self) -> SpanContext | None:
        """The context of the parent, None for a root span."""
    @property
    def kind(self) -> SpanKind:
        """OpenTelemetry's `SpanKind`."""
    @property
    def start_time(self) -> int | None:
        """Nanoseconds since 1970."""
    @property
    def end_time(self) -> int | None:
        """Nanoseconds since 1970; None before the end."""
    @property
    def attributes(self) -> Mapping[str, AnyValue]:
        """The attributes, read-only."""
    @property
    def dropped_attributes(self) -> int:
        """Attributes left out because of a limit."""
    @property
    def dropped_events(self) -> int:
        """Events left out because of a limit."""
    @property
    def dropped_links(self) -> int:
        """Links left out because of a limit."""
    @property
    def status(self) -> Status:
        """OpenTelemetry's `Status`."""
    @property
    def resource(self) -> Resource:
        """What made the span."""
    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """The scope of the tracer that made the span."""
    def _event_parts(self) -> list[tuple[str, Mapping[str, AnyValue], int, int]]: ...
    def _link_parts(self) -> list[tuple[Link | None, SpanContext, Mapping[str, AnyValue], int]]: ...

def encode_spans(spans: Iterable[ReadableSpan]) -> bytes:
    """Encodes spans as they travel.

    The protobuf bytes of one Scouter `InsertMessageRequest`, whose field 2 holds OTLP's `ResourceSpans`.

    Args:
        spans: Ended spans.

    Returns:
        The request's bytes; empty without spans.
    """
