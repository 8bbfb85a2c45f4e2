"""init_tracer: what it refuses, what it installs, and that it can be called again. Nearly nothing here needs a server."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import opentelemetry.sdk.trace as sdk
import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from conftest import Server
from scouter import ConfigError, GrpcConfig
from scouter.tracing import BatchConfig, GrpcSpanExporter, flush_tracer, get_tracer, init_tracer, shutdown_tracer, stats
from scouter.tracing._lifecycle import wants_delivery_on_sigterm

RunPython = Callable[..., subprocess.CompletedProcess[str]]


class Recorder:
    """Spans as they end, beside ours."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.processor = SimpleSpanProcessor(self.exporter)

    def one(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def init(unreachable: GrpcConfig, recorder: Recorder) -> Callable[..., trace.Tracer]:
    def call(service_name: str | None = None, **settings: Any) -> trace.Tracer:
        return init_tracer(service_name, transport_config=unreachable, span_processors=[recorder.processor], **settings)

    return call


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"exporter": object()}, TypeError, "SpanExporter"),
        ({"scouter_queue": object()}, TypeError, "ScouterQueue"),
        ({"transport_config": {"server_uri": "x"}}, TypeError, "GrpcConfig"),
        ({"batch_config": 5}, TypeError, "BatchConfig"),
        ({"sample_ratio": 1.5}, ConfigError, "sample_ratio"),
        ({"sample_ratio": float("nan")}, ConfigError, "sample_ratio"),
        ({"service_name": ""}, ConfigError, "service_name"),
        ({"default_attributes": 5}, ConfigError, "default_attributes"),
        ({"default_entity_uid": ""}, ConfigError, "default_entity_uid"),
        ({"global_provider": "maybe"}, ConfigError, "global_provider"),
        ({"resource": 5}, TypeError, "resource"),
        ({"span_processors": [object()]}, TypeError, "SpanProcessor"),
    ],
)
def test_wrong_arguments_raise_at_once_and_change_nothing(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    before = trace.get_tracer_provider()
    with pytest.raises(error, match=words):
        init_tracer(**settings)
    assert trace.get_tracer_provider() is before


def test_a_variable_that_is_no_number_is_named_and_counts_as_unset(
    init: Callable[..., trace.Tracer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "many")
    with caplog.at_level("WARNING", logger="scouter"):
        init("shop")
    assert "OTEL_BSP_MAX_QUEUE_SIZE" in caplog.text


def test_it_becomes_the_global_provider_and_its_span_is_current(init: Callable[..., trace.Tracer], recorder: Recorder) -> None:
    tracer = init("shop")
    with tracer.start_as_current_span("outer") as outer:
        assert trace.get_current_span() is outer
        with trace.get_tracer("library", "1.2").start_as_current_span("inner"):
            pass
    inner, ended_outer = recorder.exporter.get_finished_spans()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.get_span_context().span_id
    assert inner.instrumentation_scope is not None
    assert (inner.instrumentation_scope.name, inner.instrumentation_scope.version) == ("library", "1.2")
    assert ended_outer.resource.attributes["service.name"] == "shop"
    assert isinstance(trace.get_tracer_provider(), sdk.TracerProvider)


def test_a_second_call_reconfigures_tracers_handed_out_before(init: Callable[..., trace.Tracer], unreachable: GrpcConfig) -> None:
    tracer = init("first", sample_ratio=1.0)
    library_tracer = trace.get_tracer("library")
    provider = trace.get_tracer_provider()

    second = Recorder()
    init_tracer("second", transport_config=unreachable, span_processors=[second.processor])
    assert trace.get_tracer_provider() is provider
    tracer.start_span("a").end()
    library_tracer.start_span("b").end()
    ended = second.exporter.get_finished_spans()
    assert [span.name for span in ended] == ["a", "b"]
    assert {span.resource.attributes["service.name"] for span in ended} == {"second"}

    init_tracer("third", transport_config=unreachable, sample_ratio=0.0)
    assert not tracer.start_span("c").is_recording()


def test_processors_added_by_others_stay(init: Callable[..., trace.Tracer], unreachable: GrpcConfig) -> None:
    init("first")
    other = Recorder()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, sdk.TracerProvider)
    provider.add_span_processor(other.processor)
    tracer = init_tracer("second", transport_config=unreachable)
    tracer.start_span("seen").end()
    assert other.one().name == "seen"


def test_service_name_argument_then_variables_then_default(init: Callable[..., trace.Tracer], monkeypatch: pytest.MonkeyPatch) -> None:
    def name() -> object:
        provider = trace.get_tracer_provider()
        assert isinstance(provider, sdk.TracerProvider)
        return provider.resource.attributes["service.name"]

    for variable in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(variable, raising=False)
    init()
    assert name() == "scouter_service"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=from-attributes,team=blue")
    init()
    assert name() == "from-attributes"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-name")
    init()
    assert name() == "from-name"
    init(resource={"service.name": "from-resource", "region": "eu"})
    assert name() == "from-resource"
    init("explicit", scope="my.scope", resource=Resource({"region": "eu"}))
    assert name() == "explicit"
    provider = trace.get_tracer_provider()
    assert isinstance(provider, sdk.TracerProvider)
    attributes = provider.resource.attributes
    assert (attributes["team"], attributes["region"], attributes["scouter.scope"]) == ("blue", "eu", "my.scope")
    assert attributes["telemetry.sdk.language"] == "python"


def test_children_follow_their_parents_sampling(init: Callable[..., trace.Tracer]) -> None:
    def remote(flags: int) -> Context:
        return trace.set_span_in_context(NonRecordingSpan(SpanContext(1 << 70, 7, True, TraceFlags(flags))))

    tracer = init(sample_ratio=0.0)
    assert not tracer.start_span("root").is_recording()
    assert tracer.start_span("child", context=remote(1)).is_recording()
    tracer = init(sample_ratio=1.0)
    assert tracer.start_span("root").is_recording()
    assert not tracer.start_span("child", context=remote(0)).is_recording()


def test_default_attributes_never_override(init: Callable[..., trace.Tracer], recorder: Recorder) -> None:
    tracer = init(default_attributes=[{"team": "blue", "deep": {"er": 1}}, {"tier": "gold"}])
    with tracer.start_as_current_span("work", attributes={"team": "red"}) as span:
        span.set_attribute("tier", "silver")
    assert recorder.one().attributes == {"team": "red", "deep.er": 1, "tier": "silver"}


def test_the_default_entity_gives_way(init: Callable[..., trace.Tracer], recorder: Recorder) -> None:
    tracer = init(default_entity_uid="abc")
    tracer.start_span("plain").end()
    tracer.start_span("named", attributes={"scouter.entity.other": "other"}).end()
    tracer.start_span("by baggage", context=baggage.set_baggage("scouter.active.entity_uid", "other")).end()
    entities = [dict(span.attributes or {}) for span in recorder.exporter.get_finished_spans()]
    assert entities == [{"scouter.entity.abc": "abc"}, {"scouter.entity.other": "other"}, {"scouter.entity.other": "other"}]


def test_a_second_exporter_gets_the_spans_too(unreachable: GrpcConfig) -> None:
    exporter = InMemorySpanExporter()
    tracer = init_tracer(transport_config=unreachable, exporter=exporter, batch_config=BatchConfig(max_queue_size=100))
    tracer.start_span("both").end()
    flush_tracer(timeout=1.5)
    assert [span.name for span in exporter.get_finished_spans()] == ["both"]


def test_without_a_server_nothing_raises_and_flush_comes_back_in_time(unreachable: GrpcConfig) -> None:
    tracer = init_tracer(transport_config=unreachable)
    for _ in range(100):
        with tracer.start_as_current_span("lost"):
            pass
    begun = time.monotonic()
    assert flush_tracer(timeout=0.5) is False
    report = shutdown_tracer(timeout=0.5)
    assert time.monotonic() - begun < 2
    assert (report.delivered, report.undelivered) == (0, 100)
    tracer.start_span("after the end").end()
    assert shutdown_tracer(timeout=0.5).undelivered == 101
    counters = stats()
    assert counters["ended"] == counters["dropped"] == 101


def test_other_threads_run_while_flush_waits(unreachable: GrpcConfig) -> None:
    tracer = init_tracer(transport_config=unreachable)
    tracer.start_span("lost").end()
    ticks = 0
    stop = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not stop.wait(0.01):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    flush_tracer(timeout=0.5)
    stop.set()
    thread.join()
    assert ticks > 20


def test_private_providers_do_not_touch_the_global_one(unreachable: GrpcConfig) -> None:
    before = trace.get_tracer_provider()
    first, second = Recorder(), Recorder()
    one = init_tracer("one", transport_config=unreachable, global_provider="none", span_processors=[first.processor])
    two = init_tracer("two", transport_config=unreachable, global_provider="none", span_processors=[second.processor])
    assert trace.get_tracer_provider() is before
    one.start_span("1").end()
    two.start_span("2").end()
    get_tracer("library").start_span("3").end()
    assert [span.name for span in first.exporter.get_finished_spans()] == ["1"]
    assert [span.name for span in second.exporter.get_finished_spans()] == ["2", "3"]


def test_a_tracer_taken_before_init_records_afterwards(run_python: RunPython) -> None:
    done = run_python(
        """
from opentelemetry import trace
import scouter.tracing as tracing
from scouter.transport import GrpcConfig
early, ours = trace.get_tracer("early"), tracing.get_tracer("ours", "2")
assert not early.start_span("x").is_recording() and not ours.start_span("x").is_recording()
tracing.init_tracer(transport_config=GrpcConfig("http://127.0.0.1:1"))
assert early.start_span("x").is_recording() and ours.start_span("x").is_recording()
tracing.shutdown_tracer(0.1)
"""
    )
    assert done.returncode == 0, done.stderr


def test_a_foreign_global_provider_is_refused_then_attached_to(run_python: RunPython) -> None:
    done = run_python(
        """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
import scouter, scouter.tracing as tracing
config = scouter.GrpcConfig("http://127.0.0.1:1")
try:
    tracing.init_tracer(transport_config=config, global_provider="attach")
except scouter.ConfigError as error:
    assert "set one first" in str(error)
else:
    raise SystemExit("attached to nothing")
provider = TracerProvider()
trace.set_tracer_provider(provider)
try:
    tracing.init_tracer(transport_config=config)
except scouter.ConfigError as error:
    assert 'global_provider="attach"' in str(error)
else:
    raise SystemExit("replaced a provider")
try:
    tracing.init_tracer("name", transport_config=config, global_provider="attach")
except scouter.ConfigError as error:
    assert "service_name" in str(error)
for _ in range(2):
    tracing.init_tracer(transport_config=config, global_provider="attach")
trace.get_tracer("library").start_span("x").end()
assert trace.get_tracer_provider() is provider
assert tracing.stats()["ended"] == 1, tracing.stats()
tracing.shutdown_tracer(0.1)
"""
    )
    assert done.returncode == 0, done.stderr


def test_the_sdk_can_be_disabled(run_python: RunPython) -> None:
    done = run_python(
        """
import scouter.tracing as tracing
tracer = tracing.init_tracer()
assert not tracer.start_span("x").is_recording()
assert tracer.span()(lambda n: n + 1)(1) == 2
with tracer.start_as_current_span("x", baggage=[{"a": "b"}]) as span:
    assert not span.is_recording()
""",
        env={"OTEL_SDK_DISABLED": "true"},
    )
    assert done.returncode == 0, done.stderr


def test_the_end_of_the_process_tells_what_was_not_delivered(run_python: RunPython) -> None:
    program = """
import scouter.tracing as tracing
from scouter.transport import GrpcConfig
tracer = tracing.init_tracer(transport_config=GrpcConfig("http://127.0.0.1:1", timeout_secs=0.5))
for _ in range(3):
    tracer.start_span("x").end()
"""
    begun = time.monotonic()
    done = run_python(program)
    assert done.returncode == 0
    assert done.stdout == ""
    assert "spans not delivered: 3" in done.stderr
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(("setting", "delivered"), [("flush_on_sigterm=True", 1), ("", 0)])
def test_what_is_queued_is_delivered_before_sigterm_ends_the_process_if_asked(
    setting: str, delivered: int, run_python: RunPython, server: Server
) -> None:
    program = f"""
import os, signal
from scouter.tracing import BatchConfig, init_tracer
tracer = init_tracer({setting or "sample_ratio=1.0"}, batch_config=BatchConfig(scheduled_delay_ms=60000))
tracer.start_span("x").end()
os.kill(os.getpid(), signal.SIGTERM)
import time
time.sleep(30)
"""
    service = f"sigterm-{uuid.uuid4()}"
    done = run_python(program, env={"SCOUTER_GRPC_URI": server.grpc_uri, "OTEL_SERVICE_NAME": service})
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert len(server.spans(service)) == delivered


@pytest.mark.parametrize(
    ("said", "wanted"), [("true", True), (" 1", True), ("False", False), ("0", False), ("", None), ("yes", None)], ids=repr
)
def test_the_variable_about_sigterm_is_read_in_one_way(
    said: str, wanted: bool | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SCOUTER_FLUSH_ON_SIGTERM", said)
    for otherwise in (True, False):
        assert wants_delivery_on_sigterm(otherwise) is (otherwise if wanted is None else wanted)
    assert ("counts as unset" in caplog.text) is (said == "yes")


def test_a_program_that_handles_sigterm_is_left_alone(run_python: RunPython) -> None:
    done = run_python(
        """
import signal
from scouter.tracing import init_tracer
mine = lambda *_: None
signal.signal(signal.SIGTERM, mine)
init_tracer(flush_on_sigterm=True)
assert signal.getsignal(signal.SIGTERM) is mine
"""
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_started_before_the_first_span(run_python: RunPython) -> None:
    done = run_python(
        """
import pathlib, time
import scouter.tracing as tracing
from scouter.transport import GrpcConfig
def ours():
    return [path for path in pathlib.Path("/proc/self/task").glob("*/comm") if "scouter-exp" in path.read_text()]
tracer = tracing.init_tracer(transport_config=GrpcConfig("http://127.0.0.1:1"))
tracing.flush_tracer(0.1)
assert not ours()
tracer.start_span("first").end()
deadline = time.monotonic() + 5
while not ours():  # a thread gives itself its name
    assert time.monotonic() < deadline
tracing.shutdown_tracer(0)
"""
    )
    assert done.returncode == 0, done.stderr


def test_opentelemetry_instrument_finds_the_exporter() -> None:
    (entry,) = entry_points(group="opentelemetry_traces_exporter", name="scouter")
    assert entry.load() is GrpcSpanExporter


def test_opentelemetry_instrument_takes_our_provider(run_python: RunPython) -> None:
    (entry,) = entry_points(group="opentelemetry_configurator", name="scouter")
    assert entry.value == "scouter.tracing._instrumentor:ScouterConfigurator"
    done = run_python(
        """
from opentelemetry.instrumentation.auto_instrumentation import initialize
initialize()
from opentelemetry import trace
from scouter.tracing import ScouterSpan, shutdown_tracer
assert isinstance(trace.get_tracer("library").start_span("x"), ScouterSpan)
shutdown_tracer(0)
""",
        env={"OTEL_PYTHON_CONFIGURATOR": "scouter", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi,httpx,asgi"},
    )
    assert done.returncode == 0, done.stderr
