//! The same exporter under every way of running it.

use std::time::Duration;

use scouter_exporter::{
    GrpcSpanExporter, Pipeline,
    opentelemetry::trace::{Tracer, TracerProvider},
    opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter},
};

use super::{
    server::{PATIENCE, Server},
    spans::{batch, block_on, envelope, pipeline, span, span_data},
};

fn export_and_end(server: &Server) {
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    let pipeline = exporter.pipeline().clone();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    provider.tracer("tests").in_span("work", |_| {});
    provider.force_flush().unwrap();
    provider.shutdown().unwrap();
    assert_eq!(pipeline.stats().spans.exported, 1);
}

fn queue_and_end(pipeline: &Pipeline) {
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    pipeline.flush(PATIENCE).unwrap();
    assert_eq!(pipeline.shutdown(Duration::from_secs(5)).undelivered, 0);
}

#[test]
fn without_any_runtime() {
    let server = Server::start();
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    block_on(exporter.export(vec![span_data("span")])).unwrap();
    exporter.force_flush().unwrap();
    export_and_end(&server);
    queue_and_end(&pipeline(&server));
}

#[test]
fn under_the_simple_processor() {
    let server = Server::start();
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    let pipeline = exporter.pipeline().clone();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    for _ in 0..3 {
        provider.tracer("tests").in_span("work", |_| {});
    }
    assert_eq!(pipeline.stats().spans.exported, 3, "each span is sent as it ends");
    provider.shutdown().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn inside_a_current_thread_runtime() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    pipeline(&server).send(batch(0..1)).await.unwrap();
    export_and_end(&server);
    queue_and_end(&pipeline(&server));
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn inside_a_runtime_with_one_worker() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let sending = pipeline(&server);
    tokio::spawn(async move { sending.send(batch(0..1)).await }).await.unwrap().unwrap();
    let queued = pipeline(&server);
    tokio::spawn(async move { queue_and_end(&queued) }).await.unwrap();
    export_and_end(&server);
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

#[test]
fn a_runtime_that_ends_while_spans_are_queued_takes_nothing_along() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        pipeline.send(batch(0..1)).await.unwrap();
        assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    });
    drop(runtime);
    pipeline.flush(PATIENCE).unwrap();
    assert_eq!(pipeline.stats().spans.exported, 2);
}

#[test]
fn a_dropped_send_is_still_delivered_and_counted() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    drop(pipeline.send(batch(0..5)));
    pipeline.flush(PATIENCE).unwrap();
    assert_eq!(pipeline.stats().spans.exported, 5);
}
