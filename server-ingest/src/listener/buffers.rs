//! How large the buffers of a connection may be: large while there are few, so that a batch comes in one piece, and the least that
//! HTTP/2 allows when there are many.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::admission::MemoryPlan;

/// A usual batch, 512 spans, comes in one piece. With larger ones fewer connections would have it so.
const LARGEST: usize = 256 * 1024;
/// Each connection takes this part of what there is.
const PART: usize = 16;

/// What all connections have beside the least that each needs.
#[derive(Debug, Clone)]
pub(super) struct Buffers(Arc<AtomicUsize>);

/// The buffer of one connection; given back when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    of: Buffers,
    extra: usize,
}

impl Buffers {
    /// `total` bytes for up to `connections`.
    pub(super) fn new(total: usize, connections: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(total.saturating_sub(MemoryPlan::LEAST_BUFFER.saturating_mul(connections)))))
    }

    pub(super) fn take(&self) -> Buffer {
        let part = |left: usize| (left / PART).min(LARGEST - MemoryPlan::LEAST_BUFFER);
        let left = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |left| Some(left - part(left)));
        Buffer { of: self.clone(), extra: part(left.unwrap_or_else(|left| left)) }
    }
}

impl Buffer {
    pub(super) fn bytes(&self) -> usize {
        MemoryPlan::LEAST_BUFFER + self.extra
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.of.0.fetch_add(self.extra, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
