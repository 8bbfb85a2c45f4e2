"""Second destinations: the same spans, encoded once, to a Scouter server and to any OTLP server, each with an account of its own."""

from __future__ import annotations

import base64
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from conftest import Server, free_port, running_server
from scouter import ConfigError, GrpcConfig
from scouter.tracing import (
    GrpcSpanExporter,
    HttpSpanExporter,
    OtelExportConfig,
    OtelProtocol,
    flush_tracer,
    init_tracer,
    shutdown_tracer,
    stats,
)

BASIC = {"authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}


@pytest.fixture(scope="module")
def collector() -> Iterator[Server]:
    """Another server, which here is just somebody who speaks OTLP."""
    with running_server() as server:
        yield server


def exporters(collector: Server) -> dict[str, Callable[[], HttpSpanExporter | GrpcSpanExporter]]:
    http = OtelExportConfig(endpoint=f"http://127.0.0.1:{collector.http_port}/v1/traces", headers=BASIC, compression="gzip")
    grpc = OtelExportConfig(endpoint=f"http://127.0.0.1:{collector.otlp_grpc_port}", headers=BASIC)
    return {
        "http": lambda: HttpSpanExporter(export_config=http),
        "http, each at once": lambda: HttpSpanExporter(batch_export=False, export_config=http),
        "grpc": lambda: GrpcSpanExporter(export_config=grpc),
        "another scouter": lambda: GrpcSpanExporter(collector.config()),
    }


@pytest.mark.parametrize("which", ["http", "http, each at once", "grpc", "another scouter"])
def test_both_destinations_have_the_same_spans(which: str, server: Server, collector: Server) -> None:
    service = f"dual-{uuid.uuid4()}"
    exporter = exporters(collector)[which]()
    tracer = init_tracer(service, transport_config=server.config(), exporter=exporter)
    with tracer.start_as_current_span("outer", attributes={"n": 1 << 60, "text": "é"}):
        for number in range(20):
            tracer.start_span("inner", attributes={"number": number}).end()
    assert flush_tracer(10)
    columns = "SELECT hex(trace_id) AS t, hex(span_id) AS s, name, attributes, start_unix_nano FROM spans"
    query = f"{columns} WHERE service_name = '{service}' ORDER BY s"
    first, second = server.sql(query), collector.sql(query)
    assert len(first) == 21
    assert first == second
    assert (stats()["exported"], exporter.stats()["exported"], exporter.stats()["ended"]) == (21, 21, 21)


def test_one_that_is_gone_costs_the_other_nothing(server: Server, unreachable: GrpcConfig, collector: Server) -> None:
    for working in ("first", "second"):
        service = f"dual-{uuid.uuid4()}"
        gone = OtelExportConfig(endpoint=f"http://127.0.0.1:{free_port()}/v1/traces", timeout=30)
        second = exporters(collector)["http"]() if working == "second" else HttpSpanExporter(export_config=gone)
        config = server.config() if working == "first" else GrpcConfig(unreachable.server_uri, timeout_secs=30)
        init_tracer(service, transport_config=config, exporter=second).start_span("x").end()
        begun = time.monotonic()
        assert not flush_tracer(2)
        assert len((server if working == "first" else collector).spans(service)) == 1
        shutdown_tracer(0.5)
        assert time.monotonic() - begun < 20
        assert (stats()["exported"], second.stats()["exported"]) == ((1, 0) if working == "first" else (0, 1))


def test_what_a_second_destination_did_not_get_is_told_with_its_name(
    server: Server, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    port = free_port()
    program = f"""
import logging, threading
logging.basicConfig(filename="/dev/null")
from scouter.tracing import HttpSpanExporter, OtelExportConfig, init_tracer
config = OtelExportConfig(endpoint="http://127.0.0.1:{port}/v1/traces", timeout=0.5)
tracer = init_tracer(exporter=HttpSpanExporter(export_config=config))
assert threading.active_count() == 1
tracer.start_span("x").end()
"""
    done = run_python(program, env={"SCOUTER_GRPC_URI": server.grpc_uri, "OTEL_SERVICE_NAME": "told"})
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"scouter: spans not delivered to http://127.0.0.1:{port}/v1/traces: 1; last error: "), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_c1_the_ratio_of_an_exporter_is_its_own(server: Server, collector: Server) -> None:
    service = f"share-{uuid.uuid4()}"
    grpc = OtelExportConfig(endpoint=f"http://127.0.0.1:{collector.otlp_grpc_port}", headers=BASIC)
    exporter = GrpcSpanExporter(export_config=grpc, sample_ratio=0.5)
    tracer = init_tracer(service, transport_config=server.config(), exporter=exporter)
    for _ in range(200):
        with tracer.start_as_current_span("outer"):
            tracer.start_span("inner").end()
    assert flush_tracer(10)
    query = f"SELECT hex(trace_id) AS t, count(*) AS n FROM spans WHERE service_name = '{service}' GROUP BY t"
    assert len(server.sql(query)) == 200
    shared = collector.sql(query)
    assert 50 < len(shared) < 150
    assert {row["n"] for row in shared} == {2}
    assert exporter.stats()["ended"] == 2 * len(shared)


@pytest.mark.parametrize("which", ["http", "grpc", "another scouter"])
def test_they_work_under_the_sdks_own_processors(which: str, collector: Server) -> None:
    service = f"sdk-{uuid.uuid4()}"
    exporter = exporters(collector)[which]()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    provider.get_tracer(service).start_span(service).end()
    provider.force_flush()
    assert len(collector.sql(f"SELECT name FROM spans WHERE name = '{service}'")) == 1
    provider.shutdown()
    assert exporter.export([]) is SpanExportResult.FAILURE


def test_settings_come_from_arguments_then_variables_then_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "HEADERS", "TIMEOUT", "COMPRESSION", "TRACES_ENDPOINT"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    assert HttpSpanExporter().endpoint == "http://localhost:4318/v1/traces"
    assert GrpcSpanExporter(export_config=OtelExportConfig()).endpoint == "http://localhost:4317"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:9999")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1500")
    exporter = HttpSpanExporter()
    assert (exporter.endpoint, exporter.headers, exporter.compression, exporter.timeout) == (
        "http://localhost:9999/v1/traces",
        {"x-tenant": "blue"},
        "gzip",
        1.5,
    )
    config = OtelExportConfig(OtelProtocol.HttpBinary, "http://localhost:1/v1/traces", 3, "zstd", {"x-key": "hunter2"})
    assert (config.protocol, config.endpoint, config.timeout, config.compression) == (
        OtelProtocol.HttpBinary,
        "http://localhost:1/v1/traces",
        3,
        "zstd",
    )
    exporter = HttpSpanExporter(False, config, 0.5)
    assert (exporter.endpoint, exporter.headers, exporter.timeout) == ("http://localhost:1/v1/traces", {"x-key": "hunter2"}, 3.0)
    assert (exporter.batch_export, exporter.sample_ratio, exporter.protocol) == (False, 0.5, OtelProtocol.HttpBinary)
    grpc = GrpcSpanExporter(export_config=config)
    for shown in (config, exporter, grpc):
        assert "hunter2" not in repr(shown) + str(shown)
    with pytest.raises(AttributeError):
        config.endpoint = "http://localhost:2"  # type: ignore[misc]


def test_what_is_given_replaces_its_variable_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1500")
    exporter = HttpSpanExporter(export_config=OtelExportConfig(endpoint="http://localhost:1/v1/traces"))
    assert (exporter.headers, exporter.timeout) == ({"x-tenant": "blue"}, 1.5)
    with pytest.raises(ConfigError, match="endpoint"):
        OtelExportConfig()
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/cert.pem")
    with pytest.raises(ConfigError, match="client_key_file"):
        OtelExportConfig(endpoint="http://localhost:1/v1/traces")
    OtelExportConfig(client_key_file="/key.pem")


def test_an_endpoint_of_grpc_is_judged_as_such() -> None:
    local = OtelExportConfig(endpoint="unix:/run/otel.sock")
    assert GrpcSpanExporter(export_config=local).endpoint == "unix:/run/otel.sock"
    with pytest.raises(ConfigError, match="unix socket"):
        HttpSpanExporter(export_config=local)


def test_faults_are_named() -> None:
    with pytest.raises(ConfigError, match="endpoint") as raised:
        OtelExportConfig(endpoint="ftp://x", timeout=-1, compression="lzma")
    assert "timeout" in str(raised.value)
    assert "compression" in str(raised.value)
    with pytest.raises(ConfigError, match="use HttpBinary"):
        OtelExportConfig(OtelProtocol.HttpJson)
    with pytest.raises(ConfigError, match="sample_ratio"):
        HttpSpanExporter(sample_ratio=1.5)
    with pytest.raises(ConfigError, match="not both"):
        GrpcSpanExporter(GrpcConfig(), export_config=OtelExportConfig())
