"""The tracer and its spans, as OpenTelemetry's API promises them. No server is needed."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import enum
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import opentelemetry.sdk.trace as sdk
import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from recording import Recorded, remote
from scouter.tracing import ScouterSpan, ScouterTracer, ScouterTracerProvider


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def test_everything_is_what_it_says(recorded: Recorded) -> None:
    span = recorded.tracer.start_span("x")
    assert isinstance(recorded.provider, sdk.TracerProvider)
    assert isinstance(recorded.tracer, ScouterTracer)
    assert isinstance(recorded.tracer, sdk.Tracer)
    assert isinstance(recorded.tracer, trace.Tracer)
    assert isinstance(span, ScouterSpan)
    assert isinstance(span, sdk.Span)
    assert isinstance(span, ReadableSpan)
    assert isinstance(span, trace.Span)
    assert isinstance(span.get_span_context(), SpanContext)
    assert span.get_span_context() is span.get_span_context()


def test_a_span_is_made_by_a_tracer_only() -> None:
    with pytest.raises(TypeError, match="made by a tracer"):
        ScouterSpan()


def test_all_that_is_put_into_a_span_is_read_from_it(recorded: Recorded) -> None:
    other = SpanContext(5, 6, True, TraceFlags(1), TraceState([("k", "v")]))
    parent_state = TraceState([("vendor", "one")])
    span = recorded.tracer.start_span(
        "first name",
        context=remote(state=parent_state),
        kind=SpanKind.CLIENT,
        attributes={"a": 1},
        links=[Link(other, {"why": "because"})],
        start_time=1_000,
    )
    span.set_attribute("b", "two")
    span.set_attributes({"c": [1, 2], "a": 3})
    span.add_event("event", {"deep": {"er": [1.5, None]}}, timestamp=1_500)
    span.add_link(SpanContext(8, 9, False))
    span.update_name("second name")
    span.set_status(StatusCode.ERROR, "broken")
    span.end(2_000)

    read = recorded.one()
    assert (read.name, read.kind, read.start_time, read.end_time) == ("second name", SpanKind.CLIENT, 1_000, 2_000)
    assert list((read.attributes or {}).items()) == [("b", "two"), ("c", (1, 2)), ("a", 3)]
    assert read.parent == SpanContext(1 << 70, 7, True, TraceFlags(1), parent_state)
    assert read.context is not None
    assert (read.context.trace_id, read.context.trace_state, read.context.is_remote) == (1 << 70, parent_state, False)
    assert [(event.name, event.timestamp, dict(event.attributes or {})) for event in read.events] == [
        ("event", 1_500, {"deep": {"er": (1.5, None)}})
    ]
    assert [(link.context, dict(link.attributes or {})) for link in read.links] == [
        (other, {"why": "because"}),
        (SpanContext(8, 9, False), {}),
    ]
    assert (read.status.status_code, read.status.description) == (StatusCode.ERROR, "broken")
    assert read.instrumentation_scope is not None
    assert (read.instrumentation_scope.name, read.instrumentation_scope.version) == ("tests", "1")
    assert '"second name"' in read.to_json()


def test_the_current_span_is_current_inside_and_gone_outside(recorded: Recorded) -> None:
    before = trace.get_current_span()
    with recorded.tracer.start_as_current_span("outer") as outer:
        assert trace.get_current_span() is outer
        with recorded.tracer.start_as_current_span("inner") as inner:
            assert trace.get_current_span() is inner
        assert trace.get_current_span() is outer
    assert trace.get_current_span() is before
    read_inner, read_outer = recorded.spans
    assert read_inner.parent is outer.get_span_context()
    assert read_outer.parent is None
    assert inner.get_span_context().trace_id == outer.get_span_context().trace_id


def test_other_entries_of_the_context_stay(recorded: Recorded) -> None:
    token = context_api.attach(context_api.set_value("mine", "value"))
    with recorded.tracer.start_as_current_span("x"):
        assert context_api.get_value("mine") == "value"
        assert type(context_api.get_current()) is Context
    context_api.detach(token)


def test_an_exception_is_recorded_and_leaves(recorded: Recorded) -> None:
    with pytest.raises(ValueError, match="no"), recorded.tracer.start_as_current_span("x"):
        raise ValueError("no")
    read = recorded.one()
    (event,) = read.events
    attributes = event.attributes or {}
    assert (event.name, attributes["exception.type"], attributes["exception.message"]) == ("exception", "ValueError", "no")
    assert "test_tracer.py" in str(attributes["exception.stacktrace"])
    assert (read.status.status_code, read.status.description) == (StatusCode.ERROR, "ValueError: no")


def test_an_exception_is_left_alone_where_that_is_asked(recorded: Recorded) -> None:
    with (
        pytest.raises(ValueError, match="no"),
        recorded.tracer.start_as_current_span("x", record_exception=False, set_status_on_exception=False),
    ):
        raise ValueError("no")
    assert (recorded.one().events, recorded.one().status.status_code) == ((), StatusCode.UNSET)


def test_the_end_of_a_generator_is_no_error(recorded: Recorded) -> None:
    def generate() -> Iterator[int]:
        with recorded.tracer.start_as_current_span("x"):
            yield 1

    generator = generate()
    next(generator)
    generator.close()  # type: ignore[attr-defined]
    assert (recorded.one().events, recorded.one().status.status_code) == ((), StatusCode.UNSET)


def test_leaving_in_another_context_is_silent(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    manager = recorded.tracer.start_as_current_span("x")
    contextvars.copy_context().run(manager.__enter__)
    manager.__exit__(None, None, None)
    assert recorded.one().name == "x"
    assert caplog.text == ""


def test_it_stays_open_where_that_is_asked(recorded: Recorded) -> None:
    with recorded.tracer.start_as_current_span("x", end_on_exit=False) as span:
        pass
    assert span.is_recording()
    assert recorded.spans == ()


def test_a_span_itself_is_a_context_manager(recorded: Recorded) -> None:
    def fail() -> None:
        with recorded.tracer.start_span("x") as span:
            assert trace.get_current_span() is not span
            raise KeyError("k")

    with pytest.raises(KeyError):
        fail()
    (event,) = recorded.one().events
    assert (event.attributes or {})["exception.escaped"] == "True"


def test_as_a_decorator_each_call_has_a_span(recorded: Recorded) -> None:
    @recorded.tracer.start_as_current_span("call", attributes={"a": 1})
    def double(n: int) -> int:
        """Doubles."""
        return n if n <= 0 else 2 + double(n - 1)

    assert double(2) == 4
    assert (double.__name__, double.__doc__) == ("double", "Doubles.")
    assert [span.name for span in recorded.spans] == ["call"] * 3
    assert len({span.context.span_id for span in recorded.spans if span.context}) == 3
    assert [span.parent is None for span in recorded.spans] == [False, False, True]


def test_as_a_decorator_of_a_coroutine_function_the_span_lasts_as_long_as_the_coroutine(recorded: Recorded) -> None:
    @recorded.tracer.start_as_current_span("call")
    async def work(n: int) -> int:
        span = trace.get_current_span()
        await asyncio.sleep(0)
        assert trace.get_current_span() is span
        assert span.is_recording()
        return n

    async def main() -> list[int]:
        return await asyncio.gather(*(work(n) for n in range(5)))

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert len({span.context.trace_id for span in recorded.spans if span.context}) == 5


def test_async_with_works_as_with_does(recorded: Recorded) -> None:
    async def main() -> None:
        async with recorded.tracer.start_as_current_span("outer") as span:  # type: ignore[attr-defined]
            assert trace.get_current_span() is span
            await asyncio.sleep(0)

    asyncio.run(main())
    assert recorded.one().name == "outer"


def test_tasks_and_threads_have_contexts_of_their_own(recorded: Recorded) -> None:
    tracer = recorded.tracer

    async def child() -> None:
        with tracer.start_as_current_span("child"):
            await asyncio.sleep(0)

    async def main() -> None:
        with tracer.start_as_current_span("root"):
            await asyncio.gather(child(), child())

    asyncio.run(main())
    children = [span for span in recorded.spans if span.name == "child"]
    (root,) = [span for span in recorded.spans if span.name == "root"]
    assert [span.parent == root.context for span in children] == [True, True]

    with tracer.start_as_current_span("here"):
        thread = threading.Thread(target=lambda: tracer.start_span("there").end())
        thread.start()
        thread.join()
    (there,) = [span for span in recorded.spans if span.name == "there"]
    assert there.parent is None


def test_status_rules(recorded: Recorded) -> None:
    def after(*calls: Any) -> tuple[StatusCode, str | None]:
        span = recorded.tracer.start_span("x")
        for call in calls:
            span.set_status(*call if isinstance(call, tuple) else (call,))
        assert isinstance(span, ScouterSpan)
        return span.status.status_code, span.status.description

    assert after() == (StatusCode.UNSET, None)
    assert after((StatusCode.ERROR, "one"), (StatusCode.ERROR, "two")) == (StatusCode.ERROR, "two")
    assert after((StatusCode.ERROR, "one"), StatusCode.UNSET) == (StatusCode.ERROR, "one")
    assert after((StatusCode.ERROR, "one"), StatusCode.OK) == (StatusCode.OK, None)
    assert after(StatusCode.OK, (StatusCode.ERROR, "late")) == (StatusCode.OK, None)
    assert after(Status(StatusCode.ERROR, "own")) == (StatusCode.ERROR, "own")
    assert after((Status(StatusCode.ERROR, "own"), "beside")) == (StatusCode.ERROR, "own")


def test_nothing_changes_after_the_end_and_a_warning_says_so(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    span = recorded.tracer.start_span("x", attributes={"a": 1})
    span.end()
    with caplog.at_level(logging.WARNING, logger="scouter"):
        span.set_attribute("b", 2)
        span.set_attributes({"c": 3})
        span.add_event("e")
        span.add_link(SpanContext(8, 9, False))
        span.update_name("y")
        span.set_status(StatusCode.OK)
        span.end()
    assert len(caplog.records) == 7
    assert isinstance(span, ScouterSpan)
    assert (span.name, dict(span.attributes), span.events, span.links, span.status.status_code) == ("x", {"a": 1}, (), (), StatusCode.UNSET)
    assert len(recorded.spans) == 1


class Colour(enum.Enum):
    RED = 1


class Loud(str):
    __slots__ = ()


class Failing:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("text", "text"),
        (Loud("sub"), "sub"),
        (True, True),
        (1 << 80, 1 << 80),
        (float("inf"), float("inf")),
        (b"bytes", b"bytes"),
        (None, None),
        ([1, "two", [3]], (1, "two", (3,))),
        ({"a": {"b": [1]}, "": "no key"}, {"a": {"b": (1,)}}),
        ({1: "one"}, {"1": "one"}),
        (Colour.RED, "Colour.RED"),
        (object(), None),
    ],
)
def test_attribute_values(given: Any, kept: Any, recorded: Recorded) -> None:
    recorded.tracer.start_span("x", attributes={"at start": given}).end()
    span = recorded.tracer.start_span("y")
    span.set_attribute("later", given)
    span.end()
    values = [dict(read.attributes or {}) for read in recorded.spans]
    assert values == [{"at start": kept}, {"later": kept}]


def test_what_cannot_be_read_is_left_out_and_nothing_raises(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    wrong: Any = {"bad": Failing(), 5: "no text", "": "empty"}
    with recorded.tracer.start_as_current_span("x", attributes=wrong, kind="odd", start_time="soon") as span:  # type: ignore[arg-type]
        span.set_attribute("bad", Failing())  # type: ignore[arg-type]
        span.set_attributes(7)  # type: ignore[arg-type]
        span.add_event("e", 7)  # type: ignore[arg-type]
        span.add_link(None)  # type: ignore[arg-type]
        span.set_status("fine")  # type: ignore[arg-type]
        span.set_attribute("good", 1)
    assert dict(recorded.one().attributes or {}) == {"good": 1}
    assert "left out" in caplog.text


def test_a_changed_argument_changes_no_span(recorded: Recorded) -> None:
    numbers, attributes = [1, 2], {"a": 1}
    span = recorded.tracer.start_span("x", attributes={**attributes, "n": numbers})
    plain = recorded.tracer.start_span("y", attributes=attributes)
    numbers.append(3)
    attributes["b"] = 2
    assert isinstance(span, ScouterSpan)
    assert isinstance(plain, ScouterSpan)
    assert (dict(span.attributes), dict(plain.attributes)) == ({"a": 1, "n": (1, 2)}, {"a": 1})


def test_suppressed_code_makes_no_spans_and_keeps_the_parent(recorded: Recorded) -> None:
    key = context_api._SUPPRESS_INSTRUMENTATION_KEY
    with recorded.tracer.start_as_current_span("outer") as outer:
        token = context_api.attach(context_api.set_value(key, True))
        with recorded.tracer.start_as_current_span("inner") as inner:
            assert not inner.is_recording()
            assert inner.get_span_context() == outer.get_span_context()
        context_api.detach(token)
    assert [span.name for span in recorded.spans] == ["outer"]


def test_processors_written_in_python_see_the_span_live_then_its_copy() -> None:
    class Processor(sdk.SpanProcessor):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_start(self, span: sdk.Span, parent_context: Context | None = None) -> None:
            span.set_attribute("from", "on_start")
            self.seen.append(("start", span.name, parent_context))

        def _on_ending(self, span: sdk.Span) -> None:
            self.seen.append(("ending", span.name, span.end_time is not None))

        def on_end(self, span: ReadableSpan) -> None:
            self.seen.append(("end", span.name, dict(span.attributes or {}), type(span) is ReadableSpan))

    provider, processor, context = ScouterTracerProvider(shutdown_on_exit=False), Processor(), remote()
    provider.add_span_processor(processor)
    provider.get_tracer("x").start_span("a", context=context).end()
    assert processor.seen == [("start", "a", context), ("ending", "a", True), ("end", "a", {"from": "on_start"}, True)]


def test_a_processor_that_fails_is_logged_and_the_next_one_runs(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    class Bad(sdk.SpanProcessor):
        def on_start(self, span: sdk.Span, parent_context: Context | None = None) -> None:
            raise RuntimeError("bad start")

        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("bad end")

    recorded.provider.add_span_processor(Bad())
    late = InMemorySpanExporter()
    recorded.provider.add_span_processor(SimpleSpanProcessor(late))
    recorded.tracer.start_span("x").end()
    assert len(late.get_finished_spans()) == len(recorded.spans) == 1
    assert "bad start" in caplog.text
    assert "bad end" in caplog.text


def test_tracers_are_the_same_for_the_same_scope(recorded: Recorded) -> None:
    provider = recorded.provider
    assert provider.get_tracer("a", "1") is provider.get_tracer("a", "1")
    assert provider.get_tracer("a", "1") is not provider.get_tracer("a", "2")
    assert provider.get_tracer("a", attributes={"k": 1}) is not provider.get_tracer("a")


def test_providers_and_spans_are_collected() -> None:
    recorded = Recorded()
    span = recorded.tracer.start_span("x", attributes={"a": [1]})
    span_gone, provider_gone = weakref.ref(span), weakref.ref(recorded.provider)
    recorded.provider.shutdown()
    del span, recorded
    gc.collect()
    assert span_gone() is None
    assert provider_gone() is None


def test_the_decorated_function_and_the_manager_keep_their_names(recorded: Recorded) -> None:
    manager = recorded.tracer.start_as_current_span("x")
    assert isinstance(manager, contextlib.AbstractContextManager)
    assert isinstance(manager, contextlib.AbstractAsyncContextManager)
    with contextlib.ExitStack() as stack:
        span = stack.enter_context(manager)
        assert trace.get_current_span() is span


def test_use_span_of_the_api_works_on_our_spans(recorded: Recorded) -> None:
    span = recorded.tracer.start_span("x")

    def fail() -> None:
        with trace.use_span(span, end_on_exit=True):
            assert trace.get_current_span() is span
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    assert recorded.one().status.description == "OSError: gone"


CALLS: list[Callable[[trace.Span], object]] = [
    lambda span: span.set_attribute("k", 1),
    lambda span: span.add_event("e"),
    lambda span: span.set_status(StatusCode.OK),
    lambda span: span.update_name("y"),
]


@pytest.mark.parametrize("call", CALLS)
def test_ended_spans_survive_threads(call: Callable[[trace.Span], object], recorded: Recorded) -> None:
    spans = [recorded.tracer.start_span("x") for _ in range(200)]

    def change() -> None:
        for span in spans:
            call(span)

    logging.getLogger("scouter").setLevel(logging.ERROR)
    thread = threading.Thread(target=change)
    thread.start()
    for span in spans:
        span.end()
    thread.join()
    logging.getLogger("scouter").setLevel(logging.NOTSET)
    assert len(recorded.spans) == 200
