//! State that the threads of a store share, and the thread that turns durable frames into hot rows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::StoreOptions;
use super::flusher::FlushControl;
use super::handover::Taker;
use super::hot::{Hot, Origin};
use super::maintainer::MaintenanceControl;
use super::stats::Counters;
use crate::lake::TraceIndex;
use crate::log::{Frame, Position};

/// How often the applier looks whether it was abandoned while it waits for room.
const ROOM_CHECK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Shared {
    hot: Mutex<Hot>,
    /// Told when hot rows were committed.
    room: Condvar,
    pub(super) applied: watch::Sender<Position>,
    pub(super) flush: FlushControl,
    pub(super) maintenance: MaintenanceControl,
    pub(super) trace_index: Arc<TraceIndex>,
    pub(super) counters: Counters,
    pub(super) options: StoreOptions,
    /// Frames after it are still read by somebody beside the tables.
    needed_after: AtomicU64,
    /// Where frames come from a shared log: everything up to the position is in the tables, in this epoch.
    pub(super) settled: watch::Sender<Settled>,
    /// Whether this process merges and deletes the tables' files.
    pub(super) maintains: AtomicBool,
    /// The threads end without finishing their work, as if the process had died.
    abandoned: AtomicBool,
    failed: OnceLock<String>,
}

/// How far the rows of a shared log are safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Positions are those of this epoch: a new one begins when rows are dropped, whose frames are to be read again.
    pub epoch: u64,
    /// Everything up to it is in the tables.
    pub position: Position,
}

impl Shared {
    pub(super) fn new(hot: Hot, options: StoreOptions, trace_index: TraceIndex) -> Self {
        let applied = watch::Sender::new(hot.applied());
        let needed_after = AtomicU64::new(if options.hold_log { 0 } else { u64::MAX });
        Self {
            hot: Mutex::new(hot),
            room: Condvar::new(),
            applied,
            flush: FlushControl::default(),
            maintenance: MaintenanceControl::default(),
            trace_index: Arc::new(trace_index),
            counters: Counters::default(),
            options,
            needed_after,
            settled: watch::Sender::new(Settled::default()),
            maintains: AtomicBool::new(true),
            abandoned: AtomicBool::new(false),
            failed: OnceLock::new(),
        }
    }

    /// No other lock may be taken while this one is held; a table's may be held while this one is taken.
    pub(super) fn hot(&self) -> MutexGuard<'_, Hot> {
        self.hot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames up to `position` are no longer read by those for whom the log is held. Never goes back.
    pub(super) fn let_go(&self, position: Position) {
        self.needed_after.fetch_max(position.0, Ordering::AcqRel);
    }

    /// How far the log may be trimmed when the tables have everything up to `committed`.
    pub(super) fn unneeded(&self, committed: Position) -> Position {
        committed.min(Position(self.needed_after.load(Ordering::Acquire)))
    }

    pub(super) fn made_room(&self) {
        self.room.notify_all();
    }

    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.room.notify_all();
        self.maintenance.stop();
        self.flush.stop();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    pub(super) fn fail(&self, what: String) {
        tracing::error!(what, "storage failed");
        let _ = self.failed.set(what);
    }

    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Applies one frame when there is room for more hot rows. False when the store was abandoned meanwhile.
    fn apply(&self, position: Position, frame: &Frame) -> bool {
        let max_bytes = self.options.hot_max_bytes;
        let mut hot = self.hot();
        while hot.bytes() > max_bytes {
            if self.is_abandoned() {
                return false;
            }
            drop(hot);
            self.flush.urge();
            let full = |hot: &mut Hot| hot.bytes() > max_bytes && !self.is_abandoned();
            hot = self.room.wait_timeout_while(self.hot(), ROOM_CHECK, full).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.apply_now(hot, position, frame, None);
        true
    }

    fn apply_now(&self, mut hot: MutexGuard<'_, Hot>, position: Position, frame: &Frame, origin: Option<Origin<'_>>) {
        hot.apply(position, frame, origin);
        let many = hot.rows() >= self.options.flush_rows || hot.bytes() >= self.options.flush_bytes;
        drop(hot);
        self.applied.send_replace(position);
        if many {
            self.flush.urge();
        }
    }

    /// Applies a frame of a shared log, if there is room within `patience`; gives the position that it gets.
    pub(super) fn apply_from(&self, epoch: u64, origin: Origin<'_>, frame: &Frame, patience: Duration) -> Offered {
        let max_bytes = self.options.hot_max_bytes;
        let mut hot = self.hot();
        if hot.bytes() > max_bytes {
            drop(hot);
            self.flush.urge();
            hot =
                self.room.wait_timeout_while(self.hot(), patience, |hot| hot.bytes() > max_bytes).unwrap_or_else(PoisonError::into_inner).0;
        }
        if hot.epoch() != epoch {
            return Offered::OtherEpoch;
        }
        if hot.bytes() > max_bytes {
            return Offered::NoRoom;
        }
        let position = Position(hot.applied().0 + 1);
        self.apply_now(hot, position, frame, Some(origin));
        Offered::Applied(position)
    }

    /// Says how far everything is in the tables.
    pub(super) fn tell_settled(&self) {
        let hot = self.hot();
        let settled = Settled { epoch: hot.epoch(), position: hot.all_committed() };
        self.settled.send_if_modified(|known| std::mem::replace(known, settled) != settled);
    }

    /// Forgets the rows that are not in the tables; positions are of a new epoch, which is given.
    pub(super) fn drop_rows(&self) -> u64 {
        let mut hot = self.hot();
        hot.drop_rows();
        let settled = Settled { epoch: hot.epoch(), position: hot.applied() };
        self.settled.send_replace(settled);
        drop(hot);
        self.made_room();
        settled.epoch
    }
}

/// What became of a frame that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// Its rows can be read, and will be in the tables.
    Applied(Position),
    /// As many rows wait for the tables as may. Offer it again.
    NoRoom,
    /// Rows were dropped since that epoch: begin anew.
    OtherEpoch,
}

/// Runs until the log has closed and all its frames are applied, or the store is abandoned.
pub(super) fn run(shared: &Arc<Shared>, frames: &Taker) {
    let work = || {
        let mut taken = Vec::new();
        while frames.take(&mut taken) {
            for (position, frame) in taken.drain(..) {
                if !shared.apply(position, &frame) {
                    return;
                }
            }
        }
    };
    // A panic here is a bug in the decoding of a frame that was accepted. Its bytes are in the log; rows after it are not shown
    // and not committed, so nothing is lost or doubled.
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        shared.fail("the applier panicked".to_owned());
        frames.abandon();
    }
}
