//! Deleting files that no version a reader may hold names.
//!
//! There are two kinds. Files that a commit of this process took out are known, with the objects by which readers hold them
//! ([`super::LakeTable::unread_files`]). Others (of attempts that died, of commits before a restart, indexes without a file) are found by
//! listing the folder: they are **unnamed**, and go when they were that for the whole grace and are older than it.
//!
//! Invariant: what is deleted was named neither by the newest version on disk, read right before, nor by the snapshot of the table's
//! writer, looked at after the folder was listed while no commit was under way.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::home::{Home, folder};
use super::table::TablePlace;
use super::{DataFile, LakeError, LakeRuntime, trace_index};

/// Files of a table that no version names, and since when that is known.
#[derive(Debug, Default)]
pub(crate) struct Unnamed {
    since: HashMap<PathBuf, Instant>,
}

impl Unnamed {
    /// Takes in what a listing found, which `is_named` knows by name, and gives up to `most` files that have been unnamed for `grace`.
    pub(crate) fn due(
        &mut self,
        home: &Home,
        listed: Vec<PathBuf>,
        is_named: impl Fn(&Path) -> bool,
        grace: Duration,
        most: usize,
    ) -> Vec<PathBuf> {
        let now = Instant::now();
        let unnamed = listed.into_iter().filter(|path| !is_named(path));
        self.since = unnamed.map(|path| (self.since.get(&path).copied().unwrap_or(now), path)).map(|(since, path)| (path, since)).collect();
        let is_due = |(path, since): &(&PathBuf, &Instant)| since.elapsed() >= grace && age(home, path).is_some_and(|age| age >= grace);
        self.since.iter().filter(is_due).map(|(path, _)| path.clone()).take(most).collect()
    }
}

/// Since the file was last written; `None` if it is gone.
fn age(home: &Home, path: &Path) -> Option<Duration> {
    Some(home.written(path).ok()?.elapsed().unwrap_or_default())
}

/// The data files and indexes in the folder of a table.
pub(crate) fn list(place: &TablePlace) -> Result<Vec<PathBuf>, LakeError> {
    place.home.list(&place.dir, |folder| match folder {
        trace_index::FOLDER => &["traces", "tmp"],
        name if name.starts_with("date=") => &["parquet"],
        _ => &[],
    })
}

/// The names that stay because of `files`: theirs and their indexes'.
pub(crate) fn names_of<'a>(files: impl Iterator<Item = &'a DataFile>) -> HashSet<PathBuf> {
    files.flat_map(|file| [Some(file.path.clone()), trace_index::index_path(&file.path)]).flatten().collect()
}

/// Deletes those of `paths` that the newest version on disk does not name, with their indexes; gives how many files and bytes that were.
/// `between` is called after each.
pub(crate) fn delete(
    place: &TablePlace,
    runtime: &LakeRuntime,
    paths: &[PathBuf],
    mut between: impl FnMut() -> Result<(), LakeError>,
) -> Result<(u64, u64), LakeError> {
    let named = place.named_on_disk(runtime)?;
    let (mut files, mut bytes) = (0, 0);
    for path in paths.iter().filter(|path| !named.contains(*path)) {
        let size = place.home.remove(path).map_err(|error| LakeError::io("delete", path, error))?;
        if size > 0 {
            (files, bytes) = (files + 1, bytes + size);
        }
        if path.extension().is_some_and(|end| end == "parquet")
            && let Some(index) = trace_index::index_path(path)
        {
            let _ = place.home.remove(&index);
        }
        between()?;
    }
    Ok((files, bytes))
}

/// Removes folders of dates that are empty; an object store has none. To be called while nothing is written to the table.
pub(crate) fn remove_empty_dates(place: &TablePlace, named: &HashSet<PathBuf>) {
    if !matches!(place.home, Home::Folder) {
        return;
    }
    let in_use: HashSet<&Path> = named.iter().filter_map(|path| path.parent()).collect();
    for folder in folder::entries(&place.dir).unwrap_or_default() {
        let is_date = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("date="));
        if is_date && !in_use.contains(folder.as_path()) {
            // Fails when something is in it.
            let _ = fs::remove_dir(&folder);
        }
    }
}
