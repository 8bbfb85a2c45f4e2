//! Batch ids of the last minutes, kept beyond the frames that carried them, so that a client's repetition is known after the
//! frame itself was trimmed and the server was started again.

use std::collections::VecDeque;
use std::time::Duration;

use super::format::IdEntry;
use super::{LogOptions, RecentBatch};

/// The newest ids, in position order, bounded by time and number.
pub(super) struct RecentIds {
    entries: VecDeque<IdEntry>,
    window_nanos: u64,
    max_entries: usize,
}

impl RecentIds {
    pub(super) fn new(options: &LogOptions) -> Self {
        Self { entries: VecDeque::new(), window_nanos: nanos(options.dedupe_window), max_entries: options.dedupe_ids }
    }

    /// Adds the id of the next frame and forgets what its time pushes out of the window.
    pub(super) fn push(&mut self, entry: IdEntry) {
        self.entries.push_back(entry);
        // Counted back from the newest frame, not from the clock: a client that could not reach a server that was down for
        // an hour repeats what it sent before that hour.
        let oldest = entry.received_unix_nano.saturating_sub(self.window_nanos);
        while self.entries.front().is_some_and(|first| first.received_unix_nano < oldest || self.entries.len() > self.max_entries) {
            self.entries.pop_front();
        }
    }

    /// Those of frames before `position`.
    pub(super) fn before(&self, position: u64) -> impl Iterator<Item = &IdEntry> {
        self.entries.iter().take_while(move |entry| entry.position < position)
    }

    pub(super) fn to_vec(&self) -> Vec<RecentBatch> {
        let batch = |entry: &IdEntry| RecentBatch {
            batch_id: entry.batch_id,
            received_unix_nano: entry.received_unix_nano,
            rejected_records: entry.rejected_records,
        };
        self.entries.iter().map(batch).collect()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
