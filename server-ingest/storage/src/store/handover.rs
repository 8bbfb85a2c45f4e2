//! From the log's thread to the applier's: a queue bounded by bytes that keeps the order.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::log::{Frame, Position};

/// Payload bytes that may wait; a larger single frame waits alone.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Frames that may wait.
const MAX_FRAMES: usize = 4096;

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<(Position, Frame)>,
    bytes: usize,
    closed: bool,
    abandoned: bool,
}

#[derive(Debug, Default)]
struct Inner {
    queue: Mutex<Queue>,
    changed: Condvar,
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

pub(super) fn handover() -> (Giver, Taker) {
    let inner = Arc::new(Inner::default());
    (Giver(Arc::clone(&inner)), Taker(inner))
}

impl Giver {
    /// Blocks while the queue is full.
    pub(super) fn give(&self, position: Position, frame: Frame) {
        let bytes = frame.payload.len();
        let full = |queue: &mut Queue| {
            !queue.abandoned && !queue.frames.is_empty() && (queue.bytes + bytes > MAX_BYTES || queue.frames.len() >= MAX_FRAMES)
        };
        let mut queue = self.0.changed.wait_while(self.0.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if queue.abandoned {
            return;
        }
        queue.bytes += bytes;
        queue.frames.push_back((position, frame));
        drop(queue);
        self.0.changed.notify_all();
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Taker {
    /// The next frame; blocks while there is none. `None` when the queue was closed and is empty, or was abandoned.
    pub(super) fn take(&self) -> Option<(Position, Frame)> {
        let empty = |queue: &mut Queue| queue.frames.is_empty() && !queue.closed && !queue.abandoned;
        let mut queue = self.0.changed.wait_while(self.0.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        if queue.abandoned {
            return None;
        }
        let taken = queue.frames.pop_front()?;
        queue.bytes -= taken.1.payload.len();
        drop(queue);
        self.0.changed.notify_all();
        Some(taken)
    }

    /// Takes nothing more, and lets the other end give into the void: the frames are in the log.
    pub(super) fn abandon(&self) {
        let mut queue = self.0.lock();
        queue.abandoned = true;
        queue.frames.clear();
        queue.bytes = 0;
        drop(queue);
        self.0.changed.notify_all();
    }
}
