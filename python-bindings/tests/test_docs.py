"""The code in the documents runs: every block of Python of every page."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY, Server, wait_until
from scouter.tracing import flush_tracer, init_tracer

RunPython = Callable[..., subprocess.CompletedProcess[str]]


def blocks(path: Path) -> list[str]:
    return [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)]


PAGES = {
    str(page.relative_to(REPOSITORY))
    for page in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/*.md"), *REPOSITORY.glob("*/*/*.md"))
    if not {".venv", "node_modules"} & set(page.parts) and blocks(page)
}
TRACING, PACKAGE = "docs/python-tracing.md", "python-bindings/README.md"


def test_pages_with_code_are_known() -> None:
    assert {"README.md", "docs/getting-started.md", "docs/record-queue.md", "docs/transports.md", TRACING, PACKAGE} <= PAGES


def profile_of_an_entity_of_its_own(folder: Path) -> None:
    profile = json.loads((REPOSITORY / "examples" / "queue" / "profile.json").read_text())
    profile["config"]["uid"] = str(uuid.uuid4())
    (folder / "profile.json").write_text(json.dumps(profile))


@pytest.mark.parametrize("name", sorted(PAGES - {TRACING, PACKAGE}))
def test_the_code_of_a_page_runs(name: str, server: Server, run_python: RunPython, tmp_path: Path) -> None:
    """In an interpreter of its own, beside a profile and the server's storage, as a reader would."""
    init_tracer("pages", transport_config=server.config()).start_span("so that there is a table").end()
    assert flush_tracer(10)
    wait_until(lambda: any((server.storage / "tables" / "spans" / "_delta_log").glob("*.json")), 30, "spans are in the table")
    (tmp_path / "scouter_storage").symlink_to(server.storage)
    profile_of_an_entity_of_its_own(tmp_path)
    program = f"import os, time; os.chdir({str(tmp_path)!r})\n" + "\n".join(blocks(REPOSITORY / name))
    if "deltalake" in program:
        # Arrow now and then aborts a process that ends the moment it has read a table.
        program += "\ntime.sleep(1)"
    settings = {
        "SCOUTER_GRPC_URI": server.grpc_uri,
        "SCOUTER_SERVER_URI": f"http://127.0.0.1:{server.http_port}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.otlp_grpc_port}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{server.token()}",
    }
    done = run_python(program, env=settings)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", [TRACING])
def test_the_code_of_the_guide_runs(name: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
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
    profile_of_an_entity_of_its_own(tmp_path)
    names: dict[str, Any] = {"__name__": "readme"}
    for number, block in enumerate(blocks(REPOSITORY / "python-bindings" / "README.md")):
        exec(compile(block.replace("http://localhost:50051", server.grpc_uri), f"README.md, block {number + 1}", "exec"), names)
    assert "pay" in {row["name"] for row in server.spans("checkout")}
    assert names["queue"].stats()["records"]["exported"] > 0
