"""Classes with annotated fields as features."""

from __future__ import annotations

import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from scouter._scouter import Feature, Features

__all__ = ["FeatureMixin", "convert_to_features"]

_T = TypeVar("_T")


class FeatureMixin:
    """Gives a class with annotated fields, such as a pydantic model or a dataclass, a method `to_features`."""

    def to_features(self) -> Features:
        """Makes features of the fields that are annotated as numbers, truths or texts, optional ones included.

        Fields of other types, and those that are None, are left out.

        Returns:
            The features, in the order of the annotations.
        """
        return _to_features(self)


def convert_to_features(cls: type[_T]) -> type[_T]:
    """Gives a class the method `FeatureMixin.to_features`.

    Args:
        cls: A class with annotated fields.

    Returns:
        The same class.
    """
    cls.to_features = _to_features  # type: ignore[attr-defined]
    return cls


def _to_features(instance: object) -> Features:
    features: list[Feature] = []
    for name, hint in get_type_hints(type(instance)).items():
        value: Any = getattr(instance, name, None)
        base = _base(hint)
        if value is None:
            continue
        if base in (int, bool):
            features.append(Feature.int(name, int(value)))
        elif base is float:
            features.append(Feature.float(name, float(value)))
        elif base is str:
            features.append(Feature.string(name, str(value)))
    return Features(features)


def _base(hint: Any) -> Any:
    """The type behind ``Optional`` and ``Annotated``."""
    if hasattr(hint, "__metadata__"):
        return _base(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        return _base(members[0]) if len(members) == 1 else None
    return hint
