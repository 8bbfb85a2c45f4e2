"""Servers that load the application once and fork: every worker's spans arrive, under ids of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest

from conftest import Server, free_port, wait_until

APPLICATION = """
import os
import scouter.tracing as tracing
tracer = tracing.init_tracer()
tracer.start_span("while the application loads").end()

def app(environ, start_response):
    with tracer.start_as_current_span("request", attributes={"pid": os.getpid()}):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_gunicorn_with_preload(server: Server, tmp_path: Path) -> None:
    service, port, requests = f"gunicorn-{uuid.uuid4()}", free_port(), 40
    (tmp_path / "application.py").write_text(APPLICATION)
    environment = {**os.environ, "SCOUTER_GRPC_URI": server.grpc_uri, "OTEL_SERVICE_NAME": service}
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers=3", f"--bind=127.0.0.1:{port}", "application:app"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        gunicorn = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT)
    answers: list[bytes] = []

    def asked() -> bool:
        assert gunicorn.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                answers.append(answer.read())
        except OSError:
            return False
        return True

    try:
        wait_until(asked, 30, "gunicorn answers")
        for _ in range(requests - 1):
            assert asked()
        gunicorn.send_signal(signal.SIGTERM)
        assert gunicorn.wait(30) == 0, log.read_text()
    finally:
        gunicorn.kill()
        gunicorn.wait()
    assert "not delivered" not in log.read_text()
    rows = server.spans(service)
    names = [row["name"] for row in rows]
    assert (names.count("request"), names.count("while the application loads")) == (requests, 1)
    assert len({row["span_id"] for row in rows}) == len({row["trace_id"] for row in rows}) == requests + 1
