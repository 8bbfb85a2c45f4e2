//! When a token is obtained, renewed and replaced, whatever the protocol that obtains it.
//!
//! The first call logs in, and others wait for it instead of logging in themselves. At about 80 % of its life a token is renewed while the
//! old one is still sent. A refused token costs one renewal, shared by all who wait. Refused credentials make calls fail at once for a while.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    error::{CallError, CallErrorKind},
    quiet::aloud,
    session::{Session, Token, Use},
};

/// What a server, or somebody in its place, gives to who logs in.
#[derive(Debug)]
pub struct Granted {
    /// The token, without `Bearer`.
    pub token: String,
    /// How long it is good from now on, if that is known.
    pub life: Option<Duration>,
    /// Whether the server reads typed spans and records, if this answer says so.
    pub accepts_typed_messages: Option<bool>,
}

/// How tokens are obtained.
pub trait Login: Sync {
    /// Whether a refused token can be exchanged for a new one without logging in.
    const RENEWS_REFUSED: bool = true;

    /// A token for user and password, and another one than `refused`. An error of the kind `Credentials` keeps calls from being made for a
    /// while.
    fn log_in(&self, refused: Option<&Token>, deadline: Instant) -> impl Future<Output = Result<Granted, CallError>> + Send;

    /// A token in place of one that is still good, or was until now.
    fn renew(&self, token: &Token, deadline: Instant) -> impl Future<Output = Result<Granted, CallError>> + Send;

    /// Says in the log that nothing is sent until the server accepts the credentials. Called once in a row of refusals.
    fn tell_refused(&self, error: &CallError);
}

/// The token of one client, shared by its calls.
#[derive(Debug)]
pub struct Tokens {
    session: Session,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { session: Session::new() }
    }
}

impl Tokens {
    /// The token to send.
    ///
    /// # Errors
    /// Those of [`Login`], and `Credentials` during the pause after a refusal.
    pub async fn current(&self, login: &impl Login, deadline: Instant) -> Result<Arc<Token>, CallError> {
        match self.session.current()? {
            Use::Ready(token) => Ok(token),
            Use::RenewSoon(token) => {
                let Some(_turn) = self.session.turn_now() else { return Ok(token) };
                // The old token still works: a renewal that is not answered must leave the call most of its time.
                let now = Instant::now();
                let share = now + deadline.saturating_duration_since(now) / 4;
                match self.renew(login, &token, share).await {
                    Ok(token) => Ok(token),
                    Err(error) => {
                        aloud(|| tracing::debug!(%error, "token not renewed early"));
                        self.session.postpone_renewal();
                        Ok(token)
                    }
                }
            }
            Use::Missing => self.replace(login, None, deadline).await,
        }
    }

    /// A token other than the refused one: somebody else's renewal, or our own.
    ///
    /// # Errors
    /// As [`Tokens::current`].
    pub async fn replace<L: Login>(&self, login: &L, refused: Option<&Token>, deadline: Instant) -> Result<Arc<Token>, CallError> {
        let _turn = self.session.turn(deadline).await?;
        if let Some(token) = self.usable(refused)? {
            return Ok(token);
        }
        if let Some(refused) = refused.filter(|_| L::RENEWS_REFUSED) {
            match self.renew(login, refused, deadline).await {
                Ok(token) => return Ok(token),
                Err(error) if matches!(error.kind(), CallErrorKind::Retryable | CallErrorKind::DeadlineExceeded) => return Err(error),
                Err(error) => aloud(|| tracing::debug!(%error, "token not renewed, logging in")),
            }
        }
        match login.log_in(refused, deadline).await {
            Ok(granted) => self.accept(granted),
            Err(error) => {
                if error.kind() == CallErrorKind::Credentials && self.session.refuse(error.clone()) {
                    aloud(|| login.tell_refused(&error));
                }
                Err(error)
            }
        }
    }

    /// Keeps a token that came unasked with an answer. How long it lives is not said: as long as the one before.
    ///
    /// # Errors
    /// It cannot be sent.
    pub fn accept_unasked(&self, token: String) -> Result<(), CallError> {
        self.session.accept(token, self.session.life(), None).map(drop)
    }

    /// While the server refuses the credentials: how long calls still fail at once, and the server's words.
    pub fn pause(&self) -> Option<(Duration, CallError)> {
        self.session.pause()
    }

    pub(super) fn accepts_typed_messages(&self) -> bool {
        self.session.accepts_typed_messages()
    }

    async fn renew(&self, login: &impl Login, token: &Token, deadline: Instant) -> Result<Arc<Token>, CallError> {
        self.accept(login.renew(token, deadline).await?)
    }

    fn accept(&self, granted: Granted) -> Result<Arc<Token>, CallError> {
        self.session.accept(granted.token, granted.life, granted.accepts_typed_messages)
    }

    /// What another call obtained while this one waited for its turn.
    fn usable(&self, refused: Option<&Token>) -> Result<Option<Arc<Token>>, CallError> {
        match refused {
            Some(_) => self.session.replaced(refused),
            None => Ok(match self.session.current()? {
                Use::Ready(token) | Use::RenewSoon(token) => Some(token),
                Use::Missing => None,
            }),
        }
    }
}
