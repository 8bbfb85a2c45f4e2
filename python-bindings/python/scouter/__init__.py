"""Scouter's client: OpenTelemetry spans (`scouter.tracing`) and monitoring records (`ScouterQueue`)."""

from __future__ import annotations

from scouter._scouter import __version__
from scouter.errors import (
    AuthenticationError,
    ConfigError,
    ExportError,
    MissingQueueError,
    RejectedError,
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
from scouter.transport import GrpcConfig

__all__ = [
    "AuthenticationError",
    "ConfigError",
    "EvalRecord",
    "ExportError",
    "Feature",
    "FeatureMixin",
    "Features",
    "GrpcConfig",
    "Metric",
    "Metrics",
    "MissingQueueError",
    "Queue",
    "RejectedError",
    "ScouterError",
    "ScouterQueue",
    "UnavailableError",
    "__version__",
]
