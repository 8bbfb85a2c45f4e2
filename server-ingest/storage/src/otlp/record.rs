//! The monitoring records of a payload.
//!
//! A record is numbered by its place in wire order; each row of a group has a number of its own. A group that cannot be read has one.

use prost::Message;
use scouter_tonic::group::{Row, RowFault};
use scouter_tonic::limits::MAX_RECORD_GROUP_BYTES;
use scouter_tonic::message::MonitoringRecord;
use scouter_tonic::message::monitoring_record::Record;

use super::{Envelope, Field, Fields, MAX_RECORD_FIELDS, RejectReason, Wire};

/// The field of a `MonitoringRecord` that is a `RecordGroup`.
const GROUP: u32 = 9;

/// The record in a `MonitoringRecord`, in memory in proportion to its bytes.
pub(crate) fn decode(message: &[u8]) -> Result<Record, RejectReason> {
    if field_count(message).ok_or(RejectReason::RecordUndecodable)? > MAX_RECORD_FIELDS {
        return Err(RejectReason::RecordTooLarge);
    }
    if message.len() > MAX_RECORD_GROUP_BYTES && Fields::new(message).readable().any(|field| field.number == GROUP) {
        return Err(RejectReason::GroupTooLarge { bytes: message.len() });
    }
    let record = MonitoringRecord::decode(message).map_err(|_| RejectReason::RecordUndecodable)?;
    record.record.ok_or(RejectReason::RecordKindMissing)
}

/// Whether a row of a group can be stored.
pub(super) fn judge_row(row: Result<Row<'_>, RowFault>) -> Result<(), RejectReason> {
    let row = row.map_err(RejectReason::Row)?;
    if row.entity_uid.is_empty() {
        return Err(RejectReason::EntityUidEmpty);
    }
    in_range(row.created_at_unix_nano, "created_at_unix_nano")
}

/// Whether a record that is no group can be stored.
pub(super) fn judge(record: &Record) -> Result<(), RejectReason> {
    let (entity_uid, created_at) = match record {
        Record::Psi(record) => (Some(&record.entity_uid), record.created_at_unix_nano),
        Record::Spc(record) => (Some(&record.entity_uid), record.created_at_unix_nano),
        Record::Custom(record) => (Some(&record.entity_uid), record.created_at_unix_nano),
        Record::Eval(record) => (Some(&record.entity_uid), record.created_at_unix_nano),
        Record::Tag(record) => (None, record.created_at_unix_nano),
        Record::Observability(record) => (Some(&record.entity_uid), record.created_at_unix_nano),
        Record::AgentTask(record) => (Some(&record.entity_uid), record.created_at_unix_nano),
        Record::AgentWorkflow(record) => (Some(&record.entity_uid), record.created_at_unix_nano),
        Record::Group(_) => unreachable!("each row of a group is judged by itself"),
    };
    if entity_uid.is_some_and(String::is_empty) {
        return Err(RejectReason::EntityUidEmpty);
    }
    in_range(created_at, "created_at_unix_nano")?;
    match record {
        Record::AgentTask(record) => {
            in_range(record.start_time_unix_nano, "start_time_unix_nano")?;
            in_range(record.end_time_unix_nano, "end_time_unix_nano")
        }
        Record::Eval(record) if !matches!(record.trace_id.len(), 0 | 16) => {
            Err(RejectReason::RecordTraceIdLength { bytes: record.trace_id.len() })
        }
        _ => Ok(()),
    }
}

fn in_range(unix_nano: u64, field: &'static str) -> Result<(), RejectReason> {
    if i64::try_from(unix_nano).is_ok() { Ok(()) } else { Err(RejectReason::TimeOutOfRange { field }) }
}

/// The fields of a record and of the kinds in it. `None` when they cannot be counted: what is built must not depend on bytes
/// that are skipped here and read there, so protobuf's own groups, which this reader does not know, refuse the record.
fn field_count(message: &[u8]) -> Option<usize> {
    let mut count = 0;
    for field in Fields::new(message) {
        count += 1;
        if let Field { wire: Wire::Bytes(kind), .. } = field.ok()? {
            for inner in Fields::new(kind) {
                inner.ok()?;
                count += 1;
                if count > MAX_RECORD_FIELDS {
                    return Some(count);
                }
            }
        }
        if count > MAX_RECORD_FIELDS {
            break;
        }
    }
    Some(count)
}

/// The records of a judged payload, a row of a group each as the record it stands for, in the order of their numbers; `None` for one that
/// cannot be read, and so was rejected.
pub fn records_in(payload: &[u8], envelope: Envelope) -> impl Iterator<Item = Option<Record>> {
    let number = envelope.records_field();
    let messages = Fields::new(payload).readable().filter_map(move |field| match field.wire {
        Wire::Bytes(message) if Some(field.number) == number => Some(message),
        _ => None,
    });
    messages.flat_map(|message| {
        let (rows, record) = match decode(message) {
            Ok(Record::Group(group)) => (Some(group.into_records()), None),
            record => (None, Some(record.ok())),
        };
        rows.into_iter().flatten().chain(record)
    })
}
