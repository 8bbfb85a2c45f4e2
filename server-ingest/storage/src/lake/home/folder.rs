//! Tables in folders. A name survives power loss when its folder is synced, so every new one is followed by that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use url::Url;
use uuid::Uuid;

use super::{commit_path, log_dir};
use crate::lake::LakeError;
use crate::lake::commit_log::Published;

pub(super) fn url_of(dir: &Path) -> Url {
    Url::from_directory_path(dir).expect("the storage folder was made absolute when the store was opened")
}

pub(super) fn is_table(dir: &Path) -> Result<bool, LakeError> {
    let log_dir = log_dir(dir);
    let entries = match fs::read_dir(&log_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(LakeError::io("list", &log_dir, error)),
    };
    for entry in entries {
        let name = entry.map_err(|error| LakeError::io("list", &log_dir, error))?.file_name();
        let name = name.to_string_lossy();
        // A crash before the first commit leaves the folder, perhaps with a file that has no name yet.
        if name == "_last_checkpoint" || (name.ends_with(".json") && name.starts_with(|first: char| first.is_ascii_digit())) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn prepare_table(dir: &Path) -> Result<(), LakeError> {
    let log_dir = log_dir(dir);
    if log_dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(&log_dir).map_err(|error| LakeError::io("create", &log_dir, error))?;
    sync(dir)?;
    sync(dir.parent().expect("a table's folder is in the tables' folder"))
}

pub(super) fn write_file<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T, LakeError>) -> Result<T, LakeError> {
    let folder = path.parent().expect("a file is in a folder");
    if !folder.is_dir() {
        fs::create_dir(folder).map_err(|error| LakeError::io("create", folder, error))?;
        sync(folder.parent().expect("a folder of a table is in the table's"))?;
    }
    write(path).and_then(|written| sync(folder).map(|()| written)).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Not synced. Each writer has its own name until the file is whole, as another may write the same one.
pub(super) fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension(format!("{}.tmp", Uuid::new_v4()));
    let written = fs::write(&aside, bytes).or_else(|error| match (error.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(folder)) => fs::create_dir(folder).or_else(ignore_existing).and_then(|()| fs::write(&aside, bytes)),
        _ => Err(error),
    });
    let renamed = written.and_then(|()| fs::rename(&aside, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&aside);
    }
    renamed
}

fn ignore_existing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

pub(super) fn list(dir: &Path, wanted: impl Fn(&str) -> &'static [&'static str]) -> Result<Vec<PathBuf>, LakeError> {
    let mut found = Vec::new();
    for folder in entries(dir)? {
        let endings = wanted(&folder.file_name().unwrap_or_default().to_string_lossy());
        if !endings.is_empty() {
            found.extend(entries(&folder)?.into_iter().filter(|path| has_ending(path, endings)));
        }
    }
    Ok(found)
}

pub(super) fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().and_then(|end| end.to_str()).is_some_and(|end| endings.contains(&end))
}

/// What is in a folder; nothing if there is none.
pub(in crate::lake) fn entries(dir: &Path) -> Result<Vec<PathBuf>, LakeError> {
    let listed = fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    match listed {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        other => other.map_err(|error| LakeError::io("list", dir, error)),
    }
}

pub(super) fn remove(path: &Path) -> io::Result<u64> {
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    match fs::remove_file(path) {
        Ok(()) => Ok(size),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Whole and synced: written aside, synced, linked to its name, the folder synced.
pub(super) fn publish(dir: &Path, version: i64, bytes: &[u8]) -> Result<Published, LakeError> {
    let log_dir = log_dir(dir);
    // The name delta-rs gives to such files, so that every reader passes over one that a crash left behind.
    let aside = log_dir.join(format!("_commit_{}.json.tmp", Uuid::new_v4()));
    let named = commit_path(dir, version);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    let linked = write().and_then(|()| fs::hard_link(&aside, &named));
    let _ = fs::remove_file(&aside);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Published::VersionTaken),
        Err(error) => return Err(LakeError::io("write the commit", &named, error)),
    }
    sync(&log_dir)?;
    Ok(Published::Yes)
}

/// Syncs the commit of `version` and its folder.
pub(super) fn sync_commit(dir: &Path, version: i64) -> Result<(), LakeError> {
    let named = commit_path(dir, version);
    match File::open(&named).and_then(|file| file.sync_all()) {
        Ok(()) => {}
        // Cleaned up behind a checkpoint, so old enough.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(LakeError::io("sync", &named, error)),
    }
    sync(&log_dir(dir))
}

pub(super) fn sync_checkpoint(dir: &Path, version: i64) -> Result<(), LakeError> {
    let log_dir = log_dir(dir);
    let prefix = format!("{version:020}.checkpoint");
    for path in entries(&log_dir)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(&prefix) || name == "_last_checkpoint" {
            File::open(&path).and_then(|file| file.sync_all()).map_err(|error| LakeError::io("sync", &path, error))?;
        }
    }
    sync(&log_dir)
}

fn sync(dir: &Path) -> Result<(), LakeError> {
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(|error| LakeError::io("sync the folder", dir, error))
}
