//! Spare segments: files that were really written once, so that a sync of what is put in them later commits no metadata.
//!
//! A thread of their own writes new ones, because writing 64 MiB would hold up commits. Trimmed segments become spares as they
//! are; in the steady state nothing is filled.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::LogError;
use super::disk::Disk;
use super::folder::{Folder, State};
use super::format::BLOCK_BYTES;

static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// While frames are refused for want of a segment, one is tried for so often, whether or not another frame comes: whoever asks whether
/// the log can be written to would keep all frames away.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A file ready to become a segment.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) bytes: u64,
    /// How often it was a segment.
    pub(super) generation: u64,
}

/// Where writer and filling thread stand.
pub(super) struct Filling {
    pub(super) next_spare: u64,
    wanted: bool,
    refused: Option<LogError>,
    /// Why frames were refused, until there is a spare again.
    obstacle: Option<LogError>,
    ended: bool,
}

impl Filling {
    /// Numbers spares from `next_spare` on.
    pub(super) fn new(next_spare: u64) -> Self {
        Self { next_spare, wanted: false, refused: None, obstacle: None, ended: false }
    }
}

impl Folder {
    /// Asks for a spare without waiting, unless there is one.
    pub(super) fn want_spare(&self) {
        let mut state = self.lock();
        if state.spares.is_empty() && !state.filling.wanted {
            state.filling.wanted = true;
            self.changed.notify_all();
        }
    }

    /// Takes a spare of the usual size, waiting until one is filled. The error is for the frames that need it.
    pub(super) fn take_spare(&self) -> Result<Spare, LogError> {
        let mut state = self.lock();
        state.filling.refused = None;
        loop {
            if let Some(spare) = state.spares.pop() {
                return Ok(spare);
            }
            if let Some(error) = state.filling.refused.take() {
                state.filling.obstacle = Some(error.clone()).filter(LogError::is_retryable);
                // The filling thread has to know that it is to try again.
                self.changed.notify_all();
                return Err(error);
            }
            if state.filling.ended {
                return Err(LogError::Closed);
            }
            state.filling.wanted = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Why there is no segment for the next frames, if they are refused for that.
    pub(super) fn obstacle(&self) -> Option<LogError> {
        self.lock().filling.obstacle.clone()
    }

    /// Makes a spare of any size, for a frame that is larger than a segment or a log that rests; usual spares make room for it
    /// in the budget.
    pub(super) fn make_spare(&self, bytes: u64) -> Result<Spare, LogError> {
        let over = (self.lock().disk_bytes + bytes).saturating_sub(self.options.max_bytes);
        self.drop_spares(usize::try_from(over.div_ceil(self.options.segment_bytes)).unwrap_or(usize::MAX))?;
        self.reserve(&mut self.lock(), bytes)?;
        self.fill(bytes)
    }

    /// Removes up to `most` spares.
    pub(super) fn drop_spares(&self, most: usize) -> Result<(), LogError> {
        let dropped = {
            let mut state = self.lock();
            let keep = state.spares.len().saturating_sub(most);
            state.spares.split_off(keep)
        };
        for spare in dropped {
            self.disk.remove(&spare.path).map_err(|error| LogError::io("remove", &spare.path, error))?;
            self.lock().disk_bytes -= spare.bytes;
        }
        Ok(())
    }

    /// Size of the segment that a log to which nothing is appended goes on in: room for some requests while the next segment
    /// of the usual size is written.
    pub(super) fn resting_bytes(&self) -> u64 {
        let part = self.options.segment_bytes / 16;
        (part - part % BLOCK_BYTES).max(4 * BLOCK_BYTES)
    }

    /// The filling thread: until [`Folder::end_filling`].
    pub(super) fn fill_when_wanted(&self) {
        let _ends = EndsWithThread(self);
        let mut state = self.lock();
        loop {
            if state.filling.ended {
                return;
            }
            if !state.filling.wanted || !state.spares.is_empty() {
                state.filling.wanted = false;
                if state.filling.obstacle.is_none() {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                } else {
                    state = self.changed.wait_timeout(state, TRY_AGAIN).unwrap_or_else(PoisonError::into_inner).0;
                    state.filling.wanted = state.filling.obstacle.is_some();
                }
                continue;
            }
            let bytes = self.options.segment_bytes;
            let filled = match self.reserve(&mut state, bytes) {
                Ok(()) => {
                    drop(state);
                    let filled = self.fill(bytes);
                    state = self.lock();
                    filled
                }
                Err(error) => Err(error),
            };
            state.filling.wanted = false;
            match filled {
                Ok(spare) => state.add_spare(spare),
                Err(error) => state.filling.refused = Some(error),
            }
            self.changed.notify_all();
        }
    }

    pub(super) fn end_filling(&self) {
        self.lock().filling.ended = true;
        self.changed.notify_all();
    }

    /// Beside the segment that is written to there may always be one more, however large that one is: it may be of a time with a larger
    /// budget, and it can be let go only when the log goes on in another.
    fn reserve(&self, state: &mut MutexGuard<'_, State>, bytes: u64) -> Result<(), LogError> {
        let active_bytes = state.segments.back().map_or(0, |active| active.header.segment_bytes);
        let has_only_active = state.disk_bytes == active_bytes && active_bytes > self.options.segment_bytes;
        if state.disk_bytes + bytes > self.options.max_bytes && !has_only_active {
            return Err(LogError::BudgetExhausted {
                dir: self.dir.clone(),
                budget_bytes: self.options.max_bytes,
                used_bytes: state.disk_bytes,
                need_bytes: bytes,
            });
        }
        state.disk_bytes += bytes;
        Ok(())
    }

    /// Creates and writes a file of `bytes` that are reserved; gives the reservation back if it cannot.
    fn fill(&self, bytes: u64) -> Result<Spare, LogError> {
        // A disk that is nearly full is not filled to its end and emptied again each time: others write to it.
        if self.disk.free_bytes(&self.dir).is_some_and(|free| free < bytes) {
            self.lock().disk_bytes -= bytes;
            let cause = Arc::new(io::ErrorKind::StorageFull.into());
            return Err(LogError::DiskFull { dir: self.dir.clone(), need_bytes: bytes, cause });
        }
        let path = self.new_spare_path();
        let unfinished = path.with_extension("tmp");
        self.write_spare(&unfinished, &path, bytes).map_err(|error| {
            // What was written of it must not keep the room that others need.
            let _ = self.disk.remove(&unfinished);
            self.lock().disk_bytes -= bytes;
            match error {
                LogError::Io { ref cause, .. } if error.is_out_of_space() => {
                    LogError::DiskFull { dir: self.dir.clone(), need_bytes: bytes, cause: cause.clone() }
                }
                other => other,
            }
        })
    }

    fn write_spare(&self, unfinished: &Path, path: &Path, bytes: u64) -> Result<Spare, LogError> {
        let file = self.disk.create(unfinished).map_err(|error| LogError::io("create", unfinished, error))?;
        write_zeros(&*self.disk, &file, unfinished, 0, bytes)?;
        self.disk.sync(&file, unfinished).map_err(|error| LogError::io("sync", unfinished, error))?;
        self.disk.rename(unfinished, path).map_err(|error| LogError::io("rename", unfinished, error))?;
        Ok(Spare { path: path.to_owned(), file, bytes, generation: 0 })
    }
}

impl State {
    /// There is a segment for the next frames again.
    pub(super) fn add_spare(&mut self, spare: Spare) {
        self.spares.push(spare);
        self.filling.obstacle = None;
    }
}

/// However the filling thread ends, nobody waits for it afterwards. Made before the state is locked, so dropped after.
struct EndsWithThread<'a>(&'a Folder);

impl Drop for EndsWithThread<'_> {
    fn drop(&mut self) {
        self.0.end_filling();
    }
}

/// Writes zeros to the bytes from `start` to `end`; does not sync.
pub(super) fn write_zeros(disk: &dyn Disk, file: &File, path: &Path, start: u64, end: u64) -> Result<(), LogError> {
    let mut offset = start;
    while offset < end {
        let length = (end - offset).min(ZEROS.len() as u64);
        let zeros = &ZEROS[..length as usize];
        disk.write_all_at(file, path, offset, &mut [IoSlice::new(zeros)]).map_err(|error| LogError::io("write", path, error))?;
        offset += length;
    }
    Ok(())
}
