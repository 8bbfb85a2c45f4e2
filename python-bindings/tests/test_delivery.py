"""From a Python span to a stored row, through the real server."""

from __future__ import annotations

import json
import logging
import math
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode

from conftest import Server, wait_until
from scouter import AuthenticationError, GrpcConfig, ScouterError, UnavailableError
from scouter.tracing import BatchConfig, GrpcSpanExporter, flush_tracer, init_tracer, shutdown_tracer, stats


@pytest.fixture
def service() -> str:
    """A name no other test uses: all of them share one server."""
    return f"service-{uuid.uuid4()}"


def in_memory_spans(count: int, service: str) -> list[Any]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for n in range(count):
        provider.get_tracer("t").start_span(f"span {n}").end()
    return list(exporter.get_finished_spans())


def test_a_flushed_span_is_stored_with_all_it_has(server: Server, service: str) -> None:
    tracer = init_tracer(service, transport_config=server.config())
    linked = SpanContext(2**100, 2**60, is_remote=True)
    with tracer.start_as_current_span("outer", kind=SpanKind.SERVER, links=[Link(linked)], attributes={"n": 1, "s": "é"}) as outer:
        outer.add_event("note", {"k": [1, 2]})
        with tracer.start_as_current_span("inner") as inner:
            inner.set_status(StatusCode.ERROR, "went wrong")
    assert flush_tracer(timeout=10)

    rows = {row["name"]: row for row in server.spans(service)}
    assert set(rows) == {"outer", "inner"}
    context = outer.get_span_context()
    assert rows["outer"]["trace_id"] == rows["inner"]["trace_id"] == trace.format_trace_id(context.trace_id)
    assert rows["inner"]["parent_span_id"] == rows["outer"]["span_id"] == trace.format_span_id(context.span_id)
    assert not rows["outer"]["parent_span_id"]
    assert rows["inner"]["status_message"] == "went wrong"
    attributes = json.loads(rows["outer"]["attributes"])
    assert attributes["n"] == 1
    assert attributes["s"] == "é"
    counters = stats()
    assert counters["ended"] == counters["exported"] == 2
    assert counters["last_error"] is None


def test_the_end_of_the_process_delivers(server: Server, service: str, run_python: Any) -> None:
    done = run_python(
        "import scouter.tracing as t\ntracer = t.init_tracer()\nfor n in range(1000):\n    tracer.start_span('s').end()\n",
        env={"SCOUTER_GRPC_URI": server.grpc_uri, "OTEL_SERVICE_NAME": service},
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(server.spans(service)) == 1000


def test_every_span_of_many_threads_is_stored_once(server: Server, service: str) -> None:
    tracer = init_tracer(service, transport_config=server.config())

    def work(worker: int) -> None:
        for n in range(1000):
            with tracer.start_as_current_span(f"{worker}/{n}"):
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert flush_tracer(timeout=30)
    (row,) = server.sql(f"SELECT count(*) AS n, count(DISTINCT name) AS names FROM spans WHERE service_name = '{service}'")
    assert (row["n"], row["names"]) == (8000, 8000)


def test_a_burst_larger_than_the_queue_is_counted_to_the_last_span(server: Server, service: str) -> None:
    batch = BatchConfig(max_queue_size=64, max_export_batch_size=64, scheduled_delay_ms=10)
    tracer = init_tracer(service, transport_config=server.config(), batch_config=batch)
    for _ in range(5000):
        tracer.start_span("burst").end()
    shutdown_tracer(timeout=10)
    counters = stats()
    assert counters["ended"] == 5000
    assert counters["exported"] == len(server.spans(service))
    assert int(counters["exported"] or 0) + int(counters["dropped_queue_full"] or 0) == 5000


def test_shutdown_delivers_and_may_be_called_again(server: Server, service: str) -> None:
    tracer = init_tracer(service, transport_config=server.config())
    tracer.start_span("last").end()
    for _ in range(2):
        report = shutdown_tracer(timeout=10)
        assert (report.delivered, report.undelivered, report.complete) == (1, 0, True)
    again = init_tracer(service, transport_config=server.config())
    again.start_span("after a new init").end()
    assert flush_tracer(timeout=10)
    assert [row["name"] for row in server.spans(service)] == ["last", "after a new init"]


def test_reconfiguring_delivers_what_was_queued_to_the_former_server(server: Server, service: str, unreachable: GrpcConfig) -> None:
    batch = BatchConfig(scheduled_delay_ms=60_000)
    tracer = init_tracer(service, transport_config=server.config(), batch_config=batch)
    tracer.start_span("queued").end()
    init_tracer("other", transport_config=unreachable)
    assert [row["name"] for row in server.spans(service)] == ["queued"]


def test_a_wrong_password_is_told_and_loses_nothing_but_the_spans(server: Server, service: str, caplog: pytest.LogCaptureFixture) -> None:
    tracer = init_tracer(service, transport_config=GrpcConfig(server.grpc_uri, "guest", "hunter2"))
    tracer.start_span("nobody").end()
    begun = time.monotonic()
    assert flush_tracer(timeout=3) is False
    assert time.monotonic() - begun < 3.5
    with caplog.at_level(logging.WARNING, "scouter"):
        report = shutdown_tracer(timeout=1)
    assert (report.delivered, report.undelivered) == (0, 1)
    assert "spans not delivered: 1" in caplog.text
    assert "password is wrong" in caplog.text
    assert "hunter2" not in caplog.text
    assert server.spans(service) == []


def test_every_kind_of_attribute_comes_back_typed(server: Server, service: str) -> None:
    given: dict[str, Any] = {
        "text": "é\x00",
        "yes": True,
        "int": 2**63 - 1,
        "float": 1.0,
        "list": ["a", 1, None],
        "map": {"deep": [0.5]},
        "none": None,
    }
    tracer = init_tracer(service, transport_config=server.config())
    tracer.start_span("typed", attributes=given).end()
    assert flush_tracer(timeout=10)
    (row,) = server.spans(service)
    stored = json.loads(row["attributes"])
    assert stored == given
    assert isinstance(stored["float"], float)
    assert stored["yes"] is True


@pytest.mark.parametrize("processor", [BatchSpanProcessor, SimpleSpanProcessor])
def test_the_exporter_works_under_the_sdks_processors(processor: Any, server: Server, service: str) -> None:
    exporter = GrpcSpanExporter(server.config())
    provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(processor(exporter))
    for n in range(10):
        provider.get_tracer("t").start_span(str(n)).end()
    assert provider.force_flush(10_000)
    assert len(server.spans(service)) == 10
    assert exporter.stats()["exported"] == 10
    provider.shutdown()
    provider.shutdown()
    assert exporter.export(in_memory_spans(1, service)) is SpanExportResult.FAILURE


def test_the_exporter_answers_with_the_true_outcome(server: Server, service: str, unreachable: GrpcConfig) -> None:
    spans = in_memory_spans(3, service)
    assert GrpcSpanExporter(server.config()).export(spans) is SpanExportResult.SUCCESS
    assert len(server.spans(service)) == 3
    wrong = GrpcSpanExporter(GrpcConfig(server.grpc_uri, "guest", "wrong", timeout_secs=3))
    assert wrong.export(spans) is SpanExportResult.FAILURE
    with pytest.raises(AuthenticationError):
        wrong.send(spans)
    with pytest.raises(UnavailableError) as caught:
        GrpcSpanExporter(unreachable).send(spans)
    assert isinstance(caught.value, ScouterError)
    assert GrpcSpanExporter(unreachable).export([]) is SpanExportResult.SUCCESS


def test_two_destinations(server: Server, service: str) -> None:
    other = f"{service}-b"
    memory = InMemorySpanExporter()
    tracer = init_tracer(service, transport_config=server.config(), exporter=memory)
    tracer.start_span(other).end()
    assert flush_tracer(timeout=10)
    assert [span.name for span in memory.get_finished_spans()] == [row["name"] for row in server.spans(service)] == [other]


def test_the_sdks_own_otlp_exporter_stores_in_the_same_server(server: Server, service: str) -> None:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(
        endpoint=f"http://127.0.0.1:{server.otlp_grpc_port}", insecure=True, headers={"authorization": f"Bearer {server.token()}"}
    )
    assert exporter.export(in_memory_spans(5, service)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert len(server.spans(service)) == 5


def test_rows_cannot_be_asked_for_without_a_token(server: Server) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{server.http_port}/api/v1/sql", data=b'{"query": "SELECT 1"}')
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code == 401
    caught.value.close()


def test_the_delta_table_opens_with_other_readers_and_keeps_types(server: Server, service: str) -> None:
    deltalake = pytest.importorskip("deltalake")
    given: dict[str, Any] = {"text": "é", "yes": True, "int": 7, "float": 2.5, "list": ["a", "b"], "map": {"k": [1]}}
    tracer = init_tracer(service, transport_config=server.config())
    with tracer.start_as_current_span("lake", attributes=given) as span:
        context = span.get_span_context()
    assert flush_tracer(timeout=10)

    path = server.storage / "tables" / "spans"
    rows: list[dict[str, Any]] = []

    def committed() -> bool:
        if not (path / "_delta_log").exists():
            return False
        table = deltalake.DeltaTable(str(path)).to_pyarrow_table()
        rows[:] = [row for row in table.to_pylist() if row["service_name"] == service]
        return bool(rows)

    wait_until(committed, 20, "the span is in the Delta table")
    (row,) = rows
    assert row["trace_id"] == context.trace_id.to_bytes(16, "big")
    assert row["span_id"] == context.span_id.to_bytes(8, "big")
    assert row["name"] == "lake"
    stored = json.loads(row["attributes"])
    assert stored == given
    assert {key: type(value) for key, value in stored.items()} == {key: type(value) for key, value in given.items()}


def test_an_endless_timeout_delivers(server: Server, service: str) -> None:
    tracer = init_tracer(service, transport_config=server.config())
    tracer.start_span("flushed").end()
    assert flush_tracer(timeout=math.inf)
    tracer.start_span("at the end").end()
    report = shutdown_tracer(timeout=math.inf)
    assert (report.delivered, report.undelivered, report.complete) == (2, 0, True)
    assert [row["name"] for row in server.spans(service)] == ["flushed", "at the end"]


@pytest.mark.parametrize("timeout", [math.nan, -math.inf, -1.0, 0.0])
def test_no_time_at_all_is_no_error(unreachable: GrpcConfig, service: str, timeout: float) -> None:
    tracer = init_tracer(service, transport_config=unreachable)
    tracer.start_span("lost").end()
    assert not flush_tracer(timeout=timeout)
    assert shutdown_tracer(timeout=timeout).undelivered == 1


def test_an_exporter_takes_an_endless_timeout_for_its_shutdown(server: Server, service: str) -> None:
    exporter = GrpcSpanExporter(server.config())
    assert exporter.export(in_memory_spans(1, service)) is SpanExportResult.SUCCESS
    exporter.shutdown(timeout_millis=math.inf)
    assert exporter.export(in_memory_spans(1, service)) is SpanExportResult.FAILURE


def test_a_span_that_cannot_be_read_is_left_out_and_counted_and_its_neighbours_are_sent(
    server: Server, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, last = in_memory_spans(2, service)
    exporter = GrpcSpanExporter(server.config())
    with caplog.at_level(logging.WARNING, "scouter"):
        assert exporter.export([first, object(), last]) is SpanExportResult.FAILURE  # type: ignore[list-item]
    assert "could not be read" in caplog.text
    assert {row["name"] for row in server.spans(service)} == {"span 0", "span 1"}
    counters = exporter.stats()
    assert (counters["ended"], counters["exported"], counters["dropped_unreadable"]) == (3, 2, 1)


def test_the_account_goes_on_when_the_tracer_is_set_up_again(server: Server, unreachable: GrpcConfig, service: str) -> None:
    init_tracer(service, transport_config=server.config()).start_span("first").end()
    init_tracer(service, transport_config=server.config()).start_span("second").end()
    private = init_tracer(service, transport_config=server.config(), global_provider="none")
    private.start_span("third").end()
    assert flush_tracer(timeout=10)
    assert stats()["exported"] == 3
    shutdown_tracer()
    assert stats()["exported"] == 3
    init_tracer(service, transport_config=server.config())
    assert stats()["ended"] == 0, "after a shutdown it begins anew"


def test_a_second_exporter_that_hangs_does_not_hold_up_the_exit_where_no_thread_can_be_started(
    server: Server, service: str, run_python: Any
) -> None:
    done = run_python(
        """
import threading, time
import scouter.tracing as t
from opentelemetry.sdk.trace.export import SpanExporter

class Hanging(SpanExporter):
    def export(self, spans):
        time.sleep(120)

tracer = t.init_tracer(exporter=Hanging())
tracer.start_span("s").end()

def refuse(self):
    raise RuntimeError("can't create new thread at interpreter shutdown")

# As Python 3.12 and later do it. What is registered last is called first.
import atexit
atexit.register(lambda: setattr(threading.Thread, "start", refuse))
""",
        env={"SCOUTER_GRPC_URI": server.grpc_uri, "OTEL_SERVICE_NAME": service},
        timeout=25,
    )
    assert "a second exporter did not shut down in time" in done.stderr
    assert [row["name"] for row in server.spans(service)] == ["s"]
