//! While a broker refuses the credentials nothing is tried: a wrong password does not become right by repeating it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use scouter_tonic::client::{CallError, CallErrorKind, quiet::aloud};
use tokio::time::Instant;

/// As long as the first pause of a login.
const PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Pause(Mutex<Option<(Instant, CallError)>>);

impl Pause {
    /// How long calls still fail at once, and the broker's words.
    pub(super) fn left(&self) -> Option<(Duration, CallError)> {
        let pause = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, error) = pause.as_ref()?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (left, error.clone()))
    }

    /// # Errors
    /// The broker's words, during a pause.
    pub(super) fn check(&self) -> Result<(), CallError> {
        self.left().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Begins a pause if `result` is that the broker refused the credentials.
    pub(super) fn note<T>(&self, broker: &str, result: Result<T, CallError>) -> Result<T, CallError> {
        if let Err(error) = &result
            && error.kind() == CallErrorKind::Credentials
        {
            let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace((Instant::now() + PAUSE, error.clone()));
            if before.is_none() {
                aloud(|| {
                    tracing::error!(
                        broker,
                        message = error.message(),
                        "the broker refuses user and password; nothing is sent until it accepts them"
                    )
                });
            }
        } else if result.is_ok() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }
}
