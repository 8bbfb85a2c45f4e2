//! How much unfinished work the server takes on at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::IngestError;

/// One permit is one KiB of request body.
const PERMIT_BYTES: usize = 1024;

/// A budget of bytes of requests between the door and the disk.
#[derive(Debug, Clone)]
pub struct Admission {
    permits: Arc<Semaphore>,
    total_bytes: usize,
}

impl Admission {
    /// `total_bytes` bounds the bodies of all requests under way together.
    pub fn new(total_bytes: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new((total_bytes / PERMIT_BYTES).max(1))), total_bytes }
    }

    /// Takes room for a request, or refuses at once: a queue here would only hide the overload.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`] while others hold the room.
    pub fn admit(&self, bytes: usize) -> Result<OwnedSemaphorePermit, IngestError> {
        let permits = bytes.min(self.total_bytes).div_ceil(PERMIT_BYTES).max(1);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        Arc::clone(&self.permits).try_acquire_many_owned(permits).map_err(|_| IngestError::Overloaded)
    }
}
