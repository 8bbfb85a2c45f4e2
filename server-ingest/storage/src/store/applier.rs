//! State that the threads of a store share, and the thread that turns durable frames into hot rows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::StoreOptions;
use super::flusher::FlushControl;
use super::handover::Taker;
use super::hot::Hot;
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
    /// The threads end without finishing their work, as if the process had died.
    abandoned: AtomicBool,
    failed: OnceLock<String>,
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
        hot.apply(position, frame);
        let many = hot.rows() >= self.options.flush_rows || hot.bytes() >= self.options.flush_bytes;
        drop(hot);
        self.applied.send_replace(position);
        if many {
            self.flush.urge();
        }
        true
    }
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
