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
    let mut list = List::default();
    let mut tags = Vec::new();
    for record in &request.records {
        // What a server that reads protobuf would reject is not left out in silence either.
        let Some(record) = &record.record else {
            list.left_out += 1;
            continue;
        };
        match record {
            Record::Tag(tag) => {
                let mut json = Vec::new();
                records::put_tag(&mut json, tag);
                tags.push(JsonMessage { json, has_evaluations: false });
            }
            Record::Group(group) => {
                for row in group.rows() {
                    list.add(|out| records::put_row(out, &row.ok()?));
                }
            }
            record => {
                list.add(|out| records::put_record(out, record, names));
                list.has_evaluations |= matches!(record, Record::Eval(_) | Record::AgentTask(_) | Record::AgentWorkflow(_));
            }
        }
    }
    let List { mut json, has_evaluations, left_out } = list;
    messages.left_out = left_out;
    if !json.is_empty() {
        json.extend_from_slice(b"]}");
        messages.messages.push(JsonMessage { json, has_evaluations });
    }
    messages.messages.extend(tags);
    Ok(messages)
}

/// The records of one message, without its end.
#[derive(Default)]
struct List {
    json: Vec<u8>,
    has_evaluations: bool,
    left_out: u64,
}

impl List {
    /// Adds what `put` writes, or counts it as left out where that is `None`.
    fn add(&mut self, put: impl FnOnce(&mut Vec<u8>) -> Option<()>) {
        let before = self.json.len();
        self.json.extend_from_slice(if before == 0 { b"{\"records\":[" } else { b"," });
        if put(&mut self.json).is_none() {
            self.json.truncate(before);
            self.left_out += 1;
        }
    }
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
