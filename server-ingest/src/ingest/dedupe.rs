//! A batch that comes twice is stored once.
//!
//! The window remembers ten minutes of batch ids, a million at the most: longer than any client keeps retrying one
//! batch. After a restart it is filled again from the log, and the time the server was down does not count: whoever could
//! not reach it repeats what he sent before. A second copy that arrives while the first is being written
//! waits for the first one's outcome, so that neither is acknowledged early.
//!
//! What the sender's permissions kept out of a batch may be allowed when he repeats it, and is not stored for that: the window remembers how much
//! it was, so that the repetition is told the same. It does so until the server ends.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use scouter_storage::log::BatchId;
use tokio::sync::oneshot;

const WINDOW: Duration = Duration::from_secs(600);
const MAX_IDS: usize = 1_000_000;

#[derive(Debug)]
enum State {
    /// Being written; who waits for the outcome.
    UnderWay(Vec<oneshot::Sender<Option<u32>>>),
    /// How many of its records the sender might not write.
    Stored(u32),
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
    /// Stored before, but for so many records that the sender might not write.
    Stored(u32),
    /// Another request with this id is being written; the future tells what it left out, or `None` when it was not stored.
    UnderWay(F),
}

/// The right, and the duty, to store a batch. Dropped without [`Claimed::stored`] the id is free again.
#[derive(Debug)]
pub(super) struct Claimed {
    ids: Arc<Mutex<Ids>>,
    id: [u8; 16],
    received_unix_nano: u64,
    forbidden: u32,
    is_stored: bool,
}

impl DedupeWindow {
    /// `recent` are the stored batches and when they came, oldest first; the newest of them counts as having come now.
    pub(super) fn new(recent: Vec<(BatchId, u64)>, now_unix_nano: u64) -> Self {
        let mut ids = Ids::default();
        let down = recent.last().map_or(0, |(_, newest)| now_unix_nano.saturating_sub(*newest));
        for (id, received_unix_nano) in recent {
            ids.states.insert(id.0, State::Stored(0));
            ids.order.push_back((id.0, received_unix_nano + down));
        }
        Self(Arc::new(Mutex::new(ids)))
    }

    /// `forbidden` is how many of the batch's records the sender may not write now.
    pub(super) fn claim(
        &self,
        id: BatchId,
        received_unix_nano: u64,
        forbidden: u32,
    ) -> Claim<impl Future<Output = Option<u32>> + Send + use<>> {
        let mut ids = lock(&self.0);
        ids.forget_old(received_unix_nano);
        match ids.states.entry(id.0) {
            Entry::Occupied(mut entry) => match entry.get_mut() {
                State::Stored(forbidden) => Claim::Stored(*forbidden),
                State::UnderWay(twins) => {
                    let (sender, outcome) = oneshot::channel();
                    twins.push(sender);
                    Claim::UnderWay(async move { outcome.await.unwrap_or(None) })
                }
            },
            Entry::Vacant(entry) => {
                entry.insert(State::UnderWay(Vec::new()));
                Claim::Mine(Claimed { ids: Arc::clone(&self.0), id: id.0, received_unix_nano, forbidden, is_stored: false })
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
        let before = if self.is_stored {
            ids.order.push_back((self.id, self.received_unix_nano));
            ids.states.insert(self.id, State::Stored(self.forbidden))
        } else {
            ids.states.remove(&self.id)
        };
        drop(ids);
        if let Some(State::UnderWay(twins)) = before {
            for twin in twins {
                // A twin that gave up does not ask any more.
                let _ = twin.send(self.is_stored.then_some(self.forbidden));
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
