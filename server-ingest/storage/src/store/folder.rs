//! The storage folder: its layout, and the lock that makes one process its owner.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::StoreError;
use crate::log::Position;

/// Longest text of a lock file that is believed.
const MAX_HOLDER_BYTES: u64 = 4096;

/// How long a server that starts waits for readers of its folder.
const READERS_WAIT: Duration = Duration::from_secs(30);
const READERS_PAUSE: Duration = Duration::from_millis(500);

pub(super) fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}

pub(super) fn tables_dir(dir: &Path) -> PathBuf {
    dir.join("tables")
}

fn lock_file(dir: &Path) -> PathBuf {
    dir.join("LOCK")
}

/// Makes the folder and its parts, and gives its absolute path.
pub(super) fn create(dir: &Path) -> Result<PathBuf, StoreError> {
    let create = |path: &Path| fs::create_dir_all(path).map_err(|error| StoreError::folder("create the storage folder", path, error));
    create(dir)?;
    let dir = absolute(dir)?;
    create(&tables_dir(&dir))?;
    Ok(dir)
}

/// The absolute path of an existing folder.
pub(super) fn absolute(dir: &Path) -> Result<PathBuf, StoreError> {
    match fs::canonicalize(dir) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::NotFound { path: dir.to_owned() }),
        Err(error) => Err(StoreError::folder("open the storage folder", dir, error)),
    }
}

/// The lock on a storage folder; let go when dropped, also by the kernel when the process dies.
#[derive(Debug)]
pub(super) struct FolderLock(File);

impl FolderLock {
    /// For the one process that writes. `holder` is what others are told.
    pub(super) fn exclusive(dir: &Path, holder: &str) -> Result<Self, StoreError> {
        let path = lock_file(dir);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| StoreError::folder("open the lock file", &path, error))?;
        wait_for_readers(&file, dir);
        let lock = Self(check(dir, file, File::try_lock)?);
        lock.set_holder(holder).map_err(|error| StoreError::folder("write the lock file", &path, error))?;
        Ok(lock)
    }

    /// For readers of a stopped server's folder. Changes nothing, so a folder without a lock file is read without a lock.
    pub(super) fn shared(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = lock_file(dir);
        match File::open(&path) {
            Ok(file) => Ok(Some(Self(check(dir, file, File::try_lock_shared)?))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::folder("open the lock file", &path, error)),
        }
    }

    pub(super) fn set_holder(&self, holder: &str) -> io::Result<()> {
        let mut file = &self.0;
        file.rewind()?;
        file.write_all(holder.as_bytes())?;
        file.set_len(holder.len() as u64)
    }
}

/// The file `tables/COMMITTED`: a position up to which every table has all its rows, for one log.
///
/// It spares a restart the decoding of frames that are still in the log's segments and whose rows are all committed: a table
/// that gets few rows has an old position, or none, and cannot tell. What it says stays true for ever, so it is replaced
/// without a sync; an older or a broken one only means more to decode.
#[derive(Debug)]
pub(super) struct CommittedMark {
    path: PathBuf,
    log_id: Uuid,
}

impl CommittedMark {
    pub(super) fn new(dir: &Path, log_id: Uuid) -> Self {
        Self { path: tables_dir(dir).join("COMMITTED"), log_id }
    }

    /// 0 when there is none for this log.
    pub(super) fn read(&self) -> Position {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let position = text.strip_suffix('\n').and_then(|line| {
            let (log_id, position) = line.split_once(' ')?;
            (log_id == self.log_id.to_string()).then(|| position.parse().ok()).flatten()
        });
        Position(position.unwrap_or(0))
    }

    pub(super) fn write(&self, position: Position) -> io::Result<()> {
        let aside = self.path.with_extension("tmp");
        fs::write(&aside, format!("{} {position}\n", self.log_id))?;
        fs::rename(&aside, &self.path)
    }
}

/// A question asked of a stopped server's folder holds it for a moment; a server that starts meanwhile waits for its end rather
/// than naming a holder that is dead. Only readers share the lock.
fn wait_for_readers(file: &File, dir: &Path) {
    let deadline = Instant::now() + READERS_WAIT;
    while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && file.try_lock_shared().is_ok() && Instant::now() < deadline {
        tracing::info!(storage = %dir.display(), "waiting for a reader of the folder (scouter-server sql or trace) to finish");
        // Not held while waiting: another reader's server would take it for one.
        let _ = file.unlock();
        thread::sleep(READERS_PAUSE);
    }
}

fn check(dir: &Path, file: File, lock: fn(&File) -> Result<(), TryLockError>) -> Result<File, StoreError> {
    match lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // A holder that is only now writing its name is reported without one.
            let _ = (&file).take(MAX_HOLDER_BYTES).read_to_string(&mut holder);
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
            Err(StoreError::InUse { path: dir.to_owned(), holder })
        }
        Err(TryLockError::Error(error)) => Err(StoreError::folder("lock", &lock_file(dir), error)),
    }
}
