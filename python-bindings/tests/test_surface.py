"""Names of Scouter's Python package 0.25.0: each is here, or a document says why not.

`scouter-0.25-names.txt` holds the public names of its modules about tracing, transport, queues and questions, and those of their classes.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from conftest import REPOSITORY
from scouter import HttpConfig
from scouter.tracing import GrpcSpanExporter, HttpSpanExporter, StdoutSpanExporter

NAMES = Path(__file__).with_name("scouter-0.25-names.txt")
DOCUMENT = REPOSITORY / "docs" / "python-conformance.md"
OBJECTS = {
    "scouter.transport.HttpConfig": HttpConfig("http://localhost:1"),
    "scouter.tracing.GrpcSpanExporter": GrpcSpanExporter(),
    "scouter.tracing.HttpSpanExporter": HttpSpanExporter(),
    "scouter.tracing.StdoutSpanExporter": StdoutSpanExporter(),
}
"""Classes whose members are set by their constructors."""


def is_here(path: str) -> bool:
    owner, _, name = path.rpartition(".")
    try:
        importlib.import_module(path)
        return True
    except ImportError:
        pass
    if owner in OBJECTS:
        return hasattr(OBJECTS[owner], name)
    try:
        found: object = importlib.import_module(owner)
    except ImportError:
        module, _, name_of_class = owner.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name_of_class, None)
        except ImportError:
            return False
    return hasattr(found, name) or name in getattr(found, "__dataclass_fields__", {})


def left_out() -> set[str]:
    """What the table of the document names, in backticks, before its reason."""
    table = DOCUMENT.read_text().partition("| left out |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}


def test_every_name_is_here_or_is_left_out_for_a_reason() -> None:
    names = set(NAMES.read_text().split())
    missing = {name for name in names if not is_here(name)}
    reasons = left_out()

    def has_reason(name: str) -> bool:
        return any(name in (reason, f"scouter.{reason}") or name.endswith(f".{reason}") for reason in reasons)

    assert {name for name in missing if not has_reason(name)} == set()
    assert len(names) > 300
    told = re.search(r"(\d+) of (\d+) are here", DOCUMENT.read_text())
    assert told is not None
    assert int(told[1]) <= len(names) - len(missing), (len(names) - len(missing), len(names))
    assert int(told[2]) == len(names)
