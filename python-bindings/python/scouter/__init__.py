"""Scouter's client: OpenTelemetry spans (`scouter.tracing`), monitoring records (`ScouterQueue`), and questions (`ScouterClient`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scouter._scouter import __version__
from scouter.errors import (
    AuthenticationError,
    ConfigError,
    ExportError,
    MissingQueueError,
    NotFoundError,
    PermissionDeniedError,
    RejectedError,
    RequestError,
    ScouterError,
    UnavailableError,
)
from scouter.queue import (
    EvalRecord,
    Feature,
    FeatureMixin,
    Features,
    Metric,
    Metrics,
    Queue,
    ScouterQueue,
)
from scouter.transport import GrpcConfig, HttpConfig, KafkaConfig, RabbitMQConfig, RedisConfig

if TYPE_CHECKING:
    from scouter.client import AsyncScouterClient, ScouterClient

__all__ = [
    "AsyncScouterClient",
    "AuthenticationError",
    "ConfigError",
    "EvalRecord",
    "ExportError",
    "Feature",
    "FeatureMixin",
    "Features",
    "GrpcConfig",
    "HttpConfig",
    "KafkaConfig",
    "Metric",
    "Metrics",
    "MissingQueueError",
    "NotFoundError",
    "PermissionDeniedError",
    "Queue",
    "RabbitMQConfig",
    "RedisConfig",
    "RejectedError",
    "RequestError",
    "ScouterClient",
    "ScouterError",
    "ScouterQueue",
    "UnavailableError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Who only traces does not pay for the clients.
    if name in ("AsyncScouterClient", "ScouterClient"):
        import scouter.client

        return getattr(scouter.client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
