"""Scouter's OpenTelemetry client: `init_tracer(transport_config=GrpcConfig())` and the process is traced."""

from __future__ import annotations

from scouter._scouter import __version__
from scouter.errors import (
    AuthenticationError,
    ConfigError,
    ExportError,
    RejectedError,
    ScouterError,
    UnavailableError,
)
from scouter.transport import GrpcConfig

__all__ = [
    "AuthenticationError",
    "ConfigError",
    "ExportError",
    "GrpcConfig",
    "RejectedError",
    "ScouterError",
    "UnavailableError",
    "__version__",
]
