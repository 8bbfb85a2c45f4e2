"""How spans and records travel to a Scouter server."""

from __future__ import annotations

from scouter._scouter import GrpcConfig, TransportType
from scouter.transport._http import HttpConfig

__all__ = ["GrpcConfig", "HttpConfig", "TransportType"]
