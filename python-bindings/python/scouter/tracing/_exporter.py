"""Exporters: for those who keep the SDK's own processors, and as second destinations of `init_tracer`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from typing_extensions import Self

from scouter import _scouter
from scouter._scouter import OtlpTarget
from scouter.errors import ConfigError, ScouterError
from scouter.tracing._batch import BatchConfig
from scouter.tracing._otlp import OtelExportConfig, OtelProtocol
from scouter.tracing._processors import DestinationProcessor
from scouter.transport import GrpcConfig

__all__ = ["GrpcSpanExporter", "HttpSpanExporter", "NativeSpanExporter"]

_logger = logging.getLogger("scouter")


class NativeSpanExporter(_scouter.SpanExporter, SpanExporter):
    """What the exporters below have in common: encoding and delivery in Rust."""

    _transport_config: GrpcConfig | None
    _target: OtlpTarget | None
    _processor: DestinationProcessor | None
    batch_export: bool
    """Whether ended spans wait for others, as a second destination of `init_tracer`. They wait for nobody's network either way."""
    sample_ratio: float | None
    """Share of the recorded traces that goes there, whole traces, beside what the sampler decides."""

    def _begin(
        self, transport_config: GrpcConfig | None, target: OtlpTarget | None, batch_export: bool, sample_ratio: float | None
    ) -> None:
        from scouter.tracing._fork import renew_in_child

        self._transport_config, self._target = transport_config, target
        self.batch_export, self.sample_ratio = batch_export, sample_ratio
        self._processor = None
        renew_in_child(self)

    def _as_destination(self, batch: BatchConfig) -> DestinationProcessor:
        """A processor of its own to the same place, with a queue, which takes the bytes that were encoded for the first destination."""
        self._processor = DestinationProcessor(
            self._transport_config,
            otlp=self._target,
            max_queue_size=batch.max_queue_size,
            scheduled_delay_ms=batch.scheduled_delay_ms,
            max_export_batch_size=batch.max_export_batch_size if self.batch_export else 1,
            max_queue_bytes=batch.max_queue_bytes,
            sample_ratio=self.sample_ratio,
        )
        return self._processor

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends `spans` and waits for the server's answer.

        Args:
            spans: Ended spans.

        Returns:
            ``SUCCESS`` when the server has stored every one of them, ``FAILURE`` otherwise; the reason is logged.
        """
        try:
            self.send(spans)
        except ScouterError as error:
            _logger.error("spans not delivered: %d; %s", len(spans), error)
            return SpanExportResult.FAILURE
        except Exception:
            _logger.exception("spans not delivered: %d", len(spans))
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Returns whether nothing was left in flight: every `export` waits for its own outcome.

        Args:
            timeout_millis: Time to wait for exports running on other threads.

        Returns:
            True when none runs any more.
        """
        return super().force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 5000) -> None:
        """Closes the connection. Later exports fail. Calling it again does nothing.

        Args:
            timeout_millis: The longest it waits for running exports.
        """
        super().shutdown(timeout_millis)

    def stats(self) -> dict[str, int | str | None]:
        """What became of the spans, by name.

        Returns:
            The account of the destination, if `init_tracer` has made it one, else that of `export`.
        """
        return super().stats() if self._processor is None else self._processor.stats()


class GrpcSpanExporter(NativeSpanExporter):
    """Sends batches of spans to a Scouter server, or to any OTLP server over gRPC.

    It is for `BatchSpanProcessor`, `SimpleSpanProcessor` and the like: `export` answers with what became of the batch; logging in, retries
    and a fresh login are inside it, within the configuration's deadline. The interpreter's lock is not held while it waits. And it is a
    second destination for `init_tracer`, which encodes each span once for both.

    Building one needs no network. After a fork it works in the child as well.

    Args:
        transport_config: Scouter server and credentials. From the environment if omitted.
        batch_export: Whether spans wait for others, as a second destination.
        export_config: An OTLP server, in place of a Scouter server.
        sample_ratio: Share of the recorded traces that goes there, 0 to 1.

    Raises:
        ConfigError: If a setting is wrong.
    """

    def __new__(
        cls,
        transport_config: GrpcConfig | None = None,
        *,
        batch_export: bool = True,
        export_config: OtelExportConfig | None = None,
        sample_ratio: float | None = None,
    ) -> Self:
        """Checks the settings."""
        if transport_config is not None and export_config is not None:
            raise ConfigError("give transport_config for a Scouter server or export_config for an OTLP server, not both")
        target = None if export_config is None else export_config._target(is_grpc=True)
        exporter = super().__new__(cls, transport_config, otlp=target, sample_ratio=sample_ratio)
        exporter._begin(transport_config, target, batch_export, sample_ratio)
        return exporter

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        # The settings have been read by `__new__`.
        super().__init__()

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return (self._transport_config or GrpcConfig()).server_uri if self._target is None else self._target.endpoint

    @property
    def timeout(self) -> float:
        """Deadline of a request, in seconds."""
        return (self._transport_config or GrpcConfig()).timeout_secs if self._target is None else self._target.timeout_secs

    @property
    def compression(self) -> str:
        """How requests are compressed."""
        return (self._transport_config or GrpcConfig()).compression if self._target is None else self._target.compression

    @property
    def headers(self) -> dict[str, str]:
        """Sent with every request to an OTLP server. Their values may be secrets."""
        return {} if self._target is None else self._target.headers

    @property
    def protocol(self) -> OtelProtocol:
        """Protobuf."""
        return OtelProtocol.HttpBinary

    def __repr__(self) -> str:
        """Where it sends to; no secrets."""
        return f"GrpcSpanExporter(endpoint={self.endpoint!r}, batch_export={self.batch_export}, sample_ratio={self.sample_ratio})"


class HttpSpanExporter(NativeSpanExporter):
    """Sends batches of spans to any OTLP server over HTTP, as protobuf.

    Args:
        batch_export: Whether spans wait for others, as a second destination of `init_tracer`.
        export_config: The server. From ``OTEL_EXPORTER_OTLP_*`` if omitted, then ``http://localhost:4318/v1/traces``.
        sample_ratio: Share of the recorded traces that goes there, 0 to 1.

    Raises:
        ConfigError: If a setting is wrong.
    """

    def __new__(
        cls,
        batch_export: bool = True,
        export_config: OtelExportConfig | None = None,
        sample_ratio: float | None = None,
    ) -> Self:
        """Checks the settings."""
        target = (export_config or OtelExportConfig())._target(is_grpc=False)
        exporter = super().__new__(cls, otlp=target, sample_ratio=sample_ratio)
        exporter._begin(None, target, batch_export, sample_ratio)
        return exporter

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        # The settings have been read by `__new__`.
        super().__init__()

    @property
    def _otlp(self) -> OtlpTarget:
        assert self._target is not None  # noqa: S101
        return self._target

    @property
    def protocol(self) -> OtelProtocol:
        """How OTLP is written."""
        return OtelProtocol.HttpBinary

    @property
    def endpoint(self) -> str:
        """The server's URL."""
        return self._otlp.endpoint

    @property
    def timeout(self) -> float:
        """Deadline of a request, in seconds."""
        return self._otlp.timeout_secs

    @property
    def headers(self) -> dict[str, str]:
        """Sent with every request. Their values may be secrets."""
        return self._otlp.headers

    @property
    def compression(self) -> str:
        """How requests are compressed."""
        return self._otlp.compression

    def __repr__(self) -> str:
        """Where it sends to; no secrets."""
        return f"HttpSpanExporter(endpoint={self.endpoint!r}, batch_export={self.batch_export}, sample_ratio={self.sample_ratio})"
