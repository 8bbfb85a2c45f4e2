"""Where a second destination is: any OTLP server, said in Scouter's words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum

from scouter._scouter import OtlpTarget
from scouter.errors import ConfigError

__all__ = ["OtelExportConfig", "OtelProtocol"]


class OtelProtocol(Enum):
    """How OTLP is written over HTTP. `GrpcSpanExporter` does not look at it."""

    HttpBinary = "HttpBinary"
    """Protobuf, which every OTLP server takes."""
    HttpJson = "HttpJson"
    """JSON. It is not written here."""


class OtelExportConfig:
    """Where an OTLP server is and how it is spoken to. It can be read, not changed.

    What is omitted comes from ``OTEL_EXPORTER_OTLP_TRACES_*`` and ``OTEL_EXPORTER_OTLP_*``, then from the defaults.

    Args:
        protocol: How OTLP is written over HTTP.
        endpoint: Over HTTP the whole URL, its path included, ``http://localhost:4318/v1/traces`` by default; over gRPC
            ``http://localhost:4317``, or ``unix:/path``.
        timeout: One deadline for connect and all attempts of a request, in seconds. 10 by default.
        compression: ``"none"``, ``"gzip"``, ``"zstd"``, or an enum with such a name.
        headers: Sent with every request. Values are never shown.
        insecure: Whether a token in the headers may cross plaintext to another host.
        ca_file: PEM file of certificate authorities to trust beside the system's.
        client_certificate_file: PEM file of the certificate that proves who this client is.
        client_key_file: PEM file of its key.

    Raises:
        ConfigError: A `ValueError`, if a setting is wrong.
    """

    def __init__(
        self,
        protocol: OtelProtocol = OtelProtocol.HttpBinary,
        endpoint: str | None = None,
        timeout: float | None = None,
        compression: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        insecure: bool | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        client_certificate_file: str | os.PathLike[str] | None = None,
        client_key_file: str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(protocol, OtelProtocol):
            raise ConfigError(f"invalid OtelExportConfig: protocol must be a scouter.tracing.OtelProtocol, not {protocol!r}")
        if protocol is OtelProtocol.HttpJson:
            raise ConfigError("invalid OtelExportConfig: spans are written as protobuf, which every OTLP server takes: use HttpBinary")
        self._protocol = protocol
        self._endpoint = endpoint
        self._timeout = timeout
        self._compression = None if compression is None else str(getattr(compression, "name", compression)).rpartition(".")[2].lower()
        self._headers = None if headers is None else dict(headers)
        self._insecure = insecure
        self._files = {
            "ca_file": ca_file,
            "client_certificate_file": client_certificate_file,
            "client_key_file": client_key_file,
        }
        # What neither protocol takes is refused here, what one of them does not take where it is known which it is.
        try:
            self._target(is_grpc=False)
        except ConfigError:
            self._target(is_grpc=True)

    @property
    def protocol(self) -> OtelProtocol:
        """How OTLP is written over HTTP."""
        return self._protocol

    @property
    def endpoint(self) -> str | None:
        """The address that was given."""
        return self._endpoint

    @property
    def timeout(self) -> float | None:
        """The deadline that was given, in seconds."""
        return self._timeout

    @property
    def compression(self) -> str | None:
        """How requests are compressed, if it was given."""
        return self._compression

    @property
    def headers(self) -> dict[str, str] | None:
        """The headers that were given. Their values may be secrets."""
        return None if self._headers is None else dict(self._headers)

    def _target(self, *, is_grpc: bool) -> OtlpTarget:
        return OtlpTarget(
            is_grpc,
            endpoint=self._endpoint,
            timeout_secs=self._timeout,
            compression=self._compression,
            headers=self._headers,
            insecure=self._insecure,
            **self._files,
        )

    def __repr__(self) -> str:
        """All settings but the headers' values."""
        # A query may hold a key.
        endpoint = None if self._endpoint is None else self._endpoint.partition("?")[0]
        headers = None if self._headers is None else dict.fromkeys(self._headers, "***")
        return (
            f"OtelExportConfig(protocol={self._protocol}, endpoint={endpoint!r}, timeout={self._timeout}, "
            f"compression={self._compression!r}, headers={headers})"
        )
