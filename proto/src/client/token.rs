//! Tokens from elsewhere than `AuthService.Login`: a vault, an identity provider, a workload's own identity.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use super::{
    config::Secret,
    error::{CallError, CallErrorKind},
    quiet::aloud,
};
use tokio::time::{Instant, timeout_at};
use tonic::Code;

/// A token to send as `authorization: Bearer`.
#[derive(Clone, Debug)]
pub struct ProvidedToken {
    /// The token, without `Bearer`.
    pub token: Secret,
    /// How long it is good from now on; it is asked for again at about 80 % of that. `None`: until the server refuses it.
    pub life: Option<Duration>,
}

/// Why there is no token. The texts end up in logs and in `stats`: they must hold no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Asking again may help: tried again with the request's back-off.
    #[error("no token at the moment: {0}")]
    Unavailable(String),
    /// There will be none: nothing is sent for a while, as after a wrong password.
    #[error("no token is given: {0}")]
    Refused(String),
}

/// The future of [`TokenProvider::token`].
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<ProvidedToken, TokenError>> + Send + 'a>>;

/// Gives tokens, in place of a login.
///
/// It is asked when the first request is due, again at about 80 % of a token's life, and when the server refused the token. Many requests
/// share one call. The future runs in a task of its own on the client's runtime, never on a thread that ends spans; it is dropped at the
/// request's deadline, and a panic in it counts as [`TokenError::Unavailable`]. It must not block: wrap what does in [`BlockingToken`].
pub trait TokenProvider: Send + Sync + 'static {
    /// A token that is good now, and another one than `refused`, which the server did not accept.
    fn token(&self, refused: Option<Secret>) -> TokenFuture<'_>;
}

/// A [`TokenProvider`] of a function that may block; it runs on a thread for such things.
pub struct BlockingToken<F>(Arc<F>);

impl<F> BlockingToken<F>
where
    F: Fn(Option<Secret>) -> Result<ProvidedToken, TokenError> + Send + Sync + 'static,
{
    /// Wraps `function`, whose argument is the token that was refused.
    pub fn new(function: F) -> Self {
        Self(Arc::new(function))
    }
}

impl<F> fmt::Debug for BlockingToken<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockingToken")
    }
}

impl<F> TokenProvider for BlockingToken<F>
where
    F: Fn(Option<Secret>) -> Result<ProvidedToken, TokenError> + Send + Sync + 'static,
{
    fn token(&self, refused: Option<Secret>) -> TokenFuture<'_> {
        let function = Arc::clone(&self.0);
        let call = tokio::task::spawn_blocking(move || aloud(|| function(refused)));
        Box::pin(async move { call.await.unwrap_or_else(|error| Err(TokenError::Unavailable(ended(&error)))) })
    }
}

/// Asks `provider`, within the deadline and apart from the caller's task.
pub(super) async fn provide(
    provider: &Arc<dyn TokenProvider>,
    refused: Option<Secret>,
    deadline: Instant,
) -> Result<ProvidedToken, CallError> {
    let provider = Arc::clone(provider);
    let mut task = AbortOnDrop(tokio::spawn(async move {
        // What a provider logs is the user's.
        let mut token = aloud(|| provider.token(refused));
        poll_fn(|context| aloud(|| token.as_mut().poll(context))).await
    }));
    let Ok(joined) = timeout_at(deadline, &mut task.0).await else { return Err(CallError::deadline("the token provider")) };
    let provided = joined.unwrap_or_else(|error| Err(TokenError::Unavailable(ended(&error))));
    provided.map_err(|error| {
        let (kind, code) = match error {
            TokenError::Unavailable(_) => (CallErrorKind::Retryable, Code::Unavailable),
            TokenError::Refused(_) => (CallErrorKind::Credentials, Code::Unauthenticated),
        };
        CallError::new(kind, code, error.to_string())
    })
}

/// Nobody waits for a provider whose request is over.
struct AbortOnDrop(tokio::task::JoinHandle<Result<ProvidedToken, TokenError>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn ended(error: &tokio::task::JoinError) -> String {
    let how = if error.is_panic() { "panicked" } else { "was cancelled" };
    format!("the token provider {how}")
}
