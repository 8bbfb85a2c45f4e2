//! Who is calling: users with passwords, and the tokens they get for them.

mod tokens;
mod users;

use std::{path::Path, sync::Arc, time::Duration};

use scouter_tonic::server::Authenticate;
use thiserror::Error;
use tokio::sync::Semaphore;
use tonic::Status;

pub use tokens::{Caller, Issued, TokenError, TokenKey};
pub use users::{UserError, Users};

/// Argon2 takes 19 MiB and tens of milliseconds a check; more at once would let strangers fill the memory.
const PASSWORD_CHECKS_AT_ONCE: usize = 2;
/// How long a login waits for its turn.
const LOGIN_WAIT: Duration = Duration::from_secs(5);

/// Why a login failed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LoginError {
    /// Unknown user and wrong password look the same.
    #[error("the user name or the password is wrong")]
    Refused,
    /// Too many logins are being checked.
    #[error("too many logins are being checked; try again in a second")]
    Busy,
}

/// Why a server cannot know its users.
#[derive(Debug, Error)]
pub enum AuthError {
    /// The password is no password.
    #[error(transparent)]
    User(#[from] UserError),
    /// The signing key is not to be had.
    #[error(transparent)]
    Key(#[from] TokenError),
}

/// Checks passwords, issues tokens, knows tokens.
pub struct Auth {
    users: Arc<Users>,
    key: TokenKey,
    checks: Arc<Semaphore>,
}

impl Auth {
    /// `key_folder` holds the signing key; one is made there at the first start. `username` and `password` are those of `users`:
    /// tokens given out for others are not known any more.
    ///
    /// # Errors
    /// The key cannot be read or made, with its path, or the password cannot be hashed.
    pub fn open(username: &str, password: &str, key_folder: &Path) -> Result<Self, AuthError> {
        let users = Users::single(username, password)?;
        // Lengths keep "ab" + "c" apart from "a" + "bc".
        let holder = format!("{}:{username}:{password}", username.len());
        Ok(Self {
            users: Arc::new(users),
            key: TokenKey::open(key_folder, holder.as_bytes())?,
            checks: Arc::new(Semaphore::new(PASSWORD_CHECKS_AT_ONCE)),
        })
    }

    /// Checks a password off the reactor and issues a token.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn login(&self, username: &str, password: &str) -> Result<Issued, LoginError> {
        let wait = tokio::time::timeout(LOGIN_WAIT, Arc::clone(&self.checks).acquire_owned());
        let permit = wait.await.map_err(|_| LoginError::Busy)?.map_err(|_| LoginError::Busy)?;
        let (users, name, password) = (Arc::clone(&self.users), username.to_owned(), password.to_owned());
        let check = tokio::task::spawn_blocking(move || {
            // Held until the check has ended: it goes on when the caller hangs up.
            let _permit = permit;
            users.check(&name, &password)
        });
        let is_right = check.await.map_err(|_| LoginError::Busy)?;
        if is_right { Ok(self.key.issue(username)) } else { Err(LoginError::Refused) }
    }

    /// A new token for the holder of a valid one, within the life of the session its login began.
    ///
    /// # Errors
    /// The token is not ours, has expired, or its session is over.
    pub fn refresh(&self, token: &str) -> Result<Issued, TokenError> {
        self.key.refresh(token)
    }

    /// Who the `authorization` header speaks for.
    ///
    /// # Errors
    /// The header is missing or no valid bearer token.
    pub fn caller(&self, header: Option<&str>) -> Result<Caller, TokenError> {
        let header = header.ok_or(TokenError::Missing)?;
        let (scheme, token) = header.split_once(' ').ok_or(TokenError::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(TokenError::Missing);
        }
        self.key.verify(token.trim())
    }

    /// A fresh token for a caller who has used up half the life of his, to be sent back with the answer.
    pub fn rotated(&self, caller: &Caller) -> Option<Issued> {
        self.key.rotated(caller)
    }
}

impl Authenticate for Auth {
    type Caller = Caller;

    fn authenticate(&self, header: Option<&str>) -> Result<Caller, Status> {
        self.caller(header).map_err(|error| Status::unauthenticated(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
