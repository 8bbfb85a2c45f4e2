"""What a span costs the thread that makes it and the process it is made in, beside other clients.

Every contender runs in a process of its own, against the same server, with a queue that holds all its spans; what the server
stored is counted, since a dropped span is not a cheap one. Rounds alternate; medians and ranges are printed.

    SCOUTER_SERVER_BIN=target/release/scouter-server python benches/span_cost.py [--spans 20000] [--rounds 5] [--peer NAME=PYTHON ...]

A peer that is not installed here runs in the Python of another environment: ``--peer logfire=venv/bin/python``, ``--peer scouter-ml=...``.
columns: µs a span on the calling thread (wall clock of the loop), CPU µs a span of the whole process until all is delivered,
how long a thread that computes waits for the interpreter's lock while spans are exported, seconds to import and to initialise,
MiB that the process grew by.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

FOUR = {"http.request.method": "GET", "http.route": "/users/{id}", "http.response.status_code": 200, "cached": False}
TEN = {**FOUR, "db.system": "postgresql", "user.id": "u-4711", "attempt": 1, "share": 0.25, "region": "eu-west-1", "server.port": 443}
NAME = "GET /users/{id}"
QUEUE = 1 << 20

HERE = ("api-noop", "sdk-alone", "sdk-otlp-grpc", "scouter")


def contender(name: str, service: str, grpc: str, otlp: str, token: str, ratio: float = 1.0) -> tuple[Any, Callable[[], object]]:
    """A tracer, and what waits until its spans are delivered."""
    from opentelemetry import trace

    headers = {"authorization": f"Bearer {token}"}
    if name == "api-noop":
        return trace.NoOpTracerProvider().get_tracer("bench"), lambda: True
    if name == "scouter":
        from scouter.tracing import BatchConfig, flush_tracer, init_tracer
        from scouter.transport import GrpcConfig

        tracer = init_tracer(service, transport_config=GrpcConfig(grpc), batch_config=BatchConfig(max_queue_size=QUEUE), sample_ratio=ratio)
        return tracer, lambda: flush_tracer(60)
    if name == "scouter-ml":
        from scouter.tracing import BatchConfig, flush_tracer, get_tracer, init_tracer
        from scouter.transport import GrpcConfig

        init_tracer(service_name=service, transport_config=GrpcConfig(server_uri=grpc), batch_config=BatchConfig(max_queue_size=QUEUE))
        return get_tracer("bench"), flush_tracer

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    if name == "sdk-alone":
        return TracerProvider(shutdown_on_exit=False).get_tracer("bench"), lambda: True

    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp, insecure=True, headers=headers), max_queue_size=QUEUE)
    if name == "logfire":
        import logfire

        logfire.configure(service_name=service, send_to_logfire=False, console=False, additional_span_processors=[processor])
        return trace.get_tracer("bench"), processor.force_flush
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), shutdown_on_exit=False, sampler=ParentBased(TraceIdRatioBased(ratio))
    )
    provider.add_span_processor(processor)
    return provider.get_tracer("bench"), provider.force_flush


def plain(tracer: Any, attributes: dict[str, Any]) -> Callable[[int], None]:
    def loop(spans: int) -> None:
        for _ in range(spans):
            tracer.start_span(NAME, attributes=attributes).end()

    return loop


def current(tracer: Any, attributes: Any) -> Callable[[int], None]:
    def loop(spans: int) -> None:
        for _ in range(spans):
            with tracer.start_as_current_span(NAME, attributes=attributes):
                pass

    return loop


def decorated(tracer: Any) -> Callable[[int], None]:
    @tracer.start_as_current_span(NAME)
    def work() -> None:
        return

    def loop(spans: int) -> None:
        for _ in range(spans):
            work()

    return loop


def captured(name: str, tracer: Any) -> Callable[[int], None] | None:
    """A decorated function whose arguments and result are kept, where the client has that."""

    def answer(question: str, limit: int = 3) -> dict[str, Any]:
        return {"question": question, "limit": limit, "answers": ["a pen", "a book"]}

    if name == "logfire":
        import logfire

        work: Any = logfire.instrument(NAME, record_return=True)(answer)
    elif name in ("scouter", "scouter-ml"):
        work = tracer.span(NAME)(answer)
    else:
        return None

    def loop(spans: int) -> None:
        for _ in range(spans):
            work("what is on the desk?")

    return loop


def waited_for_the_lock(loop: Callable[[int], None], flush: Callable[[], object], spans: int) -> tuple[float, float]:
    """While spans are exported this thread computes: seconds it did not run, and seconds of all that.

    With a CPU for each thread it waits for nothing but the interpreter's lock.
    """
    loop(spans)
    exporting = threading.Thread(target=flush)
    exporting.start()
    begun, cpu = time.perf_counter(), time.thread_time()
    while exporting.is_alive():
        sum(range(2000))
    wall, cpu = time.perf_counter() - begun, time.thread_time() - cpu
    return max(0.0, wall - cpu), wall


def most_memory_mib() -> float:
    """The largest resident size since it was last reset. What `getrusage` tells began with that of the parent."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def measured(name: str, spans: int, given: list[Any]) -> dict[str, float]:
    """All cases of one contender, in this process."""
    begun = time.perf_counter()
    import opentelemetry.trace  # noqa: F401

    if name in ("scouter", "scouter-ml"):
        import scouter.tracing  # noqa: F401
    imported = time.perf_counter()
    tracer, flush = contender(name, *given)
    ready = time.perf_counter()
    result = {"import_s": imported - begun, "init_s": ready - imported}
    Path("/proc/self/clear_refs").write_text("5")
    size = most_memory_mib()
    cases = {
        "no attributes": plain(tracer, {}),
        "4 attributes": plain(tracer, FOUR),
        "10 attributes": plain(tracer, TEN),
        "with, 4": current(tracer, FOUR),
        "decorator": decorated(tracer) if name != "scouter-ml" else plain(tracer, {}),
    }
    if name == "scouter-ml":
        # It takes attributes in a list, as text, and its spans are context managers only.
        cases = {"with, 4": current(tracer, [{key: str(value) for key, value in FOUR.items()}])}
    with_capture = captured(name, tracer)
    if with_capture is not None:
        cases["decorator with capture"] = with_capture
    for case, loop in cases.items():
        loop(300)
        flush()
        cpu, begun = time.process_time(), time.perf_counter()
        loop(spans)
        result[case] = (time.perf_counter() - begun) / spans * 1e6
        flush()
        result[f"CPU, {case}"] = (time.process_time() - cpu) / spans * 1e6
    if name not in ("api-noop", "sdk-alone"):
        waited, wall = waited_for_the_lock(cases["with, 4"], flush, spans)
        result["lock, ms a 10000 spans"] = waited / spans * 1e7
        result["lock, % of the export"] = 100 * waited / wall
    result["grown_mib"] = most_memory_mib() - size
    if name in ("scouter", "sdk-otlp-grpc"):
        unsampled, _ = contender(name, *given[:4], 0.0)
        loop = plain(unsampled, FOUR)
        loop(300)
        begun = time.perf_counter()
        loop(spans)
        result["unsampled, 4"] = (time.perf_counter() - begun) / spans * 1e6
    return result


def cases(result: dict[str, float]) -> int:
    return sum(key.startswith("CPU") for key in result)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="append", default=[], help="NAME=PYTHON of another environment")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        name, *given = json.loads(arguments.contender)
        print(json.dumps(measured(name, arguments.spans, given)))
        return

    from conftest import running_server

    pythons = {name: sys.executable for name in HERE} | dict(peer.split("=", 1) for peer in arguments.peer)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
    with running_server() as server:
        for _ in range(arguments.rounds):
            for name, python in pythons.items():
                service = str(uuid.uuid4())
                given = [name, service, server.grpc_uri, f"http://127.0.0.1:{server.otlp_grpc_port}", server.token()]
                command = [python, __file__, "--spans", str(arguments.spans), "--contender", json.dumps(given)]
                done = subprocess.run(command, check=False, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{name}: {done.stderr[-2000:]}")
                (row,) = server.sql(f"SELECT count(*) AS n FROM spans WHERE service_name = '{service}'")
                result = json.loads(done.stdout.splitlines()[-1])
                result["made"] = cases(result) * (arguments.spans + 300) + ("lock, % of the export" in result) * arguments.spans
                results[name].append({**result, "stored": row["n"]})

    print(f"{arguments.spans} spans a case, {arguments.rounds} rounds, Python {sys.version.split()[0]}, {os.cpu_count()} CPUs")
    for name, rounds in results.items():
        print(f"\n{name}: {rounds[0]['made']} spans a round, stored at least {min(int(r['stored']) for r in rounds)}")
        for key in rounds[0]:
            if key not in ("made", "stored"):
                values = [r[key] for r in rounds]
                print(f"  {key:22} {statistics.median(values):8.2f}   ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
