//! `RecordQueue` from item to record, and what becomes of records when the server does not do its part.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use scouter_exporter::{
    ConfigFault, DropReason, FlushError, GrpcConfig, GrpcSpanProcessor, MonitoringRecord, Pipeline, QueueConfig,
    message::monitoring_record::Record,
    opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider},
    opentelemetry_sdk::trace::SdkTracerProvider,
    queue::{
        DriftType, EvalRecord, Feature, Features, ItemDrop, Metric, Metrics, Profile, RecordQueue, RecordQueueConfig, RecordQueueError,
        RecordQueueReport,
    },
};
use scouter_tonic::group::records_of;
use tonic::Code;

use super::server::{PATIENCE, Reply, Server, refused_address, silent_server, wait_until};

/// Nothing of it comes by itself within a test.
fn patient() -> RecordQueueConfig {
    RecordQueueConfig { max_age: Duration::from_secs(3600), ..RecordQueueConfig::default() }
}

fn path(kind: &str) -> String {
    format!("{}/tests/fixtures/scouter-0.25/profile_{kind}.json", env!("CARGO_MANIFEST_DIR"))
}

fn profile(kind: &str) -> Profile {
    Profile::from_path(path(kind)).unwrap()
}

fn queues(kinds: &[&str], config: GrpcConfig, settings: RecordQueueConfig) -> RecordQueue {
    RecordQueue::from_paths(kinds.iter().map(|kind| (*kind, path(kind))), config, settings).unwrap()
}

fn features() -> Features {
    Features::new([Feature::float("f1", 0.5), Feature::int("f2", 1)])
}

fn metrics() -> Metrics {
    Metrics::new([Metric::new("ACC", 0.5), Metric::new("mae", 2.0)])
}

/// The records of all requests the server took, each request once: one that is sent again carries the same `batch_id`.
fn stored(server: &Server) -> Vec<Record> {
    let acknowledged = server.state().acknowledged.clone();
    let requests: BTreeMap<Vec<u8>, Vec<MonitoringRecord>> =
        acknowledged.iter().map(|(insert, _)| insert.request()).map(|request| (request.batch_id, request.records)).collect();
    requests.into_values().flatten().filter_map(|record| record.record).flat_map(records_of).collect()
}

fn assert_balanced(report: &RecordQueueReport) {
    assert!(report.stats.delivery.records.is_balanced(), "{report:?}");
    assert!(report.stats.queues.iter().all(|(_, account)| account.is_balanced()), "{report:?}");
}

/// Of the custom profile: the sum of the means of `acc`, which is the number of items when each has the value 1.
fn metric_values(server: &Server, metric: &str) -> Vec<f64> {
    let value = |record| match record {
        Record::Custom(custom) if custom.metric == metric => Some(custom.value),
        _ => None,
    };
    stored(server).into_iter().filter_map(value).collect()
}

#[test]
fn every_kind_of_item_arrives_as_records_of_its_own_entity_over_one_login() {
    let server = Server::start();
    let queues = queues(&["psi", "spc", "custom", "genai"], server.config(), patient());
    queues.get("psi").unwrap().insert(&features()).unwrap();
    queues.get("spc").unwrap().insert(&features()).unwrap();
    queues.get("custom").unwrap().insert(&metrics()).unwrap();
    let mut record = EvalRecord::new(&serde_json::json!({"question": "?"})).unwrap();
    record.add_tag("env", "test");
    queues.get("genai").unwrap().insert(&record).unwrap();
    queues.flush(PATIENCE).unwrap();
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for stored in stored(&server) {
        let (uid, what) = match stored {
            Record::Psi(psi) => (psi.entity_uid, format!("{} {} {}", psi.feature, psi.bin_id, psi.bin_count)),
            Record::Spc(spc) => (spc.entity_uid, format!("{} {}", spc.feature, spc.value)),
            Record::Custom(custom) => (custom.entity_uid, format!("{} {}", custom.metric, custom.value)),
            Record::Eval(eval) => {
                assert_eq!((&eval.uid, &eval.session_id), (&record.uid, &record.session_id));
                (eval.entity_uid, format!("{} {:?} {:?}", eval.context_json, eval.tags, eval.trace_id))
            }
            other => panic!("{other:?}"),
        };
        seen.entry(uid).or_default().push(what);
    }
    let of = |kind: &str| seen[profile(kind).uid()].clone();
    assert_eq!(of("psi").len(), 20, "every bin of the two features that were seen");
    assert!(of("psi").iter().filter(|bin| bin.ends_with(" 1")).count() == 2, "{:?}", of("psi"));
    assert_eq!(of("spc"), ["f2 1", "f1 0.5"]);
    assert_eq!(of("custom"), ["acc 0.5", "mae 2"]);
    assert_eq!(of("genai"), ["{\"question\":\"?\"} [\"env=test\"] []"]);
    assert_eq!(server.state().logins, 1);
    let report = queues.shutdown(PATIENCE);
    assert_balanced(&report);
    assert_eq!((report.undelivered, report.stats.delivery.records.exported), (0, 25));
}

#[test]
fn a_window_is_published_when_it_is_full_and_when_it_is_old() {
    let server = Server::start();
    let settings = RecordQueueConfig { max_age: Duration::from_millis(50), schedule_delay: Duration::from_millis(10), ..patient() };
    let queues = queues(&["psi", "spc", "custom"], server.config(), settings);
    for _ in 0..25 {
        queues.get("custom").unwrap().insert(&metrics()).unwrap();
    }
    wait_until("a full window arrives", || metric_values(&server, "acc").len() == 1);
    queues.get("psi").unwrap().insert(&features()).unwrap();
    queues.get("spc").unwrap().insert(&features()).unwrap();
    queues.get("custom").unwrap().insert(&metrics()).unwrap();
    wait_until("old windows arrive", || stored(&server).len() == 2 + 20 + 2 + 2);
    queues.get("spc").unwrap().insert(&features()).unwrap();
    wait_until("the clock goes on", || stored(&server).len() == 28);
    assert_eq!(queues.stats().queue("spc").unwrap().waiting, 0);
}

#[test]
fn dropping_the_last_handle_delivers_what_was_counted() {
    let server = Server::start();
    let queues = queues(&["custom"], server.config(), patient());
    let queue = queues.get("custom").unwrap();
    drop(queues);
    queue.insert(&metrics()).unwrap();
    drop(queue);
    wait_until("it arrives", || stored(&server).len() == 2);
}

#[test]
fn what_is_inserted_before_the_server_is_there_arrives_when_it_is() {
    let address = refused_address();
    let config =
        GrpcConfig { server_uri: format!("http://{address}"), username: String::new(), timeout: PATIENCE, ..GrpcConfig::default() };
    let queues = queues(&["custom"], config, patient());
    let queue = queues.get("custom").unwrap();
    for _ in 0..100 {
        queue.insert(&metrics()).unwrap();
    }
    wait_until("an attempt failed", || queues.stats().delivery.last_error.is_some());
    let server = Server::start_at(&address.to_string());
    queues.flush(PATIENCE).unwrap();
    assert_eq!(metric_values(&server, "acc").len(), 4);
    assert_eq!(queues.shutdown(PATIENCE).undelivered, 0);
}

#[test]
fn a_restart_in_mid_stream_loses_nothing_and_doubles_nothing() {
    let mut server = Server::start();
    let settings = RecordQueueConfig { schedule_delay: Duration::from_millis(5), ..patient() };
    let config = GrpcConfig { username: String::new(), ..server.config() };
    let queues = queues(&["custom"], config, settings);
    let queue = queues.get("custom").unwrap();
    for round in 0..2000 {
        queue.insert(&Metrics::new([Metric::new("acc", f64::from(round))])).unwrap();
        if round % 500 == 250 {
            server.restart();
        }
        if round % 25 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    queues.flush(PATIENCE).unwrap();
    let mut means = metric_values(&server, "acc");
    means.sort_unstable_by(f64::total_cmp);
    let expected: Vec<f64> = (0..80).map(|window| f64::from(window) * 25.0 + 12.0).collect();
    assert_eq!(means, expected);
    assert_balanced(&queues.shutdown(PATIENCE));
}

#[test]
fn a_full_queue_drops_and_counts_means_and_keeps_the_counts_of_bins() {
    let (_listener, config) = silent_server();
    let settings = RecordQueueConfig { max_records: 50, ..patient() };
    let queues = queues(&["custom", "psi"], config, settings);
    let (custom, psi) = (queues.get("custom").unwrap(), queues.get("psi").unwrap());
    for _ in 0..1000 {
        custom.insert(&metrics()).unwrap();
        psi.insert(&features()).unwrap();
    }
    let stats = queues.stats();
    assert_eq!(stats.delivery.records.ended, 80, "40 windows of two metrics: {stats:?}");
    assert_eq!(stats.delivery.records.dropped.get(DropReason::QueueFull), 30);
    assert_eq!((stats.queue("psi").unwrap().waiting, stats.queue("custom").unwrap().waiting), (1000, 0));
    let report = queues.shutdown(Duration::from_millis(200));
    assert_balanced(&report);
    // 50 that were queued, and 20 bins that found no room to the end.
    assert_eq!((report.undelivered, report.stats.delivery.records.ended), (70, 100));
    assert_eq!(report.stats.queue("psi").unwrap().published, 1000);
}

#[test]
fn a_flush_waits_for_room_and_then_for_everything() {
    let server = Server::start();
    // Of a hundred bins: more than the bounds allow, so they go when nothing else is on its way.
    let settings = RecordQueueConfig { max_records: 10, psi_rows: 1, schedule_delay: Duration::from_secs(3600), ..patient() };
    let queues = queues(&["psi"], server.config(), settings);
    let queue = queues.get("psi").unwrap();
    let row = |value: f64| Features::new((0..10).map(|feature| Feature::float(format!("f{feature}"), value)));
    for _ in 0..100 {
        queue.insert(&row(1.0)).unwrap();
    }
    queues.flush(PATIENCE).unwrap();
    let counted: i64 = stored(&server).into_iter().map(|record| if let Record::Psi(psi) = record { psi.bin_count } else { 0 }).sum();
    assert_eq!(counted, 1000);
    let stats = queues.stats();
    assert_eq!((stats.delivery.records.lost(), stats.queue("psi").unwrap().waiting), (0, 0));
}

#[test]
fn a_flush_that_finds_no_room_says_what_waits() {
    let (_listener, config) = silent_server();
    let settings = RecordQueueConfig { max_records: 10, ..patient() };
    let queues = queues(&["psi"], config, settings);
    let queue = queues.get("psi").unwrap();
    queue.insert(&features()).unwrap();
    assert!(matches!(queues.flush(Duration::from_millis(20)), Err(FlushError::Timeout { pending: 20, .. })));
    queue.insert(&features()).unwrap();
    assert!(queues.flush(Duration::from_millis(80)).is_err());
    assert_eq!((queue.account().published, queue.account().waiting), (1, 1));
    assert_balanced(&queues.shutdown(Duration::ZERO));
}

#[test]
fn a_flush_and_a_shutdown_tell_what_was_not_delivered() {
    let server = Server::start();
    let queues = queues(&["custom"], server.config(), patient());
    let queue = queues.get("custom").unwrap();
    server.script([Reply::Fail(Code::InvalidArgument, "no")]);
    queue.insert(&metrics()).unwrap();
    assert!(matches!(queues.flush(PATIENCE), Err(FlushError::Lost { lost: 2, .. })));
    server.state().default_reply = Some(Reply::Never);
    queue.insert(&metrics()).unwrap();
    assert!(matches!(queues.flush(Duration::from_millis(50)), Err(FlushError::Timeout { pending: 2, .. })));
    let report = queues.shutdown(Duration::from_millis(50));
    assert_eq!((report.undelivered, report.was_shut_down), (2, false));
    assert_eq!(queue.insert(&metrics()).unwrap_err().reason, ItemDrop::Shutdown);
    let again = queues.shutdown(Duration::from_millis(50));
    assert!(again.was_shut_down && again.undelivered == 0, "{again:?}");
    assert!(matches!(queues.flush(Duration::ZERO), Err(FlushError::AlreadyShutdown)));
    assert_balanced(&again);
}

#[test]
fn a_rejected_record_is_counted_and_its_neighbours_are_stored() {
    let server = Server::start();
    let queues = queues(&["genai"], server.config(), patient());
    let queue = queues.get("genai").unwrap();
    server.script([Reply::Reject { spans: 0, records: 1, message: "no JSON" }]);
    for context in ["{}", "{\"broken\":", &format!("{{\"long\":\"{}\"}}", "x".repeat(1024 * 1024))] {
        queue.insert(&EvalRecord::from_json(context)).unwrap();
    }
    assert!(queues.flush(PATIENCE).is_err());
    let records = queues.stats().delivery.records;
    assert_eq!((records.exported, records.rejected, stored(&server).len()), (2, 1, 3));
}

#[test]
fn an_evaluation_takes_the_trace_of_the_current_span() {
    let server = Server::start();
    let processor = GrpcSpanProcessor::new(server.config(), QueueConfig::default()).unwrap();
    let pipeline = processor.pipeline().clone();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    // One connection for both.
    let queues = RecordQueue::with_pipeline([("eval", profile("genai"))], pipeline.clone(), patient()).unwrap();
    let queue = queues.get("eval").unwrap();
    let given = EvalRecord { trace_id: Some([7; 16]), ..EvalRecord::from_json("{}") };
    let trace_id = provider.tracer("tests").in_span("answer", |context| {
        queue.insert(&EvalRecord::from_json("{}")).unwrap();
        queue.insert(&given).unwrap();
        context.span().span_context().trace_id().to_bytes()
    });
    let report = queues.shutdown(PATIENCE);
    assert_eq!((report.undelivered, report.stats.delivery.records.exported), (0, 2));
    let traces: Vec<Vec<u8>> =
        stored(&server).into_iter().map(|record| if let Record::Eval(eval) = record { eval.trace_id } else { vec![] }).collect();
    assert_eq!(traces, [trace_id.to_vec(), vec![7; 16]]);
    // The tracer's pipeline goes on.
    provider.tracer("tests").in_span("another", |_| {});
    pipeline.flush(PATIENCE).unwrap();
    assert_eq!((pipeline.stats().spans.exported, server.state().logins), (2, 1));
}

#[test]
fn a_sample_ratio_can_be_changed_and_what_it_leaves_out_is_counted() {
    let server = Server::start();
    let queues = queues(&["genai"], server.config(), patient());
    let queue = queues.get("genai").unwrap();
    for ratio in [0.0, f64::NAN, 7.0, -1.0] {
        queue.set_sample_ratio(ratio);
        queue.insert(&EvalRecord::from_json("{}")).unwrap();
    }
    queues.flush(PATIENCE).unwrap();
    let account = queue.account();
    assert_eq!((account.published, account.sampled_out, stored(&server).len()), (2, 2, 2));
}

#[test]
fn many_threads_insert_at_once_and_every_item_counts() {
    let server = Server::start();
    let queues = queues(&["psi", "custom"], server.config(), patient());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (psi, custom) = (queues.get("psi").unwrap(), queues.get("custom").unwrap());
                for _ in 0..5000 {
                    psi.insert(&features()).unwrap();
                    custom.insert(&Metrics::new([Metric::new("acc", 1.0)])).unwrap();
                }
            });
        }
    });
    queues.flush(PATIENCE).unwrap();
    let counted: i64 = stored(&server).into_iter().map(|record| if let Record::Psi(psi) = record { psi.bin_count } else { 0 }).sum();
    assert_eq!((counted, metric_values(&server, "acc").len()), (2 * 40_000, 40_000 / 25));
    assert_balanced(&queues.shutdown(PATIENCE));
}

#[test]
fn an_item_of_the_wrong_kind_says_what_the_queue_takes() {
    let queues = queues(&["psi", "custom"], GrpcConfig::default(), patient());
    let error = queues.get("psi").unwrap().insert(&metrics()).unwrap_err();
    assert_eq!((error.profile, error.reason), (DriftType::Psi, ItemDrop::WrongKind));
    assert_eq!(error.to_string(), "an item was dropped (wrong_kind) by the queue `psi` of a Psi profile: it takes Features");
    let of_others = Features::new([Feature::float("amount", 1.0)]);
    let error = queues.get("psi").unwrap().insert(&of_others).unwrap_err();
    let told = "an item was dropped (nothing_watched) by the queue `psi` of a Psi profile: its profile watches `f1`, `f7`, `f6`, `f2`, `f5`, `f0`, `f8`, `f9`, 2 more, and nothing of it has a value that counts";
    assert_eq!(error.to_string(), told);
    assert!(queues.get("nothing").is_none());
    queues.get("custom").unwrap().note_unreadable();
    assert_eq!(queues.stats().queue("custom").unwrap().dropped.get(ItemDrop::Unreadable), 1);
    assert_eq!(queues.queues().map(|queue| queue.alias().to_owned()).collect::<Vec<_>>(), ["psi", "custom"]);
    assert!(format!("{queues:?}").contains("psi"));
}

#[test]
fn what_cannot_be_built_says_why() {
    let error = RecordQueue::from_paths([("model", "/nowhere.json")], GrpcConfig::default(), patient()).unwrap_err().to_string();
    assert!(error.starts_with("queue `model`: cannot read the profile `/nowhere.json`: "), "{error}");
    let twice = [("a", profile("psi")), ("a", profile("spc"))];
    let error = RecordQueue::new(twice, GrpcConfig::default(), patient()).unwrap_err();
    assert!(matches!(&error, RecordQueueError::Alias { alias } if alias == "a"), "{error}");
    let settings = RecordQueueConfig { max_age: Duration::ZERO, psi_rows: 0, ..patient() };
    let RecordQueueError::Config(error) = RecordQueue::new([("a", profile("psi"))], GrpcConfig::default(), settings).unwrap_err() else {
        panic!("another error")
    };
    assert!(matches!(error.faults[..], [ConfigFault::Setting { name: "max_age", .. }, ConfigFault::Setting { name: "psi_rows", .. }]));
    let seconds = |value: &'static str| RecordQueueConfig::from_variables(move |_| Some(value.to_owned()));
    assert_eq!(seconds("7").unwrap().max_age, Duration::from_secs(7));
    assert_eq!(seconds(" ").unwrap(), RecordQueueConfig::default());
    assert!(seconds("soon").is_err() && seconds("0").is_err());
}

#[test]
fn an_outage_keeps_what_fits_and_shutdown_ends_in_time() {
    let config = GrpcConfig { server_uri: format!("http://{}", refused_address()), ..GrpcConfig::default() };
    let queues = queues(&["custom"], config, patient());
    for _ in 0..1000 {
        queues.get("custom").unwrap().insert(&metrics()).unwrap();
    }
    let start = Instant::now();
    let report = queues.shutdown(Duration::from_secs(1));
    assert!(start.elapsed() < PATIENCE);
    assert_balanced(&report);
    assert_eq!((report.undelivered, report.stats.delivery.records.dropped.get(DropReason::Shutdown)), (80, 80));
}

#[test]
fn a_pipeline_to_an_otlp_server_takes_no_records_and_says_so() {
    let pipeline = Pipeline::new_otlp(scouter_exporter::OtlpConfig::default(), QueueConfig::default()).unwrap();
    let queues = RecordQueue::with_pipeline([("custom", profile("custom"))], pipeline, patient()).unwrap();
    queues.get("custom").unwrap().insert(&metrics()).unwrap();
    let report = queues.shutdown(Duration::from_millis(50));
    assert_eq!(report.stats.delivery.records.dropped.get(DropReason::Refused), 2);
    assert_balanced(&report);
}
