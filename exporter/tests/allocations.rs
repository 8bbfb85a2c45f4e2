//! Encoding a span allocates nothing once the buffer has its size.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::UNIX_EPOCH,
};

use scouter_exporter::{
    encode::{EncodedBatch, EncodedEnvelope, EncodedResource, write_span},
    opentelemetry::{
        Array, InstrumentationScope, KeyValue, Value,
        trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
    },
    opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks},
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system allocator unchanged; counting touches only a thread-local integer without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

fn span() -> SpanData {
    let context = |state: &str| {
        let state: TraceState = state.parse().unwrap_or_default();
        SpanContext::new(TraceId::from(1), SpanId::from(2), TraceFlags::SAMPLED, false, state)
    };
    let mut events = SpanEvents::default();
    events.events.push(Event::new("event", UNIX_EPOCH, vec![KeyValue::new("a", 1), KeyValue::new("a", 2)], 0));
    let mut links = SpanLinks::default();
    links.links.push(Link::new(context("a=b"), vec![KeyValue::new("b", true)], 0));
    let mut attributes: Vec<KeyValue> =
        (0..30).map(|index| KeyValue::new(format!("key {}", index % 20), format!("value {index}"))).collect();
    attributes.push(KeyValue::new("list", Value::Array(Array::I64(vec![1, 2, 3]))));
    SpanData {
        span_context: context("vendor=one,other=two"),
        parent_span_id: SpanId::from(3),
        parent_span_is_remote: false,
        span_kind: SpanKind::Client,
        name: "span".into(),
        start_time: UNIX_EPOCH,
        end_time: UNIX_EPOCH,
        attributes,
        dropped_attributes_count: 1,
        events,
        links,
        status: Status::error("description"),
        instrumentation_scope: InstrumentationScope::builder("scope").build(),
    }
}

#[test]
fn a_span_is_encoded_without_an_allocation() {
    let span = span();
    let mut buffer = Vec::new();
    write_span(&mut buffer, &span);
    buffer.clear();
    let count = allocations(|| {
        write_span(&mut buffer, &span);
        buffer.clear();
        write_span(&mut buffer, &span);
    });
    assert_eq!(count, 0);
}

#[test]
fn a_batch_that_is_used_again_allocates_nothing_a_span() {
    let span = span();
    let envelope = EncodedEnvelope::from_sdk(EncodedResource::new([], None), &span.instrumentation_scope);
    let mut batch = EncodedBatch::default();
    (0..512).for_each(|_| batch.push_span_data(&envelope, &span));
    batch.clear();
    assert_eq!(allocations(|| (0..512).for_each(|_| batch.push_span_data(&envelope, &span))), 0);
}
