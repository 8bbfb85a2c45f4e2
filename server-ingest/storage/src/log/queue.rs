//! The bounded queue between callers and the writer: by number and by bytes; who does not fit waits.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Frame, LogError, LogOptions, Position, Then};

/// Bytes are counted in steps of this, so that their number fits a semaphore.
const STEP_BYTES: u64 = 1024;

/// A frame waiting to be written; dropping it gives its room back.
pub(super) struct Pending {
    pub(super) frame: Frame,
    /// Bytes of the frame in a segment.
    pub(super) frame_bytes: u64,
    pub(super) answer: oneshot::Sender<Result<Position, LogError>>,
    /// Called when the frame is durable, right before the answer; dropped when it never will be.
    pub(super) then: Option<Then>,
    /// Room in the queue, given back when the frame was answered.
    pub(super) room: Room,
}

/// Room in the queue.
pub(super) struct Room {
    _frame: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    frames: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_frames: u32,
    max_steps: u32,
}

#[derive(Default)]
struct State {
    pending: Vec<Pending>,
    /// It has to be woken: telling it is a system call whether or not it listens.
    writer_waits: bool,
    /// The writer is to make the folder small when there is nothing to write.
    rest_wanted: bool,
    /// Why nothing is taken any more.
    ended: Option<LogError>,
}

/// What the writer does next.
pub(super) enum Next {
    /// Write what was taken.
    Write,
    /// Go on in a small segment: nothing is queued.
    Rest,
    /// End: nothing is queued, and nothing will be.
    End,
}

impl Queue {
    pub(super) fn new(options: &LogOptions) -> Self {
        let max_frames = u32::try_from(options.queue_frames).unwrap_or(u32::MAX).max(1);
        let max_steps = u32::try_from(options.queue_bytes as u64 / STEP_BYTES).unwrap_or(u32::MAX).max(1);
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            frames: Arc::new(Semaphore::new(max_frames as usize)),
            bytes: Arc::new(Semaphore::new(max_steps as usize)),
            max_frames,
            max_steps,
        }
    }

    /// Waits for room, queues the frame and returns where its answer will be. Waiting callers are served in their order;
    /// dropped while waiting, nothing was queued.
    pub(super) async fn push(
        &self,
        frame: Frame,
        frame_bytes: u64,
        then: Option<Then>,
    ) -> Result<oneshot::Receiver<Result<Position, LogError>>, LogError> {
        let steps = u32::try_from(frame_bytes.div_ceil(STEP_BYTES)).unwrap_or(u32::MAX).min(self.max_steps);
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(steps).await;
        let frames = Arc::clone(&self.frames).acquire_owned().await;
        let (Ok(bytes_room), Ok(frame_room)) = (bytes, frames) else {
            return Err(self.lock().ended.clone().unwrap_or(LogError::Closed));
        };
        let (answer, answered) = oneshot::channel();
        let room = Room { _frame: frame_room, _bytes: bytes_room };
        let mut state = self.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        state.pending.push(Pending { frame, frame_bytes, answer, then, room });
        let writer_waits = std::mem::take(&mut state.writer_waits);
        drop(state);
        if writer_waits {
            self.filled.notify_one();
        }
        Ok(answered)
    }

    /// Blocks until there is something to do; takes everything that is queued into `taken`.
    pub(super) fn take(&self, taken: &mut Vec<Pending>) -> Next {
        let mut state = self.lock();
        while state.pending.is_empty() {
            if state.ended.is_some() {
                return Next::End;
            }
            if std::mem::take(&mut state.rest_wanted) {
                return Next::Rest;
            }
            state.writer_waits = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer_waits = false;
        // Who has work does not rest.
        state.rest_wanted = false;
        std::mem::swap(&mut state.pending, taken);
        Next::Write
    }

    /// Asks the writer to go on in a small segment, unless something is queued.
    pub(super) fn rest(&self) {
        self.lock().rest_wanted = true;
        self.filled.notify_one();
    }

    /// Nothing more is taken in; what is queued is still written.
    pub(super) fn close(&self) {
        self.end(LogError::Closed);
    }

    /// Nothing more is taken in, and what is queued gets `error`.
    pub(super) fn fail(&self, error: &LogError) {
        let pending = {
            let mut state = self.lock();
            state.ended = Some(error.clone());
            std::mem::take(&mut state.pending)
        };
        self.end(error.clone());
        for pending in pending {
            // A caller that gave up has dropped the other end.
            let _ = pending.answer.send(Err(error.clone()));
        }
    }

    fn end(&self, error: LogError) {
        self.lock().ended.get_or_insert(error);
        self.bytes.close();
        self.frames.close();
        self.filled.notify_all();
    }

    pub(super) fn used_frames(&self) -> u64 {
        u64::from(self.max_frames).saturating_sub(self.frames.available_permits() as u64)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        u64::from(self.max_steps).saturating_sub(self.bytes.available_permits() as u64) * STEP_BYTES
    }

    /// Frames the writer would take now.
    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
