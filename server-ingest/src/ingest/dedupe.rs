//! A batch that comes twice is stored once.
//!
//! The window remembers ten minutes of batch ids, a million at the most: longer than any client keeps retrying one
//! batch. After a restart it is filled again from the log, and the time the server was down does not count: whoever could
//! not reach it repeats what he sent before. A second copy that arrives while the first is being written
//! waits for the first one's outcome, so that neither is acknowledged early.
//!
//! What the sender's permissions kept out of a batch may be allowed when he repeats it, and is not stored for that: the window, and the log,
//! remember how many records were refused, so that the repetition is told the same.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use scouter_storage::log::{BatchId, RecentBatch};
use tokio::sync::oneshot;

const WINDOW: Duration = Duration::from_secs(600);
const MAX_IDS: usize = 1_000_000;

#[derive(Debug)]
enum State {
    /// Being written; who waits for the outcome.
    UnderWay(Vec<oneshot::Sender<Option<Before>>>),
    /// On disk.
    Stored(Before),
}

/// What became of a batch when it came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    /// How many of its records were refused; `None` where the log does not know it any more.
    pub(super) rejected_records: Option<u32>,
}

#[derive(Debug, Default)]
struct Ids {
    states: HashMap<[u8; 16], State>,
    /// Stored ids in the order they came, with the time they came.
    order: VecDeque<([u8; 16], u64)>,
}

/// The recent batch ids.
#[derive(Debug)]
pub(super) struct DedupeWindow(Arc<Mutex<Ids>>);

/// What is known of a batch id.
pub(super) enum Claim<F> {
    /// Never seen: the caller stores it and says so.
    Mine(Claimed),
    /// Stored before.
    Stored(Before),
    /// Another request with this id is being written; the future tells what became of it, or `None` when it was not stored.
    UnderWay(F),
}

/// The right, and the duty, to store a batch. Dropped without [`Claimed::stored`] the id is free again.
#[derive(Debug)]
pub(super) struct Claimed {
    ids: Arc<Mutex<Ids>>,
    id: [u8; 16],
    received_unix_nano: u64,
    before: Before,
    is_stored: bool,
}

impl DedupeWindow {
    /// `recent` are the stored batches, oldest first; the newest of them counts as having come now.
    pub(super) fn new(recent: Vec<RecentBatch>, now_unix_nano: u64) -> Self {
        let mut ids = Ids::default();
        let down = recent.last().map_or(0, |newest| now_unix_nano.saturating_sub(newest.received_unix_nano));
        for RecentBatch { batch_id, received_unix_nano, rejected_records } in recent {
            ids.states.insert(batch_id.0, State::Stored(Before { rejected_records }));
            ids.order.push_back((batch_id.0, received_unix_nano + down));
        }
        Self(Arc::new(Mutex::new(ids)))
    }

    /// `rejected_records` is how many of the batch's records are refused if it is stored now.
    pub(super) fn claim(
        &self,
        id: BatchId,
        received_unix_nano: u64,
        rejected_records: u32,
    ) -> Claim<impl Future<Output = Option<Before>> + Send + use<>> {
        let mut ids = lock(&self.0);
        ids.forget_old(received_unix_nano);
        match ids.states.entry(id.0) {
            Entry::Occupied(mut entry) => match entry.get_mut() {
                State::Stored(before) => Claim::Stored(*before),
                State::UnderWay(twins) => {
                    let (sender, outcome) = oneshot::channel();
                    twins.push(sender);
                    Claim::UnderWay(async move { outcome.await.unwrap_or(None) })
                }
            },
            Entry::Vacant(entry) => {
                entry.insert(State::UnderWay(Vec::new()));
                let before = Before { rejected_records: Some(rejected_records) };
                Claim::Mine(Claimed { ids: Arc::clone(&self.0), id: id.0, received_unix_nano, before, is_stored: false })
            }
        }
    }
}

impl Claimed {
    pub(super) fn stored(mut self) {
        self.is_stored = true;
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut ids = lock(&self.ids);
        let was = if self.is_stored {
            ids.order.push_back((self.id, self.received_unix_nano));
            ids.states.insert(self.id, State::Stored(self.before))
        } else {
            ids.states.remove(&self.id)
        };
        drop(ids);
        if let Some(State::UnderWay(twins)) = was {
            for twin in twins {
                // A twin that gave up does not ask any more.
                let _ = twin.send(self.is_stored.then_some(self.before));
            }
        }
    }
}

impl Ids {
    fn forget_old(&mut self, now_unix_nano: u64) {
        let window = u64::try_from(WINDOW.as_nanos()).unwrap_or(u64::MAX);
        while let Some((id, received_unix_nano)) = self.order.front().copied() {
            if self.order.len() <= MAX_IDS && now_unix_nano.saturating_sub(received_unix_nano) <= window {
                break;
            }
            self.order.pop_front();
            self.states.remove(&id);
        }
    }
}

/// Nothing panics while the lock is held, so a poisoned one still holds good data.
fn lock(ids: &Mutex<Ids>) -> MutexGuard<'_, Ids> {
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
