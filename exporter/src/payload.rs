//! A request as the JSON that Scouter servers of today read: `message_record` of `InsertMessageRequest`.
//!
//! Spans and records are queued as protobuf whatever the server speaks; only when one is known to read nothing else is a request written
//! anew as JSON, once an attempt. One such message holds spans, or records, or one tag, so a request may become several.
//!
//! What JSON has no words for is told: such a server rejects a whole message for one NaN, so records with one are left out and counted as
//! rejected. An attribute that is NaN or infinite becomes text.

mod records;
mod spans;
mod time;

#[cfg(test)]
mod tests;

use prost::{DecodeError, Message};
use scouter_tonic::{grpc::InsertMessageRequest, message::monitoring_record::Record};

pub(crate) use records::EvalNames;
pub(crate) use time::rfc3339;

/// One `message_record`.
#[derive(Debug)]
pub(crate) struct JsonMessage {
    pub(crate) json: Vec<u8>,
    /// It holds records that have other names in other versions.
    pub(crate) has_evaluations: bool,
}

/// A request in JSON.
#[derive(Debug, Default)]
pub(crate) struct JsonMessages {
    pub(crate) messages: Vec<JsonMessage>,
    /// Records that JSON cannot carry.
    pub(crate) left_out: u64,
}

/// Writes an encoded `InsertMessageRequest` as JSON.
pub(crate) fn to_json(request: &[u8], names: EvalNames) -> Result<JsonMessages, DecodeError> {
    let request = InsertMessageRequest::decode(request)?;
    let mut messages = JsonMessages::default();
    if !request.resource_spans.is_empty() {
        let mut json = Vec::with_capacity(request.encoded_len() * 3);
        spans::put_trace(&mut json, &request.resource_spans);
        messages.messages.push(JsonMessage { json, has_evaluations: false });
    }
    let records = request.records.into_iter().filter_map(|record| record.record);
    let (tags, records): (Vec<Record>, Vec<Record>) = records.partition(|record| matches!(record, Record::Tag(_)));
    let mut list = Vec::new();
    let mut has_evaluations = false;
    for record in &records {
        let before = list.len();
        list.extend_from_slice(if before == 0 { b"{\"records\":[" } else { b"," });
        if records::put_record(&mut list, record, names).is_none() {
            list.truncate(before);
            messages.left_out += 1;
            continue;
        }
        has_evaluations |= matches!(record, Record::Eval(_) | Record::AgentTask(_) | Record::AgentWorkflow(_));
    }
    if !list.is_empty() {
        list.extend_from_slice(b"]}");
        messages.messages.push(JsonMessage { json: list, has_evaluations });
    }
    for tag in &tags {
        let mut json = Vec::new();
        if let Record::Tag(tag) = tag {
            records::put_tag(&mut json, tag);
        }
        messages.messages.push(JsonMessage { json, has_evaluations: false });
    }
    Ok(messages)
}

/// A text with its quotes.
fn put_text(out: &mut Vec<u8>, text: &str) {
    // Writing a text to memory cannot fail.
    let _written = serde_json::to_writer(out, text);
}

/// `"key":`, after a comma unless it is the first of its object.
fn put_key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn put_text_field(out: &mut Vec<u8>, key: &str, text: &str) {
    put_key(out, key);
    put_text(out, text);
}

/// A number, or anything else that is JSON as it is displayed.
fn put_field(out: &mut Vec<u8>, key: &str, value: impl std::fmt::Display) {
    put_key(out, key);
    out.extend_from_slice(value.to_string().as_bytes());
}

/// A finite number as Scouter writes it, with a point where it is whole.
fn put_number(out: &mut Vec<u8>, value: f64) {
    // As for texts.
    let _written = serde_json::to_writer(out, &value);
}
