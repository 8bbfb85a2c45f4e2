//! Access tokens: JWT, HS256, signed with a key made of random bytes that never leave the server's folder and of the user's name
//! and password, so that a token ends with them.
//!
//! A token lives an hour. It can be exchanged for a new one while it is valid, for at most a day after the login that
//! began its session.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, crypto, decode, encode, errors::ErrorKind};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const TOKEN_LIFE: Duration = Duration::from_secs(3600);
const SESSION_LIFE: Duration = Duration::from_secs(24 * 3600);
const KEY_BYTES: usize = 32;
const KEY_FILE: &str = "token.key";

/// What a token is not.
#[derive(Debug, Error)]
pub enum TokenError {
    /// No usable header.
    #[error("send `authorization: Bearer <token>`; get a token by AuthService.Login or GET /scouter/auth/login")]
    Missing,
    /// The signature or the content is not ours.
    #[error("the token was not issued by this server; log in again")]
    Invalid,
    /// It was ours.
    #[error("the token has expired; log in again")]
    Expired,
    /// A refresh too late.
    #[error("the session began more than {} hours ago; log in again", SESSION_LIFE.as_secs() / 3600)]
    SessionOver,
    /// The signing key cannot be had.
    #[error("the signing key {path} cannot be {action}")]
    Key {
        /// Its file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The signing key is not one.
    #[error("the signing key {path} has {bytes} bytes where {KEY_BYTES} were expected; remove it and all users log in again")]
    KeyLength {
        /// Its file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
}

/// A caller whose token was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's name.
    pub username: String,
    session_start: u64,
    issued_at: u64,
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

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    iat: u64,
    exp: u64,
    session_start: u64,
}

/// The key that signs and checks.
pub struct TokenKey {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
}

impl TokenKey {
    /// Reads `token.key` in `folder`, or makes one of random bytes that only the server's user can read. Tokens of another
    /// `holder` are not valid.
    ///
    /// # Errors
    /// The file cannot be read or written, or is not a key.
    pub fn open(folder: &Path, holder: &[u8]) -> Result<Self, TokenError> {
        let path = folder.join(KEY_FILE);
        let key = match fs::read(&path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_key(folder, &path).map_err(|source| TokenError::Key { path: path.clone(), action: "made", source })?
            }
            Err(source) => return Err(TokenError::Key { path, action: "read", source }),
        };
        if key.len() != KEY_BYTES {
            return Err(TokenError::KeyLength { path, bytes: key.len() });
        }
        let key = crypto::sign(holder, &EncodingKey::from_secret(&key), Algorithm::HS256).expect("HMAC signs any bytes");
        let key = key.as_bytes();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        Ok(Self { signing: EncodingKey::from_secret(key), checking: DecodingKey::from_secret(key), validation })
    }

    /// A token for a user who just proved who he is.
    pub fn issue(&self, username: &str) -> Issued {
        let now = unix_seconds_now();
        self.sign(username, now, now)
    }

    /// Whose token this is.
    pub(super) fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let claims = decode::<Claims>(token, &self.checking, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Invalid,
            })?
            .claims;
        Ok(Caller { username: claims.sub, session_start: claims.session_start, issued_at: claims.iat })
    }

    pub(super) fn refresh(&self, token: &str) -> Result<Issued, TokenError> {
        let caller = self.verify(token)?;
        let now = unix_seconds_now();
        if now.saturating_sub(caller.session_start) >= SESSION_LIFE.as_secs() {
            return Err(TokenError::SessionOver);
        }
        Ok(self.sign(&caller.username, caller.session_start, now))
    }

    pub(super) fn rotated(&self, caller: &Caller) -> Option<Issued> {
        let now = unix_seconds_now();
        let is_half_used = now.saturating_sub(caller.issued_at) >= TOKEN_LIFE.as_secs() / 2;
        let is_session_alive = now.saturating_sub(caller.session_start) < SESSION_LIFE.as_secs();
        (is_half_used && is_session_alive).then(|| self.sign(&caller.username, caller.session_start, now))
    }

    fn sign(&self, username: &str, session_start: u64, now: u64) -> Issued {
        let end = (now + TOKEN_LIFE.as_secs()).min(session_start + SESSION_LIFE.as_secs()).max(now);
        let claims = Claims { sub: username.to_owned(), iat: now, exp: end, session_start };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &self.signing).expect("HS256 signs any claims that are JSON");
        Issued { token, expires_in: Duration::from_secs(end - now) }
    }
}

fn create_key(folder: &Path, path: &Path) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;

    fs::create_dir_all(folder)?;
    let mut key = vec![0; KEY_BYTES];
    rand::rng().fill_bytes(&mut key);
    let temporary = folder.join(format!("{KEY_FILE}.new"));
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(folder)?.sync_all()?;
    Ok(key)
}

fn unix_seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
