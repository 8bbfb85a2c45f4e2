//! Spans for tests, and what every transport of them must keep.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry_proto::tonic::trace::v1::{Span as OtlpSpan, SpanFlags};
use scouter_exporter::{
    Compression, GrpcSpanExporter, GrpcSpanProcessor, Pipeline, QueueConfig, Stats,
    encode::{EncodedBatch, EncodedEnvelope, EncodedResource, ScopeRef, SpanHead, SpanWriter, StatusRef, ValueRef},
    opentelemetry::{
        Context, InstrumentationScope, KeyValue,
        trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState, Tracer, TracerProvider},
    },
    opentelemetry_sdk::{
        Resource,
        trace::{SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, SpanData, SpanEvents, SpanExporter, SpanLinks},
    },
};

use super::server::{PATIENCE, Reply, Server};

pub(crate) fn pipeline(server: &Server) -> Pipeline {
    Pipeline::new(server.config(), QueueConfig::default()).unwrap()
}

pub(crate) fn envelope() -> Arc<EncodedEnvelope> {
    let resource = EncodedResource::new([("service.name", ValueRef::Str("tests"))], None);
    EncodedEnvelope::new(resource, &ScopeRef { name: "scope", ..ScopeRef::default() })
}

/// An encoded span with a number in its ids, and that many bytes in an attribute.
pub(crate) fn span(number: u64, padding: usize) -> Vec<u8> {
    let mut buffer = Vec::new();
    let name = format!("span {number}");
    let head = SpanHead {
        trace_id: (u128::from(number) + 1).to_be_bytes(),
        span_id: (number + 1).to_be_bytes(),
        parent_span_id: None,
        parent_is_remote: false,
        trace_flags: 1,
        trace_state: "",
        name: &name,
        kind: SpanKind::Internal,
        start_unix_nano: 1_000,
        end_unix_nano: 2_000,
    };
    let mut writer = SpanWriter::begin(&mut buffer, &head);
    writer.attribute("padding", ValueRef::Str(&"x".repeat(padding)));
    writer.status(StatusRef::Ok);
    buffer
}

pub(crate) fn batch(numbers: impl IntoIterator<Item = u64>) -> EncodedBatch {
    let envelope = envelope();
    let mut batch = EncodedBatch::default();
    for number in numbers {
        batch.push(&envelope, &span(number, 10));
    }
    batch
}

pub(crate) fn span_data(name: &'static str) -> SpanData {
    let now = SystemTime::now();
    SpanData {
        span_context: SpanContext::new(TraceId::from(1), SpanId::from(2), TraceFlags::SAMPLED, false, TraceState::default()),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: now,
        end_time: now,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("tests").build(),
    }
}

/// Runs a future without any async runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

pub(crate) fn assert_balanced(stats: &Stats) {
    assert!(stats.spans.is_balanced(), "{stats:?}");
    assert!(stats.records.is_balanced(), "{stats:?}");
}

#[test]
fn c_22_ids_have_16_and_8_bytes_and_a_root_has_no_parent() {
    let server = Server::start();
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    block_on(exporter.export(vec![span_data("root"), SpanData { parent_span_id: SpanId::from(7), ..span_data("child") }])).unwrap();
    let spans = server.inserts()[0].spans();
    assert_eq!((spans[0].trace_id.len(), spans[0].span_id.len(), spans[0].parent_span_id.len()), (16, 8, 0));
    assert_eq!(spans[1].parent_span_id, 7_u64.to_be_bytes());
}

#[test]
fn c_23_flags_hold_the_w3c_byte_and_what_is_known_of_the_parent() {
    let server = Server::start();
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    block_on(exporter.export(vec![span_data("local"), SpanData { parent_span_is_remote: true, ..span_data("remote") }])).unwrap();
    let spans = server.inserts()[0].spans();
    let (has, is) = (SpanFlags::ContextHasIsRemoteMask as u32, SpanFlags::ContextIsRemoteMask as u32);
    assert_eq!((spans[0].flags, spans[1].flags), (1 | has, 1 | has | is));
}

#[test]
fn c_24_repeated_attribute_keys_are_sent_once_with_their_last_value() {
    let server = Server::start();
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    let attributes = vec![KeyValue::new("key", "first"), KeyValue::new("other", 1), KeyValue::new("key", "last")];
    block_on(exporter.export(vec![SpanData { attributes, ..span_data("span") }])).unwrap();
    let attributes = &server.inserts()[0].spans()[0].attributes;
    let keys: Vec<&str> = attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["other", "key"]);
    assert!(format!("{:?}", attributes[1]).contains("last"));
}

#[test]
fn c_25_dropped_counts_are_carried_and_a_status_has_words_only_with_an_error() {
    let server = Server::start();
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    let mut full = SpanData { dropped_attributes_count: 3, status: Status::error("broken"), ..span_data("full") };
    full.events.dropped_count = 4;
    full.links.dropped_count = 5;
    let fine = SpanData { status: Status::Ok, ..span_data("fine") };
    block_on(exporter.export(vec![full, fine, span_data("unset")])).unwrap();
    let spans = server.inserts()[0].spans();
    let dropped = |span: &OtlpSpan| (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count);
    assert_eq!((dropped(&spans[0]), dropped(&spans[1])), ((3, 4, 5), (0, 0, 0)));
    let status = |span: &OtlpSpan| span.status.clone().map(|status| (status.code, status.message)).unwrap_or_default();
    assert_eq!(status(&spans[0]), (2, "broken".to_owned()));
    assert_eq!(status(&spans[1]), (1, String::new()));
    assert_eq!(status(&spans[2]), (0, String::new()));
}

#[test]
fn c_26_schema_urls_of_resource_and_scope_are_carried() {
    let server = Server::start();
    let mut exporter = GrpcSpanExporter::new(server.config()).unwrap();
    exporter.set_resource(&Resource::builder_empty().with_schema_url([KeyValue::new("k", "v")], "https://schema/resource").build());
    let instrumentation_scope = InstrumentationScope::builder("tests").with_schema_url("https://schema/scope").build();
    block_on(exporter.export(vec![SpanData { instrumentation_scope, ..span_data("span") }])).unwrap();
    let resource_spans = server.inserts()[0].request().resource_spans;
    assert_eq!(resource_spans[0].schema_url, "https://schema/resource");
    assert_eq!(resource_spans[0].scope_spans[0].schema_url, "https://schema/scope");
}

#[test]
fn c_30_full_success_leaves_nothing_to_do_and_unknown_fields_of_the_answer_are_ignored() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    server.script([Reply::Unknown]);
    block_on(pipeline.send(batch(0..3))).unwrap();
    let stats = pipeline.stats();
    assert_eq!((stats.spans.exported, stats.requests, stats.retries, stats.last_error), (3, 1, 0, None));
    assert_eq!(server.inserts().len(), 1);
}

#[test]
fn c_21_an_empty_batch_is_not_sent() {
    let server = Server::start();
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    block_on(exporter.export(Vec::new())).unwrap();
    block_on(exporter.pipeline().send(EncodedBatch::default())).unwrap();
    exporter.pipeline().flush(PATIENCE).unwrap();
    assert!(server.inserts().is_empty());
}

#[test]
fn c_27_one_resource_and_one_scope_envelope_each_and_the_resource_may_come_late() {
    let server = Server::start();
    let mut exporter = GrpcSpanExporter::new(server.config()).unwrap();
    exporter.set_resource(&Resource::builder_empty().with_attribute(KeyValue::new("service.name", "late")).build());
    let other = InstrumentationScope::builder("other").build();
    let spans = vec![span_data("a"), SpanData { instrumentation_scope: other, ..span_data("b") }, span_data("c")];
    block_on(exporter.export(spans)).unwrap();
    let request = server.inserts()[0].request();
    assert_eq!(request.resource_spans.len(), 1);
    assert!(format!("{:?}", request.resource_spans[0].resource).contains("late"));
    let sizes: Vec<usize> = request.resource_spans[0].scope_spans.iter().map(|scope| scope.spans.len()).collect();
    assert_eq!(sizes, [2, 1]);
    assert_eq!(request.batch_id.len(), 16);
}

#[test]
fn c_18_requests_name_the_exporter_and_carry_their_timeout() {
    let server = Server::start();
    block_on(pipeline(&server).send(batch(0..1))).unwrap();
    let insert = &server.inserts()[0];
    assert!(insert.user_agent.as_ref().is_some_and(|agent| agent.starts_with("scouter-rust/")), "{insert:?}");
    assert!(insert.grpc_timeout.is_some());
}

#[test]
fn c_08_compressed_requests_arrive_as_they_were() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let server = Server::start();
        let config = scouter_exporter::GrpcConfig { compression, ..server.config() };
        let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
        block_on(pipeline.send(batch(0..100))).unwrap();
        assert_eq!(server.inserts()[0].spans().len(), 100, "{compression:?}");
    }
}

#[test]
fn spans_of_the_sdk_arrive_through_its_batch_processor() {
    let server = Server::start();
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    let pipeline = exporter.pipeline().clone();
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name("sdk").build())
        .with_batch_exporter(exporter)
        .build();
    end_spans(&provider, 1000);
    provider.force_flush().unwrap();
    provider.shutdown().unwrap();
    assert_all_arrived(&server, &pipeline.stats(), 1000);
}

#[test]
fn spans_of_the_sdk_arrive_through_our_processor() {
    let server = Server::start();
    let processor = GrpcSpanProcessor::new(server.config(), QueueConfig::default()).unwrap();
    let pipeline = processor.pipeline().clone();
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name("sdk").build())
        .with_span_processor(processor)
        .build();
    end_spans(&provider, 3000);
    provider.force_flush().unwrap();
    assert_all_arrived(&server, &pipeline.stats(), 3000);
    provider.shutdown_with_timeout(Duration::from_secs(5)).unwrap();
}

#[test]
fn spans_ended_by_many_threads_are_each_sent_once() {
    let server = Server::start();
    let processor = GrpcSpanProcessor::new(server.config(), QueueConfig::default()).unwrap();
    let pipeline = processor.pipeline().clone();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                end_spans(&provider, 500);
                provider.force_flush().unwrap();
            });
        }
    });
    assert_all_arrived(&server, &pipeline.stats(), 4000);
}

fn end_spans(provider: &SdkTracerProvider, count: usize) {
    let tracer = provider.tracer("tests");
    for _ in 0..count {
        tracer.in_span("work", |_| {});
    }
}

fn assert_all_arrived(server: &Server, stats: &Stats, count: usize) {
    let mut ids: Vec<Vec<u8>> = server.inserts().iter().flat_map(super::server::Insert::spans).map(|span| span.span_id).collect();
    assert_eq!(ids.len(), count);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "a span was sent twice");
    assert_eq!(stats.spans.exported, count as u64, "{stats:?}");
    assert_balanced(stats);
}

/// Records every span and samples none.
#[derive(Clone, Debug)]
struct RecordOnly;

impl ShouldSample for RecordOnly {
    fn should_sample(
        &self,
        _parent: Option<&Context>,
        _trace_id: TraceId,
        _name: &str,
        _kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        SamplingResult { decision: SamplingDecision::RecordOnly, attributes: Vec::new(), trace_state: TraceState::default() }
    }
}

#[test]
fn c_56_spans_that_are_recorded_and_not_sampled_stay_here_unless_asked_for() {
    for is_asked_for in [false, true] {
        let server = Server::start();
        let processor = GrpcSpanProcessor::with_pipeline(pipeline(&server));
        let processor = if is_asked_for { processor.with_unsampled_spans() } else { processor };
        let pipeline = processor.pipeline().clone();
        let provider = SdkTracerProvider::builder().with_sampler(RecordOnly).with_span_processor(processor).build();
        provider.tracer("tests").in_span("recorded only", |_| ());
        provider.shutdown().unwrap();
        let names: Vec<String> = server.inserts().iter().flat_map(super::server::Insert::spans).map(|span| span.name).collect();
        assert_eq!(names, if is_asked_for { vec!["recorded only"] } else { vec![] });
        assert_eq!(pipeline.stats().spans.ended, u64::from(is_asked_for));
    }
}
