//! Ingest keys: `scouter_<id>_<secret>`, for clients whose headers never change.
//!
//! The secret is 32 random bytes, so it needs no slow hash: what is kept is its HMAC under the server's signing key, which is
//! of no use to a reader of the file, and takes a microsecond to check.

use rand::RngCore;

use super::{
    Permissions,
    accounts::{AccountError, Key, check_name},
    tokens::{TokenKey, unix_seconds_now},
};

/// What every key's text begins with, so that a leaked one is recognised by scanners.
pub const PREFIX: &str = "scouter_";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// A key just made: its row, and the text that is shown once.
pub struct NewKey {
    /// What is kept.
    pub row: Key,
    /// What its holder sends.
    pub text: String,
}

/// Makes a key.
///
/// # Errors
/// The name cannot be taken.
pub(super) fn new_key(signing: &TokenKey, name: &str, permissions: Permissions, days: Option<u32>) -> Result<NewKey, AccountError> {
    check_name(name)?;
    let (id, secret) = (random_hex(ID_BYTES), random_hex(SECRET_BYTES));
    let created = unix_seconds_now();
    let row = Key {
        verifier: signing.mac(&message(&id, &secret)),
        id: id.clone(),
        name: name.to_owned(),
        permissions,
        created,
        expires: days.map(|days| created + u64::from(days) * 24 * 3600),
        revoked: false,
    };
    Ok(NewKey { row, text: format!("{PREFIX}{id}_{secret}") })
}

/// The id in a key's text and the secret after it.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(PREFIX)?.split_once('_')
}

/// Whether `secret` is that of `key`.
pub(super) fn is_secret(signing: &TokenKey, key: &Key, secret: &str) -> bool {
    signing.is_mac(&key.verifier, &message(&key.id, secret))
}

/// Named, so that no other use of the signing key gives the same code.
fn message(id: &str, secret: &str) -> String {
    format!("ingest key:{id}:{secret}")
}

pub(super) fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    rand::rng().fill_bytes(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
