//! How much unfinished work the server takes on at once.
//!
//! Every byte of a request that the server holds, as it came and inflated, is counted while it comes in and until it is on disk.
//! Nobody waits for room: a queue here would only hide the overload. Who finds none is refused at once and gives back what he
//! had, so that requests under way cannot starve each other.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::error::IngestError;

/// What a request takes beside its bytes: buffers of its connection, its task, its frame.
const REQUEST_BYTES: usize = 4 * 1024;

/// A budget of bytes of requests between the door and the disk.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    total: usize,
    used: AtomicUsize,
    refused: AtomicU64,
}

/// What one request takes of the budget; given back when dropped.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Admission {
    /// `total_bytes` bounds the bytes of all requests under way together.
    pub fn new(total_bytes: usize) -> Self {
        Self(Arc::new(Budget { total: total_bytes, used: AtomicUsize::new(0), refused: AtomicU64::new(0) }))
    }

    /// Lets a request begin that says it has `announced` bytes. They are taken as they come, not now: a slow client
    /// must not hold what it has not sent.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`] when they would not fit now.
    pub fn begin(&self, announced: usize) -> Result<Room, IngestError> {
        let mut room = Room { budget: Arc::clone(&self.0), bytes: 0 };
        room.expect(announced)?;
        room.grow(REQUEST_BYTES)?;
        Ok(room)
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes there are.
    pub fn total_bytes(&self) -> usize {
        self.0.total
    }

    /// How often there was no room.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl Room {
    /// Refuses what would not fit if all of it came now.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`].
    pub fn expect(&self, bytes: usize) -> Result<(), IngestError> {
        let used = self.budget.used.load(Ordering::Relaxed);
        if used.saturating_add(bytes) > self.budget.total { Err(self.refuse()) } else { Ok(()) }
    }

    /// Takes more.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`]; nothing more was taken.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IngestError> {
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.budget.total);
        if self.budget.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take).is_err() {
            return Err(self.refuse());
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives some of it back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn refuse(&self) -> IngestError {
        self.budget.refused.fetch_add(1, Ordering::Relaxed);
        IngestError::Overloaded
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests;
