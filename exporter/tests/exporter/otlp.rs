//! Plain OTLP over gRPC and HTTP: one suite, both protocols.

use std::time::{Duration, Instant};

use scouter_exporter::{
    Compression, DropReason, ExportError, GrpcSpanExporter, GrpcSpanProcessor, OtlpConfig, OtlpProtocol, OutagePolicy, Pipeline,
    QueueConfig,
    encode::EncodedBatch,
    opentelemetry::trace::{Tracer, TracerProvider},
    opentelemetry_sdk::trace::{SdkTracerProvider, SpanProcessor},
};

use super::{
    otlp_server::{BOTH, Collector, Received, Reply},
    server::{PATIENCE, Server, refused_address, silent_server, wait_until},
    spans::{assert_balanced, batch, block_on, envelope, span},
};

fn pipeline(config: OtlpConfig) -> Pipeline {
    Pipeline::new_otlp(config, QueueConfig::default()).unwrap()
}

#[test]
fn a_request_holds_the_bytes_that_scouter_gets() {
    let scouter = Server::start();
    block_on(super::spans::pipeline(&scouter).send(batch(0..3))).unwrap();
    // The same `ResourceSpans` under another field number, and no `batch_id` behind it.
    let of_scouter = scouter.inserts()[0].body.clone();
    let mut expected = of_scouter[..of_scouter.len() - 18].to_vec();
    assert_eq!(expected[0], 2 << 3 | 2);
    expected[0] = 1 << 3 | 2;
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        let pipeline = pipeline(collector.config());
        block_on(pipeline.send(batch(0..3))).unwrap();
        let received = collector.received();
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].body, expected, "{protocol:?}");
        let stats = pipeline.stats();
        assert_eq!((stats.spans.exported, stats.bytes), (3, expected.len() as u64));
    }
}

#[test]
fn spans_of_the_sdk_arrive_through_processor_and_exporter() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(GrpcSpanProcessor::new_otlp(collector.config(), QueueConfig::default()).unwrap())
            .with_batch_exporter(GrpcSpanExporter::new_otlp(collector.config()).unwrap())
            .build();
        provider.tracer("tests").in_span("twice", |_| {});
        provider.shutdown().unwrap();
        let names: Vec<String> = collector.received().iter().flat_map(Received::spans).map(|span| span.name).collect();
        assert_eq!(names, ["twice", "twice"], "{protocol:?}");
    }
}

#[test]
fn c_03_http_requests_go_to_the_path_of_traces() {
    let collector = Collector::start(OtlpProtocol::HttpProtobuf);
    block_on(pipeline(collector.config()).send(batch(0..1))).unwrap();
    let received = collector.received();
    assert_eq!(received[0].target, "POST /v1/traces HTTP/1.1");
    assert_eq!(received[0].header("content-type"), Some("application/x-protobuf"));
}

#[test]
fn c_07_and_c_18_headers_and_the_user_agent_are_sent() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        let config = OtlpConfig {
            headers: vec![("Authorization".to_owned(), "Basic YTpi".to_owned()), ("x-tenant".to_owned(), "blue".to_owned())],
            user_agent_prefix: Some("my-agent/1.2".to_owned()),
            ..collector.config()
        };
        block_on(pipeline(config).send(batch(0..1))).unwrap();
        let received = collector.received();
        assert_eq!((received[0].header("authorization"), received[0].header("x-tenant")), (Some("Basic YTpi"), Some("blue")));
        let user_agent = received[0].header("user-agent").unwrap();
        assert!(user_agent.starts_with("my-agent/1.2 scouter-rust/0."), "{user_agent}");
    }
}

#[test]
fn c_08_compressed_requests_arrive_as_they_were() {
    for protocol in BOTH {
        for (compression, name) in [(Compression::None, None), (Compression::Gzip, Some("gzip")), (Compression::Zstd, Some("zstd"))] {
            let collector = Collector::start(protocol);
            let config = OtlpConfig { compression, ..collector.config() };
            block_on(pipeline(config).send(batch(0..50))).unwrap();
            let received = collector.received();
            assert_eq!(received[0].spans().len(), 50);
            if protocol == OtlpProtocol::HttpProtobuf {
                assert_eq!(received[0].header("content-encoding"), name);
            }
        }
    }
}

#[test]
fn c_09_a_timeout_of_zero_is_no_limit() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        let pipeline = pipeline(OtlpConfig { timeout: Duration::ZERO, ..collector.config() });
        block_on(pipeline.send(batch(0..1))).unwrap();
        assert_eq!(pipeline.timeout(), Duration::from_secs(86_400), "a day stands for no limit");
    }
}

#[test]
fn c_28_requests_are_split_by_bytes_and_a_span_that_fits_none_is_named() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        let pipeline = pipeline(OtlpConfig { max_request_bytes: 4096, ..collector.config() });
        let envelope = envelope();
        let mut batch = EncodedBatch::default();
        (0..200).for_each(|number| batch.push(&envelope, &span(number, if number == 7 { 9000 } else { 100 })));
        let error = block_on(pipeline.send(batch)).unwrap_err();
        assert!(matches!(error, ExportError::Dropped { count: 1, reason: DropReason::TooLarge, .. }), "{error}");
        assert!(error.to_string().contains("`span 7`"), "{error}");
        let received = collector.received();
        assert!(received.len() > 5 && received.iter().all(|request| request.body.len() <= 4096));
        assert_eq!(received.iter().map(|request| request.spans().len()).sum::<usize>(), 199);
        assert_balanced(&pipeline.stats());
    }
}

#[test]
fn c_11_and_c_29_an_answer_above_the_limit_is_not_retried() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        collector.script([Reply::Huge(2000)]);
        let pipeline = pipeline(OtlpConfig { max_response_bytes: 1000, ..collector.config() });
        let error = block_on(pipeline.send(batch(0..2))).unwrap_err();
        assert!(matches!(error, ExportError::Dropped { count: 2, reason: DropReason::Refused, .. }), "{protocol:?}: {error}");
        assert_eq!(collector.received().len(), 1);
    }
}

#[test]
fn c_31_a_partial_success_is_counted_and_not_retried() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        collector.script([Reply::Partial(2, "too old")]);
        let pipeline = pipeline(collector.config());
        let error = block_on(pipeline.send(batch(0..5))).unwrap_err();
        assert!(matches!(&error, ExportError::Rejected { count: 2, message } if message == "too old"), "{error}");
        let stats = pipeline.stats();
        assert_eq!((stats.spans.exported, stats.spans.rejected, collector.received().len()), (3, 2, 1), "{protocol:?}");
        assert_balanced(&stats);
    }
}

#[test]
fn c_32_a_warning_is_a_success_and_an_absurd_count_does_no_harm() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        collector.script([Reply::Partial(0, "please update"), Reply::Partial(-5, "negative"), Reply::Partial(i64::MAX, "all of them")]);
        let pipeline = pipeline(collector.config());
        block_on(pipeline.send(batch(0..2))).unwrap();
        block_on(pipeline.send(batch(0..2))).unwrap();
        block_on(pipeline.send(batch(0..2))).unwrap_err();
        let stats = pipeline.stats();
        assert_eq!((stats.spans.exported, stats.spans.rejected), (4, 2));
        assert_balanced(&stats);
    }
}

#[test]
fn c_33_a_busy_server_gets_the_same_bytes_again() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        collector.script([Reply::Busy(0)]);
        let pipeline = pipeline(collector.config());
        block_on(pipeline.send(batch(0..2))).unwrap();
        let received = collector.received();
        assert_eq!(received.len(), 2);
        assert_eq!(received[0].body, received[1].body);
        assert_eq!((pipeline.stats().spans.exported, pipeline.stats().retries), (2, 1));
    }
}

#[test]
fn c_34_final_answers_drop_and_count() {
    for protocol in BOTH {
        for (reply, reason, words) in
            [(Reply::Bad, DropReason::Refused, "bad"), (Reply::Stranger, DropReason::Unauthenticated, "who are you")]
        {
            let collector = Collector::start(protocol);
            collector.script([reply]);
            let pipeline = pipeline(collector.config());
            let error = block_on(pipeline.send(batch(0..2))).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            let stats = pipeline.stats();
            assert_eq!((stats.spans.dropped.get(reason), collector.received().len()), (2, 1), "{protocol:?}");
            assert_balanced(&stats);
        }
    }
}

#[test]
fn c_33_and_c_34_http_statuses_over_the_wire() {
    for status in [429, 502, 503, 504] {
        let collector = Collector::start(OtlpProtocol::HttpProtobuf);
        collector.script([Reply::Http(status)]);
        block_on(pipeline(collector.config()).send(batch(0..1))).unwrap();
        assert_eq!(collector.received().len(), 2, "{status}");
    }
    for status in [301, 307, 404, 413, 500, 501] {
        let collector = Collector::start(OtlpProtocol::HttpProtobuf);
        collector.script([Reply::Http(status)]);
        let error = block_on(pipeline(collector.config()).send(batch(0..1))).unwrap_err().to_string();
        assert!(error.contains(&status.to_string()) && error.contains("scripted"), "{error}");
        assert_eq!(collector.received().len(), 1, "{status}");
    }
}

#[test]
fn c_36_a_pause_asked_for_holds_for_the_whole_destination() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        let pipeline = pipeline(collector.config());
        block_on(pipeline.send(batch(0..1))).unwrap();
        collector.script([Reply::Busy(1)]);
        let start = Instant::now();
        let first = pipeline.send(batch(1..2));
        wait_until("the server asked for patience", || pipeline.stats().last_error.is_some());
        let second = pipeline.send(batch(2..3));
        block_on(first).unwrap();
        block_on(second).unwrap();
        assert!(start.elapsed() >= Duration::from_secs(1), "{protocol:?}: {:?}", start.elapsed());
    }
}

#[test]
fn c_38_a_broken_answer_and_a_refused_connection_are_retried() {
    let collector = Collector::start(OtlpProtocol::HttpProtobuf);
    collector.script([Reply::Cut]);
    block_on(pipeline(collector.config()).send(batch(0..1))).unwrap();
    assert_eq!(collector.received().len(), 2);
    let address = refused_address();
    for config in [OtlpConfig::grpc(format!("http://{address}")), OtlpConfig::http(&format!("http://{address}"))] {
        let pipeline = pipeline(OtlpConfig { timeout: Duration::from_millis(700), ..config });
        let error = block_on(pipeline.send(batch(0..1))).unwrap_err();
        assert!(matches!(error, ExportError::Dropped { reason: DropReason::ExportTimeout, .. }), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
        assert!(pipeline.stats().retries > 0);
    }
}

#[test]
fn c_51_and_c_53_a_silent_server_holds_up_neither_export_nor_shutdown() {
    for protocol in BOTH {
        let collector = Collector::start(protocol);
        collector.script([Reply::Never, Reply::Never, Reply::Never]);
        let pipeline = pipeline(OtlpConfig { timeout: Duration::from_millis(300), ..collector.config() });
        let error = block_on(pipeline.send(batch(0..1))).unwrap_err();
        assert!(matches!(error, ExportError::Dropped { reason: DropReason::ExportTimeout, .. }), "{error}");
        assert!(pipeline.try_push(&envelope(), &span(1, 1)));
        let report = pipeline.shutdown(Duration::from_millis(200));
        assert_eq!(report.undelivered, 1, "{protocol:?}: {report:?}");
        assert_balanced(&report.stats);
    }
}

#[test]
fn monitoring_records_are_refused_and_counted() {
    let collector = Collector::start(OtlpProtocol::Grpc);
    let pipeline = pipeline(collector.config());
    let error = block_on(pipeline.send_records(vec![scouter_exporter::MonitoringRecord::default(); 3])).unwrap_err();
    assert!(matches!(error, ExportError::Dropped { count: 3, reason: DropReason::Refused, .. }), "{error}");
    let stats = pipeline.stats();
    assert_eq!(stats.records.dropped.get(DropReason::Refused), 3);
    assert_balanced(&stats);
    assert!(collector.received().is_empty());
}

#[test]
fn c_40_two_destinations_get_the_same_bytes_and_the_slow_one_blocks_nobody() {
    let scouter = Server::start();
    let collector = Collector::start(OtlpProtocol::HttpProtobuf);
    let (_silent, silent_config) = silent_server();
    let silent = OtlpConfig { timeout: Duration::from_secs(60), ..OtlpConfig::grpc(silent_config.server_uri) };
    let queue = QueueConfig { max_spans: 5, max_batch_spans: 5, ..QueueConfig::default() };
    let pipelines = [
        Pipeline::new_otlp(silent, QueueConfig { outage: OutagePolicy::Drop, ..queue }).unwrap(),
        super::spans::pipeline(&scouter),
        pipeline(collector.config()),
    ];
    let [first, also @ ..] = pipelines.clone();
    let provider = SdkTracerProvider::builder().with_span_processor(GrpcSpanProcessor::with_pipelines(first, also)).build();
    let tracer = provider.tracer("tests");
    (0..20).for_each(|_| tracer.in_span("shared", |_| {}));
    for pipeline in &pipelines[1..] {
        pipeline.flush(PATIENCE).unwrap();
    }
    let to_scouter: Vec<_> = scouter.inserts().iter().flat_map(super::server::Insert::spans).collect();
    let to_collector: Vec<_> = collector.received().iter().flat_map(Received::spans).collect();
    assert_eq!(to_scouter.len(), 20);
    assert_eq!(to_scouter, to_collector);
    let stats = pipelines.each_ref().map(Pipeline::stats);
    assert_eq!(stats.each_ref().map(|stats| stats.spans.exported), [0, 20, 20]);
    assert_eq!(stats[0].spans.dropped.get(DropReason::QueueFull), 15);
    stats.iter().for_each(assert_balanced);
    let _undelivered = provider.shutdown_with_timeout(Duration::from_millis(100));
    pipelines.iter().for_each(|pipeline| assert_balanced(&pipeline.stats()));
}

#[test]
fn c_40_one_processor_flushes_and_ends_all_its_destinations() {
    let (one, other) = (Collector::start(OtlpProtocol::Grpc), Collector::start(OtlpProtocol::HttpProtobuf));
    let processor = GrpcSpanProcessor::with_pipelines(pipeline(one.config()), [pipeline(other.config())]);
    assert_eq!(processor.pipelines().count(), 2);
    processor.on_end(super::spans::span_data("first"));
    processor.force_flush().unwrap();
    assert_eq!((one.received().len(), other.received().len()), (1, 1));
    processor.on_end(super::spans::span_data("last"));
    processor.shutdown_with_timeout(PATIENCE).unwrap();
    assert_eq!((one.received().len(), other.received().len()), (2, 2));
    processor.shutdown_with_timeout(PATIENCE).unwrap_err();
    processor.force_flush().unwrap_err();
}
