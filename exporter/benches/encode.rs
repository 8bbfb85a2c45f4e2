//! Our encoder beside the transform of `opentelemetry-proto` and prost, on the same spans in the same run.
//!
//! `cargo bench -p scouter-exporter --bench encode`. Times are those of a batch of 512; divide by that for a span.

#[path = "shared/spans.rs"]
mod spans;

use std::{hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, Throughput};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use prost::Message;
use scouter_exporter::{
    encode::{EncodedBatch, EncodedEnvelope, EncodedResource, write_span},
    opentelemetry_sdk::trace::SpanData,
};

use self::spans::{resource, span};

const SPANS: u64 = 512;
const NO_LIMIT: usize = 64 * 1024 * 1024;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let spans: Vec<SpanData> = (0..SPANS).map(span).collect();
    let resource = resource();
    let encoded_resource = EncodedResource::from_sdk(&resource);
    let envelope = EncodedEnvelope::from_sdk(Arc::clone(&encoded_resource), &spans[0].instrumentation_scope);
    let attributes = ResourceAttributesWithSchema::from(&resource);
    let mut size = Vec::new();
    spans.iter().for_each(|span| write_span(&mut size, span));
    println!("{} bytes a span", size.len() as u64 / SPANS);

    let mut group = criterion.benchmark_group("encode 512 spans");
    group.throughput(Throughput::Elements(SPANS));
    // Both drop the spans they were given, as an exporter does.
    group.bench_function("ours, to request bytes", |bencher| {
        let mut batch = EncodedBatch::default();
        bencher.iter_batched(
            || spans.clone(),
            |spans| {
                batch.clear();
                spans.iter().for_each(|span| batch.push_span_data(&envelope, span));
                batch.requests(NO_LIMIT)
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("opentelemetry-proto transform and prost", |bencher| {
        bencher.iter_batched(
            || spans.clone(),
            |spans| {
                let resource_spans = group_spans_by_resource_and_scope(spans, &attributes);
                ExportTraceServiceRequest { resource_spans }.encode_to_vec()
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("dropping the spans alone", |bencher| {
        bencher.iter_batched(|| spans.clone(), drop, BatchSize::LargeInput);
    });
    group.bench_function("ours, span bytes only", |bencher| {
        let mut buffer = Vec::new();
        bencher.iter(|| {
            buffer.clear();
            spans.iter().for_each(|span| write_span(&mut buffer, black_box(span)));
            buffer.len()
        });
    });
    group.finish();
    criterion.final_summary();
}
