//! Where the tables lie: in folders of this machine, or in an object store that several servers share.
//!
//! A file has one name in both, an absolute path; in an object store it is the object's key after a slash. What is written is durable when
//! the call answers: in a folder by syncs, in an object store by its answer.

pub(super) mod folder;
pub(super) mod objects;
pub(super) mod transactions;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use deltalake_core::{DeltaTableBuilder, DeltaTableError};
use url::Url;

pub use objects::{ObjectFolder, Objects, ObjectsError};

use super::LakeError;
use super::commit_log::Published;

/// Where the tables lie.
#[derive(Debug, Clone)]
pub(crate) enum Home {
    /// In folders.
    Folder,
    /// In an object store.
    Objects(Objects),
}

impl Home {
    /// What several servers commit to.
    pub(crate) fn objects(&self) -> Option<&Objects> {
        match self {
            Self::Folder => None,
            Self::Objects(objects) => Some(objects),
        }
    }

    pub(super) fn url_of(&self, dir: &Path) -> Url {
        match self {
            Self::Folder => folder::url_of(dir),
            Self::Objects(objects) => objects.url_of(dir),
        }
    }

    /// How delta-rs reads the table.
    pub(super) fn delta_table(&self, dir: &Path) -> Result<DeltaTableBuilder, DeltaTableError> {
        let builder = DeltaTableBuilder::from_url(self.url_of(dir))?;
        Ok(match self {
            Self::Folder => builder,
            Self::Objects(objects) => objects.behind(builder, dir),
        })
    }

    /// Whether there is a table. Blocking.
    pub(super) fn is_table(&self, dir: &Path) -> Result<bool, LakeError> {
        match self {
            Self::Folder => folder::is_table(dir),
            Self::Objects(objects) => objects.is_table(dir),
        }
    }

    /// Makes what the first commit of a table needs.
    pub(super) fn prepare_table(&self, dir: &Path) -> Result<(), LakeError> {
        match self {
            Self::Folder => folder::prepare_table(dir),
            Self::Objects(_) => Ok(()),
        }
    }

    /// A new data file, whose content `write` puts into the local file that it is given.
    pub(super) fn write_file<T>(&self, path: &Path, write: impl FnOnce(&Path) -> Result<T, LakeError>) -> Result<T, LakeError> {
        match self {
            Self::Folder => folder::write_file(path, write),
            Self::Objects(objects) => objects.write_file(path, write),
        }
    }

    /// A small file beside the data, which may be lost.
    pub(super) fn put(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Folder => folder::put(path, &bytes),
            Self::Objects(objects) => objects.put(path, bytes),
        }
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self {
            Self::Folder => std::fs::read(path),
            Self::Objects(objects) => objects.read(path),
        }
    }

    /// The file, on this machine.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        match self {
            Self::Folder => File::open(path),
            Self::Objects(objects) => objects.fetch(path),
        }
    }

    /// When it was last written; `None` if it is gone.
    pub(super) fn written(&self, path: &Path) -> io::Result<SystemTime> {
        match self {
            Self::Folder => std::fs::metadata(path)?.modified(),
            Self::Objects(objects) => objects.written(path),
        }
    }

    /// Files in the folders of the table that `is_wanted` knows by name, and in them those with one of the endings it gives.
    pub(super) fn list(&self, dir: &Path, wanted: impl Fn(&str) -> &'static [&'static str]) -> Result<Vec<PathBuf>, LakeError> {
        match self {
            Self::Folder => folder::list(dir, wanted),
            Self::Objects(objects) => objects.list(dir, wanted),
        }
    }

    /// Deletes a file and says how large it was; one that is gone is 0 bytes.
    pub(super) fn remove(&self, path: &Path) -> io::Result<u64> {
        match self {
            Self::Folder => folder::remove(path),
            Self::Objects(objects) => objects.remove(path),
        }
    }

    /// Makes `bytes` the commit of `version` if there is none. After an error it is unknown whether the version exists.
    pub(super) fn publish(&self, dir: &Path, version: i64, bytes: Vec<u8>) -> Result<Published, LakeError> {
        match self {
            Self::Folder => folder::publish(dir, version, &bytes),
            Self::Objects(objects) => objects.publish(dir, version, bytes),
        }
    }

    /// Makes sure of the commit of `version`, which an attempt that failed after it may have published.
    pub(super) fn settle(&self, dir: &Path, version: i64) -> Result<(), LakeError> {
        match self {
            Self::Folder => folder::sync_commit(dir, version),
            Self::Objects(_) => Ok(()),
        }
    }

    /// Makes sure of the checkpoint of `version`.
    pub(super) fn settle_checkpoint(&self, dir: &Path, version: i64) -> Result<(), LakeError> {
        match self {
            Self::Folder => folder::sync_checkpoint(dir, version),
            Self::Objects(_) => Ok(()),
        }
    }
}

/// The folder of a table's Delta log.
pub(super) fn log_dir(dir: &Path) -> PathBuf {
    dir.join("_delta_log")
}

/// The commit of a version.
pub(super) fn commit_path(dir: &Path, version: i64) -> PathBuf {
    log_dir(dir).join(format!("{version:020}.json"))
}
