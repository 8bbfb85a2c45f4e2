"""What a span of four attributes costs the thread that makes it, beside OpenTelemetry's own exporter.

Every contender runs in a process of its own, against the same server, with a queue that holds all its spans; what the server
stored is counted, since a dropped span is not a cheap one. Rounds alternate; medians and ranges are printed.

    SCOUTER_SERVER_BIN=target/release/scouter-server python benches/span_cost.py [--spans 20000] [--rounds 5]

columns: µs a span on the calling thread (wall clock of the loop), CPU µs a span of the whole process until all is delivered.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

ATTRIBUTES = {"http.request.method": "GET", "http.route": "/users/{id}", "http.response.status_code": 200, "cached": False}


def contender(name: str, spans: int, service: str, grpc: str, otlp: str, token: str) -> dict[str, float]:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    queue = 1 << 20
    if name == "api-noop":
        tracer, flush = trace.NoOpTracerProvider().get_tracer("bench"), lambda: True
    elif name == "sdk-alone":
        tracer, flush = TracerProvider(shutdown_on_exit=False).get_tracer("bench"), lambda: True
    elif name == "sdk-otlp-grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=otlp, insecure=True, headers={"authorization": f"Bearer {token}"})
        provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=queue))
        tracer, flush = provider.get_tracer("bench"), provider.force_flush
    else:
        from scouter.tracing import BatchConfig, flush_tracer, init_tracer
        from scouter.transport import GrpcConfig

        tracer = init_tracer(service, transport_config=GrpcConfig(grpc), batch_config=BatchConfig(max_queue_size=queue))
        flush = lambda: flush_tracer(60)  # noqa: E731

    for _ in range(500):
        tracer.start_span("warm up", attributes=ATTRIBUTES).end()
    flush()
    cpu = time.process_time()
    begun = time.perf_counter()
    for _ in range(spans):
        tracer.start_span("GET /users/{id}", attributes=ATTRIBUTES).end()
    caller = time.perf_counter() - begun
    flush()
    return {"caller_us": caller / spans * 1e6, "cpu_us": (time.process_time() - cpu) / spans * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        name, service, grpc, otlp, token = json.loads(arguments.contender)
        print(json.dumps(contender(name, arguments.spans, service, grpc, otlp, token)))
        return

    from conftest import running_server

    names = ["api-noop", "sdk-alone", "sdk-otlp-grpc", "scouter"]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with running_server() as server:
        for _ in range(arguments.rounds):
            for name in names:
                service = str(uuid.uuid4())
                given: list[Any] = [name, service, server.grpc_uri, f"http://127.0.0.1:{server.otlp_grpc_port}", server.token()]
                command = [sys.executable, __file__, "--spans", str(arguments.spans), "--contender", json.dumps(given)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                result = json.loads(done.stdout.splitlines()[-1])
                (row,) = server.sql(f"SELECT count(*) AS n FROM spans WHERE service_name = '{service}' AND name <> 'warm up'")
                results[name].append({**result, "stored": row["n"]})

    print(f"{arguments.spans} spans, {arguments.rounds} rounds, Python {sys.version.split()[0]}, {os.cpu_count()} CPUs")
    print(f"{'':14} {'caller µs a span':>26} {'process CPU µs a span':>26} {'stored':>8}")
    for name, rounds in results.items():
        columns = []
        for key in ("caller_us", "cpu_us"):
            values = [r[key] for r in rounds]
            columns.append(f"{statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})")
        print(f"{name:14} {columns[0]:>26} {columns[1]:>26} {min(int(r['stored']) for r in rounds):>8}")


if __name__ == "__main__":
    main()
