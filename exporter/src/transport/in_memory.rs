//! Requests kept in this process, for tests of programs that use a whole [`Pipeline`](crate::Pipeline).

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prost::{DecodeError, Message};
use scouter_tonic::{
    client::{CallError, CallErrorKind, DEFAULT_TIMEOUT},
    grpc::InsertMessageRequest,
    limits::MAX_REQUEST_BYTES,
};
use tokio::time::Instant;
use tonic::Code;

use super::{Limits, Sent, Transport, TransportFuture, check_length};

/// Bytes kept unless told otherwise.
const DEFAULT_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Keeps requests instead of sending them, each once. Clones, and the transports made of them, share what is kept. When it is full it says that
/// it is not ready, as a server would.
///
/// ```
/// use std::time::Duration;
/// use scouter_exporter::{InMemoryTransport, MonitoringRecord, Pipeline, QueueConfig};
///
/// let kept = InMemoryTransport::default();
/// let pipeline = Pipeline::new(kept.clone(), QueueConfig::default())?;
/// pipeline.try_push_records(&[MonitoringRecord::default()].iter().collect());
/// pipeline.flush(Duration::from_secs(5))?;
/// assert_eq!(kept.requests()?[0].records.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct InMemoryTransport {
    kept: Arc<Mutex<Kept>>,
    max_bytes: usize,
}

#[derive(Default)]
struct Kept {
    requests: VecDeque<Bytes>,
    bytes: usize,
}

impl Default for InMemoryTransport {
    fn default() -> Self {
        Self::with_max_bytes(DEFAULT_MAX_BYTES)
    }
}

impl InMemoryTransport {
    /// Keeps at most so many bytes.
    pub fn with_max_bytes(max_bytes: usize) -> Self {
        Self { kept: Arc::default(), max_bytes }
    }

    /// The requests kept, in the order they came.
    ///
    /// # Errors
    /// One of them, sent by hand, is no `InsertMessageRequest`.
    pub fn requests(&self) -> Result<Vec<InsertMessageRequest>, DecodeError> {
        self.kept().requests.iter().map(|request| InsertMessageRequest::decode(request.clone())).collect()
    }

    /// Forgets the requests kept.
    pub fn clear(&self) {
        *self.kept() = Kept::default();
    }

    fn keep(&self, request: Bytes, deadline: Instant) -> Result<Sent, CallError> {
        if Instant::now() >= deadline {
            return Err(CallError::deadline("a call in this process"));
        }
        check_length(&request, MAX_REQUEST_BYTES)?;
        let mut kept = self.kept();
        let bytes = request.len() as u64;
        // The same bytes are the same batch.
        if !kept.requests.contains(&request) {
            if kept.bytes + request.len() > self.max_bytes {
                let message = format!("{} bytes are kept already", kept.bytes);
                return Err(CallError::new(CallErrorKind::Retryable, Code::Unavailable, message));
            }
            kept.bytes += request.len();
            kept.requests.push_back(request);
        }
        Ok(Sent { bytes, ..Sent::default() })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for InMemoryTransport {
    fn send(&self, request: Bytes, deadline: Instant) -> TransportFuture<'_, Result<Sent, CallError>> {
        Box::pin(async move { self.keep(request, deadline) })
    }

    fn limits(&self) -> Limits {
        Limits { timeout: DEFAULT_TIMEOUT, flush_timeout: DEFAULT_TIMEOUT, max_request_bytes: MAX_REQUEST_BYTES }
    }

    fn with_new_connection(&self) -> Arc<dyn Transport> {
        Arc::new(self.clone())
    }

    fn component(&self) -> (&'static str, String) {
        ("in_memory_span_exporter", String::new())
    }
}

impl fmt::Debug for InMemoryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept();
        f.debug_struct("InMemoryTransport").field("requests", &kept.requests.len()).field("bytes", &kept.bytes).finish_non_exhaustive()
    }
}
