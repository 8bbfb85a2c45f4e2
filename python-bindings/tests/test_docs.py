"""The code in the documents runs."""

from __future__ import annotations

import json
import re
import textwrap
import uuid
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


def test_the_code_of_the_readme_runs(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    # Its records are of an entity of their own.
    profile = json.loads((REPOSITORY / "examples" / "queue" / "profile.json").read_text())
    profile["config"]["uid"] = str(uuid.uuid4())
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    names: dict[str, Any] = {"__name__": "readme"}
    for number, block in enumerate(blocks(REPOSITORY / "python-bindings" / "README.md")):
        exec(compile(block.replace("http://localhost:50051", server.grpc_uri), f"README.md, block {number + 1}", "exec"), names)
    assert "pay" in {row["name"] for row in server.spans("checkout")}
    assert names["queue"].stats()["records"]["exported"] > 0
