//! Waiting without the interpreter's lock, and with an open ear for signals.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use pyo3::prelude::*;

/// How long Ctrl-C may go unheard.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Longest time anything here waits.
const MAX_SECONDS: f64 = 86_400.0;

/// A time to wait, as users give it: too long is a day, `inf` included; negative or not a number is none.
pub(crate) fn seconds(seconds: f64) -> Duration {
    if seconds.is_nan() { Duration::ZERO } else { Duration::from_secs_f64(seconds.clamp(0.0, MAX_SECONDS)) }
}

/// Runs a blocking function to its end, which must be bounded in time.
///
/// # Errors
/// What a signal handler raised meanwhile, as `KeyboardInterrupt`. The function then goes on by itself.
pub(crate) fn run<T: Send + 'static>(py: Python<'_>, function: impl FnOnce() -> T + Send + Clone + 'static) -> PyResult<T> {
    let (sender, mut receiver) = mpsc::sync_channel(1);
    let on_thread = function.clone();
    let spawned = thread::Builder::new().name("scouter-wait".to_owned()).spawn(move || {
        // A receiver that was interrupted is gone.
        let _ = sender.send(on_thread());
    });
    if spawned.is_err() {
        return Ok(py.detach(function));
    }
    loop {
        let receiver = &mut receiver;
        match py.detach(move || receiver.recv_timeout(SIGNAL_INTERVAL)) {
            Ok(value) => return Ok(value),
            Err(mpsc::RecvTimeoutError::Timeout) => py.check_signals()?,
            // The thread panicked, or a fork left it behind.
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(py.detach(function)),
        }
    }
}

/// Drives a future to its end.
///
/// # Errors
/// What a signal handler raised meanwhile; the future is dropped.
pub(crate) fn block_on<F: Future + Send>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F::Output: Send,
{
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        let output = py.detach(|| match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => {
                thread::park_timeout(SIGNAL_INTERVAL);
                None
            }
        });
        if let Some(output) = output {
            return Ok(output);
        }
        py.check_signals()?;
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
