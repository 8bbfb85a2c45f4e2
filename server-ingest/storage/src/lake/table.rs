//! One table: committing units to it, exactly once, and putting files in the place of others.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::commit_log::{self, Published, Replacing};
use super::order::{DateRows, order_by_date, runs};
use super::parquet_file::FileFormat;
use super::trace_index::{self, TraceIndexBuilder};
use super::{DataFile, LakeError, Snapshot};
use crate::columns::Table;
use crate::log::Position;
use crate::store::{FaultHook, FaultPoint};

/// Commits between two checkpoints: what a reader has to read one by one.
pub(super) const CHECKPOINT_COMMITS: u32 = 100;

/// Attempts of one commit against other writers before it is given back to the caller, who backs off.
const COMMIT_ATTEMPTS: u32 = 10;

/// The runtime on which delta-rs reads and checkpoints; everything else here is plain blocking work of the calling thread.
/// Make it, use it and drop it on a thread that belongs to no other runtime.
pub(crate) struct LakeRuntime(Runtime);

impl LakeRuntime {
    pub(crate) fn new() -> io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Ok(Self(runtime.worker_threads(1).max_blocking_threads(4).thread_name("scouter-lake").enable_all().build()?))
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.block_on(work)
    }
}

/// One table of the lake, for its only writer in this process.
pub(crate) struct LakeTable {
    table: Table,
    dir: PathBuf,
    app_id: String,
    format: Arc<FileFormat>,
    snapshot: Arc<Snapshot>,
    /// The last attempt ended without knowing what is on disk: `snapshot` must be read again before the next one.
    stale: bool,
    /// Files of attempts that failed. Deleted when a fresh snapshot shows that no commit names them.
    doubtful: Vec<PathBuf>,
    /// Files that a commit took out of the table since it was opened, and when. Who reads an older snapshot holds the file too.
    taken_out: Vec<(Arc<DataFile>, Instant)>,
    fault: FaultHook,
}

/// Where a table is and how its files are written: what work beside the table's commits needs.
#[derive(Debug, Clone)]
pub(crate) struct TablePlace {
    pub(super) table: Table,
    pub(super) dir: PathBuf,
    pub(super) format: Arc<FileFormat>,
    app_id: String,
}

impl TablePlace {
    /// The files that the newest version on disk names, whoever wrote it.
    pub(super) fn named_on_disk(&self, runtime: &LakeRuntime) -> Result<HashSet<PathBuf>, LakeError> {
        let snapshot = runtime.run(commit_log::load(self.table, &self.dir, &self.app_id))?;
        Ok(snapshot.files.iter().map(|file| file.path.clone()).collect())
    }
}

/// What a commit did.
#[derive(Debug)]
pub(crate) struct Commit {
    /// The version that has the unit.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Files it added; 0 when the unit was in the table already.
    pub(crate) files: u64,
    /// Their rows.
    pub(crate) rows: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl LakeTable {
    /// Opens the table in `tables/<name>`; a table that does not exist is made by its first commit. `tables` is absolute.
    pub(crate) fn open(runtime: &LakeRuntime, tables: &Path, table: Table, app_id: Uuid, fault: FaultHook) -> Result<Self, LakeError> {
        let dir = tables.join(table.name());
        let app_id = app_id.to_string();
        let format = FileFormat::new(table).map_err(|source| LakeError::Parquet { path: dir.clone(), source })?;
        let format = Arc::new(format);
        let snapshot = Arc::new(runtime.run(commit_log::load(table, &dir, &app_id))?);
        Ok(Self { table, dir, app_id, format, snapshot, stale: false, doubtful: Vec::new(), taken_out: Vec::new(), fault })
    }

    pub(crate) fn table(&self) -> Table {
        self.table
    }

    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Adds the rows of one unit, whose last frame is `position`; a unit that is in the table already is not added again.
    /// Blocking; durable when it answers. After an error the same unit must be tried again, alone.
    pub(crate) fn commit(&mut self, runtime: &LakeRuntime, batches: &[RecordBatch], position: Position) -> Result<Commit, LakeError> {
        let mut files: Vec<DataFile> = Vec::new();
        for _ in 0..COMMIT_ATTEMPTS {
            if self.stale {
                self.refresh(runtime)?;
            }
            if self.snapshot.position >= position
                && let Some(version) = self.snapshot.version
            {
                self.doubtful.extend(files.into_iter().map(|file| file.path));
                self.delete_doubtful();
                commit_log::sync_commit(&self.dir, version)?;
                return Ok(Commit { snapshot: Arc::clone(&self.snapshot), files: 0, rows: 0, bytes: 0 });
            }
            if files.is_empty() {
                files = self.write_files(batches)?;
            }
            let published = self.fault.check(FaultPoint::AfterParquet, self.table).and_then(|()| self.publish(&files, position));
            match published {
                Ok(Published::Yes) => return Ok(self.adopt(files, position)),
                Ok(Published::VersionTaken) => self.stale = true,
                Err(error) => {
                    self.stale = true;
                    self.doubtful.extend(files.into_iter().map(|file| file.path));
                    return Err(error);
                }
            }
        }
        self.doubtful.extend(files.into_iter().map(|file| file.path));
        Err(LakeError::Contended { path: self.dir.clone(), attempts: COMMIT_ATTEMPTS })
    }

    /// Work that follows some commits and that no reader waits for: a checkpoint when one is due.
    pub(crate) fn maintain(&self, runtime: &LakeRuntime) -> Result<(), LakeError> {
        match self.snapshot.version {
            Some(version) if (version + 1) % i64::from(CHECKPOINT_COMMITS) == 0 => runtime.run(commit_log::checkpoint(&self.dir, version)),
            _ => Ok(()),
        }
    }

    /// Puts `added` in the place of `removed` in one commit, and says whether it did: not when another writer has taken one of them out
    /// meanwhile. Blocking; durable when it answers.
    ///
    /// The position of the table stays what it is. After an error it is unknown whether the commit exists; either way the rows are there
    /// once, and the next attempt of anything begins with reading the table.
    pub(crate) fn replace(
        &mut self,
        runtime: &LakeRuntime,
        removed: &[Arc<DataFile>],
        added: Vec<DataFile>,
        why: Replacing,
    ) -> Result<bool, LakeError> {
        let published = self.try_replace(runtime, removed, &added, why);
        match published {
            Ok(true) => self.adopt_replacement(removed, added),
            Ok(false) | Err(_) => {
                self.doubtful.extend(added.into_iter().map(|file| file.path));
                // Who dies deletes nothing.
                let dies = matches!(published, Err(LakeError::Injected { dies: true, .. }));
                if !self.stale && !dies {
                    self.delete_doubtful();
                }
            }
        }
        published
    }

    fn try_replace(
        &mut self,
        runtime: &LakeRuntime,
        removed: &[Arc<DataFile>],
        added: &[DataFile],
        why: Replacing,
    ) -> Result<bool, LakeError> {
        for _ in 0..COMMIT_ATTEMPTS {
            if self.stale {
                self.refresh(runtime)?;
            }
            let named: HashSet<&Path> = self.snapshot.files.iter().map(|file| file.path.as_path()).collect();
            let Some(version) = self.snapshot.version else { return Ok(false) };
            if !removed.iter().all(|file| named.contains(file.path.as_path())) {
                return Ok(false);
            }
            self.fault.check(FaultPoint::BeforeReplace, self.table)?;
            let (actions, operation) = commit_log::replacing_actions(self.table, &self.dir, removed, added, &why)?;
            let bytes = commit_log::commit_bytes(&self.dir, actions, operation, None)?;
            // Until the answer is known to be good.
            self.stale = true;
            if commit_log::publish(&self.dir, version + 1, &bytes)? == Published::Yes {
                self.fault.check(FaultPoint::AfterReplace, self.table)?;
                self.stale = false;
                return Ok(true);
            }
        }
        Err(LakeError::Contended { path: self.dir.clone(), attempts: COMMIT_ATTEMPTS })
    }

    fn adopt_replacement(&mut self, removed: &[Arc<DataFile>], added: Vec<DataFile>) {
        let gone: HashSet<&Path> = removed.iter().map(|file| file.path.as_path()).collect();
        let (out, mut files): (Vec<_>, Vec<_>) = self.snapshot.files.iter().cloned().partition(|file| gone.contains(file.path.as_path()));
        files.extend(added.into_iter().map(Arc::new));
        let version = self.snapshot.version.map(|version| version + 1);
        self.snapshot = Arc::new(Snapshot { version, position: self.snapshot.position, files });
        let now = Instant::now();
        self.taken_out.extend(out.into_iter().map(|file| (file, now)));
    }

    /// Up to `most` files that were taken out at least `grace` ago and that nobody in this process reads any more.
    pub(crate) fn unread_files(&mut self, grace: Duration, most: usize) -> Vec<PathBuf> {
        let mut unread = Vec::new();
        self.taken_out.retain(|(file, since)| {
            // One holder is this list; without another one there is nobody who could hand it on.
            let goes = unread.len() < most && since.elapsed() >= grace && Arc::strong_count(file) == 1;
            if goes {
                unread.push(file.path.clone());
            }
            !goes
        });
        unread
    }

    /// Whether the snapshot may be older than what is on disk.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Files that wait for [`Self::unread_files`].
    pub(crate) fn taken_out(&self) -> impl Iterator<Item = &DataFile> {
        self.taken_out.iter().map(|(file, _)| file.as_ref())
    }

    pub(crate) fn place(&self) -> TablePlace {
        TablePlace { table: self.table, dir: self.dir.clone(), format: Arc::clone(&self.format), app_id: self.app_id.clone() }
    }

    /// Reads the table again if what is on disk is not known. The rows of the snapshot may then be more than readers were told.
    pub(crate) fn freshen(&mut self, runtime: &LakeRuntime) -> Result<(), LakeError> {
        if self.stale { self.refresh(runtime) } else { Ok(()) }
    }

    fn refresh(&mut self, runtime: &LakeRuntime) -> Result<(), LakeError> {
        let mut fresh = runtime.run(commit_log::load(self.table, &self.dir, &self.app_id))?;
        // A file that is still there stays the same object, so that its holders are counted together.
        let mut known: HashMap<&Path, &Arc<DataFile>> = self.snapshot.files.iter().map(|file| (file.path.as_path(), file)).collect();
        for file in &mut fresh.files {
            if let Some(same) = known.remove(file.path.as_path()) {
                *file = Arc::clone(same);
            }
        }
        let now = Instant::now();
        self.taken_out.extend(known.into_values().map(|file| (Arc::clone(file), now)));
        self.snapshot = Arc::new(fresh);
        self.stale = false;
        self.delete_doubtful();
        Ok(())
    }

    /// Best effort: a file that stays is named by no commit and costs only room.
    fn delete_doubtful(&mut self) {
        if self.doubtful.is_empty() {
            return;
        }
        let named: HashSet<&Path> = self.snapshot.files.iter().map(|file| file.path.as_path()).collect();
        for path in self.doubtful.drain(..).filter(|path| !named.contains(path.as_path())) {
            remove_data_file(&path);
        }
    }

    fn write_files(&self, batches: &[RecordBatch]) -> Result<Vec<DataFile>, LakeError> {
        let runs = order_by_date(self.table, batches).map_err(|source| LakeError::Arrow { table: self.table.name(), source })?;
        let log_dir = commit_log::log_dir(&self.dir);
        if !log_dir.is_dir() {
            fs::create_dir_all(&log_dir).map_err(|error| LakeError::io("create", &log_dir, error))?;
            commit_log::sync_folder(&self.dir)?;
            commit_log::sync_folder(self.dir.parent().expect("a table's folder is in the tables' folder"))?;
        }
        let mut files = Vec::with_capacity(runs.len());
        for run in runs {
            let written = self.write_file(batches, &run, &mut files);
            if let Err(error) = written {
                files.iter().for_each(|file: &DataFile| remove_data_file(&file.path));
                return Err(error);
            }
        }
        Ok(files)
    }

    fn write_file(&self, batches: &[RecordBatch], rows: &DateRows, files: &mut Vec<DataFile>) -> Result<(), LakeError> {
        let folder = self.dir.join(format!("{}={}", super::schema::PARTITION, commit_log::date_text(rows.date)));
        if !folder.is_dir() {
            fs::create_dir(&folder).map_err(|error| LakeError::io("create", &folder, error))?;
            commit_log::sync_folder(&self.dir)?;
        }
        let path = folder.join(format!("{}.parquet", Uuid::now_v7()));
        let facts = match self.format.write_synced(&path, batches, rows) {
            Ok(facts) => facts,
            Err(error) => {
                let _ = fs::remove_file(&path);
                return Err(error);
            }
        };
        let mut index = TraceIndexBuilder::for_table(self.table);
        for run in runs(&rows.order) {
            index.add_rows(&batches[run.batch], run.range());
        }
        index.write_for(&path);
        let (min_time_micros, max_time_micros) = facts.time_range_micros.unzip();
        files.push(DataFile { path, size_bytes: facts.size_bytes, rows: facts.rows, date: rows.date, min_time_micros, max_time_micros });
        commit_log::sync_folder(&folder)
    }

    fn publish(&self, files: &[DataFile], position: Position) -> Result<Published, LakeError> {
        let version = self.snapshot.version.map_or(0, |version| version + 1);
        let (actions, operation) = commit_log::actions(self.table, &self.dir, version == 0, files)?;
        let bytes = commit_log::commit_bytes(&self.dir, actions, operation, Some((&self.app_id, position)))?;
        let published = commit_log::publish(&self.dir, version, &bytes)?;
        if published == Published::Yes {
            self.fault.check(FaultPoint::AfterCommit, self.table)?;
        }
        Ok(published)
    }

    fn adopt(&mut self, files: Vec<DataFile>, position: Position) -> Commit {
        let (rows, bytes) = files.iter().fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.size_bytes));
        let added = files.len() as u64;
        let mut all = Vec::with_capacity(self.snapshot.files.len() + files.len());
        all.extend(self.snapshot.files.iter().cloned());
        all.extend(files.into_iter().map(Arc::new));
        let version = Some(self.snapshot.version.map_or(0, |version| version + 1));
        self.snapshot = Arc::new(Snapshot { version, position, files: all });
        Commit { snapshot: Arc::clone(&self.snapshot), files: added, rows, bytes }
    }
}

/// Best effort, with its index.
fn remove_data_file(path: &Path) {
    let _ = fs::remove_file(path);
    if let Some(index) = trace_index::index_path(path) {
        let _ = fs::remove_file(index);
    }
}
