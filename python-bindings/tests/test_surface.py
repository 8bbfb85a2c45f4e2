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


def table(beginning: str) -> list[list[str]]:
    """The cells of the rows of the document's table whose first row begins so."""
    rows = DOCUMENT.read_text().partition(beginning)[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def names_in(cell: str) -> set[str]:
    return set(re.findall(r"`([\w.]+)`", cell))


def meant(name: str, names: set[str]) -> set[str]:
    """The listed names that the document's short form stands for."""
    return {one for one in names if one in (name, f"scouter.{name}") or one.endswith(f".{name}")}


def test_every_name_is_here_or_is_left_out_for_a_reason() -> None:
    names = set(NAMES.read_text().split())
    missing = {name for name in names if not is_here(name)}
    assert len(names) > 300
    reasons = [name for row in table("| left out |") for name in names_in(row[0])]
    assert len(reasons) == len(set(reasons))
    # A reason that explains nothing is stale: what it names is here by now, or was never Scouter's.
    assert [reason for reason in reasons if not meant(reason, missing)] == []
    assert missing - {name for reason in reasons for name in meant(reason, missing)} == set()
    told = re.search(r"(\d+) of (\d+) are here", DOCUMENT.read_text())
    assert told is not None
    assert (int(told[1]), int(told[2])) == (len(names) - len(missing), len(names))


def test_what_the_document_says_is_here_is_here() -> None:
    rows = table("| here |")
    assert len(rows) == 5
    for module, text in rows:
        owner = importlib.import_module(module.strip("`"))
        assert [name for name in names_in(text) if not hasattr(owner, name)] == []


def test_every_fault_has_a_test_that_is_there() -> None:
    """`A1` to `A19` and the others that concern a client: each has a row, and each row names tests that are in the files it names."""
    tests = Path(__file__).parent
    files = {
        name: (tests / f"test_{file}.py").read_text()
        for name, file in re.findall(r"`(\w+)`[^`]{0,6}\[test_(\w+)\.py\]", DOCUMENT.read_text())
    }
    assert set(files) == {"delivery", "known", "exporters", "transports"}
    rows = table("| fault |")
    faults = {fault for row in rows for fault in row[0].split(", ")}
    assert {f"A{number}" for number in range(1, 20)} <= faults
    for row in rows:
        named = re.findall(r"`(\w+)`: ((?:`test_\w+`(?:, )?)+)", row[2].replace("...", ""))
        assert named, row
        for file, list_of_tests in named:
            for begins in names_in(list_of_tests):
                assert re.search(rf"^def {begins}", files[file], re.MULTILINE), (file, begins)
        for fault in row[0].split(", "):
            assert re.search(rf"_{fault.lower()}_", row[2]), (fault, row[2])
