//! Who is calling, and what he may do: users with passwords, sessions and their tokens, ingest keys.
//!
//! | credential | of | checked by |
//! | --- | --- | --- |
//! | `Bearer <token>` | a client that logs in | signature (once a token), then its session's and its user's row |
//! | `Bearer scouter_<id>_<secret>` | a client whose headers never change | the key's row |
//! | `Basic <user:password>` | the same | Argon2 once, then a remembered HMAC for five minutes |
//!
//! **Invariant:** every check looks at the rows as they are now, so whoever is deactivated or revoked is refused at once.
//! **Invariant:** passwords are checked off the reactor, two at a time, under a limit of failures ([`attempts`]).

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use thiserror::Error;
use tokio::sync::Semaphore;

mod accounts;
mod attempts;
mod keys;
mod manage;
mod permissions;
mod sessions;
mod tokens;
mod users;

pub use accounts::{AccountError, Accounts, Key, Rows, User};
use attempts::Attempts;
pub use keys::{NewKey, PREFIX as KEY_PREFIX};
pub use manage::random_password;
pub use permissions::{Permission, Permissions};
use sessions::{Exchange, Session, Sessions};
use tokens::{Claims, unix_seconds_now};
pub use tokens::{Issued, SigningKeyError, TokenError, TokenKey};
use users::hash_password;

/// Argon2 takes 19 MiB and tens of milliseconds a check; more at once would let strangers fill the memory.
const PASSWORD_CHECKS_AT_ONCE: usize = 2;
/// How long a login waits for its turn.
const LOGIN_WAIT: Duration = Duration::from_secs(5);
/// For how long a password that was right over Basic is not hashed again.
const REMEMBER_BASIC: Duration = Duration::from_secs(300);
const MAX_REMEMBERED: usize = 1024;
/// Argon2 is not asked about longer ones.
const LONGEST_PASSWORD_BYTES: usize = 1024;
/// How long before its end a key's holder is warned.
const WARN_BEFORE_SECONDS: u64 = 7 * 24 * 3600;

/// Why a login failed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LoginError {
    /// Unknown user, inactive user and wrong password look the same.
    #[error("the user name or the password is wrong")]
    Refused,
    /// Too many logins are being checked.
    #[error("too many logins are being checked; try again in a second")]
    Busy,
    /// Too many wrong passwords.
    #[error("too many logins failed; try again in {} seconds", wait.as_secs().max(1))]
    TooMany {
        /// When one is allowed again.
        wait: Duration,
    },
}

/// Why a request is not let in.
#[derive(Debug, Error)]
pub enum Denied {
    /// The token or key is not good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The password is not good, or cannot be checked now.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Known, and not allowed to.
    #[error("{who} has no permission to {needs}; an administrator can give it")]
    Forbidden {
        /// User or key.
        who: String,
        /// What it lacks.
        needs: Permission,
    },
    /// Guest may come, and this is not by a name of this machine.
    #[error(
        "while the user guest may come, requests come to localhost or an address of this machine, not to {host:?}; `scouter-server user add` ends that"
    )]
    Elsewhere {
        /// The name it was called by.
        host: String,
    },
}

/// Why a server cannot know its users.
#[derive(Debug, Error)]
pub enum AuthError {
    /// Users and keys cannot be read.
    #[error(transparent)]
    Accounts(#[from] AccountError),
    /// The signing key is not to be had.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
    /// The sessions are not to be had.
    #[error("the sessions of {folder} cannot be read or written")]
    Sessions {
        /// Where they are kept.
        folder: std::path::PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A caller whose credential was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's name, or the key's.
    pub name: String,
    /// What he may do.
    pub permissions: Permissions,
    /// What he should be told with his answer.
    pub warning: Option<String>,
    claims: Option<Arc<Claims>>,
}

impl Caller {
    /// Lets him pass if he may, in every space.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn require(self, needs: Permission) -> Result<Self, Denied> {
        if self.permissions.allow(needs) { Ok(self) } else { Err(Denied::Forbidden { who: self.name, needs }) }
    }

    /// Lets him pass if he may in any space; what he then asks for is looked at by space.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn require_somewhere(self, needs: Permission) -> Result<Self, Denied> {
        if self.permissions.allow_somewhere(needs) { Ok(self) } else { Err(Denied::Forbidden { who: self.name, needs }) }
    }

    /// Whether he may in this space.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn check_space(&self, needs: Permission, space: &str) -> Result<(), Denied> {
        if self.permissions.allow_in(needs, space) { Ok(()) } else { Err(Denied::Forbidden { who: self.name.clone(), needs }) }
    }
}

/// Checks passwords, issues tokens, knows tokens and keys.
pub struct Auth {
    accounts: Accounts,
    /// The user of the configuration, who is no row of the file.
    configured: Option<User>,
    /// That user is guest with the password everyone knows, who is there while nobody else is.
    is_guest: bool,
    /// Verified against for unknown users, so that they take as long.
    nobody: String,
    key: TokenKey,
    sessions: Sessions,
    attempts: Attempts,
    remembered: Mutex<HashMap<String, Remembered>>,
    warned: Mutex<HashMap<String, u64>>,
    checks: Arc<Semaphore>,
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    stamp: u64,
    until: Instant,
}

impl Auth {
    /// `folder` holds accounts, sessions and the signing key; a key is made there at the first start. `configured` is the
    /// name and password of a user who may do everything and is in no file.
    ///
    /// # Errors
    /// A file cannot be read or made, with its path, or the password cannot be hashed.
    pub fn open(configured: Option<(&str, &str)>, folder: &Path) -> Result<Self, AuthError> {
        let key = TokenKey::open(folder)?;
        let is_guest = configured == Some(("guest", "guest"));
        let configured = configured
            .map(|(name, password)| {
                // Lengths keep "ab" + "c" apart from "a" + "bc".
                let stamp = stamp_of(&key.mac(&format!("configured user:{}:{name}:{password}", name.len())));
                let password_hash = hash_password(name, password)?;
                Ok::<_, AccountError>(User { name: name.to_owned(), password_hash, permissions: Permissions::all(), active: true, stamp })
            })
            .transpose()?;
        let sessions =
            Sessions::open(folder, unix_seconds_now()).map_err(|source| AuthError::Sessions { folder: folder.to_owned(), source })?;
        Ok(Self {
            accounts: Accounts::open(folder)?,
            configured,
            is_guest,
            nobody: hash_password("nobody", &keys::random_hex(16))?,
            key,
            sessions,
            attempts: Attempts::default(),
            remembered: Mutex::default(),
            warned: Mutex::default(),
            checks: Arc::new(Semaphore::new(PASSWORD_CHECKS_AT_ONCE)),
        })
    }

    /// The users and keys, to list and change them.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Whether guest may come with the password guest, as on a server for development. Once there are users he is gone, with his
    /// sessions.
    pub fn is_guest_welcome(&self) -> bool {
        self.is_guest && self.accounts.rows().users.is_empty()
    }

    /// The key that new ingest keys are made with.
    pub fn signing_key(&self) -> &TokenKey {
        &self.key
    }

    /// Checks a password off the reactor, begins a session and issues its first token.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn login(&self, name: &str, password: &str, from: IpAddr) -> Result<Issued, LoginError> {
        let user = self.check_password(name, password, from).await?;
        let now = unix_seconds_now();
        Ok(self.key.sign(&self.sessions.begin(&user.name, user.stamp, now), now))
    }

    async fn check_password(&self, name: &str, password: &str, from: IpAddr) -> Result<User, LoginError> {
        if password.len() > LONGEST_PASSWORD_BYTES {
            return Err(LoginError::Refused);
        }
        let attempt = self.attempts.begin(name, from, Instant::now()).map_err(|wait| LoginError::TooMany { wait })?;
        let wait = tokio::time::timeout(LOGIN_WAIT, Arc::clone(&self.checks).acquire_owned());
        // What is not checked did not fail: the attempt is forgotten, also when the caller hangs up while he waits.
        let Ok(Ok(permit)) = wait.await else { return Err(LoginError::Busy) };
        let user = self.user(name);
        let hash = user.as_ref().map_or(&self.nobody, |user| &user.password_hash).clone();
        let is_active = user.as_ref().is_some_and(|user| user.active);
        let password = password.to_owned();
        let check = tokio::task::spawn_blocking(move || {
            // Held until the check has ended: it goes on when the caller hangs up, and counts by how it ends, not by who is still there.
            let _permit = permit;
            let is_right = users::is_password(&hash, &password) && is_active;
            if !is_right {
                attempt.failed();
            }
            is_right
        });
        let is_right = check.await.map_err(|_| LoginError::Busy)?;
        user.filter(|_| is_right).ok_or(LoginError::Refused)
    }

    /// A new token for the holder of a valid one, within the life of the session its login began.
    ///
    /// # Errors
    /// The token is not ours, has expired, was exchanged before, or its session is over.
    pub fn refresh(&self, token: &str) -> Result<Issued, TokenError> {
        let claims = self.claims(token)?;
        let now = unix_seconds_now();
        match self.sessions.exchange(&claims.sid, claims.turn, now) {
            Exchange::Turned(session) => Ok(self.key.sign(&session, now)),
            Exchange::Spent => Err(TokenError::Spent),
            Exchange::Over => Err(TokenError::SessionOver),
            Exchange::Unknown => Err(TokenError::Invalid),
        }
    }

    /// Ends the session of a token, and no other.
    ///
    /// # Errors
    /// The token is not good.
    pub fn logout(&self, token: &str) -> Result<(), TokenError> {
        let claims = self.claims(token)?;
        self.sessions.end(&claims.sid);
        Ok(())
    }

    /// Who the `authorization` header speaks for.
    ///
    /// # Errors
    /// The header is missing, or its credential is not good.
    pub async fn caller(&self, header: Option<&str>, from: IpAddr) -> Result<Caller, Denied> {
        let (scheme, credential) = header.and_then(|header| header.split_once(' ')).ok_or(TokenError::Missing)?;
        let credential = credential.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            Ok(self.bearer(credential)?)
        } else if scheme.eq_ignore_ascii_case("basic") {
            self.basic(credential, from).await
        } else {
            Err(TokenError::Missing.into())
        }
    }

    /// Whom a bearer token or an ingest key speaks for.
    ///
    /// # Errors
    /// It is not good.
    pub fn bearer(&self, credential: &str) -> Result<Caller, TokenError> {
        if credential.starts_with(KEY_PREFIX) {
            return self.key_holder(credential).ok_or(TokenError::Key);
        }
        let (claims, permissions) = self.living(credential)?;
        Ok(Caller { name: claims.sub.clone(), permissions, warning: None, claims: Some(claims) })
    }

    /// A fresh token for a caller who has used up half the life of his, to be sent back with the answer.
    pub fn rotated(&self, caller: &Caller) -> Option<Issued> {
        let now = unix_seconds_now();
        let claims = caller.claims.as_ref().filter(|claims| claims.is_half_used(now))?;
        let session = self.sessions.find(&claims.sid, now)?;
        // Of the token's own turn: several requests under way get one each, and none of them may spend another's.
        Some(self.key.sign(&Session { turn: claims.turn, ..session }, now))
    }

    fn claims(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        Ok(self.living(token)?.0)
    }

    /// What a token says, if its session and its user are alive and the same, and what the user may do now.
    fn living(&self, token: &str) -> Result<(Arc<Claims>, Permissions), TokenError> {
        let claims = self.key.verify(token)?;
        let stamp = self.sessions.stamp(&claims.sid, &claims.sub, unix_seconds_now()).ok_or(TokenError::Invalid)?;
        let permissions = self.with_user(&claims.sub, |user| (user.active && user.stamp == stamp).then(|| user.permissions.clone()));
        Ok((claims, permissions.ok_or(TokenError::Invalid)?))
    }

    async fn basic(&self, credential: &str, from: IpAddr) -> Result<Caller, Denied> {
        let decoded = STANDARD.decode(credential).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(TokenError::Missing)?;
        let (name, password) = decoded.split_once(':').ok_or(TokenError::Missing)?;
        let mac = self.key.mac(&format!("basic:{decoded}"));
        let remembered = lock(&self.remembered).get(&mac).copied().filter(|known| known.until > Instant::now());
        let known = self.user(name).filter(|user| user.active && remembered.is_some_and(|known| known.stamp == user.stamp));
        let user = match known {
            Some(user) => user,
            None => {
                let user = self.check_password(name, password, from).await?;
                let mut remembered = lock(&self.remembered);
                if remembered.len() >= MAX_REMEMBERED {
                    remembered.retain(|_, known| known.until > Instant::now());
                }
                if remembered.len() < MAX_REMEMBERED {
                    remembered.insert(mac, Remembered { stamp: user.stamp, until: Instant::now() + REMEMBER_BASIC });
                }
                user
            }
        };
        Ok(Caller { name: user.name, permissions: user.permissions, warning: None, claims: None })
    }

    fn key_holder(&self, text: &str) -> Option<Caller> {
        let (id, secret) = keys::split(text)?;
        let rows = self.accounts.rows();
        let now = unix_seconds_now();
        let key = rows.key(id).filter(|key| keys::is_secret(&self.key, key, secret))?;
        if key.revoked || key.expires.is_some_and(|end| end <= now) {
            return None;
        }
        let warning = key.expires.filter(|end| end - now <= WARN_BEFORE_SECONDS).and_then(|end| self.warn_of_end(&key.id, end - now, now));
        Some(Caller { name: format!("key {}", key.name), permissions: key.permissions.clone(), warning, claims: None })
    }

    /// Once an hour a key: enough to be seen, and not in every line of a client's log.
    fn warn_of_end(&self, id: &str, seconds: u64, now: u64) -> Option<String> {
        let mut warned = lock(&self.warned);
        let is_due = warned.get(id).is_none_or(|last| now.saturating_sub(*last) >= 3600);
        is_due.then(|| {
            warned.insert(id.to_owned(), now);
            format!("the ingest key {id} expires in {} hours; replace it in time", seconds.div_ceil(3600))
        })
    }

    fn user(&self, name: &str) -> Option<User> {
        self.with_user(name, |user| Some(user.clone()))
    }

    fn with_user<T>(&self, name: &str, ask: impl FnOnce(&User) -> Option<T>) -> Option<T> {
        match &self.configured {
            Some(user) if user.name == name && (!self.is_guest || self.is_guest_welcome()) => ask(user),
            _ => ask(self.accounts.rows().user(name)?),
        }
    }
}

fn stamp_of(mac: &str) -> u64 {
    mac.bytes().take(16).fold(0, |stamp: u64, byte| stamp.wrapping_mul(257).wrapping_add(byte.into()))
}

/// Nothing panics while these locks are held, so a poisoned one still holds good data.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a file to append to, made for the server's user only.
fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Replaces a file as a whole, readable by the server's user only.
fn replace_private(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = folder.join(format!("{name}.new"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
