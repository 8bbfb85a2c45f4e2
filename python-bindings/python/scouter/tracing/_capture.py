"""Inputs and outputs of a function as text for a span: JSON, bounded, with what must not be seen left out."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["REDACTED", "bound_arguments", "captured", "is_secret"]

REDACTED = "[REDACTED]"

_MAX_DEPTH = 12
_MAX_ITEMS = 200

_SECRET_WORDS = frozenset(
    ("apikey", "authorization", "cookie", "credential", "credentials", "passwd", "password", "passphrase", "secret", "secrets", "token")
)
_SECRET_KEYS = ("api", "access", "private", "signing")
_NUMBERS = frozenset(("budget", "count", "counts", "limit", "max", "min", "total", "usage"))
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def is_secret(key: str) -> bool:
    """Whether the value under a key is left out: the names that passwords and tokens usually have.

    Args:
        key: Name of an argument or of a field.

    Returns:
        True for names such as ``password``, ``apiKey`` or ``access_token``; numbers of tokens (``max_tokens``, ``token_count``) are none.
    """
    words = [word.lower() for word in _WORDS.findall(key)]
    if any(word in _NUMBERS for word in words):
        return False
    return any(word in _SECRET_WORDS for word in words) or any(
        one in _SECRET_KEYS and other == "key" for one, other in itertools.pairwise(words)
    )


def captured(value: object, max_length: int, redact: Callable[[str], bool] = is_secret) -> str:
    """The text of a value.

    Args:
        value: Anything. Strings are kept as they are, other values become JSON; what JSON does not know becomes its ``str()``.
        max_length: Characters kept.
        redact: Tells by its name whether a field is left out.

    Returns:
        The text, cut at `max_length`. Never raises.
    """
    try:
        # No more than some multiple of the text kept is looked at, however large the value is.
        text = value if isinstance(value, str) else json.dumps(_plain(value, redact, 0, max_length), ensure_ascii=False)
    except Exception as error:
        text = f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    return text if len(text) <= max_length else text[:max_length]


def _plain(value: object, redact: Callable[[str], bool], depth: int, max_length: int) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        # JSON knows neither NaN nor infinity.
        return value if value - value == 0 else str(value)
    if isinstance(value, str):
        return value[: max_length + 1]
    if depth >= _MAX_DEPTH:
        return "..."
    fields = _fields(value)
    if fields is not None:
        plain: dict[str, Any] = {}
        for key, item in fields.items():
            if len(plain) >= _MAX_ITEMS:
                plain["..."] = f"{len(fields) - _MAX_ITEMS} more"
                break
            name = str(key)
            plain[name] = REDACTED if redact(name) else _plain(item, redact, depth + 1, max_length)
        return plain
    if isinstance(value, (list, tuple, set, frozenset)):
        items: list[Any] = []
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            if len(items) >= _MAX_ITEMS:
                items.append(f"... {len(value) - _MAX_ITEMS} more")  # pyright: ignore[reportUnknownArgumentType]
                break
            items.append(_plain(item, redact, depth + 1, max_length))  # pyright: ignore[reportUnknownArgumentType]
        return items
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"  # pyright: ignore[reportUnknownArgumentType]
    return str(value)[: max_length + 1]


def _fields(value: object) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value  # pyright: ignore[reportUnknownVariableType]
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        dumped = dump()
        return dumped if isinstance(dumped, Mapping) else None  # pyright: ignore[reportUnknownVariableType]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Not `asdict`, which copies everything below at once.
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def bound_arguments(signature: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, defaults included; ``self`` and ``cls`` are left out.

    Args:
        signature: The function's signature, or None when it has none.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        Values by name; ``args`` and ``kwargs`` when the call does not fit.
    """
    try:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
    except (AttributeError, TypeError):
        return {"args": args, "kwargs": kwargs}
    arguments = dict(bound.arguments)
    for name in ("self", "cls"):
        if next(iter(arguments), None) == name:
            del arguments[name]
    return arguments
