//! The one reader of `google.rpc.RetryInfo`, in both places servers put it.

use std::time::Duration;

use prost::Message;
use tonic::metadata::MetadataMap;

/// Trailer with a `google.rpc.Status`, its details among them.
pub(super) const STATUS_DETAILS: &str = "grpc-status-details-bin";
/// Trailer with the bare `google.rpc.RetryInfo`.
const RETRY_INFO: &str = "google.rpc.retryinfo-bin";
const RETRY_INFO_TYPE: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Longest pause a server can ask for. A destination that is gone for longer is found again by trying.
const MAX_DELAY: Duration = Duration::from_secs(5 * 60);

/// A server's statement that the request may be sent again, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryInfo {
    delay: Option<Duration>,
}

impl RetryInfo {
    /// Reads it from a call's trailers; `None` when it is absent or malformed.
    pub fn from_metadata(metadata: &MetadataMap) -> Option<Self> {
        let bytes = |name| metadata.get_bin(name).and_then(|value| value.to_bytes().ok());
        let from_details = || {
            let status = RpcStatus::decode(bytes(STATUS_DETAILS)?).ok()?;
            let detail = status.details.into_iter().find(|detail| detail.type_url == RETRY_INFO_TYPE)?;
            RetryInfoMessage::decode(detail.value.as_slice()).ok()
        };
        let from_trailer = || RetryInfoMessage::decode(bytes(RETRY_INFO)?).ok();
        from_details().or_else(from_trailer).map(Self::from)
    }

    /// The pause asked for, at most five minutes; `None` for zero, negative and absent ones, where normal back-off is meant.
    pub fn delay(&self) -> Option<Duration> {
        self.delay
    }
}

impl From<RetryInfoMessage> for RetryInfo {
    fn from(message: RetryInfoMessage) -> Self {
        let delay = message.retry_delay.and_then(|delay| {
            let seconds = u64::try_from(delay.seconds).ok()?;
            let nanos = u32::try_from(delay.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
            Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(u64::from(nanos))))
        });
        delay.map_or(Self { delay: None }, Self::from)
    }
}

impl From<Duration> for RetryInfo {
    fn from(delay: Duration) -> Self {
        Self { delay: (!delay.is_zero()).then_some(delay.min(MAX_DELAY)) }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Detail>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Detail {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryInfoMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<DurationMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DurationMessage {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}
