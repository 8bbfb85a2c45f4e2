//! How background work leaves room: it rests after each step, and hands its bytes to the disk in small parts.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::LakeError;

/// Written bytes after which a file is synced: a sync of the log that comes meanwhile has no more than this before it.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;

/// Longest sleep, so that a shutdown waits no longer.
const LONGEST_REST: Duration = Duration::from_millis(50);

/// The pace of background work.
#[derive(Debug)]
pub(crate) struct Pace<'a> {
    stop: &'a AtomicBool,
    /// Rest as a multiple of work.
    rest: f64,
    worked_since: Instant,
}

impl<'a> Pace<'a> {
    /// Work begins now.
    pub(crate) fn new(stop: &'a AtomicBool, rest: f64) -> Self {
        Self { stop, rest: rest.max(0.0), worked_since: Instant::now() }
    }

    /// Rests in proportion to the time since the last rest.
    ///
    /// # Errors
    /// [`LakeError::Stopped`] when the work is to end.
    pub(crate) fn rest(&mut self) -> Result<(), LakeError> {
        let mut left = self.worked_since.elapsed().mul_f64(self.rest);
        loop {
            if self.stop.load(Ordering::Acquire) {
                return Err(LakeError::Stopped);
            }
            if left.is_zero() {
                break;
            }
            let now = left.min(LONGEST_REST);
            thread::sleep(now);
            left -= now;
        }
        self.worked_since = Instant::now();
        Ok(())
    }
}

/// A file that is synced part by part.
#[derive(Debug)]
pub(super) struct PacedFile {
    file: File,
    unsynced: u64,
}

impl PacedFile {
    pub(super) fn new(file: File) -> Self {
        Self { file, unsynced: 0 }
    }

    /// Syncs the rest and gives the size.
    pub(super) fn finish(self) -> io::Result<u64> {
        self.file.sync_all()?;
        Ok(self.file.metadata()?.len())
    }
}

impl Write for PacedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written as u64;
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Lets other threads of the machine go first, where the system can.
pub(crate) fn yield_to_others() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: no memory is involved. For Linux 0 means the calling thread alone.
        let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
        if set != 0 {
            tracing::debug!(error = &io::Error::last_os_error() as &dyn std::error::Error, "background thread keeps its priority");
        }
    }
}
