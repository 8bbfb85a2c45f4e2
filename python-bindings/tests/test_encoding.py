"""Our bytes against those of OpenTelemetry's own encoder, read back by protobuf."""

from __future__ import annotations

import enum
import math
import random
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import opentelemetry.sdk.trace as sdk
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as encode_by_sdk
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from scouter._scouter import encode_spans


def decode(request: bytes) -> list[ResourceSpans]:
    """The ResourceSpans of a Scouter request: field 2 of a message whose other field is the batch id."""
    rest = request

    def varint() -> int:
        nonlocal rest
        shift = value = 0
        while True:
            byte, rest = rest[0], rest[1:]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    found = []
    while rest:
        tag = varint()
        length = varint()
        if tag == 2 << 3 | 2:
            found.append(ResourceSpans.FromString(rest[:length]))
        else:
            assert (tag, length) == (4 << 3 | 2, 16)
        rest = rest[length:]
    return found


class Sdk:
    """The SDK with nothing but memory behind it."""

    def __init__(self, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = sdk.TracerProvider(
            resource=Resource({"service.name": "s", "n": 1}, "https://r"), shutdown_on_exit=False, **settings
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("scope", "1.0", "https://s", {"scope.attribute": True})

    def ended(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


def one_span(attributes: Mapping[str, Any]) -> Span:
    sdk_ = Sdk()
    sdk_.tracer.start_span("x", attributes=attributes).end()
    (resource_spans,) = decode(encode_spans(sdk_.ended()))
    span: Span = resource_spans.scope_spans[0].spans[0]
    return span


def values(span: Span) -> dict[str, AnyValue]:
    return {attribute.key: attribute.value for attribute in span.attributes}


def assert_as_the_sdk(spans: Sequence[ReadableSpan]) -> None:
    ours = ExportTraceServiceRequest(resource_spans=decode(encode_spans(spans)))
    theirs: ExportTraceServiceRequest = encode_by_sdk(spans)
    for span in (s for r in theirs.resource_spans for c in r.scope_spans for s in c.spans):
        # Their encoder leaves out the W3C flags and the link's state; OTLP asks for them.
        (original,) = [s for s in spans if s.context is not None and s.context.span_id == int.from_bytes(span.span_id, "big")]
        assert original.context is not None
        span.flags |= original.context.trace_flags & 0xFF
        for link, original_link in zip(span.links, original.links, strict=True):
            link.flags |= original_link.context.trace_flags & 0xFF
            link.trace_state = original_link.context.trace_state.to_header()
    assert str(ours) == str(theirs)


def test_everything_a_span_has_equals_the_sdks_encoding() -> None:
    sdk_ = Sdk()
    remote = SpanContext(2**127 + 5, 2**63 + 9, True, TraceFlags(1), TraceState([("vendor", "a b"), ("other", "1")]))
    context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    for kind in SpanKind:
        span = sdk_.tracer.start_span(
            f"name {kind} é✓",
            context=context,
            kind=kind,
            attributes={"text": "é✓", "true": True, "int": -5, "float": 0.5, "bytes": b"\x00\xff", "list": ["a", "b"], "none": None},
            links=[Link(remote, {"why": "because"}), Link(SpanContext(7, 8, False))],
            start_time=1_700_000_000_123_456_789,
        )
        span.add_event("event", {"n": 1, "deep": {"a": [1, {"b": None}]}}, timestamp=1_700_000_000_123_456_999)
        span.record_exception(ValueError("broken"))
        span.set_status(Status(StatusCode.ERROR, "went wrong"))
        span.end(1_700_000_001_000_000_000)
    with sdk_.tracer.start_as_current_span("parent") as parent:
        parent.set_status(StatusCode.OK)
        sdk_.provider.get_tracer("other scope").start_span("child of another scope").end()
    assert_as_the_sdk(sdk_.ended())


def test_what_limits_left_out_is_counted() -> None:
    sdk_ = Sdk(span_limits=sdk.SpanLimits(max_attributes=2, max_events=1, max_links=1, max_attribute_length=3))
    links = [Link(SpanContext(n, n, False), {"a": 1, "b": 2, "c": 3}) for n in (1, 2)]
    span = sdk_.tracer.start_span("x", attributes={"a": "long text", "b": 2, "c": 3}, links=links)
    for n in range(3):
        span.add_event("e", {"a": 1, "b": n, "c": 3})
    span.end()
    assert_as_the_sdk(sdk_.ended())


def _values(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(6 if depth >= 3 else 8)
    if kind == 6:
        return [_values(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {_text(rng) or "k": _values(rng, depth + 1) for _ in range(rng.randrange(4))}
    if kind == 0:
        return _text(rng)
    return [rng.random() < 0.5, rng.randrange(-(2**63), 2**63), rng.uniform(-1e300, 1e300), rng.randbytes(rng.randrange(9)), None][kind - 1]


def _text(rng: random.Random) -> str:
    alphabet = string.ascii_letters + "äß漢字🎉\x00\u202e"
    return "".join(rng.choices(alphabet, k=rng.choice([0, 1, 5, 130])))


def _random_spans(seed: int) -> Iterator[ReadableSpan]:
    rng = random.Random(seed)
    sdk_ = Sdk()
    for _ in range(20):
        attributes = {_text(rng) or "k": _values(rng) for _ in range(rng.randrange(12))}
        span = sdk_.tracer.start_span(_text(rng), attributes=attributes, kind=rng.choice(list(SpanKind)))
        for _ in range(rng.randrange(3)):
            span.add_event(_text(rng), {_text(rng) or "k": _values(rng)}, timestamp=rng.randrange(2**63))
        span.set_status(rng.choice(list(StatusCode)))
        span.end()
    yield from sdk_.ended()


@pytest.mark.parametrize("seed", range(25))
def test_random_spans_equal_the_sdks_encoding(seed: int) -> None:
    assert_as_the_sdk(list(_random_spans(seed)))


def test_integers_beyond_64_bits_become_text() -> None:
    found = values(one_span({"small": 2**63 - 1, "large": 2**63, "negative": -(2**63) - 1, "list": [1, 2**100], "huge": 10**5000}))
    assert found["small"].int_value == 2**63 - 1
    assert found["large"].string_value == str(2**63)
    assert found["negative"].string_value == str(-(2**63) - 1)
    assert [value.string_value or value.int_value for value in found["list"].array_value.values] == [1, str(2**100)]
    assert int(found["huge"].string_value, 0) == 10**5000


def test_floats_keep_nan_infinities_and_the_sign_of_zero() -> None:
    found = values(one_span({"nan": math.nan, "inf": -math.inf, "zero": -0.0}))
    assert math.isnan(found["nan"].double_value)
    assert found["inf"].double_value == -math.inf
    assert math.copysign(1, found["zero"].double_value) == -1


def test_surrogates_are_joined_or_replaced() -> None:
    span = one_span({"lone": "a\ud800b", "pair": "\ud83d\ude00", "key \udfff": "v", "deep": ["\udc00"]})
    found = values(span)
    assert found["lone"].string_value == "a\ufffdb"
    assert found["pair"].string_value == "😀"
    assert found["key \ufffd"].string_value == "v"
    assert found["deep"].array_value.values[0].string_value == "\ufffd"


def test_subclasses_count_as_what_they_derive_from() -> None:
    class Colour(str, enum.Enum):
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    found = values(one_span({"colour": Colour.RED, "level": Level.HIGH}))
    assert found["colour"].string_value == "red"
    assert found["level"].int_value == 3


class Foreign:
    """Looks like a ReadableSpan and is none."""

    def __init__(self, **fields: Any) -> None:
        self.name = "foreign"
        self.context = SpanContext(1, 2, False, TraceFlags(1))
        self.parent = None
        self.kind = SpanKind.INTERNAL
        self.start_time: Any = 1
        self.end_time: Any = 2
        self.attributes: Any = None
        self.events: Sequence[Any] = ()
        self.links: Sequence[Any] = ()
        self.status = Status()
        self.resource: Any = None
        self.instrumentation_scope: Any = None
        self.__dict__.update(fields)


def foreign(**fields: Any) -> Span:
    (resource_spans,) = decode(encode_spans([Foreign(**fields)]))  # type: ignore[list-item]
    span: Span = resource_spans.scope_spans[0].spans[0]
    return span


def test_spans_of_other_libraries_are_read_by_their_properties() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("no")

    span = foreign(attributes={"list": [1], 5: "number as key", "object": Unprintable(), "set": {1}, "bytes": bytearray(b"x")})
    found = values(span)
    assert found["list"].array_value.values[0].int_value == 1
    assert found["5"].string_value == "number as key"
    assert found["object"].WhichOneof("value") is None
    assert found["set"].string_value == "{1}"
    assert found["bytes"].bytes_value == b"x"


@pytest.mark.parametrize(("time", "nanos"), [(-1, 0), (2**70, 2**64 - 1), (5.9, 5), (math.nan, 0), (None, 0), ("x", 0)])
def test_times_out_of_range_are_clamped(time: Any, nanos: int) -> None:
    assert foreign(start_time=time).start_time_unix_nano == nanos


def test_endless_nesting_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert foreign(attributes={"endless": endless, "after": 1}).attributes[1].value.int_value == 1


def test_what_is_no_span_is_an_error() -> None:
    with pytest.raises((AttributeError, ValueError, TypeError)):
        encode_spans([object()])  # type: ignore[list-item]
