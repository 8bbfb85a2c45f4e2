use prost::Message;
use scouter_tonic::{
    grpc::InsertMessageRequest,
    message::{MonitoringRecord, SpcRecord, monitoring_record::Record},
};

use super::*;
use crate::admission::Admission;

fn received(payload: impl Into<Bytes>) -> Received {
    Received { payload: payload.into(), room: Admission::new(usize::MAX).begin(&std::sync::Arc::default(), 0).expect("room") }
}

fn submission(request: &InsertMessageRequest) -> Result<Submission, IngestError> {
    insert_message(received(request.encode_to_vec()), Door::ScouterGrpc)
}

fn typed() -> InsertMessageRequest {
    InsertMessageRequest { records: vec![MonitoringRecord { record: Some(Record::Spc(SpcRecord::default())) }], ..Default::default() }
}

#[test]
fn typed_fields_are_passed_on_as_they_came() {
    let request = InsertMessageRequest { batch_id: vec![3; 16], ..typed() };
    let submission = submission(&request).expect("a valid request");
    assert_eq!(submission.payload, request.encode_to_vec());
    assert_eq!(submission.batch_id, Some(BatchId([3; 16])));
}

#[test]
fn an_empty_request_is_a_submission_of_nothing() {
    assert!(submission(&InsertMessageRequest::default()).expect("valid").payload.is_empty());
}

#[test]
fn json_beside_typed_fields_is_refused() {
    let request = InsertMessageRequest { message_record: b"{}".to_vec(), ..typed() };
    assert!(matches!(submission(&request), Err(IngestError::Contradictory(_))));
}

#[test]
fn a_batch_id_of_another_length_is_refused() {
    let request = InsertMessageRequest { batch_id: vec![3; 15], ..typed() };
    assert!(matches!(submission(&request), Err(IngestError::Contradictory(_))));
}

#[test]
fn a_field_longer_than_the_message_is_named_by_its_offset() {
    let bytes = Bytes::from_static(&[0x12, 0xff, 0xff, 0xff, 0x7f, 1, 2]);
    match insert_message(received(bytes), Door::ScouterGrpc) {
        Err(IngestError::Malformed(malformed)) => assert_eq!(malformed.offset, 0),
        other => panic!("expected a malformed request, got {other:?}"),
    }
}
