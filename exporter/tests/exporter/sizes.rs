//! C-10 and C-28: requests keep to the limit by being split; only what fits no request is dropped.

use scouter_exporter::{DropReason, ExportError, GrpcConfig, Pipeline, QueueConfig, encode::EncodedBatch};

use super::{
    server::{PATIENCE, Server},
    spans::{assert_balanced, block_on, envelope, span},
};

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
        assert!(pipeline.try_push(&envelope(), &span(number, if number == 7 { 10_000 } else { 100 })));
    }
    // The span may be dropped before the flush begins, which then has nothing to report.
    let _either = pipeline.flush(PATIENCE);
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
