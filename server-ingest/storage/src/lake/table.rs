//! One table: committing units to it, exactly once, and putting files in the place of others.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arrow::array::RecordBatch;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::commit_log::{self, Published, Replacing};
use super::home::Home;
use super::order::{DateRows, order_by_date, runs};
use super::parquet_file::FileFormat;
use super::trace_index::{self, TraceIndexBuilder};
use super::{DataFile, LakeError, Snapshot};
use crate::columns::Table;
use crate::log::Position;
use crate::scheduling::be_ordinary;
use crate::store::{FaultHook, FaultPoint};

/// Commits between two checkpoints: what a reader has to read one by one.
pub(super) const CHECKPOINT_COMMITS: u32 = 100;

/// Attempts of one commit against other writers before it is given back to the caller, who backs off.
const COMMIT_ATTEMPTS: u32 = 10;

/// A file that waits longer than this for its commit is written anew: whoever cleans up a shared table deletes what no version names after a
/// grace that is many times as long.
const STALE_UPLOAD: Duration = Duration::from_secs(60);

/// A shared table that was not looked at for so long is read anew: commits that it lacks may have been cleaned up.
const STALE_SNAPSHOT: Duration = Duration::from_secs(3600);

/// The runtime on which delta-rs reads and checkpoints; everything else here is plain blocking work of the calling thread.
/// Make and use it on a thread that drives no other runtime.
pub(crate) struct LakeRuntime(Option<Runtime>);

impl LakeRuntime {
    pub(crate) fn new() -> io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).max_blocking_threads(4).thread_name("scouter-lake").on_thread_start(be_ordinary).enable_all();
        Ok(Self(Some(runtime.build()?)))
    }

    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.as_ref().expect("it is there until it is dropped").block_on(work)
    }
}

impl Drop for LakeRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for its threads is not allowed where this may be dropped: inside a task of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// How far a commit brings a table in what it takes from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The application id: the log's UUID, or the name of a log's partition.
    pub(crate) source: Arc<str>,
    /// Of a shared table: the rows begin here, and the table must have none of later ones.
    pub(crate) begins: u64,
    /// What the table holds afterwards.
    pub(crate) position: u64,
}

/// One table of the lake, for its only writer in this process.
pub(crate) struct LakeTable {
    place: TablePlace,
    snapshot: Arc<Snapshot>,
    /// The last attempt ended without knowing what is on disk: `snapshot` must be read again before the next one.
    stale: bool,
    /// When the snapshot was last known to be the newest. By the clock on the wall: the other one stands still while a machine sleeps.
    looked: SystemTime,
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
    pub(super) home: Home,
    pub(super) dir: PathBuf,
    pub(super) format: Arc<FileFormat>,
    /// Of the log whose rows the table holds; `None` if they are of sources that servers share.
    pub(super) app_id: Option<Arc<str>>,
}

impl TablePlace {
    /// The files that the newest version on disk names, whoever wrote it.
    pub(super) fn named_on_disk(&self, runtime: &LakeRuntime) -> Result<HashSet<PathBuf>, LakeError> {
        let snapshot = commit_log::load(self, runtime)?;
        Ok(snapshot.files.iter().map(|file| file.path.clone()).collect())
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// A new file for rows of a date.
    pub(super) fn new_file(&self, date: i32) -> PathBuf {
        let folder = self.dir.join(format!("{}={}", super::schema::PARTITION, commit_log::date_text(date)));
        folder.join(format!("{}.parquet", Uuid::now_v7()))
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
    /// Opens the table in `tables/<name>`; a table that does not exist is made by its first commit. `tables` is absolute. In folders the
    /// rows are of the log `app_id`.
    pub(crate) fn open(
        runtime: &LakeRuntime,
        home: Home,
        tables: &Path,
        table: Table,
        app_id: Uuid,
        fault: FaultHook,
    ) -> Result<Self, LakeError> {
        let dir = tables.join(table.name());
        let format = FileFormat::new(table).map_err(|source| LakeError::Parquet { path: dir.clone(), source })?;
        let app_id = home.objects().is_none().then(|| app_id.to_string().into());
        let place = TablePlace { table, home, dir, format: Arc::new(format), app_id };
        let snapshot = Arc::new(commit_log::load(&place, runtime)?);
        Ok(Self { place, snapshot, stale: false, looked: SystemTime::now(), doubtful: Vec::new(), taken_out: Vec::new(), fault })
    }

    pub(crate) fn table(&self) -> Table {
        self.place.table
    }

    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Adds the rows of one unit, whose last frame is `position`; a unit that is in the table already is not added again. `marks` say how
    /// far a shared table gets by it.
    /// Blocking; durable when it answers. After an error the same unit must be tried again, alone.
    pub(crate) fn commit(
        &mut self,
        runtime: &LakeRuntime,
        batches: &[RecordBatch],
        position: Position,
        marks: &[Mark],
    ) -> Result<Commit, LakeError> {
        let mut files: Vec<DataFile> = Vec::new();
        let mut written = SystemTime::now();
        for _ in 0..COMMIT_ATTEMPTS {
            if self.stale || self.is_too_old() {
                self.refresh(runtime)?;
            }
            if let Some(version) = self.has_unit(position, marks)? {
                self.doubtful.extend(files.into_iter().map(|file| file.path));
                self.delete_doubtful();
                self.place.home.settle(&self.place.dir, version)?;
                self.reach(position);
                return Ok(Commit { snapshot: Arc::clone(&self.snapshot), files: 0, rows: 0, bytes: 0 });
            }
            if files.is_empty() {
                written = SystemTime::now();
                files = self.write_files(batches)?;
            }
            if self.is_shared() && age(written) > STALE_UPLOAD {
                self.doubtful.extend(files.drain(..).map(|file| file.path));
                continue;
            }
            let published = self.fault.check(FaultPoint::AfterParquet, self.table()).and_then(|()| self.publish(&files, position, marks));
            match published {
                // Behind a checkpoint nobody reads a commit; there it does not count.
                Ok(Published::Yes) if !self.is_too_old() => return Ok(self.adopt(files, position, marks)),
                Ok(_) => self.stale = true,
                Err(error) => {
                    self.stale = true;
                    self.doubtful.extend(files.into_iter().map(|file| file.path));
                    return Err(error);
                }
            }
        }
        self.doubtful.extend(files.into_iter().map(|file| file.path));
        Err(LakeError::Contended { path: self.place.dir.clone(), attempts: COMMIT_ATTEMPTS })
    }

    /// The version that has a unit, if one does.
    ///
    /// # Errors
    /// [`LakeError::TakenOver`] when the table has some of its rows: then they came by way of another server.
    fn has_unit(&self, position: Position, marks: &[Mark]) -> Result<Option<i64>, LakeError> {
        if !self.is_shared() {
            return Ok(self.snapshot.version.filter(|_| self.snapshot.position >= position));
        }
        let found = |mark: &Mark| self.snapshot.sources.get(&*mark.source).copied().unwrap_or(0);
        if marks.iter().all(|mark| found(mark) >= mark.position) {
            return Ok(self.snapshot.version);
        }
        match marks.iter().find(|mark| found(mark) > mark.begins) {
            None => Ok(None),
            Some(mark) => Err(LakeError::TakenOver {
                path: self.place.dir.clone(),
                source_name: mark.source.to_string(),
                found: found(mark),
                expected: mark.begins,
            }),
        }
    }

    /// Whether so much time has passed that the commits after the snapshot may have been cleaned up, so that their names are free again.
    fn is_too_old(&self) -> bool {
        self.is_shared() && age(self.looked) > STALE_SNAPSHOT
    }

    fn is_shared(&self) -> bool {
        self.place.home.objects().is_some()
    }

    /// What this process has applied up to `position` is in the snapshot. Of other tables the commits say so.
    fn reach(&mut self, position: Position) {
        if self.is_shared() && self.snapshot.position < position {
            self.snapshot = Arc::new(Snapshot { position, ..Snapshot::clone(&self.snapshot) });
        }
    }

    /// Work that follows some commits and that no reader waits for: a checkpoint when one is due.
    pub(crate) fn maintain(&self, runtime: &LakeRuntime) -> Result<(), LakeError> {
        match self.snapshot.version {
            Some(version) if (version + 1) % i64::from(CHECKPOINT_COMMITS) == 0 => commit_log::checkpoint(&self.place, runtime, version),
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
            if self.stale || self.is_too_old() {
                self.refresh(runtime)?;
            }
            let named: HashSet<&Path> = self.snapshot.files.iter().map(|file| file.path.as_path()).collect();
            let Some(version) = self.snapshot.version else { return Ok(false) };
            if !removed.iter().all(|file| named.contains(file.path.as_path())) {
                return Ok(false);
            }
            self.fault.check(FaultPoint::BeforeReplace, self.table())?;
            let (actions, operation) = commit_log::replacing_actions(&self.place, removed, added, &why)?;
            let bytes = commit_log::commit_bytes(&self.place.dir, actions, operation, &[])?;
            // Until the answer is known to be good.
            self.stale = true;
            if self.place.home.publish(&self.place.dir, version + 1, bytes)? == Published::Yes && !self.is_too_old() {
                self.fault.check(FaultPoint::AfterReplace, self.table())?;
                self.stale = false;
                return Ok(true);
            }
        }
        Err(LakeError::Contended { path: self.place.dir.clone(), attempts: COMMIT_ATTEMPTS })
    }

    fn adopt_replacement(&mut self, removed: &[Arc<DataFile>], added: Vec<DataFile>) {
        let gone: HashSet<&Path> = removed.iter().map(|file| file.path.as_path()).collect();
        let (out, mut files): (Vec<_>, Vec<_>) = self.snapshot.files.iter().cloned().partition(|file| gone.contains(file.path.as_path()));
        files.extend(added.into_iter().map(Arc::new));
        let version = self.snapshot.version.map(|version| version + 1);
        let sources = Arc::clone(&self.snapshot.sources);
        self.snapshot = Arc::new(Snapshot { version, position: self.snapshot.position, sources, files });
        self.looked = SystemTime::now();
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

    /// Lets go of files that were taken out at least `grace` ago, where another server deletes them.
    pub(crate) fn forget_taken_out(&mut self, grace: Duration) {
        self.taken_out.retain(|(_, since)| since.elapsed() < grace);
    }

    pub(crate) fn place(&self) -> TablePlace {
        self.place.clone()
    }

    /// Reads the table again if what is on disk is not known. The rows of the snapshot may then be more than readers were told.
    pub(crate) fn freshen(&mut self, runtime: &LakeRuntime) -> Result<(), LakeError> {
        if self.stale { self.refresh(runtime) } else { Ok(()) }
    }

    /// Reads what others have committed to a shared table, unless it was read within `age`.
    pub(crate) fn look(&mut self, runtime: &LakeRuntime, age: Duration) -> Result<(), LakeError> {
        if self.is_shared() && (self.stale || self::age(self.looked) >= age) { self.refresh(runtime) } else { Ok(()) }
    }

    fn refresh(&mut self, runtime: &LakeRuntime) -> Result<(), LakeError> {
        let looked = SystemTime::now();
        let newer = if self.is_too_old() { None } else { commit_log::catch_up(&self.place, &self.snapshot)? };
        let mut fresh = match newer {
            Some(newer) if newer.version == self.snapshot.version => {
                (self.looked, self.stale) = (looked, false);
                self.delete_doubtful();
                return Ok(());
            }
            Some(newer) => newer,
            None => commit_log::load(&self.place, runtime)?,
        };
        if self.is_shared() {
            fresh.position = self.snapshot.position;
        }
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
        (self.looked, self.stale) = (looked, false);
        self.delete_doubtful();
        Ok(())
    }

    /// Best effort: a file that stays is named by no commit and costs only room. In an object store a commit whose answer was lost may
    /// still come to be; there the search for unnamed files finds them later.
    fn delete_doubtful(&mut self) {
        if self.is_shared() {
            self.doubtful.clear();
        }
        if self.doubtful.is_empty() {
            return;
        }
        let named: HashSet<&Path> = self.snapshot.files.iter().map(|file| file.path.as_path()).collect();
        for path in self.doubtful.drain(..).filter(|path| !named.contains(path.as_path())) {
            self.place.remove_data_file(&path);
        }
    }

    fn write_files(&self, batches: &[RecordBatch]) -> Result<Vec<DataFile>, LakeError> {
        let runs = order_by_date(self.table(), batches).map_err(|source| LakeError::Arrow { table: self.table().name(), source })?;
        self.place.home.prepare_table(&self.place.dir)?;
        let mut files = Vec::with_capacity(runs.len());
        for run in runs {
            let written = self.write_file(batches, &run, &mut files);
            if let Err(error) = written {
                files.iter().for_each(|file: &DataFile| self.place.remove_data_file(&file.path));
                return Err(error);
            }
        }
        Ok(files)
    }

    fn write_file(&self, batches: &[RecordBatch], rows: &DateRows, files: &mut Vec<DataFile>) -> Result<(), LakeError> {
        let path = self.place.new_file(rows.date);
        let facts = self.place.home.write_file(&path, |local| self.place.format.write_synced(local, batches, rows))?;
        let mut index = TraceIndexBuilder::for_table(self.table());
        for run in runs(&rows.order) {
            index.add_rows(&batches[run.batch], run.range());
        }
        index.write_for(&self.place.home, &path);
        let (min_time_micros, max_time_micros) = facts.time_range_micros.unzip();
        files.push(DataFile { path, size_bytes: facts.size_bytes, rows: facts.rows, date: rows.date, min_time_micros, max_time_micros });
        Ok(())
    }

    fn publish(&self, files: &[DataFile], position: Position, marks: &[Mark]) -> Result<Published, LakeError> {
        let version = self.snapshot.version.map_or(0, |version| version + 1);
        let (actions, operation) = commit_log::actions(&self.place, version == 0, files)?;
        let of_log = self.place.app_id.iter().map(|log| Mark { source: Arc::clone(log), begins: 0, position: position.0 });
        let marks: Vec<Mark> = of_log.chain(marks.iter().cloned()).collect();
        let bytes = commit_log::commit_bytes(&self.place.dir, actions, operation, &marks)?;
        let published = self.place.home.publish(&self.place.dir, version, bytes)?;
        if published == Published::Yes {
            self.fault.check(FaultPoint::AfterCommit, self.table())?;
        }
        Ok(published)
    }

    fn adopt(&mut self, files: Vec<DataFile>, position: Position, marks: &[Mark]) -> Commit {
        let (rows, bytes) = files.iter().fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.size_bytes));
        let added = files.len() as u64;
        let mut all = Vec::with_capacity(self.snapshot.files.len() + files.len());
        all.extend(self.snapshot.files.iter().cloned());
        all.extend(files.into_iter().map(Arc::new));
        let version = Some(self.snapshot.version.map_or(0, |version| version + 1));
        let mut sources = Arc::clone(&self.snapshot.sources);
        if !marks.is_empty() {
            Arc::make_mut(&mut sources).extend(marks.iter().map(|mark| (mark.source.to_string(), mark.position)));
        }
        self.snapshot = Arc::new(Snapshot { version, position, sources, files: all });
        self.looked = SystemTime::now();
        Commit { snapshot: Arc::clone(&self.snapshot), files: added, rows, bytes }
    }
}

/// A clock that was set back makes all old.
fn age(since: SystemTime) -> Duration {
    since.elapsed().unwrap_or(Duration::MAX)
}

impl TablePlace {
    /// Best effort, with its index.
    fn remove_data_file(&self, path: &Path) {
        let _ = self.home.remove(path);
        if let Some(index) = trace_index::index_path(path) {
            let _ = self.home.remove(&index);
        }
    }
}
