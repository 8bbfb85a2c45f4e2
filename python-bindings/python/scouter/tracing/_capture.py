"""Inputs and outputs of a function as text for a span: JSON, bounded, with what must not be seen left out."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

from scouter._scouter import captured_json

__all__ = ["Arguments", "captured", "is_secret"]

_SECRET_WORDS = frozenset(
    ("apikey", "authorization", "cookie", "credential", "credentials", "passwd", "password", "passphrase", "secret", "secrets", "token")
)
_SECRET_KEYS = ("api", "access", "private", "signing")
_NUMBERS = frozenset(("budget", "count", "counts", "limit", "max", "min", "total", "usage"))
_PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_MAX_REMEMBERED = 100
"""Characters of a name whose verdict is remembered; names are the traced program's, and may be anything."""
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def is_secret(key: str) -> bool:
    """Whether the value under a key is left out: the names that passwords and tokens usually have.

    Args:
        key: Name of an argument or of a field.

    Returns:
        True for names such as ``password``, ``apiKey`` or ``access_token``; numbers of tokens (``max_tokens``, ``token_count``) are none.
    """
    return _remembered(key) if len(key) <= _MAX_REMEMBERED else _is_secret(key)


def _is_secret(key: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(key)]
    if any(word in _NUMBERS for word in words):
        return False
    return any(word in _SECRET_WORDS for word in words) or any(
        one in _SECRET_KEYS and other == "key" for one, other in itertools.pairwise(words)
    )


_remembered = functools.lru_cache(maxsize=4096)(_is_secret)


def captured(value: object, max_length: int, redact: Callable[[str], bool] = is_secret) -> str:
    """The text of a value.

    Args:
        value: Anything. Strings are kept as they are, other values become JSON; what JSON does not know becomes its ``str()``.
        max_length: Characters kept.
        redact: Tells by its name whether a field is left out.

    Returns:
        The text, cut at `max_length`. Never raises.
    """
    if isinstance(value, str):
        return value if len(value) <= max_length else value[:max_length]
    try:
        # No more than some multiple of the text kept is looked at, however large the value is.
        return captured_json(value, max_length, redact, _fields)
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"[:max_length]


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


class Arguments:
    """Arguments of a function's calls by name, defaults included; ``self`` and ``cls`` are left out.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature: inspect.Signature | None
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError):
            self._signature = None
        parameters = [] if self._signature is None else [*self._signature.parameters.values()]
        self._own = 1 if parameters and parameters[0].name in ("self", "cls") else 0
        # `Signature.bind` takes longer than all the rest of a span, and most functions have plain parameters only.
        self._is_plain = self._signature is not None and all(parameter.kind in _PLAIN for parameter in parameters)
        self._names = [parameter.name for parameter in parameters]
        self._positional = sum(parameter.kind is not inspect.Parameter.KEYWORD_ONLY for parameter in parameters)
        self._defaults = {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Names the arguments of a call.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.

        Returns:
            Values by name; ``args`` and ``kwargs`` when the call does not fit.
        """
        given = len(args)
        if self._is_plain and self._own <= given <= self._positional:
            names = self._names
            bound = dict(zip(names[self._own :], args[self._own :], strict=False))
            for name in names[given:]:
                if name in kwargs:
                    bound[name] = kwargs[name]
                elif name in self._defaults:
                    bound[name] = self._defaults[name]
                else:
                    return {"args": args, "kwargs": kwargs}
            if not kwargs or (kwargs.keys() <= bound.keys() and kwargs.keys().isdisjoint(names[:given])):
                return bound
        return self._slowly(args, kwargs)

    def _slowly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._signature is None:
            return {"args": args, "kwargs": kwargs}
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return {"args": args, "kwargs": kwargs}
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        if self._own:
            del arguments[self._names[0]]
        return arguments
