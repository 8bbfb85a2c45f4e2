//! What a broker keeps as one thing: a request of a client, in one of the forms that brokers carry.

use bytes::Bytes;
use scouter_storage::{
    log::{BatchId, Door},
    otlp::Envelope,
};
use scouter_tonic::broker::{JSON, OTLP_PROTOBUF, SCOUTER_PROTOBUF};

use super::{Submission, request};
use crate::{error::IngestError, receive::Received};

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Which broker it comes from.
    pub door: Door,
    /// What its sender says it is.
    pub content_type: Option<String>,
    /// Its bytes.
    pub payload: Bytes,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Scouter,
    Otlp,
    Json,
    Unknown,
}

impl Message {
    /// Makes a submission of it.
    ///
    /// # Errors
    /// It says that it is something else, or is not what it says.
    pub fn submission(&self, received: Received) -> Result<Submission, IngestError> {
        match self.kind() {
            Kind::Scouter => request::insert_message(received, self.door),
            Kind::Otlp => Ok(Submission::new(self.door, Envelope::Otlp, received)),
            Kind::Json => request::message_record(received, self.door),
            Kind::Unknown => Err(IngestError::UnknownMessage { said: self.content_type.clone().unwrap_or_default() }),
        }
    }

    /// What it is recognised by when it comes again: `given`, else the id in it, else its bytes.
    pub(crate) fn batch_id(&self, given: Option<BatchId>) -> BatchId {
        let own = || if self.kind() == Kind::Scouter { request::batch_id_of(&self.payload) } else { None };
        given.or_else(own).unwrap_or_else(|| BatchId(twox_hash::XxHash3_128::oneshot(&self.payload).to_le_bytes()))
    }

    /// By what its sender says; existing clients say nothing, and their JSON begins with a brace, as no protobuf of ours can.
    fn kind(&self) -> Kind {
        let said = self.content_type.as_deref().unwrap_or_default().replace(' ', "");
        match said.as_str() {
            SCOUTER_PROTOBUF => Kind::Scouter,
            OTLP_PROTOBUF => Kind::Otlp,
            JSON => Kind::Json,
            _ if self.payload.first() == Some(&b'{') => Kind::Json,
            // A topic that an OpenTelemetry Collector writes.
            _ if self.door == Door::Kafka && self.content_type.is_none() => Kind::Otlp,
            _ => Kind::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
