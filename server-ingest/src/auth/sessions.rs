//! Sessions: one row a login.
//!
//! A token names its session and its turn. Exchanging a token moves its session to the next turn; a token of the turn before
//! is still exchanged for a minute, since an answer can be lost and a client can ask twice at once, and one older never.
//! A session of one client is not another's: nothing that one does ends another's.
//!
//! Rows are appended to `sessions.jsonl` as they change, so that clients need no new login after a restart. The lines are not
//! synced: what a power loss takes costs a login.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{keys::random_hex, private_file, replace_private, tokens::SESSION_LIFE};

const FILE: &str = "sessions.jsonl";
/// Sessions at once; beyond it the oldest ends.
const MAX_SESSIONS: usize = 50_000;
/// For how long the turn before is exchanged as well, in seconds.
const LOST_ANSWER_SECONDS: u64 = 60;
const ID_BYTES: usize = 16;

/// A session's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) user: String,
    /// Of the user when it began.
    pub(super) stamp: u64,
    pub(super) started: u64,
    pub(super) turn: u64,
    pub(super) turned: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) ended: bool,
}

/// What became of an exchange.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// The session is now at this turn.
    Turned(Session),
    /// No such session, or it ended.
    Unknown,
    /// The token was exchanged too long ago.
    Spent,
    /// The session has lived its life.
    Over,
}

/// All sessions.
pub(super) struct Sessions {
    folder: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    rows: HashMap<String, Session>,
    file: File,
    lines: usize,
}

impl Sessions {
    /// Reads the rows that are still alive at `now`. Lines that cannot be read are lost logins, and no reason not to start.
    pub(super) fn open(folder: &Path, now: u64) -> io::Result<Self> {
        let mut rows = HashMap::new();
        let text = match fs::read(folder.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Ok(row) = serde_json::from_slice::<Session>(line) else { continue };
            if row.ended || is_over(&row, now) {
                rows.remove(&row.id);
            } else {
                rows.insert(row.id.clone(), row);
            }
        }
        let file = rewrite(folder, &rows)?;
        Ok(Self { folder: folder.to_owned(), inner: Mutex::new(Inner { lines: rows.len(), rows, file }) })
    }

    pub(super) fn begin(&self, user: &str, stamp: u64, now: u64) -> Session {
        let row = Session { id: random_hex(ID_BYTES), user: user.to_owned(), stamp, started: now, turn: 0, turned: now, ended: false };
        let mut inner = self.lock();
        if inner.rows.len() >= MAX_SESSIONS {
            inner.rows.retain(|_, row| !is_over(row, now));
            let oldest = inner.rows.values().min_by_key(|row| row.turned).map(|row| row.id.clone());
            if let Some(oldest) = oldest.filter(|_| inner.rows.len() >= MAX_SESSIONS) {
                inner.rows.remove(&oldest);
            }
        }
        inner.rows.insert(row.id.clone(), row.clone());
        self.append(&mut inner, &row);
        row
    }

    /// The session of that id, if it is alive.
    pub(super) fn find(&self, id: &str, now: u64) -> Option<Session> {
        self.lock().rows.get(id).filter(|row| !is_over(row, now)).cloned()
    }

    /// Whether that session is alive and of that user, and the user's stamp when it began.
    pub(super) fn stamp(&self, id: &str, user: &str, now: u64) -> Option<u64> {
        self.lock().rows.get(id).filter(|row| !is_over(row, now) && row.user == user).map(|row| row.stamp)
    }

    pub(super) fn exchange(&self, id: &str, turn: u64, now: u64) -> Exchange {
        let mut inner = self.lock();
        let Some(row) = inner.rows.get_mut(id) else { return Exchange::Unknown };
        if is_over(row, now) {
            return Exchange::Over;
        }
        if turn + 1 == row.turn && now.saturating_sub(row.turned) <= LOST_ANSWER_SECONDS {
            return Exchange::Turned(row.clone());
        }
        if turn != row.turn {
            return Exchange::Spent;
        }
        row.turn += 1;
        row.turned = now;
        let row = row.clone();
        self.append(&mut inner, &row);
        Exchange::Turned(row)
    }

    pub(super) fn end(&self, id: &str) {
        let mut inner = self.lock();
        if let Some(row) = inner.rows.remove(id) {
            self.append(&mut inner, &Session { ended: true, ..row });
        }
    }

    /// A line that cannot be written is a login after the next restart.
    fn append(&self, inner: &mut Inner, row: &Session) {
        let Ok(mut line) = serde_json::to_vec(row) else { return };
        line.push(b'\n');
        inner.lines += 1;
        if inner.file.write_all(&line).is_err() || inner.lines > 2 * inner.rows.len() + 1000 {
            if let Ok(file) = rewrite(&self.folder, &inner.rows) {
                inner.file = file;
            }
            // Counted as written also when it was not: a full disk must not make every login rewrite the file.
            inner.lines = inner.rows.len();
        }
    }

    /// Nothing panics while the lock is held, so a poisoned one still holds good data.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_over(row: &Session, now: u64) -> bool {
    now.saturating_sub(row.started) >= SESSION_LIFE.as_secs()
}

/// Writes one line a row, and returns the file to append to.
fn rewrite(folder: &Path, rows: &HashMap<String, Session>) -> io::Result<File> {
    let mut text = Vec::new();
    for row in rows.values() {
        serde_json::to_writer(&mut text, row)?;
        text.push(b'\n');
    }
    replace_private(folder, FILE, &text)?;
    private_file(&folder.join(FILE))
}

#[cfg(test)]
mod tests;
