use std::collections::HashSet;

use scouter_storage::{
    log::{BatchId, Door},
    otlp::Envelope,
};
use scouter_tonic::{grpc::InsertMessageRequest, message::SpcRecord};

use super::*;

fn spc(value: f64) -> MonitoringRecord {
    let record = SpcRecord { created_at_unix_nano: 1, entity_uid: "u".to_owned(), feature: "f".to_owned(), value };
    MonitoringRecord { record: Some(Record::Spc(record)) }
}

fn frame(records: Vec<MonitoringRecord>, rejected_records: Vec<u32>) -> Frame {
    Frame {
        door: Door::ScouterGrpc,
        envelope: Envelope::Scouter,
        received_unix_nano: 1,
        batch_id: BatchId::default(),
        rejected_spans: Vec::new(),
        rejected_records,
        payload: InsertMessageRequest { records, ..Default::default() }.encode_to_vec().into(),
    }
}

fn keys(frames: &[Frame]) -> Vec<[u8; 16]> {
    let mut batch = Batch::new(Position(0));
    for (position, frame) in (1..).zip(frames) {
        batch.add(Position(position), frame);
    }
    assert_eq!(batch.last, Position(frames.len() as u64));
    batch.rows.iter().map(|row| row.key).collect()
}

#[test]
fn equal_records_of_one_request_are_two_and_of_two_requests_one() {
    let together = keys(&[frame(vec![spc(1.0), spc(1.0), spc(2.0)], vec![])]);
    assert_eq!(together.iter().collect::<HashSet<_>>().len(), 3);
    let again = keys(&[frame(vec![spc(1.0), spc(2.0)], vec![]), frame(vec![spc(2.0), spc(1.0), spc(1.0)], vec![])]);
    assert_eq!(again.iter().collect::<HashSet<_>>(), together.iter().collect::<HashSet<_>>());
}

#[test]
fn rejected_records_are_no_rows() {
    assert_eq!(keys(&[frame(vec![spc(1.0), spc(2.0), spc(3.0)], vec![0, 2])]), keys(&[frame(vec![spc(2.0)], vec![])]));
}

#[test]
fn only_uuids_are_entities_of_traces() {
    let plain = uuid_bytes("01a20603d2cf72c29968efcd645911c6");
    assert!(plain.is_some() && plain == uuid_bytes("01a20603-d2cf-72c2-9968-efcd645911c6"));
    for text in ["", "u1", "01a20603-d2cf-72c2-9968-efcd645911cg", "+1a20603d2cf72c29968efcd645911c6"] {
        assert_eq!(uuid_bytes(text), None, "{text}");
    }
}
