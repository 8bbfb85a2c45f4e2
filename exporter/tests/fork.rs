//! A process that forks while its exporter is in use: parent and child deliver what is theirs, under ids of their own.
//!
//! Without the test harness, because the program starts itself: the server must live in another process than the one that forks, and
//! the one that forks should have no threads but those of its exporter.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "exporter/server.rs"]
mod server;

use std::{
    collections::HashSet,
    process::{Command, ExitCode},
    time::Duration,
};

use scouter_exporter::{
    GrpcConfig, GrpcSpanProcessor, Pipeline, QueueConfig,
    message::monitoring_record::Record,
    opentelemetry::trace::{Tracer, TracerProvider},
    opentelemetry_sdk::trace::SdkTracerProvider,
    queue::{Metric, Metrics, Profile, RecordQueue, RecordQueueConfig},
};

use scouter_tonic::group::records_of;
use server::{PATIENCE, Server};

const SERVER: &str = "SCOUTER_FORK_TEST_SERVER";
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    match std::env::var(SERVER) {
        Ok(server_uri) => forking(server_uri),
        Err(_) => serving(),
    }
    ExitCode::SUCCESS
}

fn serving() {
    let server = Server::start();
    for round in 0..ROUNDS {
        server.state().inserts.clear();
        let mut forking = Command::new(std::env::current_exe().unwrap()).env(SERVER, server.config().server_uri).spawn().unwrap();
        assert!(forking.wait().unwrap().success(), "parent or child failed in round {round}");
        let inserts = server.inserts();
        let mut names: Vec<String> = inserts.iter().flat_map(server::Insert::spans).map(|span| span.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["before", "child", "child again", "parent", "parent again", "queued"], "each span arrives once");
        let records = inserts.iter().flat_map(|insert| insert.request().records).filter_map(|record| record.record).flat_map(records_of);
        let mut means: Vec<f64> =
            records.map(|record| if let Record::Custom(custom) = record { custom.value } else { panic!("{record:?}") }).collect();
        means.sort_unstable_by(f64::total_cmp);
        assert_eq!(means, [2.0, 10.0], "what was counted before the fork is the parent's");
        let batches: HashSet<Vec<u8>> = inserts.iter().map(|insert| insert.request().batch_id).collect();
        assert_eq!(batches.len(), inserts.len(), "parent and child must not share a batch_id: the second would count as a repetition");
    }
    println!("fork: {ROUNDS} rounds ok");
}

fn end_span(provider: &SdkTracerProvider, name: &'static str) {
    provider.tracer("fork").in_span(name, |_| {});
}

fn forking(server_uri: String) {
    let config = GrpcConfig { server_uri, username: String::new(), timeout: PATIENCE, ..GrpcConfig::default() };
    let queue = QueueConfig { schedule_delay: Duration::from_secs(3600), ..QueueConfig::default() };
    let profile = Profile::from_json(include_str!("fixtures/scouter-0.25/profile_custom.json")).unwrap();
    let queues = RecordQueue::new([("alias", profile)], config.clone(), RecordQueueConfig::default()).unwrap();
    let insert = |value: f64| queues.get("alias").unwrap().insert(&Metrics::new([Metric::new("acc", value)])).unwrap();
    insert(1.0);
    let processor = GrpcSpanProcessor::new(config, queue).unwrap();
    let pipeline = processor.pipeline().clone();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    end_span(&provider, "before");
    provider.force_flush().unwrap();
    // This thread's random numbers are in use before the fork, as those of any thread that sends are.
    send_record(&pipeline);
    // Still queued when the process forks: the parent's to deliver.
    end_span(&provider, "queued");
    // SAFETY: the child calls nothing that belongs to threads of the parent: that is what `after_fork_in_child` is for.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no fork");
    let (first, second) = if child == 0 { ("child", "child again") } else { ("parent", "parent again") };
    if child == 0 {
        pipeline.after_fork_in_child();
        assert_eq!(pipeline.stats().spans.ended, 0);
        queues.after_fork_in_child();
        assert_eq!(queues.stats().queue("alias").unwrap().inserted, 0);
    }
    insert(if child == 0 { 10.0 } else { 3.0 });
    end_span(&provider, first);
    send_record(&pipeline);
    pipeline.flush(PATIENCE).unwrap();
    end_span(&provider, second);
    let records = queues.shutdown(PATIENCE);
    assert!(records.undelivered == 0 && records.stats.delivery.records.exported == 1, "{records:?}");
    let report = pipeline.shutdown(PATIENCE);
    assert!(report.undelivered == 0 && report.stats.spans.is_balanced(), "{report:?}");
    if child == 0 {
        // SAFETY: ends the child without running what the parent registered for its own exit.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0), "the child failed");
}

/// Records are cut into requests on this thread, with this thread's random numbers.
fn send_record(pipeline: &Pipeline) {
    let mut sent = std::pin::pin!(pipeline.send_records(vec![Default::default()]));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        match sent.as_mut().poll(&mut context) {
            std::task::Poll::Ready(result) => return result.unwrap(),
            std::task::Poll::Pending => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
