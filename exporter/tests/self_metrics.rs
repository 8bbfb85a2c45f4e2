//! Row C-55: the exporter's metrics about itself, as an OpenTelemetry meter collects them.
//!
//! `cargo test -p scouter-exporter --features self-metrics --test self_metrics`
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "exporter/server.rs"]
mod server;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use scouter_exporter::{
    GrpcSpanProcessor, QueueConfig,
    opentelemetry::{
        metrics::MeterProvider,
        trace::{Tracer, TracerProvider},
    },
    opentelemetry_sdk::{
        error::OTelSdkResult,
        metrics::{
            PeriodicReader, SdkMeterProvider, Temporality,
            data::{AggregatedMetrics, MetricData, ResourceMetrics},
            exporter::PushMetricExporter,
        },
        trace::SdkTracerProvider,
    },
};
use tonic::Code;

use server::{PATIENCE, Reply, Server};

/// Values by instrument and `error.type`; of a histogram, the count.
type Collected = Arc<Mutex<BTreeMap<(String, String), i64>>>;

#[derive(Debug)]
struct Keep(Collected);

impl PushMetricExporter for Keep {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut kept = self.0.lock().unwrap();
        for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
            let mut keep = |attributes: Vec<(String, String)>, value: i64| {
                let find = |name: &str| attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
                assert_eq!(find("otel.component.type").as_deref(), Some("otlp_grpc_span_exporter"));
                assert_eq!(find("server.address").as_deref(), Some("127.0.0.1"));
                assert!(find("server.port").is_some() && find("otel.component.name").is_some());
                kept.insert((metric.name().to_owned(), find("error.type").unwrap_or_default()), value);
            };
            macro_rules! text {
                ($point:expr) => {
                    $point.attributes().map(|pair| (pair.key.to_string(), pair.value.to_string())).collect()
                };
            }
            match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                    sum.data_points().for_each(|point| keep(text!(point), point.value() as i64))
                }
                AggregatedMetrics::I64(MetricData::Sum(sum)) => sum.data_points().for_each(|point| keep(text!(point), point.value())),
                AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                    histogram.data_points().for_each(|point| keep(text!(point), point.count() as i64));
                }
                other => panic!("{} has another kind: {other:?}", metric.name()),
            }
        }
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

#[test]
fn c_55_a_meter_sees_the_account() {
    let server = Server::start();
    let queue = QueueConfig { max_spans: 100, max_batch_spans: 10, ..QueueConfig::default() };
    let processor = GrpcSpanProcessor::new(server.config(), queue).unwrap();
    let pipeline = processor.pipeline().clone();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let end_spans = |count| (0..count).for_each(|_| provider.tracer("tests").in_span("work", |_| {}));
    end_spans(5);
    pipeline.flush(PATIENCE).unwrap();

    // The meter comes after the first spans, as it does in many programs.
    let kept = Collected::default();
    let meters = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(Keep(Arc::clone(&kept))).build()).build();
    let meter = meters.meter("scouter-exporter");
    assert!(pipeline.register_metrics(&meter));
    assert!(!pipeline.register_metrics(&meter), "one meter observes it already");

    server.script([Reply::Fail(Code::Unavailable, "later"), Reply::Reject { spans: 1, records: 0, message: "no id" }]);
    end_spans(3);
    pipeline.flush(PATIENCE).unwrap_err();
    server.script([Reply::Fail(Code::InvalidArgument, "no")]);
    end_spans(4);
    pipeline.flush(PATIENCE).unwrap_err();
    pipeline.shutdown(PATIENCE);
    end_spans(2);

    meters.force_flush().unwrap();
    let kept = kept.lock().unwrap().clone();
    let value = |name: &str, error_type: &str| kept.get(&(name.to_owned(), error_type.to_owned())).copied();
    let exported = "otel.sdk.exporter.span.exported";
    assert_eq!((value(exported, ""), value(exported, "rejected"), value(exported, "refused")), (Some(7), Some(1), Some(4)), "{kept:?}");
    let duration = "otel.sdk.exporter.operation.duration";
    assert_eq!(value(duration, ""), None, "the first request came before the meter: {kept:?}");
    assert_eq!((value(duration, "rejected"), value(duration, "refused")), (Some(1), Some(1)), "once over all attempts: {kept:?}");
    let processed = "otel.sdk.processor.span.processed";
    assert_eq!((value(processed, ""), value(processed, "shutdown")), (Some(12), Some(2)), "{kept:?}");
    assert_eq!(value("otel.sdk.exporter.span.inflight", ""), Some(0));
    assert_eq!(value("otel.sdk.processor.span.queue.size", ""), Some(0));
    assert_eq!(value("otel.sdk.processor.span.queue.capacity", ""), Some(100));
}

#[test]
fn c_55_a_meter_does_not_keep_a_pipeline_alive() {
    let server = Server::start();
    let processor = GrpcSpanProcessor::new(server.config(), QueueConfig::default()).unwrap();
    let kept = Collected::default();
    let meters = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(Keep(Arc::clone(&kept))).build()).build();
    assert!(processor.pipeline().register_metrics(&meters.meter("scouter-exporter")));
    drop(processor);
    meters.force_flush().unwrap();
    assert!(kept.lock().unwrap().is_empty());
}
