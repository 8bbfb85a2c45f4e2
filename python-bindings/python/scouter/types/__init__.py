"""Names that Scouter keeps here."""

from __future__ import annotations

from scouter.client import DriftType

__all__ = ["DriftType"]
