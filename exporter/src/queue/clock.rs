//! The thread that publishes windows which are old enough. It starts with the first item, and sleeps while no window is open.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::shared::Shared;

const THREAD_NAME: &str = "scouter-queue";

#[derive(Debug, Default)]
pub(super) struct Clock {
    state: Mutex<State>,
    changed: Condvar,
    /// The thread waits, or is about to, and knows of no open window. Also true before it exists.
    sleeps: AtomicBool,
    has_thread: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    is_ended: bool,
}

impl Clock {
    /// Ends the thread.
    pub(super) fn end(&self) {
        self.lock().is_ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the thread that a window has begun, and starts it if need be. Without a thread windows are published when they are full, at a
/// flush and at shutdown; the next window tries again to start one.
pub(super) fn watch(shared: &Arc<Shared>) {
    let clock = &shared.clock;
    if !clock.has_thread.load(Ordering::Acquire) {
        let mut state = clock.lock();
        if !state.is_ended && !clock.has_thread.load(Ordering::Acquire) {
            let of_thread = Arc::clone(shared);
            match std::thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || run(&of_thread)) {
                Ok(_) => clock.has_thread.store(true, Ordering::Release),
                Err(error) => {
                    // The next shutdown or flush is not far.
                    state.is_ended = false;
                    drop(state);
                    tracing::warn!(%error, "cannot start the thread that publishes old records");
                }
            }
        }
        return;
    }
    // The window was begun before this look. A thread that has not seen it has said before that it sleeps.
    if clock.sleeps.swap(false, Ordering::AcqRel) {
        let _state = clock.lock();
        clock.changed.notify_all();
    }
}

fn run(shared: &Shared) {
    let clock = &shared.clock;
    let mut state = clock.lock();
    while !state.is_ended {
        clock.sleeps.store(true, Ordering::Release);
        let next = shared.publish_due(Instant::now());
        state = match next {
            Some(due) => {
                clock.sleeps.store(false, Ordering::Release);
                let left = due.saturating_duration_since(Instant::now());
                clock.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
            None => clock
                .changed
                .wait_while(state, |state| !state.is_ended && clock.sleeps.load(Ordering::Acquire))
                .unwrap_or_else(PoisonError::into_inner),
        };
    }
}
