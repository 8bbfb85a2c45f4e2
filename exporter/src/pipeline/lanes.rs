//! Where spans and records wait as they come: a batch for every few threads, so that threads which end spans at the same time do not wait for each
//! other.
//!
//! Invariants:
//! - A lane's lock is taken before the state's lock, never after it.
//! - Whoever empties the lanes clears [`Lanes::has_spans`] first: a span that comes too late for him sets it again.

use std::{
    cell::Cell,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::budget::Share;
use crate::{encode::EncodedBatch, stats::Dropped};

/// More lanes cost memory: each keeps a batch.
const MAX_LANES: usize = 64;
const MIN_LANES: usize = 8;

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

static NUMBERS: AtomicUsize = AtomicUsize::new(0);

/// All lanes of a pipeline.
#[derive(Debug)]
pub(super) struct Lanes {
    /// A power of two.
    lanes: Box<[Lane]>,
    /// Some lane may hold something. Set with the first span or record of a lane.
    pub(super) has_spans: AtomicBool,
}

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane(Mutex<Intake>);

/// The spans and records of a lane, and the account of those it did not take.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pub(super) is_closed: bool,
    pub(super) batch: EncodedBatch,
    pub(super) share: Share,
    pub(super) dropped: Dropped,
    pub(super) dropped_records: Dropped,
    /// Most bytes ever taken of the budget, as seen here.
    pub(super) high_water: u64,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = (2 * threads).next_power_of_two().clamp(MIN_LANES, MAX_LANES);
        Self { lanes: (0..lanes).map(|_| Lane::default()).collect(), has_spans: AtomicBool::new(false) }
    }

    /// The lane of this thread.
    pub(super) fn of_this_thread(&self) -> MutexGuard<'_, Intake> {
        let new_number = || NUMBERS.fetch_add(1, Ordering::Relaxed);
        let number = NUMBER.try_with(|number| {
            number.get().unwrap_or_else(|| {
                let fresh = new_number();
                number.set(Some(fresh));
                fresh
            })
        });
        // A thread that is ending has no number any more; any lane will do.
        self.lanes[number.unwrap_or(0) & (self.lanes.len() - 1)].lock()
    }

    /// One lane after the other.
    pub(super) fn each(&self) -> impl Iterator<Item = MutexGuard<'_, Intake>> {
        self.lanes.iter().map(Lane::lock)
    }

    /// All at once, for a consistent picture.
    pub(super) fn all(&self) -> Vec<MutexGuard<'_, Intake>> {
        self.each().collect()
    }
}

impl Lane {
    /// No code panics while holding the lock.
    fn lock(&self) -> MutexGuard<'_, Intake> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
