//! How much may wait or be in flight: one number for all threads, so that taking a share is one atomic step.

use std::sync::atomic::{AtomicU64, Ordering};

const BYTES_BITS: u32 = 40;
/// Largest bounds; half of what the fields hold, so that one reservation above the bounds never carries over.
const MAX_ITEMS: u64 = (1 << (63 - BYTES_BITS)) - 1;
const MAX_BYTES: u64 = (1 << (BYTES_BITS - 1)) - 1;

/// A share of the budget: items and bytes. Shares add up; whoever holds one gives it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share(u64);

impl Share {
    fn new(items: u64, bytes: usize) -> Self {
        Self(items.min(MAX_ITEMS) << BYTES_BITS | (bytes as u64).min(MAX_BYTES))
    }

    fn items(self) -> u64 {
        self.0 >> BYTES_BITS
    }

    pub(super) fn bytes(self) -> u64 {
        self.0 & ((1 << BYTES_BITS) - 1)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.0 += other.0;
    }
}

/// What is taken of the bounds.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    max_items: u64,
    max_bytes: u64,
}

impl Budget {
    /// Bounds above 8,388,607 items or 512 GiB are those.
    pub(super) fn new(max_items: usize, max_bytes: usize) -> Self {
        Self { used: AtomicU64::new(0), max_items: (max_items as u64).min(MAX_ITEMS), max_bytes: (max_bytes as u64).min(MAX_BYTES) }
    }

    /// Takes a share, and says how many bytes are taken now. `None` when it does not fit.
    pub(super) fn reserve(&self, items: u64, bytes: usize) -> Option<(Share, u64)> {
        let share = Share::new(items, bytes);
        // Relaxed: the number orders nothing but itself. Two that do not fit both may see each other and go; neither would have fitted
        // beside what was there a moment ago.
        let after = Share(self.used.fetch_add(share.0, Ordering::Relaxed) + share.0);
        if after.items() > self.max_items || after.bytes() > self.max_bytes {
            self.release(share);
            return None;
        }
        Some((share, after.bytes()))
    }

    /// Takes a share of any size, if nothing else is taken: what is larger than the bounds may go alone.
    pub(super) fn reserve_alone(&self, items: u64, bytes: usize) -> Option<(Share, u64)> {
        let share = Share::new(items, bytes);
        self.used.compare_exchange(0, share.0, Ordering::Relaxed, Ordering::Relaxed).ok().map(|_| (share, share.bytes()))
    }

    pub(super) fn release(&self, share: Share) {
        self.used.fetch_sub(share.0, Ordering::Relaxed);
    }

    /// More than three quarters of a bound are taken.
    pub(super) fn is_nearly_full(&self) -> bool {
        let used = Share(self.used.load(Ordering::Relaxed));
        used.items() > self.max_items / 4 * 3 || used.bytes() > self.max_bytes / 4 * 3
    }

    pub(super) fn used_bytes(&self) -> u64 {
        Share(self.used.load(Ordering::Relaxed)).bytes()
    }
}
