//! The token of one client, and who may renew it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};
use tonic::{Code, metadata::AsciiMetadataValue};

use super::{
    config::Secret,
    error::{CallError, CallErrorKind},
};

/// Pause after credentials were refused, doubling up to [`MAX_PAUSE`]: a wrong password does not become right by repeating it.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Pause after a failed early renewal, while the token still works.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);
/// A token is renewed when this part of its life is over, give or take [`RENEWAL_JITTER`].
const RENEWAL_POINT: f64 = 0.8;
const RENEWAL_JITTER: f64 = 0.05;
/// Longest life believed; keeps arithmetic on instants from overflowing.
const MAX_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

/// A token as it is sent.
#[derive(Debug)]
pub struct Token {
    generation: u64,
    pub(super) text: Secret,
    /// `Bearer <token>`, marked sensitive.
    pub(super) header: AsciiMetadataValue,
}

impl Token {
    /// The token, without `Bearer`.
    pub fn text(&self) -> &Secret {
        &self.text
    }
}

/// The state shared by all calls of a client.
#[derive(Debug)]
pub(super) struct Session {
    state: Mutex<State>,
    /// Held while a token is obtained: many calls wait for one login.
    turn: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Arc<Token>>,
    generations: u64,
    renew_at: Option<Instant>,
    expires_at: Option<Instant>,
    /// Of the last token whose life the server named.
    life: Option<Duration>,
    pause: Option<Pause>,
    refusals: u32,
    accepts_typed_messages: bool,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    error: CallError,
}

/// What a call should do about its token.
pub(super) enum Use {
    /// Send this one.
    Ready(Arc<Token>),
    /// Send this one if somebody else is renewing it already; otherwise renew it first.
    RenewSoon(Arc<Token>),
    /// There is none, or it is over.
    Missing,
}

impl Session {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), turn: Semaphore::new(1) }
    }

    /// The token to use now.
    ///
    /// # Errors
    /// `Credentials` during the pause after a refusal.
    pub(super) fn current(&self) -> Result<Use, CallError> {
        let now = Instant::now();
        let state = self.state();
        match &state.token {
            Some(token) if state.expires_at.is_none_or(|at| now < at) => Ok(if state.renew_at.is_some_and(|at| now >= at) {
                Use::RenewSoon(Arc::clone(token))
            } else {
                Use::Ready(Arc::clone(token))
            }),
            _ => match &state.pause {
                Some(pause) if now < pause.until => Err(pause.error.clone()),
                _ => Ok(Use::Missing),
            },
        }
    }

    /// The token, unless it is the one the caller saw refused.
    pub(super) fn replaced(&self, refused: Option<&Token>) -> Result<Option<Arc<Token>>, CallError> {
        let state = self.state();
        match &state.token {
            Some(token) if refused.is_none_or(|refused| refused.generation != token.generation) => Ok(Some(Arc::clone(token))),
            _ => match &state.pause {
                Some(pause) if Instant::now() < pause.until => Err(pause.error.clone()),
                _ => Ok(None),
            },
        }
    }

    /// Waits for the right to obtain a token.
    pub(super) async fn turn(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, CallError> {
        match timeout_at(deadline, self.turn.acquire()).await {
            Ok(permit) => Ok(permit.expect("the semaphore of a session is never closed")),
            Err(_) => Err(CallError::deadline("a login already under way")),
        }
    }

    /// The right to obtain a token, if nobody else has it.
    pub(super) fn turn_now(&self) -> Option<SemaphorePermit<'_>> {
        self.turn.try_acquire().ok()
    }

    /// Keeps a token the server gave. Its life is what the server says it is, counted from now: clocks may differ.
    pub(super) fn accept(
        &self,
        token: String,
        life: Option<Duration>,
        accepts_typed_messages: Option<bool>,
    ) -> Result<Arc<Token>, CallError> {
        let mut header = AsciiMetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| CallError::new(CallErrorKind::Refused, Code::Internal, "the server sent a token that cannot be sent back"))?;
        header.set_sensitive(true);
        let now = Instant::now();
        let mut state = self.state();
        state.generations += 1;
        let token = Arc::new(Token { generation: state.generations, text: Secret::new(token), header });
        state.token = Some(Arc::clone(&token));
        let life = life.map(|life| life.min(MAX_LIFE));
        state.life = life;
        state.expires_at = life.map(|life| now + life);
        let jitter = (rand::random::<f64>() * 2.0 - 1.0) * RENEWAL_JITTER;
        state.renew_at = life.map(|life| now + life.mul_f64(RENEWAL_POINT + jitter));
        state.pause = None;
        state.refusals = 0;
        if let Some(accepts) = accepts_typed_messages {
            state.accepts_typed_messages = accepts;
        }
        Ok(token)
    }

    /// How long a token that came without a word about it lives: as long as the one before.
    pub(super) fn life(&self) -> Option<Duration> {
        self.state().life
    }

    /// Remembers that the server refused the credentials. True for the first time in a row, which is worth a loud message.
    pub(super) fn refuse(&self, error: CallError) -> bool {
        let mut state = self.state();
        let pause = FIRST_PAUSE.saturating_mul(1 << state.refusals.min(10)).min(MAX_PAUSE);
        state.refusals += 1;
        state.token = None;
        state.pause = Some(Pause { until: Instant::now() + pause, error });
        state.refusals == 1
    }

    /// An early renewal failed: leave the token in use and try later.
    pub(super) fn postpone_renewal(&self) {
        self.state().renew_at = Some(Instant::now() + RENEWAL_PAUSE);
    }

    pub(super) fn accepts_typed_messages(&self) -> bool {
        self.state().accepts_typed_messages
    }

    /// How long the pause after refused credentials still lasts.
    pub(super) fn pause(&self) -> Option<(Duration, CallError)> {
        let state = self.state();
        let pause = state.pause.as_ref()?;
        let left = pause.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (left, pause.error.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
