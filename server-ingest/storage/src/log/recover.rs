//! Opening a log: what is on disk is checked whole, an unfinished end is cut, everything else must be there.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use uuid::Uuid;

use super::dedupe::RecentIds;
use super::disk::Disk;
use super::fill::{Filling, Spare, write_zeros};
use super::folder::{Folder, Listing, META_FILE, Segment, State, damaged, read_ids, read_meta, replace_file};
use super::format::{BLOCK_BYTES, Meta, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::scan::{Check, Step, Walk};
use super::{LogError, LogOptions, Opened, Position};

/// What reading a whole log found.
pub(super) struct Recovered {
    pub(super) meta: Meta,
    pub(super) segments: VecDeque<Arc<Segment>>,
    pub(super) recent: RecentIds,
    pub(super) last: u64,
    end: Option<End>,
}

/// The end of the last segment.
#[derive(Debug, Clone, Copy)]
struct End {
    /// Where the next commit goes.
    next_commit: u64,
    /// Where an unfinished frame starts and ends; equal when there is none.
    torn: (u64, u64),
    file_bytes: u64,
}

impl Recovered {
    pub(super) fn opened(&self) -> Opened {
        Opened {
            log_id: self.meta.log_id,
            trimmed: Position(self.meta.first - 1),
            last: Position(self.last),
            recent_batches: self.recent.to_vec(),
            torn_bytes: self.end.map_or(0, |end| end.torn.1 - end.torn.0),
        }
    }
}

/// A log ready for its writer.
pub(super) struct Ready {
    pub(super) folder: Folder,
    /// Held as long as the log is open.
    pub(super) lock: File,
    pub(super) start: Start,
    pub(super) recent: RecentIds,
    pub(super) opened: Opened,
}

/// Where the writer goes on.
pub(super) struct Start {
    pub(super) active: Arc<Segment>,
    pub(super) next_commit: u64,
    pub(super) session: u32,
    pub(super) last: u64,
}

/// Opens or creates the log in `dir` for writing.
pub(super) fn open(dir: &Path, options: LogOptions, disk: Arc<dyn Disk>) -> Result<Ready, LogError> {
    check_options(&options)?;
    if !dir.exists() {
        fs::create_dir_all(dir).map_err(|error| LogError::io("create", dir, error))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_folder(parent).map_err(|error| LogError::io("sync", parent, error))?;
        }
    }
    let lock = lock_folder(dir)?;
    let listing = Listing::read(dir)?;
    for path in &listing.unfinished {
        disk.remove(path).map_err(|error| LogError::io("remove", path, error))?;
    }
    let meta = match read_meta(dir)? {
        Some(meta) => meta,
        None if listing.segments.is_empty() => Meta { log_id: Uuid::new_v4(), first: 1, durable: 0, session: 0 },
        None => return Err(LogError::NoLog { dir: dir.to_owned(), what: "there are segments, but log.meta is gone" }),
    };
    let recovered = read_all(dir, meta, &listing, &options, |path| OpenOptions::new().read(true).write(true).open(path))?;
    if let (Some(end), Some(active)) = (recovered.end, recovered.segments.back()) {
        mend_end(&*disk, active, end)?;
    }
    let opened = recovered.opened();
    let session = meta.session.checked_add(1).ok_or_else(|| damaged(&dir.join(META_FILE), 48, "no session number is left"))?;
    let meta = Meta { session, durable: recovered.last, ..meta };
    replace_file(&*disk, dir, META_FILE, &meta.encode())?;

    let spares = spares(dir, &listing, &meta, &options, &*disk)?;
    let segment_bytes: u64 = recovered.segments.iter().map(|segment| segment.header.segment_bytes).sum();
    let next_spare = listing.spares.last().map_or(0, |(number, _)| number + 1);
    let state = State {
        disk_bytes: segment_bytes + spares.iter().map(|spare| spare.bytes).sum::<u64>(),
        segments: recovered.segments,
        spares,
        filling: Filling::new(next_spare),
    };
    let folder = Folder {
        dir: dir.to_owned(),
        disk,
        options,
        log_id: meta.log_id,
        state: Mutex::new(state),
        changed: Condvar::new(),
        trimming: Mutex::new(meta),
    };
    let last_segment = folder.lock().segments.back().cloned();
    let (active, next_commit) = match (last_segment, recovered.end) {
        (Some(segment), Some(end)) => (segment, end.next_commit),
        _ => {
            let spare = folder.lock().spares.pop();
            let spare = spare.map_or_else(|| folder.make_spare(folder.options.segment_bytes), Ok)?;
            (folder.activate(spare, recovered.last + 1)?, BLOCK_BYTES)
        }
    };
    let start = Start { active, next_commit, session, last: recovered.last };
    Ok(Ready { folder, lock, start, recent: recovered.recent, opened })
}

/// Reads the log in `dir` and changes nothing.
pub(super) fn open_read_only(dir: &Path) -> Result<Recovered, LogError> {
    let no_log = || LogError::NoLog { dir: dir.to_owned(), what: "it has no log.meta" };
    if !dir.is_dir() {
        return Err(no_log());
    }
    let meta = read_meta(dir)?.ok_or_else(no_log)?;
    read_all(dir, meta, &Listing::read(dir)?, &LogOptions::default(), |path| File::open(path))
}

fn read_all(
    dir: &Path,
    meta: Meta,
    listing: &Listing,
    options: &LogOptions,
    open_file: impl Fn(&Path) -> std::io::Result<File>,
) -> Result<Recovered, LogError> {
    let mut segments = VecDeque::new();
    // Below `meta.first` there may be segments that were trimmed, but not yet renamed or removed when the process ended.
    for (first, path) in listing.segments.iter().filter(|(first, _)| *first >= meta.first) {
        let file = open_file(path).map_err(|error| LogError::io("open", path, error))?;
        segments.push_back(Arc::new(Segment::open(file, path.clone(), *first, meta.log_id)?));
    }
    let mut recent = RecentIds::new(options);
    for entry in read_ids(dir, &meta)? {
        if entry.position < meta.first {
            recent.push(entry);
        }
    }
    let mut expected = meta.first;
    let mut end = None;
    for (index, segment) in segments.iter().enumerate() {
        if segment.header.first != expected {
            return Err(LogError::MissingSegment { dir: dir.to_owned(), expected, found: segment.header.first });
        }
        let following = segments.get(index + 1).map(|following| following.header);
        if let Some(following) = following.filter(|following| following.previous != segment.header.first) {
            let mut walk = Walk::new(Arc::clone(segment))?;
            while let Step::Frame { .. } = walk.step(Check::HeaderOnly)? {}
            return Err(LogError::MissingSegment { dir: dir.to_owned(), expected: walk.expected(), found: following.first });
        }
        let until = following.map(|following| following.first);
        end = Some(read_segment(segment, until, meta.durable, &mut recent, &mut expected)?);
    }
    if end.is_none() && meta.durable >= meta.first {
        return Err(LogError::MissingSegment { dir: dir.to_owned(), expected, found: 0 });
    }
    Ok(Recovered { meta, segments, recent, last: expected - 1, end })
}

/// Checks every frame of a segment: up to position `until` (exclusive) where another segment follows, else up to where the
/// frames end.
fn read_segment(
    segment: &Arc<Segment>,
    until: Option<u64>,
    durable: u64,
    recent: &mut RecentIds,
    expected: &mut u64,
) -> Result<End, LogError> {
    let mut walk = Walk::new(Arc::clone(segment))?;
    let gap = loop {
        if until == Some(walk.expected()) {
            break None;
        }
        match walk.step(Check::Body)? {
            Step::Frame { header, .. } => recent.push(header.id_entry()),
            Step::Gap(gap) => break Some(gap),
        }
    };
    *expected = walk.expected();
    let torn = match gap {
        None => (0, 0),
        Some(gap) if until.is_some() || walk.expected() <= durable => {
            return Err(damaged(&segment.path, gap.offset, gap.what));
        }
        Some(gap) => (gap.offset, walk.torn_end(gap)?),
    };
    Ok(End { next_commit: walk.next_commit(), torn, file_bytes: walk.file_bytes() })
}

/// Erases an unfinished end, so that it is reported once, gives a cut file its size back, and syncs: a killed process may have
/// left frames that only the page cache holds, and from now on they count as durable.
fn mend_end(disk: &dyn Disk, active: &Segment, end: End) -> Result<(), LogError> {
    write_zeros(disk, &active.file, &active.path, end.torn.0, end.torn.1)?;
    write_zeros(disk, &active.file, &active.path, end.file_bytes, active.header.segment_bytes)?;
    disk.sync(&active.file, &active.path).map_err(|error| LogError::io("sync", &active.path, error))
}

/// The spares on disk, those of another size removed; trimmed segments that were not let go are let go now.
fn spares(dir: &Path, listing: &Listing, meta: &Meta, options: &LogOptions, disk: &dyn Disk) -> Result<Vec<Spare>, LogError> {
    let mut spares = Vec::new();
    for (_, path) in &listing.spares {
        match open_spare(path) {
            Ok(spare) if spare.bytes == options.segment_bytes && spares.len() < options.spare_segments => spares.push(spare),
            _ => disk.remove(path).map_err(|error| LogError::io("remove", path, error))?,
        }
    }
    let trimmed: Vec<&PathBuf> = listing.segments.iter().filter(|(first, _)| *first < meta.first).map(|(_, path)| path).collect();
    for path in &trimmed {
        disk.remove(path).map_err(|error| LogError::io("remove", path, error))?;
    }
    if !trimmed.is_empty() {
        disk.sync_folder(dir).map_err(|error| LogError::io("sync", dir, error))?;
    }
    Ok(spares)
}

fn open_spare(path: &Path) -> std::io::Result<Spare> {
    use std::os::unix::fs::FileExt;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let bytes = file.metadata()?.len();
    let mut header = [0_u8; SEGMENT_HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    // All zero: never used. Anything else that is no header counts as used, which only makes the report of a torn end coarser.
    let generation = match SegmentHeader::decode(&header) {
        Ok((header, _)) => header.generation,
        Err(_) if header == [0; SEGMENT_HEADER_BYTES] => 0,
        Err(_) => 1,
    };
    Ok(Spare { path: path.to_owned(), file, bytes, generation })
}

/// Two writers would destroy the log, so the folder itself is locked; the lock ends with the process.
fn lock_folder(dir: &Path) -> Result<File, LogError> {
    let lock = File::open(dir).map_err(|error| LogError::io("open", dir, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(LogError::io("lock", dir, error)),
    }
}

fn check_options(options: &LogOptions) -> Result<(), LogError> {
    let refuse = |setting, what| Err(LogError::Options { setting, what });
    if !options.segment_bytes.is_multiple_of(BLOCK_BYTES) || options.segment_bytes < 4 * BLOCK_BYTES {
        return refuse("segment_bytes", "must be a multiple of 4096 and at least 16384");
    }
    if options.max_bytes < 2 * options.segment_bytes {
        return refuse("max_bytes", "must be at least two segments");
    }
    if options.max_commit_bytes == 0 || options.queue_frames == 0 || options.queue_bytes < 1024 {
        return refuse("max_commit_bytes, queue_frames, queue_bytes", "must not be zero, queue_bytes at least 1024");
    }
    Ok(())
}
