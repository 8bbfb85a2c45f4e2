"""`HttpConfig`: a Scouter server over HTTP, and who asks it questions."""

from __future__ import annotations

import math
import os

from scouter._scouter import TransportType
from scouter.errors import ConfigError

__all__ = ["HttpConfig"]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class HttpConfig:
    """Where Scouter's HTTP server is and who calls it.

    What is omitted comes from the environment, then from the defaults. Spans and records travel as protobuf,
    behind a login that is renewed, or with a token or an ingest key.

    Args:
        server_uri: ``http://host:port`` or ``https://host:port``. ``SCOUTER_SERVER_URI``, else ``http://localhost:8000``.
        username: ``SCOUTER_USERNAME``, else ``guest``.
        password: ``SCOUTER_PASSWORD``, else ``guest``. Never shown.
        auth_token: A token or an ingest key, in place of name and password. ``SCOUTER_AUTH_TOKEN``. Never shown.
        timeout_secs: One deadline for all attempts of a request. 10 by default.
        insecure: Whether credentials may cross plaintext to another host. ``SCOUTER_HTTP_INSECURE``, else False.
        ca_file: PEM file of certificate authorities to trust beside the system's.
        compression: ``"none"``, ``"gzip"`` or ``"zstd"``. None by default.

    Raises:
        ConfigError: A `ValueError` that names every fault.
    """

    def __init__(
        self,
        server_uri: str | None = None,
        username: str | None = None,
        password: str | None = None,
        auth_token: str | None = None,
        *,
        timeout_secs: float | None = None,
        insecure: bool | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        compression: str | None = None,
    ) -> None:
        def setting(given: str | None, variable: str, default: str) -> str:
            return given if given is not None else os.environ.get(variable) or default

        self.server_uri = setting(server_uri, "SCOUTER_SERVER_URI", "http://localhost:8000").rstrip("/")
        self.username = setting(username, "SCOUTER_USERNAME", "guest")
        self._password = setting(password, "SCOUTER_PASSWORD", "guest")
        self._auth_token = setting(auth_token, "SCOUTER_AUTH_TOKEN", "")
        self.timeout_secs = 10.0 if timeout_secs is None else timeout_secs
        self.insecure = os.environ.get("SCOUTER_HTTP_INSECURE", "").strip().lower() == "true" if insecure is None else insecure
        self.ca_file = None if ca_file is None else os.fspath(ca_file)
        self.compression = compression or "none"
        self._check()

    def _check(self) -> None:
        from urllib.parse import urlsplit

        faults: list[str] = []
        parts = urlsplit(self.server_uri)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            faults.append(f"server_uri must be http://host:port or https://host:port, not {self.server_uri!r}")
        elif parts.scheme == "http" and parts.hostname not in _LOOPBACK and not self.insecure:
            faults.append(
                f"server_uri {self.server_uri!r} would send credentials in plaintext to another host: use https, "
                "or insecure=True (SCOUTER_HTTP_INSECURE=true) if something before it encrypts"
            )
        if not isinstance(self.timeout_secs, (int, float)) or not math.isfinite(self.timeout_secs) or self.timeout_secs <= 0:
            faults.append(f"timeout_secs must be a number of seconds above zero, not {self.timeout_secs!r}")
        if self.compression not in ("none", "gzip", "zstd"):
            faults.append(f'compression must be "none", "gzip" or "zstd", not {self.compression!r}')
        if faults:
            raise ConfigError("invalid HttpConfig: " + "; ".join(faults))

    @property
    def transport_type(self) -> TransportType:
        """`TransportType.Http`."""
        return TransportType.Http

    @property
    def authorization(self) -> str:
        """The value of the header ``authorization``. It is a secret."""
        if self._auth_token:
            return f"Bearer {self._auth_token}"
        import base64

        return "Basic " + base64.b64encode(f"{self.username}:{self._password}".encode()).decode()

    def _transport_settings(self) -> dict[str, object]:
        return {
            "kind": "http",
            "server_uri": self.server_uri,
            "username": self.username,
            "password": self._password,
            "auth_token": self._auth_token,
            "timeout_secs": float(self.timeout_secs),
            "insecure": self.insecure,
            "compression": self.compression,
            "ca_file": self.ca_file,
        }

    def __repr__(self) -> str:
        return (
            f'HttpConfig(server_uri="{self.server_uri}", username="{self.username}", password="***", '
            f"auth_token={chr(34) + '***' + chr(34) if self._auth_token else None}, timeout_secs={self.timeout_secs}, "
            f"insecure={self.insecure}, ca_file={self.ca_file!r}, compression={self.compression!r})"
        )
