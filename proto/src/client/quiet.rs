//! Keeps the spans of the transport out of the user's traces, on threads that only serve the transport.
//!
//! OpenTelemetry's suppressed context is not enough: a `tracing` layer that enters a suppressed span replaces the context, and what is below
//! is recorded, sent, and so makes more of itself. A thread without a subscriber makes no spans at all. What the client itself has to say
//! is still said, to the subscriber of the process.

use std::cell::RefCell;

use tracing::{
    Dispatch,
    dispatcher::{DefaultGuard, set_default},
};

thread_local! {
    static SILENCE: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// From now on nothing on this thread reaches a `tracing` subscriber, but for what is said [`aloud`].
pub fn silence_this_thread() {
    SILENCE.with(|silence| {
        let mut silence = silence.borrow_mut();
        if silence.is_none() {
            *silence = Some(set_default(&Dispatch::none()));
        }
    });
}

/// Runs `say` with the subscriber of the process, on any thread.
pub fn aloud<T>(say: impl FnOnce() -> T) -> T {
    struct SilentAgain;
    impl Drop for SilentAgain {
        fn drop(&mut self) {
            silence_this_thread();
        }
    }
    let was_silent = SILENCE.try_with(|silence| silence.borrow_mut().take()).ok().flatten().is_some();
    let _silent_again = was_silent.then_some(SilentAgain);
    say()
}
