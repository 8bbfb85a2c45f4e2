"""Spans of forked children arrive, once, under ids of their own."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Server

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")

PROGRAM_HEAD = """
import multiprocessing, os, sys, time
import scouter.tracing as tracing
from scouter.transport import GrpcConfig
tracer = tracing.init_tracer()
"""


def environment(server: Server, service: str) -> dict[str, str]:
    return {"SCOUTER_GRPC_URI": server.grpc_uri, "OTEL_SERVICE_NAME": service}


def names(server: Server, service: str) -> list[str]:
    return sorted(row["name"] for row in server.spans(service))


def check(run_python: Callable[..., subprocess.CompletedProcess[str]], server: Server, program: str, expected: list[str]) -> None:
    service = f"fork-{uuid.uuid4()}"
    done = run_python(PROGRAM_HEAD + program, env=environment(server, service))
    assert done.returncode == 0, done.stderr
    assert "not delivered" not in done.stderr
    assert names(server, service) == expected
    rows = server.spans(service)
    assert len({row["span_id"] for row in rows}) == len(rows)
    assert len({row["trace_id"] for row in rows}) == len(rows)


def test_a_child_by_os_fork_delivers_its_own_spans(run_python: Any, server: Server) -> None:
    program = """
tracer.start_span("before the fork, delivered").end()
tracing.flush_tracer(10)
tracer.start_span("before the fork, queued").end()
child = os.fork()
tracer.start_span("parent" if child else "child").end()
if child:
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
"""
    check(run_python, server, program, ["before the fork, delivered", "before the fork, queued", "child", "parent"])


def test_a_child_that_leaves_by_os_exit_delivers_what_it_flushes(run_python: Any, server: Server) -> None:
    program = """
tracer.start_span("parent").end()
tracing.flush_tracer(10)
child = os.fork()
if child == 0:
    tracer.start_span("child").end()
    os._exit(0 if tracing.flush_tracer(10) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    check(run_python, server, program, ["child", "parent"])


@pytest.mark.parametrize("method", sorted(set(multiprocessing.get_all_start_methods()) & {"fork", "forkserver", "spawn"}))
def test_children_of_multiprocessing_deliver_when_they_end(method: str, run_python: Any, server: Server) -> None:
    program = f"""
def work(n):
    tracing.get_tracer("worker").start_span(f"child {{n}}").end()

if __name__ == "__main__":
    tracer.start_span("parent").end()
    tracing.flush_tracer(10)
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=work, args=(n,)) for n in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0, child.exitcode
"""
    check(run_python, server, program, ["child 0", "child 1", "child 2", "parent"])


def test_a_child_may_initialise_by_itself(run_python: Any, server: Server) -> None:
    program = """
def work():
    tracing.init_tracer(os.environ["OTEL_SERVICE_NAME"]).start_span("child").end()

if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    assert child.exitcode == 0, child.exitcode
"""
    check(run_python, server, program, ["child"])


def test_a_processor_made_by_hand_delivers_in_a_child(run_python: Any, server: Server) -> None:
    program = """
from opentelemetry.sdk.trace import TracerProvider
processor = tracing.GrpcSpanProcessor()
provider = TracerProvider()
provider.add_span_processor(processor)
tracer = provider.get_tracer("by hand")
tracer.start_span("parent").end()
assert processor.force_flush(10000)
child = os.fork()
if child == 0:
    tracer.start_span("child").end()
    os._exit(0 if processor.force_flush(10000) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    check(run_python, server, program, ["child", "parent"])


def test_a_fork_while_other_threads_trace_hangs_nobody(run_python: Any, server: Server) -> None:
    program = """
import threading
stop = threading.Event()
def trace_on():
    while not stop.is_set():
        tracer.start_span("thread").end()
        time.sleep(0.0001)
threads = [threading.Thread(target=trace_on) for _ in range(4)]
for thread in threads: thread.start()
for n in range(10):
    child = os.fork()
    if child == 0:
        tracer.start_span(f"child").end()
        os._exit(0 if tracing.flush_tracer(10) else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
"""
    service = f"fork-{uuid.uuid4()}"
    done = run_python(PROGRAM_HEAD + program, env=environment(server, service))
    assert done.returncode == 0, done.stderr
    assert names(server, service).count("child") == 10
