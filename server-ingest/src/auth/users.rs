//! The users a server knows. A password is kept as its Argon2id hash only.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use thiserror::Error;

/// A password that cannot be hashed.
#[derive(Debug, Error)]
#[error("the password of user {username:?} cannot be hashed: {reason}")]
pub struct UserError {
    username: String,
    reason: String,
}

/// Names and password hashes.
#[derive(Debug)]
pub struct Users {
    username: String,
    hash: String,
}

impl Users {
    /// One user, from configuration.
    ///
    /// # Errors
    /// The password cannot be hashed, for instance because it is too long.
    pub fn single(username: &str, password: &str) -> Result<Self, UserError> {
        let failed = |reason: argon2::password_hash::Error| UserError { username: username.to_owned(), reason: reason.to_string() };
        let hash = Argon2::default().hash_password(password.as_bytes()).map_err(failed)?.to_string();
        Ok(Self { username: username.to_owned(), hash })
    }

    /// Whether `password` is that of `username`. Takes as long for an unknown user as for a wrong password.
    pub fn check(&self, username: &str, password: &str) -> bool {
        let is_password =
            PasswordHash::new(&self.hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
        is_password & (username == self.username)
    }
}
