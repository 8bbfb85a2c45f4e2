//! A message, as a consumer has it.

use bytes::Bytes;
use rdkafka::{
    Message as _,
    message::{BorrowedMessage, Headers as _},
};
use scouter_storage::log::{BatchId, Door};
use scouter_tonic::broker::{BATCH_ID, CONTENT_TYPE};

use crate::ingest::Message;

/// Header of a message that a server wrote: one byte, the door by which it came in.
pub(crate) const DOOR: &str = "scouter-door";
/// Header of such a message: indexes of records that are not to be stored, as little-endian 32-bit numbers.
pub(crate) const REFUSED_RECORDS: &str = "scouter-refused-records";

/// Topic and number.
pub(crate) type Partition = (String, i32);

/// A message, copied out of the library's memory.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) partition: Partition,
    pub(crate) offset: i64,
    pub(crate) content_type: Option<String>,
    pub(crate) payload: Bytes,
    /// Milliseconds since 1970 at which it was written, as far as Kafka knows.
    pub(crate) timestamp: Option<i64>,
    pub(crate) id: Option<BatchId>,
    /// Where it came in, if a server wrote it.
    pub(crate) door: Option<Door>,
    /// Indexes of records that a server refused before it wrote the message.
    pub(crate) refused_records: Vec<u32>,
}

impl From<&BorrowedMessage<'_>> for Fetched {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let header = |name: &str| {
            let mut headers = message.headers()?.iter();
            headers.find(|header| header.key.eq_ignore_ascii_case(name)).and_then(|header| header.value)
        };
        Self {
            partition: (message.topic().to_owned(), message.partition()),
            offset: message.offset(),
            content_type: header(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value).into_owned()),
            payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
            timestamp: message.timestamp().to_millis(),
            id: header(BATCH_ID).and_then(|value| value.try_into().ok()).map(BatchId),
            door: header(DOOR).and_then(|value| Door::from_number(*value.first()?)),
            refused_records: header(REFUSED_RECORDS).map(numbers).unwrap_or_default(),
        }
    }
}

impl Fetched {
    #[cfg(test)]
    pub(crate) fn new(partition: Partition, offset: i64, payload: Bytes) -> Self {
        Self { partition, offset, content_type: None, payload, timestamp: None, id: None, door: None, refused_records: Vec::new() }
    }

    /// As every broker's messages are.
    pub(crate) fn carried(&self) -> Message {
        Message { door: Door::Kafka, content_type: self.content_type.clone(), payload: self.payload.clone() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload.len()
    }
}

/// What the header of refused records holds.
pub(crate) fn bytes_of(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number)).collect()
}
