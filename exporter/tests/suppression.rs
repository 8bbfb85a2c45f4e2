//! C-54, in a process of its own: the subscriber is that of every thread.

#![allow(clippy::unwrap_used)]

#[path = "exporter/server.rs"]
#[allow(dead_code)]
mod server;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use scouter_exporter::{
    GrpcSpanProcessor, Pipeline, QueueConfig, opentelemetry::trace::TracerProvider, opentelemetry_sdk::trace::SdkTracerProvider,
    tracing_opentelemetry,
};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::{Layer, filter::dynamic_filter_fn, layer::Context, prelude::*};

use self::server::{Insert, PATIENCE, Reply, Server};

/// Spans of the crates below, on the server's side of this process.
static SPANS_OF_THE_TRANSPORT: AtomicUsize = AtomicUsize::new(0);
/// What the exporter said, on a thread of its own.
static WARNINGS: AtomicUsize = AtomicUsize::new(0);

/// Counts what a subscriber is told.
struct Count;

impl<S: Subscriber> Layer<S> for Count {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _id: &span::Id, _context: Context<'_, S>) {
        if attributes.metadata().target() != module_path!() {
            SPANS_OF_THE_TRANSPORT.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target().starts_with("scouter_exporter") && !is_not_of_the_exporter() {
            WARNINGS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn is_not_of_the_exporter() -> bool {
    std::thread::current().name() != Some("scouter-exporter")
}

/// The server shares this process, and its spans are not the exporter's.
fn is_not_of_the_server() -> bool {
    let thread = std::thread::current();
    thread.name().is_none_or(|name| !name.starts_with("tokio"))
}

#[test]
fn c_54_no_span_comes_from_sending_spans_whatever_the_subscriber_lets_through() {
    let server = Server::start();
    let queue = QueueConfig { schedule_delay: Duration::from_millis(10), ..QueueConfig::default() };
    let processor = GrpcSpanProcessor::with_pipeline(Pipeline::new(server.config(), queue).unwrap());
    let pipeline = processor.pipeline().clone();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let to_spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("tests"));
    let subscriber =
        tracing_subscriber::registry().with(Count).with(to_spans.with_filter(dynamic_filter_fn(|_, _| is_not_of_the_server())));
    tracing::subscriber::set_global_default(subscriber).unwrap();

    // Logins, requests, failures, retries and a lost connection, so that every part of the transport speaks.
    let rejected = Reply::Reject { spans: 1, records: 0, message: "no" };
    server.script([Reply::Fail(tonic::Code::Unavailable, "busy"), Reply::Ok, rejected]);
    for number in 0..20 {
        tracing::info_span!("ours", number).in_scope(|| {});
        let flushed = pipeline.flush(PATIENCE);
        assert_eq!(flushed.is_ok(), number != 1, "{flushed:?}");
    }
    std::thread::sleep(Duration::from_millis(100));
    provider.shutdown().unwrap();

    let names: Vec<String> = server.inserts().iter().flat_map(Insert::spans).map(|span| span.name).collect();
    let foreign = names.iter().find(|name| *name != "ours");
    assert_eq!(foreign, None, "and {} more", names.len());
    assert_eq!(pipeline.stats().spans.ended, 20);
    assert!(SPANS_OF_THE_TRANSPORT.load(Ordering::Relaxed) > 0, "nobody heard the server's side either, so this shows nothing");
    assert!(WARNINGS.load(Ordering::Relaxed) > 0, "the exporter's own words are heard");
}
