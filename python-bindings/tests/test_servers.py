"""Programs that run other people's code: pre-forking servers and workers, automatic instrumentation, notebooks. Every span arrives."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
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


TASKS = """
import os, pathlib
import celery
import scouter.tracing as tracing

folder = pathlib.Path(__file__).parent
app = celery.Celery("application", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(folder / "queue"), "data_folder_out": str(folder / "queue"), "control_folder": str(folder / "control")
}
app.conf.worker_max_tasks_per_child = 3
app.conf.task_ignore_result = True
tracer = tracing.init_tracer()
tracer.start_span("while the application loads").end()

@app.task
def work(n):
    with tracer.start_as_current_span("task", attributes={"n": n, "pid": os.getpid()}):
        pass
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_celery_prefork_whose_children_end_after_three_tasks(server: Server, tmp_path: Path) -> None:
    service, tasks = f"celery-{uuid.uuid4()}", 20
    (tmp_path / "application.py").write_text(TASKS)
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    environment = {**os.environ, "SCOUTER_GRPC_URI": server.grpc_uri}
    producer = f"from application import work\nfor n in range({tasks}): work.delay(n)"
    subprocess.run(
        [sys.executable, "-c", producer], cwd=tmp_path, env={**environment, "OTEL_SERVICE_NAME": "producer"}, check=True, timeout=60
    )
    command = [sys.executable, "-m", "celery", "-A", "application", "worker", "--pool=prefork", "--concurrency=2", "--loglevel=warning"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            command, cwd=tmp_path, env={**environment, "OTEL_SERVICE_NAME": service}, stdout=output, stderr=subprocess.STDOUT
        )

    def done() -> bool:
        assert worker.poll() is None, log.read_text()
        query = f"SELECT name FROM spans WHERE service_name = '{service}' AND name = 'task'"
        return len(server.sql(query)) >= tasks

    try:
        wait_until(done, 60, "every task's span is stored")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0, log.read_text()
    finally:
        worker.kill()
        worker.wait()
    assert "not delivered" not in log.read_text()
    rows = server.spans(service)
    names = [row["name"] for row in rows]
    assert (names.count("task"), names.count("while the application loads")) == (tasks, 1)
    assert len({row["span_id"] for row in rows}) == len({row["trace_id"] for row in rows}) == tasks + 1
    pids = server.sql(f"SELECT DISTINCT attr_int(attributes, 'pid') AS pid FROM spans WHERE service_name = '{service}' AND name = 'task'")
    assert len(pids) >= tasks / 3


UNDER_LOAD = """
import asyncio
from fastapi import FastAPI
from opentelemetry import trace

app = FastAPI()
tracer = trace.get_tracer("application")

@app.get("/answer/{number}")
async def answer(number: int):
    with tracer.start_as_current_span("think", attributes={"number": number}):
        await asyncio.sleep(0.001)
        return await asyncio.to_thread(look_up, number)

def look_up(number):
    with tracer.start_as_current_span("look up"):
        return {"answer": number}
"""


def test_fastapi_under_load_and_automatic_instrumentation_has_every_trace_complete(server: Server, tmp_path: Path) -> None:
    """A program that knows nothing of us: `opentelemetry-instrument` takes our provider, connections are real ones."""
    service, port, threads, requests = f"auto-{uuid.uuid4()}", free_port(), 8, 250
    (tmp_path / "application.py").write_text(UNDER_LOAD)
    environment = {
        **os.environ,
        "SCOUTER_GRPC_URI": server.grpc_uri,
        "OTEL_SERVICE_NAME": service,
        "OTEL_PYTHON_CONFIGURATOR": "scouter",
        "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "ready",
    }
    instrument = Path(sys.executable).with_name("opentelemetry-instrument")
    command = [str(instrument), "uvicorn", f"--port={port}", "--log-level=warning", "application:app"]
    environment["PATH"] = f"{instrument.parent}{os.pathsep}{environment.get('PATH', '')}"
    log = tmp_path / "log"
    with log.open("wb") as output:
        uvicorn = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT)

    def listens() -> bool:
        assert uvicorn.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    failures: list[object] = []

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for number in range(first, first + requests):
            caller = f"00-{number + 1:032x}-{1:016x}-01"
            connection.request("GET", f"/answer/{number}", headers={"traceparent": caller})
            answer = json.load(connection.getresponse())
            if answer != {"answer": number}:
                failures.append(answer)
        connection.close()

    try:
        wait_until(listens, 60, "uvicorn listens")
        clients = [threading.Thread(target=ask, args=(one * requests,)) for one in range(threads)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        uvicorn.send_signal(signal.SIGTERM)
        uvicorn.wait(30)
    finally:
        uvicorn.kill()
        uvicorn.wait()
    assert failures == []
    assert "not delivered" not in log.read_text()
    total = threads * requests
    (row,) = server.sql(
        f"""SELECT count(*) AS traces, min(n) AS fewest, max(n) AS most, sum(roots) AS roots, sum(linked) AS linked FROM (
              SELECT s.trace_id, count(*) AS n, count(p.span_id) AS linked,
                     count(*) FILTER (WHERE s.kind = 'SERVER' AND s.parent_span_id = X'{1:016x}') AS roots
              FROM spans s LEFT JOIN spans p ON s.trace_id = p.trace_id AND s.parent_span_id = p.span_id
              WHERE s.service_name = '{service}' AND s.name NOT LIKE '% http send' AND s.name NOT LIKE '% http receive'
              GROUP BY s.trace_id)"""
    )
    assert row == {"traces": total, "fewest": 3, "most": 3, "roots": total, "linked": 2 * total}


def test_notebooks(server: Server) -> None:
    nbformat = pytest.importorskip("nbformat")
    from nbclient import NotebookClient

    service = f"notebook-{uuid.uuid4()}"
    cells = [
        f"""
import asyncio
import scouter.tracing as tracing
from opentelemetry import trace
from scouter.transport import GrpcConfig
tracer = tracing.init_tracer({service!r}, transport_config=GrpcConfig({server.grpc_uri!r}))
""",
        """
with tracer.start_as_current_span("cell") as cell:
    await asyncio.sleep(0)
    async def part(n):
        with tracer.start_as_current_span(f"part {n}") as span:
            await asyncio.sleep(0.001)
            assert span.parent.span_id == cell.get_span_context().span_id
    await asyncio.gather(part(1), part(2))
""",
        "assert not trace.get_current_span().get_span_context().is_valid",
        # The same cell runs again, as people do.
        f"""
tracer = tracing.init_tracer({service!r}, transport_config=GrpcConfig({server.grpc_uri!r}))
tracer.start_span("again").end()
assert tracing.flush_tracer(10)
""",
        'tracer.start_span("left to the end of the kernel").end()',
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    assert [output for cell in notebook.cells for output in cell.outputs] == []
    expected = ["again", "cell", "left to the end of the kernel", "part 1", "part 2"]
    wait_until(lambda: len(server.spans(service)) >= len(expected), 10, "the kernel's last span is stored")
    assert sorted(row["name"] for row in server.spans(service)) == expected
