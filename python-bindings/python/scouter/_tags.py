"""A tag, as clients ask for it and local exporters keep it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TagRecord"]


@dataclass(frozen=True)
class TagRecord:
    """A tag of a trace or of another entity."""

    entity_type: str
    entity_id: str
    key: str
    value: str
