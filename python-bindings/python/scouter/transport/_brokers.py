"""`RedisConfig` and `RabbitMQConfig`: a broker between this process and the servers."""

from __future__ import annotations

import math
import os
from urllib.parse import unquote, urlsplit

from scouter._scouter import TransportType
from scouter.errors import ConfigError

__all__ = ["RabbitMQConfig", "RedisConfig"]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _setting(given: str | None, variable: str, default: str) -> str:
    return given if given is not None else os.environ.get(variable) or default


def _truth(given: bool | None, variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in ("true", "1") if given is None else given


def _check(name: str, timeout_secs: float, plaintext_to: str | None, faults: list[str]) -> None:
    if not isinstance(timeout_secs, (int, float)) or not math.isfinite(timeout_secs) or timeout_secs <= 0:
        faults.append(f"timeout_secs must be a number of seconds above zero, not {timeout_secs!r}")
    if plaintext_to is not None and plaintext_to not in _LOOPBACK:
        faults.append(f"credentials would cross plaintext to {plaintext_to!r}: use TLS, or insecure=True if something before it encrypts")
    if faults:
        raise ConfigError(f"invalid {name}: " + "; ".join(faults))


class RedisConfig:
    """Where Redis is, and which stream of it servers take from.

    What is omitted comes from the environment, then from the defaults.

    Args:
        address: ``redis://[user:password@]host:port``, or ``rediss://`` for TLS. ``REDIS_ADDR``, else ``redis://127.0.0.1:6379``. Its
            password is never shown.
        channel: Name of the stream, or of the channel. ``REDIS_CHANNEL``, else ``scouter_monitoring``.
        mode: ``"stream"`` keeps what is sent until a server has stored it. ``"pubsub"`` keeps nothing, as existing deployments have it.
            ``REDIS_MODE``, else ``"stream"``.
        timeout_secs: One deadline for all attempts of a request. 10 by default.
        insecure: Whether the password may cross plaintext to another host. ``REDIS_INSECURE``, else False.
        ca_file: PEM file of certificate authorities to trust in place of the system's. ``REDIS_CA_FILE``.

    Raises:
        ConfigError: A `ValueError` that names every fault.
    """

    def __init__(
        self,
        address: str | None = None,
        channel: str | None = None,
        *,
        mode: str | None = None,
        timeout_secs: float | None = None,
        insecure: bool | None = None,
        ca_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self._address = _setting(address, "REDIS_ADDR", "redis://127.0.0.1:6379")
        self.channel = _setting(channel, "REDIS_CHANNEL", "scouter_monitoring")
        self.mode = _setting(mode, "REDIS_MODE", "stream")
        self.timeout_secs = 10.0 if timeout_secs is None else timeout_secs
        self.insecure = _truth(insecure, "REDIS_INSECURE")
        self.ca_file = os.fspath(ca_file) if ca_file is not None else os.environ.get("REDIS_CA_FILE") or None
        faults: list[str] = []
        parts = urlsplit(self._address)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            faults.append(f"address must be redis://host:port or rediss://host:port, not {self.address!r}")
        if self.mode not in ("stream", "pubsub"):
            faults.append(f'mode must be "stream" or "pubsub", not {self.mode!r}')
        is_open = parts.scheme == "redis" and parts.password is not None and not self.insecure
        _check("RedisConfig", self.timeout_secs, parts.hostname if is_open else None, faults)

    @property
    def address(self) -> str:
        """The address without user and password."""
        scheme, _, rest = self._address.rpartition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}" if scheme else rest.rpartition("@")[2]

    @property
    def transport_type(self) -> TransportType:
        """`TransportType.Redis`."""
        return TransportType.Redis

    def _transport_settings(self) -> dict[str, object]:
        return {
            "kind": "redis",
            "address": self._address,
            "channel": self.channel,
            "mode": self.mode,
            "timeout_secs": float(self.timeout_secs),
            "insecure": self.insecure,
            "ca_file": self.ca_file,
        }

    def __repr__(self) -> str:
        """Everything but the password."""
        return f"RedisConfig(address={self.address!r}, channel={self.channel!r}, mode={self.mode!r}, timeout_secs={self.timeout_secs})"


class RabbitMQConfig:
    """Where RabbitMQ is, and which queue of it servers take from.

    What is omitted comes from the environment, then from the defaults. ``RABBITMQ_ADDR``
    (``amqp://user:password@host:port/virtual-host``, or ``amqps://``) wins over the arguments that it holds, as in Scouter.

    Args:
        host: ``RABBITMQ_HOST``, else ``localhost``.
        port: ``RABBITMQ_PORT``, else 5672.
        username: ``RABBITMQ_USERNAME``, else ``guest``.
        password: ``RABBITMQ_PASSWORD``, else ``guest``. Never shown.
        queue: A durable queue; it is made if it is not there. ``RABBITMQ_QUEUE``, else ``scouter_monitoring``.
        max_retries: Accepted for code that has it. A request is sent again until the broker has it.
        virtual_host: ``/`` by default.
        tls: Whether to speak TLS.
        timeout_secs: One deadline for all attempts of a request. 10 by default.
        insecure: Whether the password may cross plaintext to another host. ``RABBITMQ_INSECURE``, else False.
        ca_file: PEM file of certificate authorities to trust beside the system's. ``RABBITMQ_CA_FILE``.

    Raises:
        ConfigError: A `ValueError` that names every fault.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        queue: str | None = None,
        max_retries: int = 3,
        *,
        virtual_host: str = "/",
        tls: bool = False,
        timeout_secs: float | None = None,
        insecure: bool | None = None,
        ca_file: str | os.PathLike[str] | None = None,
    ) -> None:
        faults: list[str] = []
        self.host = _setting(host, "RABBITMQ_HOST", "localhost")
        named = os.environ.get("RABBITMQ_PORT") or "5672"
        self.port = port if port is not None else int(named) if named.isdigit() else 0
        self.username = _setting(username, "RABBITMQ_USERNAME", "guest")
        self._password = _setting(password, "RABBITMQ_PASSWORD", "guest")
        self.queue = _setting(queue, "RABBITMQ_QUEUE", "scouter_monitoring")
        self.max_retries = max_retries
        self.virtual_host = virtual_host
        self.tls = tls
        self.timeout_secs = 10.0 if timeout_secs is None else timeout_secs
        self.insecure = _truth(insecure, "RABBITMQ_INSECURE")
        self.ca_file = os.fspath(ca_file) if ca_file is not None else os.environ.get("RABBITMQ_CA_FILE") or None
        if address := os.environ.get("RABBITMQ_ADDR"):
            self._at(address, faults)
        if not 0 < self.port < 65536:
            faults.append("port must be between 1 and 65535")
        _check("RabbitMQConfig", self.timeout_secs, None if self.tls or self.insecure else self.host, faults)

    def _at(self, address: str, faults: list[str]) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            faults.append("RABBITMQ_ADDR must be amqp://user:password@host:port/virtual-host or amqps://...")
            return
        self.tls = parts.scheme == "amqps"
        self.host = parts.hostname
        self.port = parts.port or (5671 if self.tls else 5672)
        if parts.username is not None:
            self.username, self._password = unquote(parts.username), unquote(parts.password or "")
        if parts.path.strip("/"):
            self.virtual_host = unquote(parts.path[1:])

    @property
    def transport_type(self) -> TransportType:
        """`TransportType.RabbitMQ`."""
        return TransportType.RabbitMQ

    def _transport_settings(self) -> dict[str, object]:
        return {
            "kind": "rabbitmq",
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "password": self._password,
            "virtual_host": self.virtual_host,
            "queue": self.queue,
            "tls": self.tls,
            "timeout_secs": float(self.timeout_secs),
            "insecure": self.insecure,
            "ca_file": self.ca_file,
        }

    def __repr__(self) -> str:
        """Everything but the password."""
        return (
            f"RabbitMQConfig(host={self.host!r}, port={self.port}, username={self.username!r}, password='***', "
            f"queue={self.queue!r}, virtual_host={self.virtual_host!r}, tls={self.tls}, timeout_secs={self.timeout_secs})"
        )
