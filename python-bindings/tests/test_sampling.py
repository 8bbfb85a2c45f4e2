"""Limits, samplers and ids of our provider, beside those of the SDK."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceState

from recording import Recorded, remote
from scouter.tracing import ScouterSpan


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def test_limits() -> None:
    limits = SpanLimits(
        max_span_attributes=2, max_events=2, max_links=1, max_event_attributes=1, max_link_attributes=1, max_span_attribute_length=3
    )
    recorded = Recorded(span_limits=limits)
    link = Link(SpanContext(1, 2, False), {"a": 1, "b": 2})
    span = recorded.tracer.start_span("x", attributes={"a": "long text", "b": ["long", 1], "c": 3}, links=[link, link])
    for name in "efg":
        span.add_event(name, {"a": 1, "b": 2})
    span.end()
    read = recorded.one()
    assert (dict(read.attributes or {}), read.dropped_attributes) == ({"b": ("lon", 1), "c": 3}, 1)
    assert ([event.name for event in read.events], read.dropped_events) == (["f", "g"], 1)
    assert (len(read.links), read.dropped_links) == (1, 1)
    assert [event.dropped_attributes for event in read.events] == [1, 1]


def test_limits_come_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "0")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "2")
    recorded = Recorded()
    span = recorded.tracer.start_span("x", attributes={"a": "text", "b": "text"})
    span.add_event("e")
    span.end()
    read = recorded.one()
    assert (dict(read.attributes or {}), read.dropped_events) == ({"b": "te"}, 1)


@pytest.mark.parametrize(
    ("sampler", "parent", "records", "sampled"),
    [
        (ALWAYS_ON, None, True, True),
        (ALWAYS_OFF, None, False, False),
        (ALWAYS_ON, 0, True, True),
        (TraceIdRatioBased(0.0), 1, False, False),
        (TraceIdRatioBased(1.0), 0, True, True),
        (ParentBased(ALWAYS_OFF), None, False, False),
        (ParentBased(ALWAYS_OFF), 1, True, True),
        (ParentBased(ALWAYS_ON), 0, False, False),
        (ParentBased(ALWAYS_ON, remote_parent_not_sampled=ALWAYS_ON), 0, True, True),
    ],
)
def test_the_samplers_of_the_sdk(sampler: Sampler, parent: int | None, records: bool, sampled: bool) -> None:
    recorded = Recorded(sampler=sampler)
    span = recorded.tracer.start_span("x", context=None if parent is None else remote(parent))
    assert (span.is_recording(), span.get_span_context().trace_flags.sampled) == (records, sampled)
    assert span.get_span_context().is_valid
    assert isinstance(span, ScouterSpan if records else NonRecordingSpan)


def test_the_ratio_decides_as_the_sdk_does() -> None:
    ours, theirs = Recorded(sampler=TraceIdRatioBased(0.37)), TraceIdRatioBased(0.37)
    for _ in range(200):
        span = ours.tracer.start_span("x")
        decision = theirs.should_sample(None, span.get_span_context().trace_id, "x").decision
        assert span.is_recording() == (decision is Decision.RECORD_AND_SAMPLE)


class OwnSampler(Sampler):
    """Records without sampling, and says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if name == "fail":
            raise RuntimeError("the sampler fails")
        self.asked.append((parent_context, trace_id, name, kind, attributes, links))
        return SamplingResult(Decision.RECORD_ONLY, {"sampler": "own", **(attributes or {})}, TraceState([("s", "1")]))

    def get_description(self) -> str:
        return "own"


def test_a_sampler_written_in_python_is_asked() -> None:
    sampler = OwnSampler()
    recorded = Recorded(sampler=sampler)
    links = [Link(SpanContext(1, 2, False))]
    span = recorded.tracer.start_span("x", kind=SpanKind.SERVER, attributes={"a": 1}, links=links)
    context = span.get_span_context()
    assert sampler.asked == [(None, context.trace_id, "x", SpanKind.SERVER, {"a": 1}, links)]
    assert (span.is_recording(), context.trace_flags.sampled, context.trace_state.to_header()) == (True, False, "s=1")
    assert isinstance(span, ScouterSpan)
    assert dict(span.attributes) == {"sampler": "own", "a": 1}


def test_a_sampler_that_fails_costs_no_span(caplog: pytest.LogCaptureFixture) -> None:
    span = Recorded(sampler=OwnSampler()).tracer.start_span("fail")
    assert span.is_recording()
    assert span.get_span_context().trace_flags.sampled
    assert "the sampler fails" in caplog.text


def test_ids_may_come_from_python() -> None:
    class Counting(IdGenerator):
        def __init__(self) -> None:
            self.last = 0

        def generate_span_id(self) -> int:
            self.last += 1
            return self.last

        def generate_trace_id(self) -> int:
            return (1 << 100) + self.generate_span_id()

    recorded = Recorded(id_generator=Counting())
    contexts = [recorded.tracer.start_span("x").get_span_context() for _ in range(2)]
    assert [(context.trace_id - (1 << 100), context.span_id) for context in contexts] == [(1, 2), (3, 4)]
    assert not any(context.trace_flags.random_trace_id for context in contexts)


def test_ids_do_not_repeat_over_threads_and_forks(recorded: Recorded) -> None:
    def ids(count: int) -> list[tuple[int, int]]:
        contexts = (recorded.tracer.start_span("x").get_span_context() for _ in range(count))
        return [(context.trace_id, context.span_id) for context in contexts]

    all_ids = ids(100)
    threads = [threading.Thread(target=lambda: all_ids.extend(ids(100))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(3):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                os.write(write, repr(ids(100)).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            all_ids.extend(eval(pipe.read()))  # what our own child wrote
        os.waitpid(child, 0)
        all_ids.extend(ids(100))
    assert len({trace_id for trace_id, _ in all_ids}) == len({span_id for _, span_id in all_ids}) == len(all_ids) == 1100
