"""The real server, started once, and ways to ask it what it stored."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import scouter.tracing as tracing
from scouter.transport import GrpcConfig

REPOSITORY = Path(__file__).resolve().parents[2]


def wait_until(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Asks `done` until it says yes."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Server:
    """A running scouter-server and its addresses."""

    process: subprocess.Popen[bytes]
    storage: Path
    grpc_port: int
    http_port: int
    otlp_grpc_port: int

    @property
    def grpc_uri(self) -> str:
        return f"http://127.0.0.1:{self.grpc_port}"

    def config(self, **settings: Any) -> GrpcConfig:
        return GrpcConfig(self.grpc_uri, "guest", "guest", **settings)

    def token(self) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/scouter/auth/login", headers={"Username": "guest", "Password": "guest"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            token: str = json.load(answer)["token"]
            return token

    def sql(self, query: str) -> list[dict[str, Any]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/api/v1/sql",
            data=json.dumps({"query": query}).encode(),
            headers={"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                table = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error} {error.read().decode(errors='replace')}") from error
        return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]

    def spans(self, service_name: str) -> list[dict[str, Any]]:
        return self.sql(f"SELECT * FROM spans WHERE service_name = '{service_name}' ORDER BY start_unix_nano")


def server_binary() -> Path:
    given = os.environ.get("SCOUTER_SERVER_BIN")
    if given:
        return Path(given)
    return Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / "scouter-server"


@contextlib.contextmanager
def running_server(ports: tuple[int, int, int] | None = None, options: Sequence[str] = ()) -> Iterator[Server]:
    """A server with an empty storage, on free ports or on those of one that has ended."""
    with tempfile.TemporaryDirectory(prefix="scouter-test-") as folder:
        storage = Path(folder) / "storage"
        log = Path(folder) / "log"
        grpc, http, otlp_grpc = ports or (free_port(), free_port(), free_port())
        arguments = [
            str(server_binary()),
            "serve",
            f"--storage={storage}",
            f"--grpc-addr=127.0.0.1:{grpc}",
            f"--http-addr=127.0.0.1:{http}",
            f"--otlp-grpc-addr=127.0.0.1:{otlp_grpc}",
            "--otlp-http-addr=",
            *options,
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)

        def healthy() -> bool:
            assert process.poll() is None, f"the server ended:\n{log.read_text(errors='replace')}"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{http}/readyz", timeout=2) as answer:
                return int(answer.status) == 200
            return False

        try:
            wait_until(healthy, 60, "the server is healthy")
            yield Server(process, storage, grpc, http, otlp_grpc)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    binary = server_binary()
    if not binary.exists():
        pytest.fail(f"no server at {binary}: build it with `cargo build --release --bin scouter-server`", pytrace=False)
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _tracing_ends_with_the_test() -> Iterator[None]:
    yield
    tracing.shutdown_tracer(timeout=2)


@pytest.fixture
def unreachable() -> GrpcConfig:
    """Where nobody listens."""
    return GrpcConfig(f"http://127.0.0.1:{free_port()}", timeout_secs=1)


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in an interpreter of its own: some things can be done once a process only."""

    def run(program: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "program.py"
        path.write_text(program)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "SCOUTER_"))}
        return subprocess.run(
            [sys.executable, str(path)],
            env={**clean, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
