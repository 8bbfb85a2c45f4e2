//! From the log's thread to the applier's: a queue bounded by bytes that keeps the order.
//!
//! A thread is woken only when it waits: telling a condition variable is a system call whether or not somebody listens, and small requests
//! would pay two of them each.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::log::{Frame, Position};

/// Frames that may wait.
const MAX_FRAMES: usize = 4096;
/// After so many bytes no more is taken at once; they come on top of those that may wait.
const TAKEN_BYTES: usize = 1024 * 1024;

#[derive(Debug, Default)]
struct Queue {
    /// Payload bytes that may wait; a larger single frame waits alone.
    max_bytes: usize,
    frames: VecDeque<(Position, Frame)>,
    bytes: usize,
    closed: bool,
    abandoned: bool,
    giver_waits: bool,
    taker_waits: bool,
}

impl Queue {
    fn is_full_for(&self, bytes: usize) -> bool {
        !self.abandoned && !self.frames.is_empty() && (self.bytes + bytes > self.max_bytes || self.frames.len() >= MAX_FRAMES)
    }

    fn is_idle(&self) -> bool {
        self.frames.is_empty() && !self.closed && !self.abandoned
    }
}

#[derive(Debug, Default)]
struct Inner {
    queue: Mutex<Queue>,
    /// For the giver.
    emptied: Condvar,
    /// For the taker.
    filled: Condvar,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that the log fills. Dropping it closes the queue.
#[derive(Debug)]
pub(super) struct Giver(Arc<Inner>);

/// The end that the applier empties.
#[derive(Debug, Clone)]
pub(super) struct Taker(Arc<Inner>);

pub(super) fn handover(max_bytes: usize) -> (Giver, Taker) {
    let inner = Arc::new(Inner { queue: Mutex::new(Queue { max_bytes, ..Queue::default() }), ..Inner::default() });
    (Giver(Arc::clone(&inner)), Taker(inner))
}

impl Giver {
    /// Blocks while the queue is full.
    pub(super) fn give(&self, position: Position, frame: Frame) {
        let bytes = frame.payload.len();
        let mut queue = self.0.lock();
        while queue.is_full_for(bytes) {
            queue.giver_waits = true;
            queue = self.0.emptied.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.giver_waits = false;
        if queue.abandoned {
            return;
        }
        queue.bytes += bytes;
        queue.frames.push_back((position, frame));
        let taker_waits = std::mem::take(&mut queue.taker_waits);
        drop(queue);
        if taker_waits {
            self.0.filled.notify_one();
        }
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.filled.notify_one();
    }
}

impl Taker {
    /// Adds the next frames, at least one; blocks while there is none. False when the queue was closed and is empty, or was abandoned.
    pub(super) fn take(&self, taken: &mut Vec<(Position, Frame)>) -> bool {
        let mut queue = self.0.lock();
        while queue.is_idle() {
            queue.taker_waits = true;
            queue = self.0.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.taker_waits = false;
        if queue.abandoned {
            return false;
        }
        let mut bytes = 0;
        while bytes < TAKEN_BYTES
            && let Some((position, frame)) = queue.frames.pop_front()
        {
            bytes += frame.payload.len();
            queue.bytes -= frame.payload.len();
            taken.push((position, frame));
        }
        let giver_waits = std::mem::take(&mut queue.giver_waits);
        drop(queue);
        if giver_waits {
            self.0.emptied.notify_one();
        }
        !taken.is_empty()
    }

    /// Takes nothing more, and lets the other end give into the void: the frames are in the log.
    pub(super) fn abandon(&self) {
        let mut queue = self.0.lock();
        queue.abandoned = true;
        queue.frames.clear();
        queue.bytes = 0;
        drop(queue);
        self.0.emptied.notify_one();
        self.0.filled.notify_one();
    }
}
