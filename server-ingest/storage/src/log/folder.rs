//! The log's folder: its segments, its spares, its two small files, and trimming.
//!
//! ```text
//! log.meta                            log id, oldest position kept, durable position, session
//! batch-ids.snapshot                  ids of trimmed frames inside the dedupe window
//! segment-00000000000000000001.log    named by the position of its first frame
//! spare-0000000000.free               really written, ready for use
//! *.tmp                               unfinished; removed when the log is opened
//! ```

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::disk::Disk;
use super::fill::{Filling, Spare};
use super::format::{self, Invalid, Meta, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::{LogError, LogOptions};

/// A segment that holds, or will hold, frames.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) header: SegmentHeader,
    /// All checksums in it start from this.
    pub(super) seed: u32,
}

impl Segment {
    /// Opens the segment at `path` and checks its header against its name and the log.
    pub(super) fn open(file: File, path: PathBuf, first: u64, log_id: Uuid) -> Result<Self, LogError> {
        let mut bytes = [0_u8; SEGMENT_HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(&path, 0, "the segment has no header"),
            _ => LogError::io("read", &path, error),
        })?;
        let (header, seed) = SegmentHeader::decode(&bytes).map_err(|invalid| refuse(&path, invalid))?;
        if header.log_id != log_id {
            return Err(LogError::WrongLog { file: path });
        }
        if header.first != first {
            return Err(damaged(&path, 32, "the segment's header and its name disagree on its first position"));
        }
        Ok(Self { path, file, header, seed })
    }
}

pub(super) struct Folder {
    pub(super) dir: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: LogOptions,
    pub(super) log_id: Uuid,
    pub(super) state: Mutex<State>,
    /// Signalled when a spare came to be, was asked for, or could not be made.
    pub(super) changed: Condvar,
    /// Held while `log.meta` and `batch-ids.snapshot` are replaced and segments are let go.
    pub(super) trimming: Mutex<Meta>,
}

pub(super) struct State {
    /// In order; the last one is written to.
    pub(super) segments: VecDeque<Arc<Segment>>,
    pub(super) spares: Vec<Spare>,
    /// Bytes of all segments, spares and what is being filled.
    pub(super) disk_bytes: u64,
    pub(super) filling: Filling,
}

impl Folder {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `spare` the segment that starts with position `first`: header, sync, name, sync of the folder.
    pub(super) fn activate(&self, spare: Spare, first: u64) -> Result<Arc<Segment>, LogError> {
        let previous = self.lock().segments.back().map_or(0, |last| {
            // A segment without a frame makes room for one that starts with the same position: the rename replaces it.
            if last.header.first == first { last.header.previous } else { last.header.first }
        });
        let header = SegmentHeader {
            log_id: self.log_id,
            first,
            generation: spare.generation + 1,
            segment_bytes: spare.bytes,
            created_unix_nano: unix_nano(),
            previous,
        };
        let (block, seed) = header.encode();
        let write = self.disk.write_all_at(&spare.file, &spare.path, 0, &mut [IoSlice::new(&block)]);
        write.map_err(|error| LogError::io("write", &spare.path, error))?;
        self.disk.sync(&spare.file, &spare.path).map_err(|error| LogError::io("sync", &spare.path, error))?;
        let path = segment_path(&self.dir, first);
        self.disk.rename(&spare.path, &path).map_err(|error| LogError::io("rename", &spare.path, error))?;
        self.disk.sync_folder(&self.dir).map_err(|error| LogError::io("sync", &self.dir, error))?;
        let segment = Arc::new(Segment { path, file: spare.file, header, seed });
        let mut state = self.lock();
        if state.segments.back().is_some_and(|last| last.header.first == first) {
            let replaced = state.segments.pop_back().expect("there is a last one");
            state.disk_bytes -= replaced.header.segment_bytes;
        }
        state.segments.push_back(Arc::clone(&segment));
        Ok(segment)
    }

    /// Lets go of the segments all of whose frames are at or below `up_to`; `ids_before(first)` is the snapshot of batch ids
    /// before the first position kept, `durable` what is known to be synced.
    pub(super) fn trim(&self, up_to: u64, durable: u64, ids_before: impl FnOnce(u64) -> Vec<u8>) -> Result<(), LogError> {
        let mut meta = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let keep_from = {
            let state = self.lock();
            let firsts = state.segments.iter().map(|segment| segment.header.first);
            firsts.rev().find(|first| *first <= up_to.saturating_add(1))
        };
        let Some(keep_from) = keep_from.filter(|first| *first > meta.first) else {
            return Ok(());
        };
        // The ids first, then the word that they are gone, then they go: stopped between any two of these, opening the log
        // finds ids and segments, or a segment that it was told to let go.
        replace_file(&*self.disk, &self.dir, IDS_FILE, &ids_before(keep_from))?;
        let trimmed = Meta { first: keep_from, durable: durable.max(meta.durable), ..*meta };
        replace_file(&*self.disk, &self.dir, META_FILE, &trimmed.encode())?;
        *meta = trimmed;
        loop {
            let segment = {
                let mut state = self.lock();
                match state.segments.front() {
                    Some(first) if first.header.first < keep_from => state.segments.pop_front(),
                    _ => None,
                }
            };
            let Some(segment) = segment else { break };
            self.let_go(segment)?;
        }
        self.disk.sync_folder(&self.dir).map_err(|error| LogError::io("sync", &self.dir, error))
    }

    /// Lets go of every segment and spare of a log that is closed and whose frames, up to `last`, are all needed no more.
    pub(super) fn trim_all(&self, last: u64, ids: impl FnOnce(u64) -> Vec<u8>) -> Result<(), LogError> {
        let mut meta = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let first = last + 1;
        if meta.first < first {
            // In the order of `trim`.
            replace_file(&*self.disk, &self.dir, IDS_FILE, &ids(first))?;
            let trimmed = Meta { first, durable: last.max(meta.durable), ..*meta };
            replace_file(&*self.disk, &self.dir, META_FILE, &trimmed.encode())?;
            *meta = trimmed;
        }
        let (segments, spares) = {
            let mut state = self.lock();
            state.disk_bytes = 0;
            (std::mem::take(&mut state.segments), std::mem::take(&mut state.spares))
        };
        // A segment without a frame starts with `first`; a log that opens without it makes another.
        let paths = segments.iter().map(|segment| &segment.path).chain(spares.iter().map(|spare| &spare.path));
        for path in paths {
            self.disk.remove(path).map_err(|error| LogError::io("remove", path, error))?;
        }
        self.disk.sync_folder(&self.dir).map_err(|error| LogError::io("sync", &self.dir, error))
    }

    /// Turns a trimmed segment into a spare, or removes it.
    fn let_go(&self, segment: Arc<Segment>) -> Result<(), LogError> {
        let bytes = segment.header.segment_bytes;
        // A replay that still reads it keeps it from being written to again; it then reads the removed file.
        match Arc::try_unwrap(segment) {
            Ok(segment) if bytes == self.options.segment_bytes && self.lock().spares.len() < self.options.spare_segments => {
                let path = self.new_spare_path();
                self.disk.rename(&segment.path, &path).map_err(|error| LogError::io("rename", &segment.path, error))?;
                self.lock().add_spare(Spare { path, file: segment.file, bytes, generation: segment.header.generation });
            }
            kept => {
                let path = kept.as_ref().map_or_else(|shared| &shared.path, |owned| &owned.path);
                self.disk.remove(path).map_err(|error| LogError::io("remove", path, error))?;
                self.lock().disk_bytes -= bytes;
            }
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Notes that everything up to `durable` is on disk, so that damage to it is never taken for a torn end.
    pub(super) fn note_durable(&self, durable: u64) -> Result<(), LogError> {
        let mut meta = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = Meta { durable: durable.max(meta.durable), ..*meta };
        if noted != *meta {
            replace_file(&*self.disk, &self.dir, META_FILE, &noted.encode())?;
            *meta = noted;
        }
        Ok(())
    }

    pub(super) fn new_spare_path(&self) -> PathBuf {
        let mut state = self.lock();
        let number = state.filling.next_spare;
        state.filling.next_spare += 1;
        self.dir.join(format!("spare-{number:010}.free"))
    }
}

pub(super) const META_FILE: &str = "log.meta";
pub(super) const IDS_FILE: &str = "batch-ids.snapshot";

pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("segment-{first:020}.log"))
}

/// What is in a log's folder, by name.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// First position and path, in order.
    pub(super) segments: Vec<(u64, PathBuf)>,
    /// Number and path.
    pub(super) spares: Vec<(u64, PathBuf)>,
    pub(super) unfinished: Vec<PathBuf>,
}

impl Listing {
    /// Foreign files are left alone.
    pub(super) fn read(dir: &Path) -> Result<Self, LogError> {
        let mut listing = Self::default();
        for entry in fs::read_dir(dir).map_err(|error| LogError::io("list", dir, error))? {
            let path = entry.map_err(|error| LogError::io("list", dir, error))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some(first) = number(name, "segment-", ".log") {
                listing.segments.push((first, path));
            } else if let Some(spare) = number(name, "spare-", ".free") {
                listing.spares.push((spare, path));
            } else if name.ends_with(".tmp") {
                listing.unfinished.push(path);
            }
        }
        listing.segments.sort();
        listing.spares.sort();
        Ok(listing)
    }
}

/// Reads `log.meta`; `None` when there is none.
pub(super) fn read_meta(dir: &Path) -> Result<Option<Meta>, LogError> {
    let path = dir.join(META_FILE);
    match fs::read(&path) {
        Ok(bytes) => Meta::decode(&bytes).map(Some).map_err(|invalid| refuse(&path, invalid)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LogError::io("read", &path, error)),
    }
}

/// Reads the ids of trimmed frames. Only a log that never trimmed has no such file.
pub(super) fn read_ids(dir: &Path, meta: &Meta) -> Result<Vec<format::IdEntry>, LogError> {
    let path = dir.join(IDS_FILE);
    match fs::read(&path) {
        Ok(bytes) => {
            let (log_id, entries) = format::decode_ids(&bytes).map_err(|invalid| refuse(&path, invalid))?;
            if log_id == meta.log_id { Ok(entries) } else { Err(LogError::WrongLog { file: path }) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && meta.first == 1 => Ok(Vec::new()),
        Err(error) => Err(LogError::io("read", &path, error)),
    }
}

/// Puts `bytes` in place of the file: temporary file, sync, rename, sync of the folder.
pub(super) fn replace_file(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<(), LogError> {
    let temporary = dir.join(format!("{name}.tmp"));
    let file = disk.create(&temporary).map_err(|error| LogError::io("create", &temporary, error))?;
    let write = disk.write_all_at(&file, &temporary, 0, &mut [IoSlice::new(bytes)]);
    write.map_err(|error| LogError::io("write", &temporary, error))?;
    disk.sync(&file, &temporary).map_err(|error| LogError::io("sync", &temporary, error))?;
    disk.rename(&temporary, &dir.join(name)).map_err(|error| LogError::io("rename", &temporary, error))?;
    disk.sync_folder(dir).map_err(|error| LogError::io("sync", dir, error))
}

pub(super) fn damaged(file: &Path, offset: u64, what: &'static str) -> LogError {
    LogError::Corrupt { file: file.to_owned(), offset, what }
}

fn refuse(file: &Path, invalid: Invalid) -> LogError {
    match invalid {
        Invalid::Damaged(what) => damaged(file, 0, what),
        Invalid::Version { version, supported } => LogError::UnsupportedVersion { file: file.to_owned(), version, supported },
    }
}

fn number(name: &str, prefix: &str, suffix: &str) -> Option<u64> {
    name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok()
}

fn unix_nano() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}
