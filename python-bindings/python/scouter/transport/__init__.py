"""How spans and records travel to a Scouter server."""

from __future__ import annotations

from scouter._scouter import GrpcConfig, TransportType

__all__ = ["GrpcConfig", "TransportType"]
