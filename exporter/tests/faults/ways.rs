//! The ways an exporter is run, what is asked of it, and what must hold whatever the peer does.

use std::time::{Duration, Instant, SystemTime};

use scouter_exporter::{
    DropReason, GrpcConfig, GrpcSpanExporter, GrpcSpanProcessor, Pipeline, QueueConfig,
    opentelemetry::{
        InstrumentationScope,
        trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState, Tracer, TracerProvider},
    },
    opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanEvents, SpanExporter, SpanLinks},
    queue::{Metric, Metrics, Profile, RecordQueue, RecordQueueConfig},
};

/// The deadline of a request, and of flush and shutdown.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(300);
/// What may be added to a timeout by design.
const PROMISED: Duration = Duration::from_millis(50);
/// What a busy machine may add: hundreds of exporters share few cores here, and a thread that is due may wait its turn for long. The
/// largest overshoot that was seen is printed; it is the number to look at, this one only has to tell "late" from "never".
const SLACK: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    BatchThread,
    Simple,
    OurProcessor,
    TokioMulti,
    TokioCurrent,
    NoRuntime,
    RecordQueue,
}

impl Way {
    pub(crate) const ALL: [Self; 7] =
        [Self::BatchThread, Self::Simple, Self::OurProcessor, Self::TokioMulti, Self::TokioCurrent, Self::NoRuntime, Self::RecordQueue];
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    Export,
    Flush,
    Shutdown,
}

impl Operation {
    pub(crate) const ALL: [Self; 3] = [Self::Export, Self::Flush, Self::Shutdown];
}

/// What becomes of a span that is exported with a deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    Exported,
    Rejected,
    Dropped(DropReason),
}

/// Runs one operation one way. Gives how much later than its timeout it returned.
pub(crate) fn run(way: Way, operation: Operation, config: &GrpcConfig, expected: Expected) -> Duration {
    let config = GrpcConfig { timeout: TIMEOUT, ..config.clone() };
    let late = match way {
        Way::BatchThread | Way::Simple | Way::OurProcessor => run_provider(way, operation, config, expected),
        Way::TokioMulti => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let task = runtime.spawn(run_exporter(operation, config, expected));
            runtime.block_on(task).unwrap()
        }
        Way::TokioCurrent => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run_exporter(operation, config, expected))
        }
        Way::NoRuntime => block_on(run_exporter(operation, config, expected)),
        Way::RecordQueue => run_queue(operation, config),
    };
    assert!(late <= PROMISED + SLACK, "{late:?} later than its timeout");
    late
}

fn run_provider(way: Way, operation: Operation, config: GrpcConfig, expected: Expected) -> Duration {
    let builder = SdkTracerProvider::builder();
    let (provider, pipeline) = if way == Way::OurProcessor {
        let processor = GrpcSpanProcessor::new(config, QueueConfig::default()).unwrap();
        let pipeline = processor.pipeline().clone();
        (builder.with_span_processor(processor).build(), pipeline)
    } else {
        let exporter = GrpcSpanExporter::new(config).unwrap();
        let pipeline = exporter.pipeline().clone();
        let batch = BatchConfigBuilder::default().with_max_export_batch_size(1).build();
        let provider = match way {
            Way::Simple => builder.with_simple_exporter(exporter).build(),
            _ => builder.with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batch).build()).build(),
        };
        (provider, pipeline)
    };
    let start = Instant::now();
    provider.tracer("tests").in_span("work", |_| {});
    // Only the simple processor sends while its caller waits.
    let mut late = start.elapsed().saturating_sub(if way == Way::Simple { TIMEOUT } else { Duration::ZERO });
    match operation {
        Operation::Export if way == Way::OurProcessor => {}
        Operation::Export => {
            wait_until_settled(&pipeline, start + TIMEOUT + PROMISED + SLACK);
            check_expected(&pipeline, expected);
        }
        Operation::Flush => {
            let start = Instant::now();
            let _outcome = provider.force_flush();
            late = late.max(start.elapsed().saturating_sub(TIMEOUT));
            check_balance(&pipeline);
        }
        Operation::Shutdown => {
            let start = Instant::now();
            let _outcome = provider.shutdown_with_timeout(TIMEOUT);
            late = late.max(start.elapsed().saturating_sub(TIMEOUT));
        }
    }
    check_balance(&pipeline);
    let _known = provider.shutdown_with_timeout(Duration::from_millis(50));
    // The SDK's thread may still be exporting after its own shutdown gave up on it.
    wait_until_settled(&pipeline, Instant::now() + TIMEOUT + PROMISED + SLACK);
    late
}

async fn run_exporter(operation: Operation, config: GrpcConfig, expected: Expected) -> Duration {
    let exporter = GrpcSpanExporter::new(config).unwrap();
    let start = Instant::now();
    let export = exporter.export(vec![span_data()]);
    let handed_over = start.elapsed();
    let mut late = handed_over;
    match operation {
        Operation::Export => {
            let _outcome = export.await;
            late = late.max(start.elapsed().saturating_sub(TIMEOUT));
            check_expected(exporter.pipeline(), expected);
        }
        Operation::Flush => {
            let start = Instant::now();
            let _outcome = exporter.force_flush();
            late = late.max(start.elapsed().saturating_sub(TIMEOUT));
            check_balance(exporter.pipeline());
            let _outcome = exporter.shutdown_with_timeout(Duration::from_millis(50));
            let _outcome = export.await;
        }
        Operation::Shutdown => {
            let start = Instant::now();
            let _outcome = exporter.shutdown_with_timeout(TIMEOUT);
            late = late.max(start.elapsed().saturating_sub(TIMEOUT));
            assert_eq!(exporter.stats().spans.pending(), 0, "shutdown settles everything");
            let _outcome = export.await;
        }
    }
    let _known = exporter.shutdown_with_timeout(Duration::from_millis(50));
    let stats = exporter.stats();
    assert_eq!((stats.spans.ended, stats.spans.pending()), (1, 0), "{stats:?}");
    check_balance(exporter.pipeline());
    late
}

/// A metric in a window that is not full: flush and shutdown have to close it first.
fn run_queue(operation: Operation, config: GrpcConfig) -> Duration {
    let profile = Profile::from_json(include_str!("../fixtures/scouter-0.25/profile_custom.json")).unwrap();
    let queues = RecordQueue::new([("alias", profile)], config, RecordQueueConfig::default()).unwrap();
    let start = Instant::now();
    queues.get("alias").unwrap().insert(&Metrics::new([Metric::new("acc", 0.9)])).unwrap();
    let mut late = start.elapsed();
    let start = Instant::now();
    match operation {
        Operation::Export => {}
        Operation::Flush => {
            let _outcome = queues.flush(TIMEOUT);
            late = late.max(start.elapsed().saturating_sub(TIMEOUT));
            check_balance(queues.pipeline());
        }
        Operation::Shutdown => {
            let _outcome = queues.shutdown(TIMEOUT);
            late = late.max(start.elapsed().saturating_sub(TIMEOUT));
        }
    }
    let report = queues.shutdown(Duration::from_millis(50));
    let (records, account) = (&report.stats.delivery.records, report.stats.queue("alias").unwrap());
    assert_eq!((records.ended, records.pending(), account.published), (1, 0, 1), "{report:?}");
    assert!(records.is_balanced() && account.is_balanced(), "{report:?}");
    late
}

fn check_expected(pipeline: &Pipeline, expected: Expected) {
    let stats = pipeline.stats();
    let count = match expected {
        Expected::Exported => stats.spans.exported,
        Expected::Rejected => stats.spans.rejected,
        Expected::Dropped(reason) => stats.spans.dropped.get(reason),
    };
    assert_eq!(count, 1, "{expected:?} expected: {stats:?}");
}

pub(crate) fn check_balance(pipeline: &Pipeline) {
    let stats = pipeline.stats();
    assert!(stats.spans.is_balanced() && stats.records.is_balanced(), "{stats:?}");
    assert_eq!(stats.spans.dropped.get(DropReason::Internal), 0, "something panicked: {stats:?}");
}

fn wait_until_settled(pipeline: &Pipeline, deadline: Instant) {
    loop {
        let stats = pipeline.stats();
        if stats.spans.ended == 1 && stats.spans.pending() == 0 {
            return check_balance(pipeline);
        }
        assert!(Instant::now() < deadline, "still pending: {stats:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn span_data() -> SpanData {
    let now = SystemTime::now();
    SpanData {
        span_context: SpanContext::new(TraceId::from(1), SpanId::from(2), TraceFlags::SAMPLED, false, TraceState::default()),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "work".into(),
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
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
