//! Passwords. A password is kept as its Argon2id hash only.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use rand::RngCore;

use super::{
    Permissions,
    accounts::{AccountError, User, check_name},
};

const SHORTEST_PASSWORD: usize = 8;

/// The hash of a password that anyone may have chosen, as a server keeps it.
///
/// # Errors
/// It cannot be hashed, for instance because it is too long.
pub(super) fn hash_password(name: &str, password: &str) -> Result<String, AccountError> {
    let failed = |reason: argon2::password_hash::Error| AccountError::Password { name: name.to_owned(), reason: reason.to_string() };
    Ok(Argon2::default().hash_password(password.as_bytes()).map_err(failed)?.to_string())
}

/// Whether `password` has that hash. Takes tens of milliseconds and 19 MiB.
pub(super) fn is_password(hash: &str, password: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// A new user's row.
///
/// # Errors
/// The name or the password cannot be taken.
pub(super) fn new_user(name: &str, password: &str, permissions: Permissions) -> Result<User, AccountError> {
    check_name(name)?;
    let password_hash = new_password(name, password)?;
    Ok(User { name: name.to_owned(), password_hash, permissions, active: true, stamp: rand::rng().next_u64() })
}

/// The hash of a password someone chooses now.
///
/// # Errors
/// It is too short, or cannot be hashed.
pub(super) fn new_password(name: &str, password: &str) -> Result<String, AccountError> {
    if password.chars().count() < SHORTEST_PASSWORD {
        let reason = format!("it has fewer than {SHORTEST_PASSWORD} characters");
        return Err(AccountError::Password { name: name.to_owned(), reason });
    }
    hash_password(name, password)
}
