"""Faults that Scouter's own Python client has, each by its number in our notes: here they are not."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, SpanContext, StatusCode
from opentelemetry.util.types import AnyValue

from scouter import ConfigError, GrpcConfig
from scouter.tracing import ScouterTracer, StdoutSpanExporter, TestSpanExporter, flush_tracer, get_tracer, init_tracer
from scouter.transport import HttpConfig


@pytest.fixture
def kept() -> TestSpanExporter:
    return TestSpanExporter()


@pytest.fixture
def tracer(kept: TestSpanExporter, unreachable: GrpcConfig) -> ScouterTracer:
    made = init_tracer("tests", transport_config=unreachable, exporter=kept)
    assert isinstance(made, ScouterTracer)
    return made


def test_a14_a_stdout_exporter_makes_no_span_wait_for_the_server(unreachable: GrpcConfig) -> None:
    tracer = init_tracer(transport_config=unreachable, exporter=StdoutSpanExporter(out=io.StringIO()))
    begun = time.monotonic()
    for _ in range(50):
        tracer.start_span("x").end()
    # The server cannot be reached, and each attempt may take a second: waiting for it would take most of a minute.
    assert time.monotonic() - begun < 20


def test_a15_the_interpreter_runs_on_while_flush_waits(unreachable: GrpcConfig) -> None:
    tracer = init_tracer(transport_config=unreachable)
    tracer.start_span("lost").end()
    done = threading.Event()

    def flush() -> None:
        flush_tracer(1.0)
        done.set()

    thread = threading.Thread(target=flush)
    thread.start()
    turns = 0
    while not done.is_set():
        turns += 1
        time.sleep(0.001)
    thread.join()
    assert turns > 20


def test_c1_c2_the_ratio_is_used_and_children_follow_their_parents(unreachable: GrpcConfig) -> None:
    tracer = init_tracer(transport_config=unreachable, sample_ratio=0.0)
    assert not tracer.start_span("root").is_recording()
    sampled = SpanContext(1 << 70, 7, True, trace.TraceFlags(1))
    context = trace.set_span_in_context(trace.NonRecordingSpan(sampled))
    assert tracer.start_span("child", context=context).is_recording()


def test_c4_c9_c10_label_status_links_and_times_are_kept(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    link = Link(SpanContext(3, 4, True))
    with tracer.start_as_current_span("x", links=[link], start_time=5_000, label="mine") as span:
        span.set_status(StatusCode.ERROR, "set by hand")
    (record,) = kept.spans
    assert (record.status_code, record.status_message) == ("ERROR", "set by hand")
    assert (record.start_unix_nano, [found["span_id"] for found in record.links]) == (5_000, [f"{4:016x}"])
    assert record.attributes["scouter.tracing.label"] == "mine"


def test_c7_c8_the_service_is_the_process_and_scopes_have_versions(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    get_tracer("first.module", "1.2").start_span("a").end()
    trace.get_tracer("second.module", "3.4").start_span("b").end()
    assert {span.service_name for span in kept.spans} == {"tests"}
    assert [span.scope_name for span in kept.spans] == ["first.module", "second.module"]


def test_c16_values_keep_their_types(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    given: dict[str, AnyValue] = {"none": None, "nan": float("inf"), "list": [1, "a"], "map": {"k": 1}}
    tracer.start_span("x", attributes=given).end()
    (span,) = kept.spans
    assert span.attributes == {**given, "list": (1, "a")}


def test_c18_old_headers_without_a_flag_mean_sampled_in_both_ways(tracer: ScouterTracer) -> None:
    headers = {"trace_id": "a" * 32, "span_id": "b" * 16}
    with tracer.start_as_current_span("x", headers=headers) as span:
        assert span.is_recording()
    with tracer.start_span("y", headers=headers) as span:
        assert span.is_recording()


def test_c19_a_generators_span_is_not_current_between_its_steps_nor_its_stream_kept_whole(
    tracer: ScouterTracer, kept: TestSpanExporter
) -> None:
    @tracer.span("stream", max_length=10)
    def stream() -> Iterator[str]:
        for n in range(10_000):
            yield f"item {n}"

    for _ in stream():
        assert not trace.get_current_span().get_span_context().is_valid
    (span,) = kept.spans
    assert len(span.attributes["scouter.tracing.output"]) <= 10


@pytest.mark.parametrize("text", ["é" * 600 + "a", "a" + "é" * 600, "漢" * 2000, "🦀" * 999 + "é\ud800"])
def test_d6_text_is_cut_between_characters(text: str, tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    @tracer.span("echo")
    def echo(text: str) -> str:
        return text

    assert echo(text) == text
    (span,) = kept.spans
    assert span.attributes["scouter.tracing.output"] == text[:1000]


def test_d7_numbers_beyond_64_bits_are_captured(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    @tracer.span("big")
    def big(n: int) -> int:
        return n * n

    big(1 << 70)
    (span,) = kept.spans
    assert (span.input, span.output) == ({"n": 1 << 70}, 1 << 140)


def test_g2_g5_what_documents_show_is_there(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    async def main() -> None:
        async with tracer.start_as_current_span("x"):
            pass

    asyncio.run(main())
    ((trace_id, spans),) = kept.traces.items()
    assert ([span.span_name for span in spans], spans[0].trace_id) == (["x"], trace_id)


def test_g3_g4_headers_are_sent_and_an_unknown_exporter_is_refused(unreachable: GrpcConfig) -> None:
    assert HttpConfig("http://localhost:1", auth_token="key")._auth_token == "key"
    with pytest.raises(TypeError, match="SpanExporter"):
        init_tracer(transport_config=unreachable, exporter="stdout")  # type: ignore[arg-type]


def test_g6_g8_wrong_settings_raise_with_the_remedy_and_private_fields_of_opentelemetry_stay(unreachable: GrpcConfig) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        init_tracer(transport_config=unreachable, sample_ratio=2.0)
    init_tracer(transport_config=unreachable)
    assert isinstance(trace.get_tracer_provider(), TracerProvider)
