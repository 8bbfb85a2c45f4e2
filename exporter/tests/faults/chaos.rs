//! Random faults while many threads end spans: nothing may be unaccounted for, and what counts as exported is what the server stored.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use scouter_exporter::{
    GrpcConfig, GrpcSpanProcessor, Pipeline, QueueConfig,
    message::{MonitoringRecord, TagRecord, monitoring_record::Record},
    opentelemetry::trace::{Tracer, TracerProvider},
    opentelemetry_sdk::trace::SdkTracerProvider,
};
use tonic::Code;

use super::{
    server::{PATIENCE, Reply, Server, wait_until},
    ways::{block_on, check_balance},
};

const THREADS: usize = 6;
const ROUNDS: usize = 40;

/// From `SCOUTER_CHAOS_SEED`, or from the clock; printed, so that a failure can be looked at again.
fn seed() -> u64 {
    let given = std::env::var("SCOUTER_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("SCOUTER_CHAOS_SEED={seed}");
    seed
}

/// One disturbance; each leaves the server as it found it, or working.
fn disturb(server: &mut Server, random: &mut StdRng) {
    let retryable = [Code::Unavailable, Code::Aborted, Code::Cancelled, Code::DataLoss, Code::OutOfRange, Code::DeadlineExceeded];
    match random.random_range(0..10) {
        0 => server.restart(),
        1 => server.state().valid_token = Some(format!("unknown {}", random.random::<u64>())),
        2 => {
            server.state().valid_token = None;
            server.state().refresh_fails = random.random();
        }
        3 => server.script([Reply::Never]),
        4 => server.script([Reply::Reject { spans: random.random_range(1..4), records: 0, message: "some have no id" }]),
        5 => server.script([Reply::Fail(Code::InvalidArgument, "refused for ever")]),
        6 => server.state().login_replies.push_back(Some(tonic::Status::unavailable("login is busy"))),
        _ => {
            let code = retryable[random.random_range(0..retryable.len())];
            server.script((0..random.random_range(1..4)).map(|_| Reply::Fail(code, "later")));
        }
    }
    std::thread::sleep(Duration::from_millis(random.random_range(5..60)));
}

/// What the server acknowledged: spans by batch, each batch once however often it came.
fn stored(server: &Server) -> (HashSet<Vec<u8>>, u64) {
    let mut batches = HashMap::new();
    let acknowledged = server.state().acknowledged.clone();
    for (insert, rejected) in acknowledged {
        let ids: Vec<Vec<u8>> = insert.spans().into_iter().map(|span| span.span_id).collect();
        let rejected = u64::try_from(rejected).unwrap().min(ids.len() as u64);
        batches.entry(insert.request().batch_id).or_insert((ids, rejected));
    }
    let rejected = batches.values().map(|(_, rejected)| rejected).sum();
    (batches.into_values().flat_map(|(ids, _)| ids).collect(), rejected)
}

#[test]
fn ended_equals_exported_and_rejected_and_dropped_under_chaos() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut server = Server::start();
    let config = GrpcConfig { timeout: Duration::from_secs(1), ..server.config() };
    let queue = QueueConfig { max_batch_spans: 16, schedule_delay: Duration::from_millis(20), ..QueueConfig::default() };
    let processor = GrpcSpanProcessor::new(config, queue).unwrap();
    let pipeline = processor.pipeline().clone();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let ended = AtomicU64::new(0);
    let disturbed = AtomicBool::new(false);
    // All threads and the one that flushes, or shuts down, at the same moment.
    let moment = Barrier::new(THREADS + 1);
    let end_span = || {
        ended.fetch_add(1, Ordering::Relaxed);
        provider.tracer("chaos").in_span("work", |_| {});
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !disturbed.load(Ordering::Relaxed) {
                    end_span();
                    std::thread::sleep(Duration::from_micros(300));
                }
                moment.wait();
                end_span();
                moment.wait();
                end_span();
            });
        }
        scope.spawn(|| {
            while !disturbed.load(Ordering::Relaxed) {
                let _outcome = pipeline.flush(Duration::from_millis(30));
                check_balance(&pipeline);
            }
        });
        for _ in 0..ROUNDS {
            disturb(&mut server, &mut random);
        }
        disturbed.store(true, Ordering::Relaxed);
        server.state().replies.clear();
        server.state().login_replies.clear();
        moment.wait();
        let _lost_is_counted = pipeline.flush(PATIENCE);
        moment.wait();
        let report = pipeline.shutdown(PATIENCE);
        assert_eq!(report.stats.spans.pending(), 0, "{report:?}");
        assert_eq!(report.undelivered, 0, "the server is well again: {report:?}");
    });
    check_balance(&pipeline);
    let stats = pipeline.stats();
    println!("{stats:?}");
    let spans = stats.spans;
    assert_eq!(spans.ended, ended.load(Ordering::Relaxed));
    assert_eq!(spans.ended, spans.exported + spans.rejected + spans.dropped.total(), "{stats:?}");
    let (ids, rejected) = stored(&server);
    assert_eq!((ids.len() as u64 - rejected, rejected), (spans.exported, spans.rejected), "{stats:?}");
}

/// The time between taking a batch in and handing it to the worker is that of encoding it.
#[test]
fn c_51_a_send_that_is_still_encoding_when_shutdown_is_over_is_answered() {
    let server = Server::start();
    let pipeline = Pipeline::new(server.config(), QueueConfig::default()).unwrap();
    block_on(pipeline.send_records(vec![Default::default()])).unwrap();
    let record = TagRecord { entity_id: "x".repeat(100), ..Default::default() };
    let records = vec![MonitoringRecord { record: Some(Record::Tag(record)) }; 400_000];
    let count = records.len() as u64 + 1;
    let sending = pipeline.clone();
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || answer.send(block_on(sending.send_records(records)).is_err()));
    wait_until("the records are taken in", || pipeline.stats().records.ended == count);
    pipeline.shutdown(Duration::ZERO);
    assert_eq!(answered.recv_timeout(PATIENCE), Ok(true), "nobody answers");
    let stats = pipeline.stats();
    assert_eq!((stats.records.ended, stats.records.pending()), (count, 0), "{stats:?}");
    assert!(stats.records.is_balanced(), "{stats:?}");
}

#[test]
fn c_51_a_send_that_meets_a_shutdown_is_always_answered() {
    let seed = seed();
    for round in 0..60 {
        let mut random = StdRng::seed_from_u64(seed + round);
        let server = Server::start();
        server.state().default_reply = random.random::<bool>().then_some(Reply::Never);
        let pipeline = Pipeline::new(server.config(), QueueConfig::default()).unwrap();
        // A worker that runs already, so that shutdown has something to wait for.
        drop(pipeline.send_records(vec![Default::default()]));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let records = vec![Default::default(); 500];
                        let _outcome = block_on(pipeline.send_records(records));
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(random.random_range(0..3000)));
            pipeline.shutdown(Duration::from_millis(random.random_range(0..5)));
        });
        let stats = pipeline.stats();
        assert_eq!(stats.records.pending(), 0, "{stats:?}");
        assert!(stats.records.is_balanced(), "{stats:?}");
    }
}
