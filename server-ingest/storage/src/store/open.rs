//! Opening a store: lock, log, tables, replay, threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::applier::{self, Shared};
use super::flusher::{Flusher, Trimmer};
use super::folder::{self, CommittedMark, FolderLock};
use super::handover::{Taker, handover};
use super::hot::Hot;
use super::maintainer::Maintainer;
use super::tables::Tables;
use super::{Source, Store, StoreError, StoreOptions, Threads};
use crate::lake::{Home, Objects, TraceIndex};
use crate::log::{Frame, Log, LogError, Opened, Position, RecentBatch};
use crate::scheduling;

/// Payloads between the log and the rows; less where few rows are kept.
const MAX_HANDOVER_BYTES: usize = 16 * 1024 * 1024;

/// What was found when a store was opened.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// The log's name: the application id of the tables' commits.
    pub log_id: Uuid,
    /// The last durable frame.
    pub last: Position,
    /// Frames read from the log. Most of their rows may be in the tables already: the log lets go of whole segments only.
    pub replayed_frames: u64,
    /// Bytes of unfinished, never acknowledged frames that were cut from the log.
    pub torn_bytes: u64,
    /// Batches inside the dedupe window, oldest first.
    pub recent_batches: Vec<RecentBatch>,
    /// The log was behind the tables, as a power loss under `durability = "os"` leaves it. Its frames are in the tables; it was
    /// put aside here, and a new one begun.
    pub retired_log: Option<PathBuf>,
    /// How long the opening took.
    pub took: Duration,
}

/// The parts of a store before its threads run.
struct Parts {
    log: Log,
    frames: Taker,
    opened: Opened,
    flusher: Flusher,
    replayed_frames: u64,
}

/// Runs on a thread of its own: delta-rs needs a runtime, and the caller may be inside another one.
pub(super) fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    let thread = spawn("scouter-open", work)?;
    thread.join().unwrap_or_else(|_| Err(StoreError::Failed { what: "opening it panicked".to_owned() }))
}

/// A thread that may have much to do at once, as may those that it starts, unless it says otherwise; whoever opens the store may be prompt.
fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, StoreError> {
    let ordinary = || {
        scheduling::be_ordinary();
        work()
    };
    thread::Builder::new().name(name.to_owned()).spawn(ordinary).map_err(|error| StoreError::Failed { what: format!("no thread: {error}") })
}

pub(super) fn open(dir: &Path, options: StoreOptions) -> Result<(Arc<Store>, Recovery), StoreError> {
    let started = Instant::now();
    let dir = folder::create(dir)?;
    let lock = FolderLock::exclusive(&dir, &options.holder)?;
    let mut parts = open_parts(&dir, &options)?;
    let mut retired_log = None;
    let replayed_frames = parts.replayed_frames;
    let recent_batches = std::mem::take(&mut parts.opened.recent_batches);
    let torn_bytes = parts.opened.torn_bytes;
    let marked = parts.flusher.trimmer.iter().map(|trimmer| trimmer.mark.read());
    let known = parts.flusher.tables.snapshots().iter().map(|snapshot| snapshot.position).chain(marked).max();
    if known > Some(parts.opened.last) {
        // The next frames would get positions the tables take for committed. The names of positions go with the log's UUID.
        retired_log = Some(retire(parts, &dir)?);
        parts = open_parts(&dir, &options)?;
    }
    let Parts { log, frames, opened, flusher, .. } = parts;
    let recovery = Recovery {
        log_id: opened.log_id,
        last: opened.last,
        replayed_frames,
        torn_bytes,
        recent_batches,
        retired_log,
        took: started.elapsed(),
    };
    let log = Arc::new(log);
    let shared = Arc::clone(&flusher.shared);
    let applier = spawn("scouter-applier", {
        let (shared, frames) = (Arc::clone(&shared), frames.clone());
        move || applier::run(&shared, &frames)
    })?;
    let maintainer = Maintainer::new(Arc::clone(&shared), Arc::clone(&flusher.tables));
    let flusher = spawn("scouter-flusher", {
        let log = Arc::clone(&log);
        move || flusher.run(Some(&log))
    });
    let flusher = flusher.inspect_err(|_| frames.abandon())?;
    let maintainer = spawn("scouter-maintainer", move || maintainer.run());
    let maintainer = maintainer.inspect_err(|_| {
        shared.abandon();
        frames.abandon();
    })?;
    let threads = Threads { applier: Some((applier, frames)), flusher, maintainer };
    let store = Store {
        shared,
        source: Source::Log(log),
        threads: Mutex::new(Some(threads)),
        closing: AtomicBool::new(false),
        lock: Mutex::new(Some(lock)),
    };
    Ok((Arc::new(store), recovery))
}

fn open_parts(dir: &Path, options: &StoreOptions) -> Result<Parts, StoreError> {
    let (giver, frames) = handover((options.hot_max_bytes / 2).min(MAX_HANDOVER_BYTES));
    let sink = Box::new(move |position, frame| giver.give(position, frame));
    let (log, opened) = Log::open(&folder::log_dir(dir), options.log_options(), sink)?;
    let tables = Arc::new(Tables::open(&Home::Folder, &folder::tables_dir(dir), opened.log_id, options)?);
    let mark = CommittedMark::new(dir, opened.log_id);
    let (shared, committed) = shared_of(&tables, &mark, opened.trimmed, options, true);
    let mut flusher = Flusher { shared: Arc::clone(&shared), tables, trimmer: Some(Trimmer::new(mark)) };
    // Not trimmed while frames are read from the segments.
    let flush_bytes = options.flush_bytes.min(options.hot_max_bytes / 2);
    let replayed_frames = replay(&shared, log.replay(committed), opened.last, |bytes| {
        if bytes >= flush_bytes { flusher.flush().map(drop).map_err(StoreError::from) } else { Ok(()) }
    })?;
    Ok(Parts { log, frames, opened, flusher, replayed_frames })
}

/// The state before replay, and the position after which it begins: all tables have the frames up to it.
///
/// A table may have committed nothing for long, since it had no rows; what the log was trimmed of is in the tables all the same, and the mark,
/// which is not synced, may be older than that. Each frame has a row, so some table committed the last trimmed frame or a later one. If none
/// did, tables are missing; then nothing is skipped, and the replay says which frame it does not find.
fn shared_of(tables: &Tables, mark: &CommittedMark, trimmed: Position, options: &StoreOptions, may_write: bool) -> (Arc<Shared>, Position) {
    let snapshots = tables.snapshots();
    let lowest = snapshots.iter().map(|snapshot| snapshot.position).min().unwrap_or_default();
    let is_covered = snapshots.iter().any(|snapshot| snapshot.position >= trimmed);
    let committed = lowest.max(mark.read()).max(if is_covered { trimmed } else { Position(0) });
    let trace_index = TraceIndex::new(options.trace_index_bytes, may_write, Home::Folder);
    (Arc::new(Shared::new(Hot::new(snapshots, committed), options.clone(), trace_index)), committed)
}

/// Applies frames, telling `grown` after each how many hot bytes there are. `last` is the last durable frame, which a trimmed
/// log does not have any more.
fn replay(
    shared: &Shared,
    frames: impl Iterator<Item = Result<(Position, Frame), LogError>>,
    last: Position,
    mut grown: impl FnMut(usize) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let mut count = 0;
    for next in frames {
        let (position, frame) = next?;
        let mut hot = shared.hot();
        hot.apply(position, &frame, None);
        let bytes = hot.bytes();
        drop(hot);
        grown(bytes)?;
        count += 1;
    }
    let mut hot = shared.hot();
    hot.end_replay(last);
    let applied = hot.applied();
    drop(hot);
    shared.applied.send_replace(applied);
    Ok(count)
}

/// Opens tables that servers share. Their rows come from elsewhere.
pub(super) fn open_shared(objects: &Objects, options: &StoreOptions) -> Result<Arc<Store>, StoreError> {
    let home = Home::Objects(objects.clone());
    let tables = Arc::new(Tables::open(&home, objects.tables_dir(), Uuid::nil(), options)?);
    let trace_index = TraceIndex::new(options.trace_index_bytes, true, home);
    let shared = Arc::new(Shared::new(Hot::new(tables.snapshots(), Position(0)), options.clone(), trace_index));
    shared.maintains.store(false, Ordering::Release);
    let maintainer = Maintainer::new(Arc::clone(&shared), Arc::clone(&tables));
    let flusher = Flusher { shared: Arc::clone(&shared), tables: Arc::clone(&tables), trimmer: None };
    let flusher = spawn("scouter-flusher", move || flusher.run(None))?;
    let maintainer = spawn("scouter-maintainer", move || maintainer.run()).inspect_err(|_| shared.abandon())?;
    let threads = Threads { applier: None, flusher, maintainer };
    Ok(Arc::new(Store {
        shared,
        source: Source::Shared { tables: super::shared::SharedTables::new(tables), objects: objects.clone() },
        threads: Mutex::new(Some(threads)),
        closing: AtomicBool::new(false),
        lock: Mutex::new(None),
    }))
}

/// Commits what only the log has, closes the log and puts its folder aside.
fn retire(mut parts: Parts, dir: &Path) -> Result<PathBuf, StoreError> {
    parts.flusher.flush()?;
    parts.log.close()?;
    drop(parts.log);
    let from = folder::log_dir(dir);
    let to = dir.join(format!("log-retired-{}", parts.opened.log_id));
    fs::rename(&from, &to).map_err(|error| StoreError::folder("put aside", &from, error))?;
    fs::File::open(dir).and_then(|folder| folder.sync_all()).map_err(|error| StoreError::folder("sync", dir, error))?;
    tracing::warn!(log = %to.display(), "the log was behind the tables and was replaced");
    Ok(to)
}

pub(super) fn open_read_only(dir: &Path) -> Result<Arc<Store>, StoreError> {
    let dir = folder::absolute(dir)?;
    let lock = FolderLock::shared(&dir)?;
    let log_dir = folder::log_dir(&dir);
    if !log_dir.is_dir() && !folder::tables_dir(&dir).is_dir() {
        return Err(StoreError::NotFound { path: dir });
    }
    let log = match Log::open_read_only(&log_dir) {
        Ok((log, opened)) => Some((log, opened)),
        Err(LogError::NoLog { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let options = StoreOptions::default();
    let log_id = log.as_ref().map_or(Uuid::nil(), |(_, opened)| opened.log_id);
    let tables = Tables::open(&Home::Folder, &folder::tables_dir(&dir), log_id, &options)?;
    let trimmed = log.as_ref().map_or(Position(0), |(_, opened)| opened.trimmed);
    let (shared, committed) = shared_of(&tables, &CommittedMark::new(&dir, log_id), trimmed, &options, false);
    drop(tables);
    let mut last = committed;
    if let Some((log, opened)) = &log {
        last = opened.last;
        replay(&shared, log.replay(committed), last, |_| Ok(()))?;
    }
    let store = Store {
        shared,
        source: Source::ReadOnly { last },
        threads: Mutex::new(None),
        closing: AtomicBool::new(false),
        lock: Mutex::new(lock),
    };
    Ok(Arc::new(store))
}
