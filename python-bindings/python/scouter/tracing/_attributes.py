"""Attributes as users give them: mappings, pydantic models, lists of mappings; nested ones get dotted keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.util.types import AnyValue

from scouter.errors import ConfigError

__all__ = ["flatten_attributes"]


def flatten_attributes(argument: str, attributes: object) -> dict[str, AnyValue]:
    """Brings attributes into one flat mapping.

    Args:
        argument: The parameter's name, for the error.
        attributes: A mapping, an object with ``model_dump``, a sequence of either, or None.

    Returns:
        Values by key; the keys of a nested mapping are joined by dots. A later key wins.

    Raises:
        ConfigError: If it is something else, or has a key that is not a non-empty string.
    """
    if attributes is None:
        return {}
    parts: list[Any] = [attributes]
    if isinstance(attributes, Sequence) and not isinstance(attributes, (str, bytes)):
        parts = list(attributes)  # pyright: ignore[reportUnknownArgumentType]
    flat: dict[str, AnyValue] = {}
    for part in parts:
        dump = getattr(part, "model_dump", None)
        mapping: Any = dump() if callable(dump) else part
        if not isinstance(mapping, Mapping):
            raise ConfigError(f"{argument} must be a mapping or a list of mappings, not {type(part).__name__}")
        flat.update(_dotted(argument, mapping, ""))  # pyright: ignore[reportUnknownArgumentType]
    return flat


def _dotted(argument: str, mapping: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, AnyValue]]:
    for key, value in mapping.items():
        if not isinstance(key, str) or not key:
            raise ConfigError(f"{argument} must have non-empty strings as keys, not {key!r}")
        if isinstance(value, Mapping):
            yield from _dotted(argument, value, f"{prefix}{key}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield prefix + key, value
