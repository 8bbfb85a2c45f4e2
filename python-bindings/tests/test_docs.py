"""The code in the documents runs."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY, Server


def blocks(path: Path) -> list[str]:
    return [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)]


@pytest.mark.parametrize("name", ["docs/python-tracing.md"])
def test_the_code_of_a_document_runs(name: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOUTER_GRPC_URI", server.grpc_uri)
    monkeypatch.setenv("SCOUTER_SERVER_URI", f"http://127.0.0.1:{server.http_port}")
    found = blocks(REPOSITORY / name)
    assert found
    names: dict[str, Any] = {"__name__": "document"}
    for number, block in enumerate(found):
        exec(compile(block, f"{name}, block {number + 1}", "exec"), names)
    rows = {row["name"] for row in server.spans("checkout")}
    assert {"pay", "document.rank", "document.stream", "score", "ask", "answer", "chat gpt-5", "charge"} <= rows
