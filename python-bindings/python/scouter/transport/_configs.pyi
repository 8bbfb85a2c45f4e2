"""The configurations, which are Rust's. Import from `scouter.transport` instead."""

from collections.abc import Mapping
from os import PathLike
from typing import ClassVar, Literal, final

from typing_extensions import Self, disjoint_base

__all__ = ["GrpcConfig", "HttpConfig", "KafkaConfig", "RabbitMQConfig", "RedisConfig", "TransportType"]

@final
class TransportType:
    """The kinds of transport a configuration can stand for."""

    Grpc: ClassVar[TransportType]
    Http: ClassVar[TransportType]
    Kafka: ClassVar[TransportType]
    RabbitMQ: ClassVar[TransportType]
    Redis: ClassVar[TransportType]
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
        keep_alive_interval_secs: Interval of pings while a request waits; 4 when omitted. They find connections that died unnoticed.
        keep_alive_timeout_secs: How long the answer to a ping may take; 4 when omitted.
        keep_alive_while_idle: Whether to ping while nothing is sent.
        insecure: Whether credentials may cross plaintext to another host. ``SCOUTER_GRPC_INSECURE``, else False.
        ca_file: PEM file of certificate authorities to trust beside the system's. ``SCOUTER_GRPC_CA_FILE``.
        compression: ``"none"``, ``"gzip"`` or ``"zstd"``. None by default.
        headers: Metadata for gateways on the way.
        payload: ``"auto"``, or ``"json"`` to write requests as the JSON that every Scouter server reads; ``"auto"`` does
            so where the server reads nothing else.

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
        payload: Literal["auto", "json"] | None = None,
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
    def payload(self) -> Literal["auto", "json"]:
        """How spans and records are written."""
    @property
    def transport_type(self) -> TransportType:
        """`TransportType.Grpc`."""

@disjoint_base
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
        ca_file: PEM file of certificate authorities to trust beside the system's. ``SCOUTER_HTTP_CA_FILE``.
        compression: ``"none"``, ``"gzip"`` or ``"zstd"``. None by default.

    Raises:
        ConfigError: A `ValueError` that names every fault.
    """

    def __new__(
        cls,
        server_uri: str | None = None,
        username: str | None = None,
        password: str | None = None,
        auth_token: str | None = None,
        *,
        timeout_secs: float | None = None,
        insecure: bool | None = None,
        ca_file: str | PathLike[str] | None = None,
        compression: Literal["none", "gzip", "zstd"] | None = None,
    ) -> Self: ...
    @property
    def server_uri(self) -> str:
        """Address of the server, with its scheme."""
    @server_uri.setter
    def server_uri(self, value: str) -> None: ...
    @property
    def username(self) -> str:
        """Who logs in."""
    @username.setter
    def username(self, value: str) -> None: ...
    password: str
    """What they log in with. Can be set, not read."""
    auth_token: str
    """A token or an ingest key. Can be set, not read."""
    @property
    def timeout_secs(self) -> float:
        """Deadline of a request, in seconds."""
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
        """`TransportType.Http`."""
    @property
    def _password(self) -> str: ...
    @property
    def _auth_token(self) -> str: ...

@disjoint_base
class RedisConfig:
    """Where Redis is, and which stream of it servers take from. It can be read, not changed.

    What is omitted comes from the environment, then from the defaults.

    Args:
        address: ``redis://[user:password@]host:port``, or ``rediss://`` for TLS. ``REDIS_ADDR``, else ``redis://127.0.0.1:6379``.
            Its password is never shown.
        channel: Name of the stream, or of the channel. ``REDIS_CHANNEL``, else ``scouter_monitoring``.
        mode: ``"stream"`` keeps what is sent until a server has stored it. ``"pubsub"`` keeps nothing, as existing deployments
            have it. ``REDIS_MODE``, else ``"stream"``.
        timeout_secs: One deadline for all attempts of a request. 10 by default.
        insecure: Whether the password may cross plaintext to another host. ``REDIS_INSECURE``, else False.
        ca_file: PEM file of certificate authorities to trust in place of the system's. ``REDIS_CA_FILE``.

    Raises:
        ConfigError: A `ValueError` that names every fault.
    """

    def __new__(
        cls,
        address: str | None = None,
        channel: str | None = None,
        *,
        mode: Literal["stream", "pubsub"] | None = None,
        timeout_secs: float | None = None,
        insecure: bool | None = None,
        ca_file: str | PathLike[str] | None = None,
    ) -> Self: ...
    @property
    def address(self) -> str:
        """The address without user and password."""
    @property
    def channel(self) -> str:
        """Name of the stream, or of the channel."""
    @property
    def mode(self) -> Literal["stream", "pubsub"]:
        """How Redis keeps what is sent."""
    @property
    def timeout_secs(self) -> float:
        """Deadline of a request, in seconds."""
    @property
    def insecure(self) -> bool:
        """Whether the password may cross plaintext to another host."""
    @property
    def ca_file(self) -> str | None:
        """PEM file of certificate authorities."""
    @property
    def transport_type(self) -> TransportType:
        """`TransportType.Redis`."""

@disjoint_base
class KafkaConfig:
    """Where Kafka is, and which topic of it servers take from. It can be read, not changed.

    What is omitted comes from `config`, then from the environment, then from the defaults.

    Args:
        username: ``KAFKA_USERNAME``, or ``KAFKA_KEY``. With one, TLS and SASL are spoken unless something else is said.
        password: ``KAFKA_PASSWORD``, or ``KAFKA_SECRET``. Never shown.
        brokers: ``host:port`` of some brokers, with commas between them. ``KAFKA_BROKERS``, else ``localhost:9092``.
        topic: ``SCOUTER_KAFKA_TOPIC``, or ``KAFKA_TOPIC``, else ``scouter_monitoring``.
        compression_type: How what is sent is compressed; ``"gzip"`` by default.
        message_timeout_ms: `timeout_secs` in milliseconds, for code that has it.
        message_max_bytes: The largest message that the brokers take. 1 MiB by default, as theirs.
        log_level: Accepted for code that has it.
        config: Settings by the names of Kafka's client library: ``bootstrap.servers``, ``security.protocol``, ``sasl.mechanism``,
            ``sasl.username``, ``sasl.password``, ``ssl.ca.location``.
        max_retries: Accepted for code that has it. A request is sent again, with growing pauses, until the brokers have it or its
            deadline is over.
        security_protocol: Whether TLS is spoken, and whether user and password are asked for. ``KAFKA_SECURITY_PROTOCOL``.
        sasl_mechanism: How user and password are proven. ``KAFKA_SASL_MECHANISM``, else ``"PLAIN"``.
        timeout_secs: One deadline for all attempts of a request. 10 by default.
        insecure: Whether the password may cross plaintext to another host. ``KAFKA_INSECURE``, else False.
        ca_file: PEM file of certificate authorities to trust in place of the system's. ``KAFKA_CERT_LOCATION``.
        client_certificate_file: PEM file of this client's certificate.
        client_key_file: PEM file of its private key.

    Raises:
        ConfigError: A `ValueError` that names every fault.
    """

    def __new__(
        cls,
        username: str | None = None,
        password: str | None = None,
        brokers: str | None = None,
        topic: str | None = None,
        compression_type: Literal["gzip", "lz4", "snappy", "zstd", "none"] | None = None,
        message_timeout_ms: int | None = None,
        message_max_bytes: int | None = None,
        log_level: object = None,
        config: dict[str, str] | None = None,
        max_retries: int = 3,
        *,
        security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = None,
        sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None,
        timeout_secs: float | None = None,
        insecure: bool | None = None,
        ca_file: str | PathLike[str] | None = None,
        client_certificate_file: str | PathLike[str] | None = None,
        client_key_file: str | PathLike[str] | None = None,
    ) -> Self: ...
    @property
    def brokers(self) -> str:
        """The brokers' addresses."""
    @property
    def topic(self) -> str:
        """The topic that servers take from."""
    @property
    def username(self) -> str:
        """Who comes."""
    @property
    def compression_type(self) -> str:
        """How what is sent is compressed."""
    @property
    def security_protocol(self) -> str:
        """Whether TLS is spoken, and whether user and password are asked for."""
    @property
    def sasl_mechanism(self) -> str:
        """How user and password are proven."""
    @property
    def message_max_bytes(self) -> int:
        """The largest message that is sent."""
    @property
    def max_retries(self) -> int:
        """What was given; nothing depends on it."""
    @property
    def timeout_secs(self) -> float:
        """Deadline of a request, in seconds."""
    @property
    def insecure(self) -> bool:
        """Whether the password may cross plaintext to another host."""
    @property
    def ca_file(self) -> str | None:
        """PEM file of certificate authorities."""
    @property
    def transport_type(self) -> TransportType:
        """`TransportType.Kafka`."""

@disjoint_base
class RabbitMQConfig:
    """Where RabbitMQ is, and which queue of it servers take from. It can be read, not changed.

    What is omitted comes from the environment, then from the defaults. ``RABBITMQ_ADDR``
    (``amqp://user:password@host:port/virtual-host``, or ``amqps://``) wins over the arguments that it holds, as in Scouter.

    Args:
        host: ``RABBITMQ_HOST``, else ``localhost``.
        port: ``RABBITMQ_PORT``, else 5672.
        username: ``RABBITMQ_USERNAME``, else ``guest``.
        password: ``RABBITMQ_PASSWORD``, else ``guest``. Never shown.
        queue: A durable queue; it is made if it is not there. ``RABBITMQ_QUEUE``, else ``scouter_monitoring``.
        max_retries: Accepted for code that has it. A request is sent again, with growing pauses, until the broker has it or its
            deadline is over.
        virtual_host: ``/`` by default.
        tls: Whether to speak TLS.
        timeout_secs: One deadline for all attempts of a request. 10 by default.
        insecure: Whether the password may cross plaintext to another host. ``RABBITMQ_INSECURE``, else False.
        ca_file: PEM file of certificate authorities to trust beside the system's. ``RABBITMQ_CA_FILE``.

    Raises:
        ConfigError: A `ValueError` that names every fault.
    """

    def __new__(
        cls,
        host: str | None = None,
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        queue: str | None = None,
        max_retries: int = 3,
        *,
        virtual_host: str | None = None,
        tls: bool = False,
        timeout_secs: float | None = None,
        insecure: bool | None = None,
        ca_file: str | PathLike[str] | None = None,
    ) -> Self: ...
    @property
    def host(self) -> str:
        """The broker's host."""
    @property
    def port(self) -> int:
        """Its port."""
    @property
    def username(self) -> str:
        """Who comes."""
    @property
    def queue(self) -> str:
        """The queue that servers take from."""
    @property
    def max_retries(self) -> int:
        """What was given; nothing depends on it."""
    @property
    def virtual_host(self) -> str:
        """The virtual host."""
    @property
    def tls(self) -> bool:
        """Whether TLS is spoken."""
    @property
    def timeout_secs(self) -> float:
        """Deadline of a request, in seconds."""
    @property
    def insecure(self) -> bool:
        """Whether the password may cross plaintext to another host."""
    @property
    def ca_file(self) -> str | None:
        """PEM file of certificate authorities."""
    @property
    def transport_type(self) -> TransportType:
        """`TransportType.RabbitMQ`."""
