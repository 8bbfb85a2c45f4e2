"""What Scouter's tracer does beyond OpenTelemetry's: functions, helpers, baggage, headers, local spans. No server is needed."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import inspect
import io
import json
import math
import re
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.trace import StatusCode

from scouter import GrpcConfig
from scouter.client import TagRecord
from scouter.tracing import (
    ScouterInstrumentor,
    ScouterSpan,
    ScouterTracer,
    ScouterTracingMiddleware,
    StdoutSpanExporter,
    TestSpanExporter,
    TraceSpanRecord,
    active_profile,
    extract_span_context_from_headers,
    get_current_active_span,
    get_tracing_headers_from_current_span,
    init_tracer,
    set_scouter_queue,
    stats,
)
from scouter.tracing._capture import Arguments, captured

INPUT, OUTPUT = "scouter.tracing.input", "scouter.tracing.output"


@pytest.fixture
def kept() -> TestSpanExporter:
    return TestSpanExporter()


@pytest.fixture
def tracer(kept: TestSpanExporter, unreachable: GrpcConfig) -> ScouterTracer:
    made = init_tracer("tests", transport_config=unreachable, exporter=kept)
    assert isinstance(made, ScouterTracer)
    return made


def one(kept: TestSpanExporter) -> TraceSpanRecord:
    (span,) = kept.spans
    return span


def test_a_function_has_a_span_with_what_went_in_and_came_out(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    @tracer.span(tags=[{"team": "blue"}], attributes={"deep": {"er": 1}}, label="scoring")
    def score(model: str, *, limit: int = 3) -> dict[str, Any]:
        assert trace.get_current_span().is_recording()
        return {"model": model, "n": limit}

    assert score("ranker") == {"model": "ranker", "n": 3}
    span = one(kept)
    assert span.span_name.endswith("test_a_function_has_a_span_with_what_went_in_and_came_out.<locals>.score")
    assert span.input == {"model": "ranker", "limit": 3}
    assert span.output == {"model": "ranker", "n": 3}
    assert span.attributes["deep.er"] == 1
    assert span.attributes["scouter.tracing.label"] == "scoring"
    assert kept.tags == [TagRecord("trace", span.trace_id, "team", "blue")]


def test_a_method_and_a_failing_function(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    class Service:
        @tracer.span("work")
        def work(self, n: int) -> int:
            raise ValueError(f"no {n}")

    with pytest.raises(ValueError, match="no 4"):
        Service().work(4)
    span = one(kept)
    assert (span.span_name, span.input, OUTPUT in span.attributes) == ("work", {"n": 4}, False)
    assert (span.status_code, span.status_message) == ("ERROR", "ValueError: no 4")
    assert [event["name"] for event in span.events] == ["exception"]


def test_a_coroutine_function(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    @tracer.span("work")
    async def work(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    async def main() -> list[int]:
        return list(await asyncio.gather(work(1), work(2)))

    assert asyncio.run(main()) == [2, 3]
    assert sorted((span.input["n"], span.output) for span in kept.spans) == [(1, 2), (2, 3)]
    assert len({span.trace_id for span in kept.spans}) == 2


@pytest.mark.parametrize(
    ("how", "output"),
    [({}, ["a", "b", "c"]), ({"capture_last_stream_item": True}, "c"), ({"join_stream_items": True}, "abc")],
)
def test_generators_of_both_kinds(how: dict[str, bool], output: object, tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    seen: list[bool] = []

    @tracer.span("stream", **how)  # type: ignore[arg-type]
    def stream(text: str) -> Iterator[str]:
        for letter in text:
            seen.append(trace.get_current_span().is_recording())
            yield letter

    @tracer.span("stream", **how)  # type: ignore[arg-type]
    async def stream_async(text: str) -> AsyncIterator[str]:
        for letter in text:
            seen.append(trace.get_current_span().is_recording())
            await asyncio.sleep(0)
            yield letter

    async def collect() -> list[str]:
        return [item async for item in stream_async("abc")]

    outside = []
    for _ in stream("abc"):
        outside.append(trace.get_current_span().is_recording())
    assert asyncio.run(collect()) == ["a", "b", "c"]
    assert (seen, outside) == ([True] * 6, [False] * 3)
    assert [span.output for span in kept.spans] == [output, output]
    assert [span.input for span in kept.spans] == [{"text": "abc"}] * 2


def test_a_generator_left_early_ends_its_span_and_one_that_fails_says_so(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    @tracer.span("stream")
    def stream() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("gone")

    for _ in stream():
        break
    with pytest.raises(OSError, match="gone"):
        list(stream())
    assert [(span.status_code, span.output) for span in kept.spans] == [("UNSET", [1]), ("ERROR", [1, 2])]


def test_what_is_sent_and_thrown_into_a_generator_reaches_it(tracer: ScouterTracer) -> None:
    @tracer.span("stream")
    def echo() -> Any:
        got = yield "ready"
        try:
            yield got
        except KeyError:
            yield "caught"
        return "done"

    generator: Any = echo()
    assert next(generator) == "ready"
    assert generator.send(5) == 5
    assert generator.throw(KeyError("x")) == "caught"
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == "done"


def test_text_is_cut_and_secrets_are_left_out(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    @dataclasses.dataclass
    class User:
        name: str
        apiKey: str

    @tracer.span("login", max_length=200)
    def login(user: User, password: str, max_tokens: int, big: str, odd: object) -> str:
        return "x" * 1000

    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    login(User("ada", "k-1"), "hunter2", 5, "y" * 1000, Odd())
    login(User("ada", "k-1"), "hunter2", 5, "y", 1.5)
    first, second = kept.spans
    assert len(first.attributes[INPUT]) <= 200
    assert first.output == "x" * 200
    assert second.input == {
        "user": {"name": "ada", "apiKey": "[REDACTED]"},
        "password": "[REDACTED]",
        "max_tokens": 5,
        "big": "y",
        "odd": 1.5,
    }


def test_capture_can_be_switched_off(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    @tracer.span("quiet", capture_input=False, capture_output=False)
    def quiet(n: int) -> int:
        return n

    quiet(1)
    assert one(kept).attributes == {}


def test_helpers_of_a_span(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    with tracer.start_as_current_span("x") as span:
        assert isinstance(span, ScouterSpan)
        span.set_input({"a": float("nan"), "secret": 1})
        span.set_output([1, 2])
        span.set_tag("team", 5)
        span.set_entity("uid-1")
        assert (span.trace_id, span.span_id) == (f"{span.get_span_context().trace_id:032x}", f"{span.get_span_context().span_id:016x}")
    attributes = one(kept).attributes
    assert json.loads(attributes[INPUT]) == {"a": "nan", "secret": "[REDACTED]"}
    assert (attributes[OUTPUT], attributes["scouter.tracing.tag.team"], attributes["scouter.entity"]) == ("[1, 2]", "5", "uid-1")


class Queue:
    """Stands for a `ScouterQueue`."""

    entity_uid = "profile-1"

    def __init__(self) -> None:
        self.items: list[Any] = []

    def __getitem__(self, alias: str) -> Queue:
        if alias != "mine":
            raise KeyError(alias)
        return self

    def insert(self, item: Any) -> None:
        self.items.append(item)


class Record:
    uid = "record-1"
    trace_id: str | None = None


def test_a_record_put_into_the_queue_is_tied_to_the_trace(
    tracer: ScouterTracer, kept: TestSpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    queue, record = Queue(), Record()
    with tracer.start_as_current_span("x") as span:
        assert isinstance(span, ScouterSpan)
        span.add_queue_item("mine", record)
        assert "there is no queue" in caplog.text
        set_scouter_queue(queue)
        try:
            span.add_queue_item("mine", record)
            span.add_queue_item("other", record)
        finally:
            set_scouter_queue(None)
    assert "'other'" in caplog.text
    assert (queue.items, record.trace_id) == ([record], one(kept).trace_id)
    (event,) = one(kept).events
    assert event["name"] == "scouter.queue.event"
    assert event["attributes"] == {"scouter.queue.record": "record-1", "scouter.entity": "profile-1"}


def test_baggage_travels_to_what_is_called_inside_and_into_headers(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    with tracer.start_as_current_span("outer", baggage=[{"tenant": "blue"}], tags={"a": "1"}):
        assert baggage.get_baggage("tenant") == "blue"
        with tracer.start_as_current_span("inner"):
            headers = get_tracing_headers_from_current_span()
    assert baggage.get_baggage("tenant") is None
    assert headers["baggage"] == "tenant=blue"
    inner, outer = kept.spans
    assert (inner.parent_span_id, outer.attributes) == (outer.span_id, {"scouter.tracing.tag.a": "1", "baggage.tenant": "blue"})
    assert headers["traceparent"] == f"00-{inner.trace_id}-{inner.span_id}-03"


def test_headers_of_a_caller_make_his_span_the_parent_and_his_baggage_ours(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    theirs = {"Traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "Baggage": "tenant=blue"}
    with tracer.start_as_current_span("x", headers=theirs):
        assert baggage.get_baggage("tenant") == "blue"
    tracer.start_span("y", headers={"trace_id": "c" * 32, "span_id": "d" * 16}).end()
    tracer.start_span("z", trace_id="e" * 32, span_id="f" * 16).end()
    unsampled = tracer.start_span("u", headers={"trace_id": "c" * 32, "span_id": "d" * 16, "is_sampled": "false"})
    assert not unsampled.is_recording()
    assert [(span.trace_id[0], span.parent_span_id) for span in kept.spans] == [("a", "b" * 16), ("c", "d" * 16), ("e", "f" * 16)]
    assert extract_span_context_from_headers(theirs) == {"trace_id": "a" * 32, "span_id": "b" * 16, "is_sampled": "true"}
    assert extract_span_context_from_headers({"traceparent": "nonsense"}) is None


def test_without_a_current_span_there_are_no_headers(tracer: ScouterTracer) -> None:
    with pytest.raises(RuntimeError, match="no span is current"):
        get_current_active_span()


def test_the_middleware_goes_on_with_the_callers_trace(tracer: ScouterTracer, kept: TestSpanExporter) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert baggage.get_baggage("tenant") == "blue"
        await send({"type": "http.response.start", "status": 503})
        await send({"type": "http.response.body"})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    headers = [(b"traceparent", f"00-{'a' * 32}-{'b' * 16}-01".encode()), (b"baggage", b"tenant=blue")]
    scope = {"type": "http", "method": "GET", "path": "/ask", "headers": headers}
    asyncio.run(ScouterTracingMiddleware(app, tracer)(scope, receive, send))
    span = one(kept)
    assert (span.span_name, span.span_kind, span.trace_id, span.parent_span_id) == ("GET /ask", "SERVER", "a" * 32, "b" * 16)
    assert (span.status_code, span.attributes["http.response.status_code"]) == (StatusCode.ERROR.name, 503)
    assert len(sent) == 2


def test_spans_stay_here_while_they_are_captured(tracer: ScouterTracer) -> None:
    before = int(stats()["ended"] or 0)
    tracer.enable_local_capture()
    try:
        with tracer.start_as_current_span("here") as span:
            pass
    finally:
        tracer.disable_local_capture()
    tracer.start_span("sent").end()
    assert isinstance(span, ScouterSpan)
    assert [record.span_name for record in tracer.get_local_spans_by_trace_ids([span.trace_id])] == ["here"]
    assert [record.span_name for record in tracer.drain_local_spans()] == ["here"]
    assert tracer.drain_local_spans() == []
    assert int(stats()["ended"] or 0) == before + 1


def test_stdout_shows_a_trace_as_a_tree(unreachable: GrpcConfig) -> None:
    out = io.StringIO()
    tracer = init_tracer("shop", transport_config=unreachable, exporter=StdoutSpanExporter(out=out))
    with tracer.start_as_current_span("order"):
        with tracer.start_as_current_span("charge", attributes={"amount": 5}) as charge:
            charge.set_status(StatusCode.ERROR, "declined")
        tracer.start_span("mail").end()
    head, *rest = out.getvalue().splitlines()
    assert head.endswith("shop")
    assert [re.sub(r"\d+\.\d\d ms", "N ms", line) for line in rest] == [
        "└─ order  N ms",
        "   ├─ charge  N ms  ERROR declined  [amount=5]",
        "   └─ mail  N ms",
    ]


def test_the_instrumentor_switches_on_again_and_off(unreachable: GrpcConfig, kept: TestSpanExporter) -> None:
    before = propagate.get_global_textmap()
    instrumentor = ScouterInstrumentor()
    assert instrumentor is ScouterInstrumentor()
    for name in ("first", "second"):
        instrumentor.instrument(unreachable, kept, attributes={"team": "blue"}, service_name=name)
    assert instrumentor.is_instrumented
    with trace.get_tracer("library").start_as_current_span("x"):
        headers: dict[str, str] = {}
        propagate.inject(headers)
    assert "traceparent" in headers
    assert (one(kept).service_name, one(kept).attributes) == ("second", {"team": "blue"})
    instrumentor.uninstrument()
    assert not instrumentor.is_instrumented
    assert propagate.get_global_textmap() is before


def test_an_active_profile_names_the_entity(kept: TestSpanExporter, unreachable: GrpcConfig) -> None:
    tracer = init_tracer("tests", transport_config=unreachable, exporter=kept, default_entity_uid="usual")
    with active_profile("special"):
        tracer.start_span("inside").end()
    tracer.start_span("outside").end()
    assert [span.attributes for span in kept.spans] == [{"scouter.entity.special": "special"}, {"scouter.entity.usual": "usual"}]


CALLS: list[Callable[[ScouterTracer], object]] = [
    lambda tracer: tracer.start_span("x", baggage=[{"a": "b"}]).end(),
    lambda tracer: tracer.start_span("x", headers={"traceparent": "nonsense"}).end(),
    lambda tracer: tracer.start_span("x", trace_id="zz", span_id="1").end(),
]


@pytest.mark.parametrize("call", CALLS)
def test_what_cannot_be_read_starts_a_trace_of_its_own(
    call: Callable[[ScouterTracer], object], tracer: ScouterTracer, kept: TestSpanExporter
) -> None:
    call(tracer)
    assert one(kept).parent_span_id is None


def test_arguments_are_named_as_the_call_binds_them() -> None:
    def plain(a: int, b: int = 2, *, c: int = 3) -> None: ...

    def only(a: int, /, b: int = 2) -> None: ...

    def rest(a: int, *args: int, **kwargs: int) -> None: ...

    class Of:
        def method(self, a: int, b: int = 2) -> None: ...

        @classmethod
        def of_the_class(cls, a: int) -> None: ...

    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (plain, (1,), {}),
        (plain, (1, 5), {"c": 6}),
        (plain, (), {"b": 4, "a": 1}),
        (plain, (), {}),
        (plain, (1, 2, 3), {}),
        (plain, (1,), {"a": 2}),
        (plain, (1,), {"d": 2}),
        (only, (1,), {"b": 3}),
        (rest, (1, 2, 3), {"x": 4}),
        (rest, (1,), {}),
        (Of.method, (Of(), 1), {}),
        (Of.method, (Of(), 1), {"b": 5}),
        (Of.method, (), {}),
        (Of.of_the_class.__func__, (Of, 1), {}),  # type: ignore[attr-defined]
        (len, ([],), {}),
        (print, (1,), {"sep": ""}),
    ]
    for function, args, kwargs in calls:
        try:
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            expected = {name: value for name, value in bound.arguments.items() if name not in ("self", "cls")}
        except TypeError:
            expected = {"args": args, "kwargs": kwargs}
        assert Arguments(function).of(args, kwargs) == expected, (function, args, kwargs)
        assert [*Arguments(function).of(args, kwargs)] == [*expected]


@dataclasses.dataclass
class Card:
    number: int
    api_key: str
    tags: list[str]


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [True, None, 0.5, 'é\n"x\\']}, '{"a": 1, "b": [true, null, 0.5, "é\\n\\"x\\\\"]}'),
        ((1, (2,), []), "[1, [2], []]"),
        ({"x": math.nan, "y": -math.inf, "z": 1e300}, '{"x": "nan", "y": "-inf", "z": 1e300}'),
        ({1: 2, None: 3}, '{"1": 2, "None": 3}'),
        (Card(1, "hidden", ["a"]), '{"number": 1, "api_key": "[REDACTED]", "tags": ["a"]}'),
        ({"card": {"password": "hidden", "max_tokens": 5}}, '{"card": {"password": "[REDACTED]", "max_tokens": 5}}'),
        (collections.OrderedDict(a=1), '{"a": 1}'),
        (types.MappingProxyType({"a": frozenset({1})}), '{"a": [1]}'),
        ([b"abc", bytearray(2), memoryview(b"x")], '["<3 bytes>", "<2 bytes>", "<1 bytes>"]'),
        ([Color.RED, Level.HIGH, 1 << 70], f'["Color.RED", 3, {1 << 70}]'),
        ([1j, Card], '["1j", "<class \'test_scouter_tracer.Card\'>"]'),
        ([Broken()], "<list that cannot be shown: RuntimeError>"),
        ("a string", "a string"),
    ],
    ids=repr,
)
def test_what_is_captured(value: object, text: str) -> None:
    assert captured(value, 1000) == text
    for length in (0, 1, 7, len(text) - 1):
        assert captured(value, length) == text[:length]


def test_what_is_captured_is_bounded_however_large_the_value_is() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert captured(deep, 1000) == "[" * 12 + '"..."' + "]" * 12
    assert json.loads(captured([*range(300)], 10_000))[-1] == "... 100 more"
    assert json.loads(captured({str(n): n for n in range(300)}, 10_000))["..."] == "100 more"
    asked: list[int] = []

    class Counted:
        def __str__(self) -> str:
            asked.append(1)
            return "x" * 100

    assert len(captured([Counted() for _ in range(200)], 50)) == 50
    assert len(asked) < 10

    class Changing:
        def __str__(self) -> str:
            values.clear()
            return "changed"

    values: dict[str, Any] = {"a": Changing(), "b": 2}
    assert captured(values, 100) == '{"a": "changed", "b": 2}'
    many: dict[str, Any] = {str(n): Changing() for n in range(300)}
    values = many
    assert "cannot be shown" in captured(many, 100)
