//! Users and ingest keys: the rows, and the one file that holds them.
//!
//! The file is `accounts.json` in the key folder, readable by the server's user only. It is replaced as a whole, under a lock,
//! so the command line can change it while a server runs; the server looks whether it changed a few times a second.
//! A password is kept as its Argon2id hash, a key's secret as its HMAC under the server's signing key.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Permissions, private_file};

const FILE: &str = "accounts.json";
const LOCK: &str = "accounts.lock";
const FORMAT: u32 = 1;
/// How old the server's view of the file may be.
const STALE_AFTER: Duration = Duration::from_millis(200);
const LONGEST_NAME: usize = 128;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// What he logs in as.
    pub name: String,
    /// Argon2id, in PHC form.
    pub password_hash: String,
    /// What he may do.
    pub permissions: Permissions,
    /// An inactive user is refused at every door.
    pub active: bool,
    /// Changes with the password and with each deactivation; sessions begun under another one are over.
    pub stamp: u64,
}

/// An ingest key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The public part of its text.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// HMAC-SHA-256 of the secret part.
    pub verifier: String,
    /// What its holder may do.
    pub permissions: Permissions,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970 from which it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// A revoked key is refused at every door.
    pub revoked: bool,
}

/// All rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    version: u32,
    /// By name.
    pub users: Vec<User>,
    /// By time of creation.
    pub keys: Vec<Key>,
}

/// Why accounts cannot be read or changed.
#[derive(Debug, Error)]
pub enum AccountError {
    /// The file cannot be had.
    #[error("{path} cannot be {action}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is not ours.
    #[error("{path} is not a list of users and keys of version {FORMAT}; restore it, or remove it and add the users again")]
    Format {
        /// Its path.
        path: PathBuf,
        /// Where it is not.
        source: serde_json::Error,
    },
    /// A second user of the same name.
    #[error("there is a user {name:?} already")]
    UserExists {
        /// The name.
        name: String,
    },
    /// No such user.
    #[error("there is no user {name:?}")]
    NoUser {
        /// The name.
        name: String,
    },
    /// No such key.
    #[error("there is no key {id:?}")]
    NoKey {
        /// The id.
        id: String,
    },
    /// A name that cannot be one.
    #[error("{name:?} cannot be a name: it has 1 to {LONGEST_NAME} characters, no colon and nothing that does not print")]
    Name {
        /// The name.
        name: String,
    },
    /// A password that cannot be one.
    #[error("the password of {name:?} cannot be taken: {reason}")]
    Password {
        /// Whose it is.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Rows {
    /// The user of that name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The same, to change him.
    ///
    /// # Errors
    /// There is none.
    pub fn user_mut(&mut self, name: &str) -> Result<&mut User, AccountError> {
        self.users.iter_mut().find(|user| user.name == name).ok_or_else(|| AccountError::NoUser { name: name.to_owned() })
    }

    /// The key of that id.
    pub fn key(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The same, to change it.
    ///
    /// # Errors
    /// There is none.
    pub fn key_mut(&mut self, id: &str) -> Result<&mut Key, AccountError> {
        self.keys.iter_mut().find(|key| key.id == id).ok_or_else(|| AccountError::NoKey { id: id.to_owned() })
    }
}

/// Basic authentication ends a name at the first colon, and names are printed.
pub(super) fn check_name(name: &str) -> Result<(), AccountError> {
    let is_good = !name.is_empty() && name.chars().count() <= LONGEST_NAME && !name.chars().any(|c| c == ':' || c.is_control());
    if is_good { Ok(()) } else { Err(AccountError::Name { name: name.to_owned() }) }
}

/// The file and what it was when last looked at.
pub struct Accounts {
    folder: PathBuf,
    view: RwLock<Arc<Rows>>,
    seen: Mutex<Seen>,
}

/// What tells one version of the file from another.
type Mark = Option<(SystemTime, u64, u64)>;

struct Seen {
    mark: Mark,
    looked: Instant,
}

impl Accounts {
    /// Reads the file in `folder`; a missing one is empty.
    ///
    /// # Errors
    /// It cannot be read, or is not ours.
    pub fn open(folder: &Path) -> Result<Self, AccountError> {
        let mark = mark(&folder.join(FILE));
        let rows = read(folder)?;
        Ok(Self { folder: folder.to_owned(), view: RwLock::new(Arc::new(rows)), seen: Mutex::new(Seen { mark, looked: Instant::now() }) })
    }

    /// The rows, at most a fifth of a second old.
    pub fn rows(&self) -> Arc<Rows> {
        self.look();
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the rows on disk and in memory.
    ///
    /// # Errors
    /// `change` refuses, or the file cannot be replaced; then nothing changed.
    pub fn change<T>(&self, change: impl FnOnce(&mut Rows) -> Result<T, AccountError>) -> Result<T, AccountError> {
        let failed = |action| move |source| AccountError::File { path: self.folder.join(FILE), action, source };
        fs::create_dir_all(&self.folder).map_err(failed("made"))?;
        let lock = private_file(&self.folder.join(LOCK)).map_err(failed("locked"))?;
        lock.lock().map_err(failed("locked"))?;
        let mut rows = read(&self.folder)?;
        let outcome = change(&mut rows)?;
        rows.version = FORMAT;
        rows.users.sort_by(|left, right| left.name.cmp(&right.name));
        let text = serde_json::to_vec_pretty(&rows).map_err(|error| failed("written")(error.into()))?;
        super::replace_private(&self.folder, FILE, &text).map_err(failed("written"))?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Seen { mark: mark(&self.folder.join(FILE)), looked: Instant::now() };
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rows);
        Ok(outcome)
    }

    /// Reads the file again if it is another than the one last read. A file that cannot be read leaves the last view.
    fn look(&self) {
        let Ok(mut seen) = self.seen.try_lock() else { return };
        if seen.looked.elapsed() < STALE_AFTER {
            return;
        }
        seen.looked = Instant::now();
        let found = mark(&self.folder.join(FILE));
        if found == seen.mark {
            return;
        }
        match read(&self.folder) {
            Ok(rows) => {
                seen.mark = found;
                *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rows);
            }
            Err(error) => tracing::error!(%error, "users and keys changed on disk and cannot be read; those read before stay"),
        }
    }
}

fn mark(path: &Path) -> Mark {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn read(folder: &Path) -> Result<Rows, AccountError> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        Ok(text) => {
            let rows: Rows = serde_json::from_slice(&text).map_err(|source| AccountError::Format { path: path.clone(), source })?;
            if rows.version == FORMAT {
                Ok(rows)
            } else {
                let source = serde::de::Error::custom(format!("it has version {}", rows.version));
                Err(AccountError::Format { path, source })
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Rows { version: FORMAT, ..Rows::default() }),
        Err(source) => Err(AccountError::File { path, action: "read", source }),
    }
}
