//! Access tokens: JWT, HS256, signed with a key made of random bytes that never leave the server's folder.
//!
//! A token lives an hour, names its session and the session's turn, and can be exchanged while it is valid, for at most a day
//! after the login that began its session.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, crypto, decode, encode, errors::ErrorKind};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{lock, replace_private, sessions::Session};

const TOKEN_LIFE: Duration = Duration::from_secs(3600);
pub(super) const SESSION_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Tokens that are remembered; some hundred bytes each.
const MAX_VERIFIED: usize = 4096;
const KEY_BYTES: usize = 32;
const KEY_FILE: &str = "token.key";

/// What a token is not.
#[derive(Debug, Error)]
pub enum TokenError {
    /// No usable header.
    #[error(
        "send `authorization: Bearer <token or ingest key>` or `authorization: Basic <user:password>`; get a token by AuthService.Login or GET /scouter/auth/login"
    )]
    Missing,
    /// The signature or the content is not ours, or the session or its user is gone.
    #[error("the token was not issued by this server, or its session or user has ended; log in again")]
    Invalid,
    /// It was ours.
    #[error("the token has expired; log in again")]
    Expired,
    /// A second exchange.
    #[error("the token was exchanged for a newer one before; log in again")]
    Spent,
    /// A refresh too late.
    #[error("the session began more than {} hours ago; log in again", SESSION_LIFE.as_secs() / 3600)]
    SessionOver,
    /// Unknown, revoked, expired: it makes no difference to a stranger.
    #[error("the ingest key is not known, was revoked or has expired")]
    Key,
}

/// The signing key cannot be had.
#[derive(Debug, Error)]
pub enum SigningKeyError {
    /// Its file.
    #[error("the signing key {path} cannot be {action}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The signing key is not one.
    #[error("the signing key {path} has {bytes} bytes where {KEY_BYTES} were expected; remove it and all users log in again")]
    Length {
        /// Its path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
}

/// A token just made.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token's text.
    pub token: String,
    /// How long it is valid from now.
    pub expires_in: Duration,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    /// The session's id.
    pub(super) sid: String,
    pub(super) turn: u64,
    pub(super) iat: u64,
    exp: u64,
}

impl Claims {
    pub(super) fn is_half_used(&self, now: u64) -> bool {
        now.saturating_sub(self.iat) >= TOKEN_LIFE.as_secs() / 2
    }
}

/// The key that signs and checks.
pub struct TokenKey {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
    /// Tokens whose signature was good, so that a client that sends the same one with each request is not computed each time.
    verified: Mutex<HashMap<String, Arc<Claims>>>,
}

impl TokenKey {
    /// Reads `token.key` in `folder`, or makes one of random bytes that only the server's user can read.
    ///
    /// # Errors
    /// The file cannot be read or written, or is not a key.
    pub fn open(folder: &Path) -> Result<Self, SigningKeyError> {
        let path = folder.join(KEY_FILE);
        let key = match fs::read(&path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_key(folder).map_err(|source| SigningKeyError::File { path: path.clone(), action: "made", source })?
            }
            Err(source) => return Err(SigningKeyError::File { path, action: "read", source }),
        };
        if key.len() != KEY_BYTES {
            return Err(SigningKeyError::Length { path, bytes: key.len() });
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        let (signing, checking) = (EncodingKey::from_secret(&key), DecodingKey::from_secret(&key));
        Ok(Self { signing, checking, validation, verified: Mutex::default() })
    }

    /// HMAC-SHA-256 of `message`, as text.
    pub(super) fn mac(&self, message: &str) -> String {
        crypto::sign(message.as_bytes(), &self.signing, Algorithm::HS256).expect("HMAC signs any bytes")
    }

    /// Whether `mac` is that of `message`, in a time that does not tell how much of it is right.
    pub(super) fn is_mac(&self, mac: &str, message: &str) -> bool {
        crypto::verify(mac, message.as_bytes(), &self.checking, Algorithm::HS256).unwrap_or(false)
    }

    /// What a token says, if it is ours and has not expired. Whether its session and user still are is the caller's to look up.
    pub(super) fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let known = lock(&self.verified).get(token).map(Arc::clone);
        if let Some(claims) = known {
            return if claims.exp < unix_seconds_now() { Err(TokenError::Expired) } else { Ok(claims) };
        }
        let data = decode::<Claims>(token, &self.checking, &self.validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            _ => TokenError::Invalid,
        })?;
        let claims = Arc::new(data.claims);
        let mut verified = lock(&self.verified);
        if verified.len() >= MAX_VERIFIED {
            let now = unix_seconds_now();
            verified.retain(|_, claims| claims.exp >= now);
        }
        if verified.len() >= MAX_VERIFIED {
            verified.clear();
        }
        verified.insert(token.to_owned(), Arc::clone(&claims));
        Ok(claims)
    }

    /// A token of `session`, which ends with it.
    pub(super) fn sign(&self, session: &Session, now: u64) -> Issued {
        let end = (now + TOKEN_LIFE.as_secs()).min(session.started + SESSION_LIFE.as_secs()).max(now);
        let claims = Claims { sub: session.user.clone(), sid: session.id.clone(), turn: session.turn, iat: now, exp: end };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &self.signing).expect("HS256 signs any claims that are JSON");
        Issued { token, expires_in: Duration::from_secs(end - now) }
    }
}

fn create_key(folder: &Path) -> io::Result<Vec<u8>> {
    fs::create_dir_all(folder)?;
    let mut key = vec![0; KEY_BYTES];
    rand::rng().fill_bytes(&mut key);
    replace_private(folder, KEY_FILE, &key)?;
    Ok(key)
}

pub(super) fn unix_seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
