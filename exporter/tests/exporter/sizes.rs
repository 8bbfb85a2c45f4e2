//! C-10 and C-28: requests keep to the limit by being split; only what fits no request is dropped.

use scouter_exporter::{
    DropReason, ExportError, FlushError, GrpcConfig, Pipeline, QueueConfig,
    encode::EncodedBatch,
    message::{MonitoringRecord, TagRecord, monitoring_record::Record},
};

use super::{
    server::{Insert, PATIENCE, Server},
    spans::{assert_balanced, block_on, envelope, pipeline, span},
};
use tonic::Code;

fn small_requests(server: &Server) -> Pipeline {
    Pipeline::new(GrpcConfig { max_request_bytes: 4096, ..server.config() }, QueueConfig::default()).unwrap()
}

#[test]
fn c_28_a_batch_above_the_limit_is_split_and_nothing_is_lost() {
    let server = Server::start();
    let pipeline = small_requests(&server);
    let envelope = envelope();
    let mut batch = EncodedBatch::default();
    (0..200).for_each(|number| batch.push(&envelope, &span(number, 100)));
    block_on(pipeline.send(batch)).unwrap();
    let inserts = server.inserts();
    assert!(inserts.len() > 5);
    assert!(inserts.iter().all(|insert| insert.body.len() <= 4096));
    let mut ids: Vec<Vec<u8>> = inserts.iter().flat_map(super::server::Insert::spans).map(|span| span.span_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=200_u64).map(|id| id.to_be_bytes().to_vec()).collect::<Vec<_>>());
    assert_balanced(&pipeline.stats());
}

#[test]
fn c_28_a_single_span_above_the_limit_is_dropped_named_and_counted() {
    let server = Server::start();
    let pipeline = small_requests(&server);
    let envelope = envelope();
    let mut batch = EncodedBatch::default();
    for (number, padding) in [(0, 10), (1, 5000), (2, 10), (3, 100_000), (4, 10)] {
        batch.push(&envelope, &span(number, padding));
    }
    let error = block_on(pipeline.send(batch)).unwrap_err();
    assert!(matches!(error, ExportError::Dropped { count: 2, reason: DropReason::TooLarge, .. }), "{error}");
    assert!(error.to_string().contains("`span 1`"), "{error}");
    let mut names: Vec<String> = server.inserts().iter().flat_map(super::server::Insert::spans).map(|span| span.name).collect();
    names.sort();
    assert_eq!(names, ["span 0", "span 2", "span 4"]);
    let stats = pipeline.stats();
    assert_eq!((stats.spans.exported, stats.spans.dropped.get(DropReason::TooLarge)), (3, 2));
    assert_balanced(&stats);
}

#[test]
fn c_28_queued_spans_are_split_as_well() {
    let server = Server::start();
    let pipeline = small_requests(&server);
    for number in 0..300 {
        let is_taken = pipeline.try_push(&envelope(), &span(number, if number == 7 { 10_000 } else { 100 }));
        assert_eq!(is_taken, number != 7);
    }
    let error = pipeline.flush(PATIENCE).unwrap_err();
    assert!(matches!(error, FlushError::Lost { lost: 1, .. }), "{error}");
    assert!(server.inserts().iter().all(|insert| insert.body.len() <= 4096));
    let stats = pipeline.stats();
    assert!(stats.last_error.as_ref().is_some_and(|error| error.contains("`span 7`")), "{stats:?}");
    assert_eq!((stats.spans.exported, stats.spans.dropped.get(DropReason::TooLarge)), (299, 1));
    assert_balanced(&stats);
}

#[test]
fn every_request_has_a_batch_id_of_its_own() {
    let server = Server::start();
    let pipeline = small_requests(&server);
    for number in 0..200 {
        assert!(pipeline.try_push(&envelope(), &span(number, 100)));
    }
    pipeline.flush(PATIENCE).unwrap();
    let mut ids: Vec<Vec<u8>> = server.inserts().iter().map(|insert| insert.request().batch_id).collect();
    let count = ids.len();
    assert!(count > 1 && ids.iter().all(|id| id.len() == 16));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

fn acknowledged_names(server: &Server) -> Vec<String> {
    let acknowledged = server.state().acknowledged.clone();
    acknowledged.iter().flat_map(|(insert, _)| insert.spans()).map(|span| span.name).collect()
}

#[test]
fn c_28_a_batch_that_the_server_finds_too_large_is_halved_until_it_fits() {
    for code in [Code::ResourceExhausted, Code::OutOfRange] {
        let server = Server::start();
        server.state().max_body = Some((40_000, code));
        let pipeline = pipeline(&server);
        let envelope = envelope();
        let mut batch = EncodedBatch::default();
        (0..64).for_each(|number| batch.push(&envelope, &span(number, 5000)));
        block_on(pipeline.send(batch)).unwrap();
        let names: Vec<String> = (0..64).map(|number| format!("span {number}")).collect();
        assert_eq!(acknowledged_names(&server), names, "{code:?}: each once, in order");
        let mut ids: Vec<Vec<u8>> = server.inserts().iter().map(|insert| insert.request().batch_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let attempts_of_one = if code == Code::OutOfRange { 2 } else { 1 };
        let refused = server.inserts().iter().filter(|insert| insert.body.len() > 40_000).count();
        assert_eq!(refused, 15 * attempts_of_one, "{code:?}: the whole, 2 halves, 4 quarters, 8 eighths");
        assert_eq!(ids.len(), 15 + 16, "{code:?}: every cut has a batch_id of its own");
        assert_balanced(&pipeline.stats());
    }
}

#[test]
fn c_28_a_span_alone_that_the_server_finds_too_large_is_dropped_and_named_and_its_neighbours_arrive() {
    for code in [Code::ResourceExhausted, Code::OutOfRange] {
        let server = Server::start();
        server.state().max_body = Some((40_000, code));
        let pipeline = pipeline(&server);
        for number in 0..20 {
            assert!(pipeline.try_push(&envelope(), &span(number, if number == 7 { 50_000 } else { 10 })));
        }
        let error = pipeline.flush(PATIENCE).unwrap_err();
        assert!(error.to_string().contains("`span 7` alone is too large for the server"), "{code:?}: {error}");
        let mut names = acknowledged_names(&server);
        names.sort();
        let mut others: Vec<String> = (0..20).filter(|number| *number != 7).map(|number| format!("span {number}")).collect();
        others.sort();
        assert_eq!(names, others, "{code:?}");
        let stats = pipeline.stats();
        assert_eq!((stats.spans.exported, stats.spans.dropped.get(DropReason::TooLarge)), (19, 1), "{code:?}");
        assert_balanced(&stats);
    }
}

#[test]
fn c_28_records_that_the_server_finds_too_large_are_halved_as_well() {
    let server = Server::start();
    server.state().max_body = Some((40_000, Code::ResourceExhausted));
    let pipeline = pipeline(&server);
    let record = |number: usize| {
        let tag = TagRecord { key: format!("tag {number}"), value: "x".repeat(5000), ..TagRecord::default() };
        MonitoringRecord { record: Some(Record::Tag(tag)) }
    };
    block_on(pipeline.send_records((0..33).map(record).collect())).unwrap();
    let acknowledged = server.state().acknowledged.clone();
    let records: Vec<MonitoringRecord> = acknowledged.iter().flat_map(|(insert, _)| insert.request().records).collect();
    assert_eq!(records, (0..33).map(record).collect::<Vec<_>>());
    assert_eq!(pipeline.stats().records.exported, 33);
}

#[test]
fn a_small_request_that_a_server_has_no_quota_for_is_dropped_whole() {
    let server = Server::start();
    server.state().max_body = Some((0, Code::ResourceExhausted));
    let pipeline = pipeline(&server);
    let envelope = envelope();
    let mut batch = EncodedBatch::default();
    (0..50).for_each(|number| batch.push(&envelope, &span(number, 10)));
    let error = block_on(pipeline.send(batch)).unwrap_err();
    assert!(matches!(error, ExportError::Dropped { count: 50, reason: DropReason::Refused, .. }), "{error}");
    assert_eq!(server.inserts().len(), 1, "{:?}", server.inserts().iter().map(Insert::spans).map(|spans| spans.len()).collect::<Vec<_>>());
}
