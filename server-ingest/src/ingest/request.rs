//! What an `InsertMessageRequest` is, read from its outermost fields only.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use scouter_storage::{
    log::{BatchId, Door},
    otlp::{Envelope, Malformed},
};
use scouter_tonic::limits::BATCH_ID_BYTES;

use super::{Submission, json};
use crate::{error::IngestError, receive::Received};

/// How much memory JSON takes while it is decoded, for each of its bytes.
const JSON_UNFOLDS: usize = 3;

const MESSAGE_RECORD: u32 = 1;
const RESOURCE_SPANS: u32 = 2;
const RECORDS: u32 = 3;
const BATCH_ID: u32 = 4;

/// Makes a submission of the bytes of an `InsertMessageRequest`. JSON of existing clients becomes typed fields here.
///
/// # Errors
/// The bytes are not such a message, its JSON is not Scouter's, or it contradicts itself.
pub fn insert_message(received: Received, door: Door) -> Result<Submission, IngestError> {
    let outline = Outline::of(&received.payload)?;
    let batch_id = outline.batch_id.map(parse_batch_id).transpose()?.flatten();
    match outline.message_record {
        Some(_) if outline.is_typed => {
            Err(IngestError::Contradictory("message_record and typed fields came in one message; send one of them"))
        }
        Some(json) => Ok(Submission { batch_id, ..message_record(Received { payload: json, room: received.room }, door)? }),
        None => Ok(Submission { batch_id, ..Submission::new(door, Envelope::Scouter, received) }),
    }
}

/// The id that an `InsertMessageRequest` gives itself, if it does.
pub(crate) fn batch_id_of(payload: &Bytes) -> Option<BatchId> {
    parse_batch_id(Outline::of(payload).ok()?.batch_id?).ok()?
}

/// Makes a submission of the JSON `MessageRecord` of an existing Scouter client.
///
/// # Errors
/// It is not JSON that Scouter knows, or would take too much memory.
pub fn message_record(mut received: Received, door: Door) -> Result<Submission, IngestError> {
    let while_decoding = received.payload.len() * JSON_UNFOLDS;
    received.room.grow(while_decoding)?;
    let (payload, refused) = json::message_record_to_protobuf(&received.payload)?;
    received.room.shrink(while_decoding);
    Ok(Submission { refused, ..Submission::new(door, Envelope::Scouter, in_its_place(received, payload)) })
}

/// Makes a submission of the JSON form of an OTLP trace request.
///
/// # Errors
/// It is not that, or would take too much memory.
pub fn otlp_json(mut received: Received, door: Door) -> Result<Submission, IngestError> {
    let while_decoding = received.payload.len() * JSON_UNFOLDS;
    received.room.grow(while_decoding)?;
    let (payload, refused) = json::otlp_to_protobuf(&received.payload)?;
    received.room.shrink(while_decoding);
    Ok(Submission { refused, ..Submission::new(door, Envelope::Otlp, in_its_place(received, payload)) })
}

/// The protobuf of a request that came as JSON, in the room that the JSON had. It is the shorter one.
fn in_its_place(received: Received, payload: Bytes) -> Received {
    Received { payload, room: received.room }
}

#[derive(Debug, Default)]
struct Outline {
    message_record: Option<Bytes>,
    batch_id: Option<Bytes>,
    is_typed: bool,
}

impl Outline {
    fn of(payload: &Bytes) -> Result<Self, Malformed> {
        let mut outline = Self::default();
        let mut rest = payload.clone();
        while rest.has_remaining() {
            let offset = payload.len() - rest.remaining();
            let broken = |what| Malformed { offset, what };
            let (field, wire_type) = decode_key(&mut rest).map_err(|_| broken("a field key cannot be read"))?;
            match (field, wire_type) {
                (MESSAGE_RECORD | RESOURCE_SPANS | RECORDS | BATCH_ID, WireType::LengthDelimited) => {
                    let length = decode_varint(&mut rest).map_err(|_| broken("a field length cannot be read"))?;
                    let length = usize::try_from(length)
                        .ok()
                        .filter(|length| *length <= rest.remaining())
                        .ok_or_else(|| broken("a field is longer than the message"))?;
                    let value = rest.split_to(length);
                    match field {
                        MESSAGE_RECORD if !value.is_empty() => outline.message_record = Some(value),
                        BATCH_ID => outline.batch_id = Some(value),
                        MESSAGE_RECORD => {}
                        _ => outline.is_typed = true,
                    }
                }
                _ => skip_field(wire_type, field, &mut rest, DecodeContext::default()).map_err(|_| broken("a field cannot be skipped"))?,
            }
        }
        Ok(outline)
    }
}

fn parse_batch_id(bytes: Bytes) -> Result<Option<BatchId>, IngestError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    <[u8; BATCH_ID_BYTES]>::try_from(&bytes[..])
        .map(|id| Some(BatchId(id)))
        .map_err(|_| IngestError::Contradictory("batch_id has the wrong length; it is 16 bytes or left out"))
}

#[cfg(test)]
mod tests;
