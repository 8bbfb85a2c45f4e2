"""Answers as data: made of JSON, given out as objects, dicts, pandas and Arrow.

The types of an answer are frozen dataclasses. A field is read from the member of the same name, as its annotation asks; a type of another
shape reads itself, by a class method ``_read``. Members that are not known are passed over, so that a newer server can say more.
"""

# pandas and pyarrow bring no types that pyright reads.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from scouter.errors import ScouterError

if TYPE_CHECKING:
    import pandas as _pd
    import pyarrow as _pa

__all__ = ["Rows", "needed", "parsed", "read_moment", "text_of"]

_T = TypeVar("_T")


def read_moment(text: str) -> datetime:
    """RFC 3339 as a moment in UTC. What is finer than a microsecond is cut.

    Args:
        text: What the server says.

    Returns:
        The moment.
    """
    whole, _, fraction = text.removesuffix("Z").removesuffix("+00:00").partition(".")
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return datetime.fromisoformat(whole).replace(microsecond=micros, tzinfo=timezone.utc)


def text_of(moment: datetime | str | None) -> str | None:
    """A moment as the server reads it. One without a zone is in UTC.

    Args:
        moment: The moment; text is passed on.

    Returns:
        RFC 3339, or None for None.
    """
    if moment is None or isinstance(moment, str):
        return moment
    aware = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    return aware.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parsed(of: type[_T], value: Mapping[str, Any]) -> _T:
    """Makes an answer of JSON.

    Args:
        of: Its type, a dataclass of this package.
        value: The JSON object.

    Returns:
        The answer.

    Raises:
        KeyError: If a member is missing that may not be.
        TypeError: If a member is of another kind.
    """
    read: Callable[[Mapping[str, Any]], _T] | None = getattr(of, "_read", None)
    if read is not None:
        return read(value)
    return of(**{name: _value(kind, value.get(name), name) for name, kind in _kinds(of).items()})


_kinds_of_types: dict[type[Any], dict[str, Any]] = {}
"""Of each type its fields' names and annotations; there are as many as this package has."""


def _kinds(of: type[Any]) -> dict[str, Any]:
    kinds = _kinds_of_types.get(of)
    if kinds is None:
        hints = get_type_hints(of)
        kinds = _kinds_of_types[of] = {each.name: hints[each.name] for each in dataclasses.fields(of)}
    return kinds


def _value(kind: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _value(arguments[0], value, name)
    if kind is Any:
        return value
    if value is None:
        raise KeyError(name)
    if kind is datetime:
        return read_moment(value)
    if origin is list:
        return [_value(arguments[0], each, name) for each in value]
    if origin is dict:
        return {arguments[0](key): _value(arguments[1], each, name) for key, each in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return parsed(kind, value)
    return kind(value) if kind in (int, float) else value


class Rows:
    """An answer that is a table: each of its items is a row."""

    _ITEM: type[Any]

    def _items(self) -> Iterable[Any]:
        raise NotImplementedError

    def to_dicts(self) -> list[dict[str, Any]]:
        """Gives each item as a dict; attributes become a dict of their keys and values.

        Returns:
            The rows.
        """
        return [_row(item) for item in self._items()]

    def to_pandas(self) -> _pd.DataFrame:
        """Gives the items as a `pandas.DataFrame`, a column for each field. Lists and dicts stay Python's.

        Returns:
            The frame; it has its columns without rows too.

        Raises:
            ScouterError: If pandas is not installed.
        """
        pandas = needed("pandas")
        frame: _pd.DataFrame = pandas.DataFrame(self.to_dicts(), columns=[each.name for each in dataclasses.fields(self._ITEM)])
        return frame

    def to_arrow(self) -> _pa.Table:
        """Gives the items as a `pyarrow.Table`, a column for each field. What is neither a scalar nor a list of text is JSON text.

        Returns:
            The table.

        Raises:
            ScouterError: If pyarrow is not installed.
        """
        pyarrow = needed("pyarrow")
        names = [each.name for each in dataclasses.fields(self._ITEM)]
        types = [str(each.type).removesuffix(" | None") for each in dataclasses.fields(self._ITEM)]
        known = {
            "str": pyarrow.string(),
            "int": pyarrow.int64(),
            "float": pyarrow.float64(),
            "bool": pyarrow.bool_(),
            "datetime": pyarrow.timestamp("us", tz="UTC"),
            "list[str]": pyarrow.list_(pyarrow.string()),
        }
        rows = self.to_dicts()
        columns = [
            pyarrow.array([row[name] if type_ in known else _json(row[name]) for row in rows], known.get(type_, pyarrow.string()))
            for name, type_ in zip(names, types, strict=True)
        ]
        table: _pa.Table = pyarrow.Table.from_arrays(columns, names=names)
        return table


def _row(item: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for each in dataclasses.fields(item):
        value = getattr(item, each.name)
        row[each.name] = {one.key: one.value for one in value} if each.type == "list[Attribute]" else _plain(value)
    return row


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        several: list[Any] = value
        return [_plain(each) for each in several]
    return _row(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, default=text_of, ensure_ascii=False)


def needed(module: str) -> Any:
    """Imports a package that only some need.

    Args:
        module: Its name, which is that of the extra as well.

    Returns:
        The module.

    Raises:
        ScouterError: If it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ScouterError(f"{module} is not installed: pip install 'scouter-otel[{module}]'") from error
