//! Monitoring records over the same client and RPC.

use scouter_exporter::{
    DropReason, ExportError, MonitoringRecord,
    message::{RecordGroup, SpcRecord, monitoring_record::Record, record_group::Kind},
};
use tonic::Code;

use super::{
    server::{PATIENCE, Reply, Server},
    spans::{assert_balanced, batch, block_on, pipeline},
};

fn records(count: usize, padding: usize) -> Vec<MonitoringRecord> {
    let record = |index: usize| SpcRecord {
        created_at_unix_nano: index as u64 + 1,
        entity_uid: "entity".to_owned(),
        feature: "x".repeat(padding),
        value: f64::NAN,
    };
    (0..count).map(|index| MonitoringRecord { record: Some(Record::Spc(record(index))) }).collect()
}

#[test]
fn records_arrive_in_order_in_requests_of_a_bounded_size() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    block_on(pipeline.send_records(records(10_000, 5))).unwrap();
    let mut times: Vec<u64> = Vec::new();
    let mut inserts: Vec<_> = server.inserts().iter().map(super::server::Insert::request).collect();
    assert_eq!(inserts.len(), 2);
    assert!(inserts.iter().all(|request| request.batch_id.len() == 16 && request.resource_spans.is_empty()));
    // Requests are in flight at the same time, so only the order inside one is fixed.
    inserts.sort_by_key(|request| match &request.records[0].record {
        Some(Record::Spc(record)) => record.created_at_unix_nano,
        _ => 0,
    });
    for record in inserts.into_iter().flat_map(|request| request.records) {
        let Some(Record::Spc(record)) = record.record else { panic!("another kind") };
        assert!(record.value.is_nan());
        times.push(record.created_at_unix_nano);
    }
    assert_eq!(times, (1..=10_000).collect::<Vec<_>>());
    let stats = pipeline.stats();
    assert_eq!((stats.records.exported, stats.spans.ended), (10_000, 0));
    assert_balanced(&stats);
}

#[test]
fn records_are_retried_rejected_and_dropped_like_spans() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    server.script([Reply::Fail(Code::Unavailable, "later")]);
    block_on(pipeline.send_records(records(3, 5))).unwrap();
    server.script([Reply::Reject { spans: 0, records: 1, message: "no entity" }]);
    let error = block_on(pipeline.send_records(records(3, 5))).unwrap_err();
    assert!(matches!(error, ExportError::Rejected { count: 1, .. }), "{error}");
    server.script([Reply::Fail(Code::InvalidArgument, "no")]);
    block_on(pipeline.send_records(records(3, 5))).unwrap_err();
    let stats = pipeline.stats();
    assert_eq!((stats.records.exported, stats.records.rejected), (5, 1));
    assert_eq!(stats.records.dropped.get(DropReason::Refused), 3);
    assert_balanced(&stats);
}

#[test]
fn spans_and_records_share_one_login_and_flush_waits_for_both() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    let spans = pipeline.send(batch(0..10));
    let records = pipeline.send_records(records(10, 5));
    pipeline.flush(PATIENCE).unwrap();
    assert_eq!(server.state().logins, 1);
    assert_eq!((pipeline.stats().spans.exported, pipeline.stats().records.exported), (10, 10));
    block_on(spans).unwrap();
    block_on(records).unwrap();
}

#[test]
fn no_records_are_no_request() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    block_on(pipeline.send_records(Vec::new())).unwrap();
    assert!(server.inserts().is_empty());
}

#[test]
fn each_row_of_a_group_is_a_record_in_the_account() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    let group = RecordGroup {
        kind: Kind::Spc.into(),
        entity_uid: "entity".to_owned(),
        names: vec!["feature".to_owned()],
        name_indexes: vec![0; 7],
        step_nanos: vec![1; 7],
        values: vec![0.5; 7],
        ..RecordGroup::default()
    };
    let mut sent = records(2, 5);
    sent.push(MonitoringRecord { record: Some(Record::Group(group)) });
    block_on(pipeline.send_records(sent)).unwrap();
    let stats = pipeline.stats();
    assert_eq!((stats.records.ended, stats.records.exported, stats.records.pending()), (9, 9, 0), "{stats:?}");
    assert_balanced(&stats);
}
