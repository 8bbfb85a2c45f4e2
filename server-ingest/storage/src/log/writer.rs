//! The one thread that writes: group commit, answers, hand-over.
//!
//! Order of a commit: write, sync, `durable` moves, callers are answered, the sink gets the frames. Callers come before the
//! sink because their frames are safe whatever the sink does, and because the next requests come from callers that were
//! answered; a sink that blocks still holds up the next commit, which is how its back-pressure reaches the callers.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::dedupe::RecentIds;
use super::fill::Spare;
use super::folder::{Folder, Segment};
use super::format::{BLOCK_BYTES, FrameHeader, IdEntry, body_bytes, frame_bytes};
use super::queue::{Next, Pending, Queue};
use super::recover::Start;
use super::{Durability, LogError, Position, Sink};
use crate::scheduling;

static ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];

/// What the writer shares with the log's handle.
pub(super) struct Shared {
    pub(super) queue: Queue,
    /// Last position answered or about to be.
    pub(super) durable: AtomicU64,
    /// Last position that was synced; behind `durable` with `Durability::Os`.
    pub(super) synced: AtomicU64,
    pub(super) recent: Mutex<RecentIds>,
    pub(super) failure: OnceLock<LogError>,
    pub(super) frames: AtomicU64,
    pub(super) payload_bytes: AtomicU64,
    pub(super) commits: AtomicU64,
}

impl Shared {
    pub(super) fn new(queue: Queue, last: u64, recent: RecentIds) -> Self {
        Self {
            queue,
            durable: AtomicU64::new(last),
            synced: AtomicU64::new(last),
            recent: Mutex::new(recent),
            failure: OnceLock::new(),
            frames: AtomicU64::new(0),
            payload_bytes: AtomicU64::new(0),
            commits: AtomicU64::new(0),
        }
    }

    pub(super) fn recent(&self) -> MutexGuard<'_, RecentIds> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the log for good; the first cause stays.
    fn fail(&self, error: &LogError) {
        let error = self.failure.get_or_init(|| error.clone());
        tracing::error!(%error, cause = std::error::Error::source(error).map(tracing::field::display), "log failed");
        self.queue.fail(error);
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    sink: Sink,
    active: Arc<Segment>,
    /// Where the next commit goes.
    offset: u64,
    /// Position of the next frame.
    next: u64,
    session: u32,
    /// Headers and lists of the commit at hand; kept for its memory.
    heads: Vec<u8>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, folder: Arc<Folder>, sink: Sink, start: Start) -> Self {
        Self {
            shared,
            folder,
            sink,
            active: start.active,
            offset: start.next_commit,
            next: start.last + 1,
            session: start.session,
            heads: Vec::new(),
        }
    }

    /// The writer thread: until the queue is closed and empty, or the log failed.
    pub(super) fn run(mut self) {
        scheduling::be_prompt();
        let _ends = EndsWithThread { shared: Arc::clone(&self.shared), folder: Arc::clone(&self.folder) };
        let mut taken = Vec::new();
        let mut commit = Vec::new();
        loop {
            let done = match self.shared.queue.take(&mut taken) {
                Next::Write => self.write_all(&mut taken, &mut commit),
                Next::Rest => self.rest(),
                Next::End => break,
            };
            if let Err(error) = done {
                self.shared.fail(&error);
                for pending in commit.drain(..).chain(taken.drain(..)) {
                    let _ = pending.answer.send(Err(error.clone()));
                }
                return;
            }
        }
        if self.folder.options.durability == Durability::Os
            && let Err(error) = self.sync()
        {
            self.shared.fail(&error);
        }
    }

    /// Commits all of `taken`, in as few commits as sizes allow. An error is final; frames without an answer are then in
    /// `taken` and `commit`.
    fn write_all(&mut self, taken: &mut Vec<Pending>, commit: &mut Vec<Pending>) -> Result<(), LogError> {
        let mut commit_bytes = 0;
        let mut no_room: Option<LogError> = None;
        // Reversed and popped, so that what was not reached stays in `taken` when an error ends the log.
        taken.reverse();
        while let Some(pending) = taken.pop() {
            if pending.answer.is_closed() {
                // The caller gave up before its frame was written.
                continue;
            }
            let bytes = pending.frame_bytes;
            let full = commit_bytes + bytes > self.room();
            if !commit.is_empty() && (full || commit_bytes >= self.folder.options.max_commit_bytes as u64) {
                if let Err(error) = self.commit(commit) {
                    taken.push(pending);
                    return Err(error);
                }
                commit_bytes = 0;
            }
            if bytes > self.room() {
                // One try to get room for all that is taken: a full disk must not be filled and emptied for every frame.
                let rolled = no_room.take().map_or_else(|| self.roll(bytes), Err);
                match rolled {
                    Ok(()) => {}
                    Err(error) if error.is_retryable() => {
                        let _ = pending.answer.send(Err(error.clone()));
                        no_room = Some(error);
                        continue;
                    }
                    Err(error) => {
                        taken.push(pending);
                        return Err(error);
                    }
                }
            }
            commit_bytes += bytes;
            commit.push(pending);
        }
        self.commit(commit)
    }

    /// Bytes left in the active segment.
    fn room(&self) -> u64 {
        self.active.header.segment_bytes.saturating_sub(self.offset)
    }

    /// Goes on in a fresh segment that has room for a frame of `frame_bytes`.
    fn roll(&mut self, frame_bytes: u64) -> Result<(), LogError> {
        let usual = self.folder.options.segment_bytes;
        let needed = BLOCK_BYTES + frame_bytes.next_multiple_of(BLOCK_BYTES);
        let spare = if needed > usual { self.folder.make_spare(needed) } else { self.folder.take_spare() };
        let spare = spare.map_err(LogError::into_final)?;
        self.go_on_in(spare)
    }

    /// Goes on in a small segment, so that the large one can be let go. Without room for it everything stays as it is.
    fn rest(&mut self) -> Result<(), LogError> {
        let small = self.folder.resting_bytes();
        if self.active.header.segment_bytes <= small {
            return Ok(());
        }
        match self.folder.make_spare(small) {
            Ok(spare) => self.go_on_in(spare),
            Err(error) => {
                tracing::debug!(%error, "the log keeps its large segment");
                Ok(())
            }
        }
    }

    fn go_on_in(&mut self, spare: Spare) -> Result<(), LogError> {
        // Segments before the last are whole on disk, whatever the durability: recovery relies on it.
        self.sync()?;
        self.active = self.folder.activate(spare, self.next).map_err(LogError::into_final)?;
        self.offset = BLOCK_BYTES;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        let written = self.next - 1;
        if self.shared.synced.load(Ordering::Acquire) < written {
            self.folder.disk.sync(&self.active.file, &self.active.path).map_err(|error| failed("sync", &self.active.path, error))?;
            self.shared.synced.store(written, Ordering::Release);
        }
        Ok(())
    }

    /// Writes the frames as one commit and answers them. They fit into the active segment.
    fn commit(&mut self, commit: &mut Vec<Pending>) -> Result<(), LogError> {
        if commit.is_empty() {
            return Ok(());
        }
        let first = self.next;
        let written = self.write(commit)?;
        self.offset += written.next_multiple_of(BLOCK_BYTES);
        self.next += commit.len() as u64;
        if self.folder.options.durability == Durability::Fsync {
            self.sync()?;
        }
        self.note(first, commit);
        let mut handed_over = Vec::with_capacity(commit.len());
        for (position, pending) in (first..).map(Position).zip(commit.drain(..)) {
            if let Some(then) = pending.then {
                then();
            }
            // A caller that gave up has dropped the other end; its frame stays.
            let _ = pending.answer.send(Ok(position));
            drop(pending.room);
            handed_over.push((position, pending.frame));
        }
        for (position, frame) in handed_over {
            (self.sink)(position, frame);
        }
        if self.room() < self.active.header.segment_bytes / 2 {
            self.folder.want_spare();
        }
        Ok(())
    }

    /// Gives the frames their places and writes them with as few system calls as their number allows; returns their bytes.
    fn write(&mut self, commit: &[Pending]) -> Result<u64, LogError> {
        let seed = self.active.seed;
        let synced = self.shared.synced.load(Ordering::Acquire);
        self.heads.clear();
        let mut head_ends = Vec::with_capacity(commit.len());
        for (index, pending) in commit.iter().enumerate() {
            let frame = &pending.frame;
            let start = self.heads.len();
            self.heads.resize(start + super::format::FRAME_HEADER_BYTES, 0);
            let lists = self.heads.len();
            for index in frame.rejected_spans.iter().chain(&frame.rejected_records) {
                self.heads.extend_from_slice(&index.to_le_bytes());
            }
            let header = FrameHeader {
                body_crc: crc32c::crc32c_append(crc32c::crc32c_append(seed, &self.heads[lists..]), &frame.payload),
                session: self.session,
                position: self.next + index as u64,
                synced,
                received_unix_nano: frame.received_unix_nano,
                batch_id: frame.batch_id,
                payload_bytes: length(frame.payload.len()),
                rejected_spans: length(frame.rejected_spans.len()),
                rejected_records: length(frame.rejected_records.len()),
                door: frame.door as u8,
                envelope: frame.envelope as u8,
                last_of_commit: index + 1 == commit.len(),
            };
            self.heads[start..lists].copy_from_slice(&header.encode(seed));
            head_ends.push(self.heads.len());
        }
        let mut parts = Vec::with_capacity(3 * commit.len() + 1);
        let mut head_start = 0;
        let mut total = 0;
        for (pending, head_end) in commit.iter().zip(head_ends) {
            let body = body_bytes(&pending.frame);
            let unpadded = super::format::FRAME_HEADER_BYTES as u64 + body;
            let padded = frame_bytes(body);
            parts.push(IoSlice::new(&self.heads[head_start..head_end]));
            push_unless_empty(&mut parts, &pending.frame.payload);
            push_unless_empty(&mut parts, &ZEROS[..(padded - unpadded) as usize]);
            head_start = head_end;
            total += padded;
        }
        // Whole blocks: the kernel need not read what it only overwrites, and the next commit does not touch this one's.
        push_unless_empty(&mut parts, &ZEROS[..(total.next_multiple_of(BLOCK_BYTES) - total) as usize]);
        self.folder
            .disk
            .write_all_at(&self.active.file, &self.active.path, self.offset, &mut parts)
            .map_err(|error| failed("write", &self.active.path, error))?;
        Ok(total)
    }

    /// Counts the frames and makes them known as durable.
    fn note(&self, first: u64, commit: &[Pending]) {
        let mut payload_bytes = 0;
        {
            let mut recent = self.shared.recent();
            for (position, pending) in (first..).zip(commit) {
                payload_bytes += pending.frame.payload.len() as u64;
                recent.push(IdEntry {
                    position,
                    received_unix_nano: pending.frame.received_unix_nano,
                    batch_id: pending.frame.batch_id,
                    rejected_records: Some(length(pending.frame.rejected_records.len())),
                });
            }
        }
        self.shared.frames.fetch_add(commit.len() as u64, Ordering::Relaxed);
        self.shared.payload_bytes.fetch_add(payload_bytes, Ordering::Relaxed);
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.durable.store(self.next - 1, Ordering::Release);
    }
}

/// However the writer thread ends, nobody waits for it afterwards.
struct EndsWithThread {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
}

impl Drop for EndsWithThread {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let cause = io::Error::other("the log's sink or the log itself panicked");
            self.shared.fail(&failed("write", &self.folder.dir, cause));
        }
        self.folder.end_filling();
    }
}

fn failed(action: &'static str, path: &std::path::Path, cause: io::Error) -> LogError {
    LogError::Failed { action, path: PathBuf::from(path), cause: Arc::new(cause) }
}

fn push_unless_empty<'a>(parts: &mut Vec<IoSlice<'a>>, bytes: &'a [u8]) {
    if !bytes.is_empty() {
        parts.push(IoSlice::new(bytes));
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("append_durable refused what is longer")
}
