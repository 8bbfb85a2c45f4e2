//! The bare disk: a write and an `fdatasync` into a file that was written before, as the log does it.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use scouter_examples::latency::Histogram;

const FILE_BYTES: usize = 64 * 1024 * 1024;

/// Between two of those that are measured beside a load: few enough to be no load themselves.
const REST: Duration = Duration::from_millis(20);

/// A file of some size, written and synced, and what is written into it again.
pub(crate) struct BareDisk {
    file: File,
    content: Vec<u8>,
    turn: usize,
}

impl BareDisk {
    /// In `folder`, without a name, for writes of `bytes`.
    pub(crate) fn new(folder: &Path, bytes: usize) -> anyhow::Result<Self> {
        let file = tempfile::tempfile_in(folder).with_context(|| folder.display().to_string())?;
        let bytes = bytes.next_multiple_of(4096).min(FILE_BYTES);
        let content: Vec<u8> = (0..bytes).map(|index| (index as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        for offset in (0..FILE_BYTES).step_by(bytes) {
            file.write_all_at(&content, offset as u64)?;
        }
        file.sync_all()?;
        Ok(Self { file, content, turn: 0 })
    }

    /// How long each of so many took, one right after the other.
    pub(crate) fn times(&mut self, count: usize) -> anyhow::Result<Histogram> {
        let mut times = Histogram::default();
        for _ in 0..count {
            times.record(self.time()?);
        }
        Ok(times)
    }

    fn time(&mut self) -> anyhow::Result<Duration> {
        let bytes = self.content.len();
        let offset = self.turn * bytes % (FILE_BYTES - bytes + 1) / 4096 * 4096;
        self.turn += 1;
        let start = Instant::now();
        self.file.write_all_at(&self.content, offset as u64)?;
        self.file.sync_data()?;
        Ok(start.elapsed())
    }
}

/// The bare disk beside a load, in a thread of its own.
pub(crate) struct Meanwhile {
    ends: Arc<AtomicBool>,
    times: JoinHandle<anyhow::Result<Histogram>>,
}

impl Meanwhile {
    pub(crate) fn begin(mut disk: BareDisk) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let times = thread::spawn(move || {
            let mut times = Histogram::default();
            while !told.load(Ordering::Relaxed) {
                times.record(disk.time()?);
                thread::sleep(REST);
            }
            Ok(times)
        });
        Self { ends, times }
    }

    pub(crate) fn end(self) -> anyhow::Result<Histogram> {
        self.ends.store(true, Ordering::Relaxed);
        self.times.join().expect("it does not panic")
    }
}
