"""The stubs say what the extension module is, and the package and its tests type-check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "command",
    [["mypy"], ["mypy.stubtest", "scouter", "--mypy-config-file", "pyproject.toml"]],
    ids=["mypy", "stubtest"],
)
def test_types(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=PACKAGE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
