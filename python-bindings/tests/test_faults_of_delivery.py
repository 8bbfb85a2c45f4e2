"""Faults of delivery that the client of Scouter itself has, by their numbers in our notes; the others are in `test_known_faults.py`."""

from __future__ import annotations

import gc
import http.server
import json
import math
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from typing import Any, cast

import pytest
from opentelemetry import baggage
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from conftest import REPOSITORY, Server, free_port, running_server, wait_until
from scouter import Feature, Features, GrpcConfig, Metrics, ScouterClient, ScouterQueue
from scouter.tracing import (
    BatchConfig,
    GrpcSpanExporter,
    HttpSpanExporter,
    OtelExportConfig,
    ScouterTracer,
    TestSpanExporter,
    extract_span_context_from_headers,
    flush_tracer,
    get_tracing_headers_from_current_span,
    init_tracer,
    shutdown_tracer,
    stats,
)
from scouter.transport import HttpConfig

PROFILES = REPOSITORY / "exporter" / "tests" / "fixtures" / "scouter-0.25"


def profile(kind: str, **config: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((PROFILES / f"profile_{kind}.json").read_text())
    made["config"].update(uid=str(uuid.uuid4()), **config)
    return made


def uid(made: dict[str, Any]) -> str:
    return str(made["config"]["uid"])


def count(server: Server, table: str, entity: str) -> int:
    (row,) = server.sql(f"SELECT count(*) AS n FROM {table} WHERE entity_uid = '{entity}'")
    return int(row["n"])


def test_a1_an_export_that_fails_says_so(unreachable: GrpcConfig, caplog: pytest.LogCaptureFixture) -> None:
    results: list[SpanExportResult] = []

    class Watched(SpanExporter):
        def __init__(self) -> None:
            self.real = GrpcSpanExporter(unreachable)

        def export(self, spans: Any) -> SpanExportResult:
            results.append(self.real.export(spans))
            return results[-1]

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Watched()))
    provider.get_tracer("x").start_span("lost").end()
    assert results == [SpanExportResult.FAILURE]
    assert "spans not delivered: 1" in caplog.text


def test_a2_a6_a8_what_is_made_while_the_server_is_away_arrives_when_it_comes() -> None:
    ports, made = (free_port(), free_port(), free_port()), profile("custom", sample_size=2)
    config = GrpcConfig(f"http://127.0.0.1:{ports[0]}", "guest", "guest", timeout_secs=60)
    tracer = init_tracer("early", transport_config=config)
    queues = ScouterQueue.from_profile({"custom": made}, config)
    for number in range(6):
        tracer.start_span(f"span {number}").end()
        queues["custom"].insert(Metrics({"mae": float(number)}))
    wait_until(lambda: cast(int, stats()["retries"]) > 0, 20, "an attempt has failed")
    with running_server(ports) as server:
        assert flush_tracer(30), stats()
        assert queues.flush(30), queues.stats()
        assert len(server.spans("early")) == 6
        assert count(server, "custom_drift", uid(made)) == 3
        shutdown_tracer(5)
        queues.shutdown(5)


class Refusing(http.server.BaseHTTPRequestHandler):
    status = 500

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(Refusing.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [400, 401, 413, 422, 429, 500, 503])
def test_a3_no_http_status_but_success_is_success(status: int, refusing: str, unreachable: GrpcConfig) -> None:
    Refusing.status = status
    exporter = HttpSpanExporter(export_config=OtelExportConfig(endpoint=refusing, timeout=0.5))
    tracer = init_tracer("refused", transport_config=unreachable, exporter=exporter)
    tracer.start_span("x").end()
    assert not flush_tracer(3)
    counters = exporter.stats()
    assert (counters["exported"], counters["ended"]) == (0, 1)
    wait_until(lambda: exporter.stats()["last_error"] is not None, 5, "the answer is told")
    assert str(status) in str(exporter.stats()["last_error"])


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_a4_prompts_of_many_megabytes_arrive(way: str, server: Server) -> None:
    service = f"large-{uuid.uuid4()}"
    config = server.config() if way == "grpc" else HttpConfig(f"http://127.0.0.1:{server.http_port}", "guest", "guest")
    tracer = init_tracer(service, transport_config=config)
    for _ in range(600):
        tracer.start_span("prompt", attributes={"gen_ai.prompt": "x" * 10_000}).end()
    assert flush_tracer(30), stats()
    assert len(server.sql(f"SELECT name FROM spans WHERE service_name = '{service}'")) == 600


def test_a5_a_token_that_is_worth_nothing_any_more_costs_a_login_and_no_span() -> None:
    with running_server() as first:
        ports = (first.grpc_port, first.http_port, first.otlp_grpc_port)
        tracer = init_tracer("keys", transport_config=first.config(timeout_secs=60))
        tracer.start_span("before").end()
        assert flush_tracer(10)
    # Another storage has other keys: what the exporter holds is refused from now on.
    with running_server(ports) as second:
        tracer.start_span("after").end()
        assert flush_tracer(30), stats()
        assert [row["name"] for row in second.spans("keys")] == ["after"]
        shutdown_tracer(5)


def test_a7_memory_is_bounded_and_what_does_not_fit_is_counted(unreachable: GrpcConfig) -> None:
    tracer = init_tracer(transport_config=unreachable, batch_config=BatchConfig(max_queue_size=100, max_queue_bytes=100_000))
    for _ in range(5000):
        tracer.start_span("x", attributes={"text": "y" * 100}).end()
    counters = stats()
    held = cast(int, counters["queued"]) + cast(int, counters["in_flight"])
    assert (counters["ended"], held <= 100) == (5000, True)
    assert cast(int, counters["dropped"]) + held + cast(int, counters["exported"]) == 5000
    assert cast(int, counters["pending_bytes"]) <= 100_000
    assert GrpcConfig().timeout_secs == 10


def test_a9_one_value_without_a_bin_costs_its_neighbours_nothing(server: Server) -> None:
    made = profile("psi_categorical")
    with ScouterQueue.from_profile({"psi": made}, server.config()) as queues:
        for region in ("us-west-2", "the moon", "us-east-1"):
            queues["psi"].insert(Features([Feature.string("region", region)]))
        queues["psi"].insert(Features([Feature.float("region", math.nan)]))
        assert queues.flush(10)
    rows = server.sql(f"SELECT bin_id, bin_count FROM psi_drift WHERE entity_uid = '{uid(made)}'")
    counts = {int(row["bin_id"]): int(row["bin_count"]) for row in rows}
    assert (counts[1], counts[2]) == (1, 1)


def test_a10_a11_a_flush_publishes_a_window_of_spc_that_is_not_full_and_rows_without_a_watched_feature(server: Server) -> None:
    made = profile("spc")
    with ScouterQueue.from_profile({"spc": made}, server.config()) as queues:
        for _ in range(60):
            queues["spc"].insert(Features({"nobody watches this": 1.0}))
        for number in range(3):
            queues["spc"].insert(Features({"f1": float(number)}))
        assert queues.flush(10)
        queues["spc"].insert(Features({"f1": 5.0}))
    rows = server.sql(f"SELECT value FROM spc_drift WHERE entity_uid = '{uid(made)}' AND feature = 'f1' ORDER BY value")
    assert [row["value"] for row in rows] == [1.0, 5.0]


def test_a12_a_shutdown_drains_and_does_not_sleep(server: Server) -> None:
    profiles = {f"custom {n}": profile("custom") for n in range(8)}
    queues = ScouterQueue.from_profile(profiles, server.config())
    for alias in profiles:
        for _ in range(40):
            queues[alias].insert(Metrics({"mae": 1.0}))
    report = queues.shutdown(20)
    # A full window and the begun one of each.
    assert (report.delivered, report.undelivered) == (16, 0)


@pytest.mark.parametrize("payload", ["auto", "json"])
def test_a13_nan_and_infinity_poison_nothing(payload: str, server: Server) -> None:
    service, made = f"nan-{uuid.uuid4()}", profile("custom", sample_size=1)
    config = server.config(payload=payload)
    tracer = init_tracer(service, transport_config=config)
    for value in (math.nan, math.inf, 1.0):
        tracer.start_span("x", attributes={"value": value, "values": [value, 2.0]}).end()
    with ScouterQueue.from_profile({"custom": made}, config) as queues:
        for value in (math.nan, 1.0, math.inf, 2.0):
            queues["custom"].insert(Metrics({"mae": value, "acc": 5.0}))
        queues.flush(10)
    assert flush_tracer(10), stats()
    assert len(server.spans(service)) == 3
    rows = server.sql(f"SELECT value FROM custom_drift WHERE entity_uid = '{uid(made)}' AND metric = 'acc'")
    assert len(rows) == 4
    finite = server.sql(f"SELECT value FROM custom_drift WHERE entity_uid = '{uid(made)}' AND metric = 'mae' AND value < 10 ORDER BY value")
    assert [row["value"] for row in finite][:2] == [1.0, 2.0]


def test_a18_a_full_queue_makes_no_caller_wait(unreachable: GrpcConfig) -> None:
    queues = ScouterQueue.from_profile({"genai": profile("genai")}, unreachable)
    tracer = init_tracer(transport_config=unreachable, batch_config=BatchConfig(max_queue_size=1, max_export_batch_size=1))
    begun = time.monotonic()
    for number in range(20_000):
        queues["genai"].insert({"question": number, "text": "x" * 5000})
        tracer.start_span("x").end()
    # Scouter's waits 0.6 s for each item that does not fit, and thousands did not.
    assert time.monotonic() - begun < 60
    assert cast(int, stats()["dropped"]) > 1000
    assert queues.stats()["records"]["dropped"] > 1000
    queues.shutdown(0)


def test_a19_spans_that_never_end_are_forgotten(unreachable: GrpcConfig) -> None:
    tracer = init_tracer(transport_config=unreachable)
    left = [weakref.ref(tracer.start_span("never ended", attributes={"n": n})) for n in range(1000)]
    gc.collect()
    assert [one for one in left if one() is not None] == []
    assert stats()["ended"] == 0


def test_c3_baggage_reaches_children_headers_and_the_server(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    service, kept = f"baggage-{uuid.uuid4()}", TestSpanExporter()
    tracer = cast(ScouterTracer, init_tracer(service, transport_config=server.config(), exporter=kept))

    @tracer.span("decorated", baggage={"plan": "gold"})
    def decorated() -> object:
        return baggage.get_baggage("plan")

    with tracer.start_as_current_span("outer", baggage=[{"tenant": "blue"}]) as outer:
        with tracer.start_as_current_span("inner"):
            assert baggage.get_baggage("tenant") == "blue"
            headers = get_tracing_headers_from_current_span()
        assert decorated() == "gold"
    assert headers["baggage"] == "tenant=blue"
    with tracer.start_as_current_span("in another process", headers=headers):
        assert baggage.get_baggage("tenant") == "blue"
    assert {(one.key, one.value) for one in kept.baggage} == {("tenant", "blue"), ("plan", "gold")}
    assert flush_tracer(10)
    with ScouterClient(HttpConfig(f"http://127.0.0.1:{server.http_port}", "guest", "guest")) as client:
        told = client.get_trace_baggage(f"{outer.get_span_context().trace_id:032x}").baggage
    assert {(one.key, one.value) for one in told} == {("tenant", "blue"), ("plan", "gold")}
    assert extract_span_context_from_headers(headers) is not None
    assert not caplog.records


def test_c5_what_was_dropped_and_nanoseconds_are_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2")
    service = f"exact-{uuid.uuid4()}"
    tracer = init_tracer(service, transport_config=server.config(), schema_url="https://x/1", global_provider="none")
    span = tracer.start_span("x", start_time=1_777_151_904_123_456_789, attributes={"a": 1, "b": 2, "c": 3})
    span.end(1_777_151_904_123_457_000)
    assert flush_tracer(10)
    (row,) = server.spans(service)
    assert (int(row["start_unix_nano"]), int(row["duration_nano"])) == (1_777_151_904_123_456_789, 211)
    assert (int(row["dropped_attributes_count"]), row["scope_schema_url"]) == (1, "https://x/1")


def test_c14_old_traces_are_told(server: Server) -> None:
    service = f"old-{uuid.uuid4()}"
    tracer = init_tracer(service, transport_config=server.config())
    week = 7 * 86400 * 1_000_000_000
    span = tracer.start_span("x", start_time=time.time_ns() - week)
    span.end(time.time_ns() - week + 1)
    assert flush_tracer(10)
    with ScouterClient(HttpConfig(f"http://127.0.0.1:{server.http_port}", "guest", "guest")) as client:
        assert len(client.get_trace_spans(f"{span.get_span_context().trace_id:032x}")) == 1


def test_g7_every_span_is_in_the_account(server: Server) -> None:
    tracer = init_tracer(transport_config=server.config())
    for _ in range(10):
        tracer.start_span("x").end()
    assert flush_tracer(10)
    counters = cast("dict[str, int]", stats())
    assert (
        counters["ended"] == counters["exported"] + counters["rejected"] + counters["dropped"] + counters["queued"] + counters["in_flight"]
    )
    assert counters["exported"] == 10
    exporter = GrpcSpanExporter(server.config())
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("x").start_span("x").end()
    assert exporter.stats()["exported"] == 1


def test_g9_a_shutdown_of_the_sdks_provider_closes_the_exporter(server: Server) -> None:
    service, exporter = f"closed-{uuid.uuid4()}", GrpcSpanExporter(server.config())
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("x")
    span = tracer.start_span("in time")
    span.end()
    assert provider.force_flush(1000)
    assert exporter.stats()["exported"] == 1
    provider.shutdown()
    assert exporter.export([cast(ReadableSpan, span)]) is SpanExportResult.FAILURE
    assert exporter.stats()["exported"] == 1
    assert [row["name"] for row in server.spans(service)] == ["in time"]
