//! The write-ahead log: what makes an acknowledgement true.
//!
//! [`Log::append_durable`] answers after the frame is on disk and synced. One thread owns the files: it takes everything
//! that is queued, writes it as one *commit* with a few large writes, syncs once (group commit), answers all callers, and
//! hands the frames to the *sink* in position order. Segments are files of fixed size that were really written once and are
//! used again, so that a sync commits no file-system metadata (measured: two to four times faster).
//!
//! Terms: a **frame** is one request as it came in; a **position** is its number, from 1, never used twice; a **commit** is
//! the frames that shared one sync; a **segment** is one file; a **session** is one opening of the log for writing.
//! The bytes are described in `docs/storage-format.md`, the reasons in `docs/adr/0003-log.md`.
//!
//! Invariants:
//! - a byte that was synced is never written again before its segment is trimmed (commits start on a fresh 4096-byte block);
//! - positions are gapless in the order of the files; stale bytes of a used segment can never be read as frames;
//! - a failed write or sync ends the log ([`LogError::Failed`]): the kernel may have dropped the data and a second sync would lie;
//! - a full disk or a spent budget refuses frames ([`LogError::is_retryable`]) and ends nothing.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::otlp::Envelope;

mod dedupe;
mod disk;
mod error;
mod fill;
mod folder;
mod format;
mod queue;
mod recover;
mod replay;
mod scan;
mod writer;

#[cfg(test)]
mod tests;

pub use error::LogError;
pub use replay::Replay;

use disk::{Disk, RealDisk};
use folder::Folder;
use queue::Queue;
use recover::{Ready, Recovered};
use writer::{Shared, Writer};

/// Number of a frame, from 1, never used twice in one log. 0 stands for "nothing yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes a repeated request known: the client's `batch_id`, or a hash of the payload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BatchId(pub [u8; 16]);

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// A batch that was stored not long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentBatch {
    /// Its id.
    pub batch_id: BatchId,
    /// When it came.
    pub received_unix_nano: u64,
    /// How many of its monitoring records were refused; `None` where the version that trimmed its frame did not write it down.
    pub rejected_records: Option<u32>,
}

/// The way a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Door {
    /// Scouter's `MessageService`.
    ScouterGrpc = 1,
    /// OTLP over gRPC.
    OtlpGrpc = 2,
    /// OTLP over HTTP.
    OtlpHttp = 3,
    /// Scouter's HTTP routes.
    ScouterHttp = 4,
    /// A queue of RabbitMQ.
    RabbitMq = 5,
    /// A stream or channel of Redis.
    Redis = 6,
    /// A topic of Kafka.
    Kafka = 7,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::ScouterGrpc, Self::OtlpGrpc, Self::OtlpHttp, Self::ScouterHttp, Self::RabbitMq, Self::Redis, Self::Kafka];

    /// The door with this number, if there is one.
    pub fn from_number(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|door| *door as u8 == byte)
    }
}

/// One accepted request, with what was refused of it, so that replay never judges again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where it came in.
    pub door: Door,
    /// Which request message the payload is.
    pub envelope: Envelope,
    /// When it was accepted, nanoseconds since 1970 UTC.
    pub received_unix_nano: u64,
    /// What a repetition of it would carry too.
    pub batch_id: BatchId,
    /// Indexes of refused spans, ascending, in wire order over the whole request.
    pub rejected_spans: Vec<u32>,
    /// Indexes of refused monitoring records, ascending.
    pub rejected_records: Vec<u32>,
    /// The request as it came, decompressed; at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
}

/// Largest payload of a frame: what the doors let in, with room for a door that wraps what it received.
pub const MAX_PAYLOAD_BYTES: usize = scouter_tonic::limits::MAX_REQUEST_BYTES + 64 * 1024;

/// When an append is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After `fdatasync`: survives power loss.
    #[default]
    Fsync,
    /// After the write: survives the death of the process, not of the machine. Segments are still synced when they are full
    /// and when the log is closed.
    Os,
}

/// Settings of a log. All sizes in bytes.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// When an append is answered.
    pub durability: Durability,
    /// Size of a segment file; a frame that is larger gets a segment of its own. A multiple of 4096, at least 16 KiB.
    pub segment_bytes: u64,
    /// Disk the log may use, spare segments included. Above it appends get [`LogError::BudgetExhausted`] until a trim.
    pub max_bytes: u64,
    /// A commit takes no further frame once it holds this much.
    pub max_commit_bytes: usize,
    /// Frames that may wait for the writer; further callers wait in [`Log::append_durable`].
    pub queue_frames: usize,
    /// Bytes that may wait for the writer; a larger single frame waits alone.
    pub queue_bytes: usize,
    /// Written segments kept for reuse.
    pub spare_segments: usize,
    /// How long batch ids are remembered, counted back from the newest frame.
    pub dedupe_window: Duration,
    /// At most so many batch ids are remembered, the newest.
    pub dedupe_ids: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            segment_bytes: 64 * 1024 * 1024,
            max_bytes: 8 * 1024 * 1024 * 1024,
            max_commit_bytes: 2 * 1024 * 1024,
            queue_frames: 4096,
            queue_bytes: 128 * 1024 * 1024,
            spare_segments: 2,
            dedupe_window: Duration::from_secs(600),
            dedupe_ids: 1_000_000,
        }
    }
}

/// What was found when a log was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The log's own name, made when it was first opened; the application id of its Delta commits.
    pub log_id: Uuid,
    /// Frames up to it were let go of: whoever trimmed had no more use for them.
    pub trimmed: Position,
    /// The last frame that is durable; the next one gets the number after it.
    pub last: Position,
    /// Batches inside the dedupe window, oldest first, trimmed frames included.
    pub recent_batches: Vec<RecentBatch>,
    /// Bytes of unfinished, never acknowledged frames that were cut from the end. In a segment that was used before, a frame
    /// of which not even the header was finished cannot be told from stale bytes and is not counted.
    pub torn_bytes: u64,
}

/// Figures of a log since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Frames made durable.
    pub frames: u64,
    /// Their payload bytes.
    pub payload_bytes: u64,
    /// Commits, that is writes with one sync.
    pub commits: u64,
    /// Segment files that hold frames.
    pub segments: u64,
    /// Bytes of all segment files, spares included.
    pub disk_bytes: u64,
    /// Frames waiting for the writer now.
    pub queued_frames: u64,
    /// Bytes of the queue in use now, in steps of 1 KiB.
    pub queued_bytes: u64,
}

/// Receives every durable frame once, in position order, on the log's own thread, after its caller was answered.
///
/// It hands the frame to another thread and returns; the next commit waits for it. Blocking in it is the way to push back:
/// the log's queue fills, and callers wait in [`Log::append_durable`]. It is dropped when the log closed or failed, which
/// closes a channel it holds; until then [`Log::close`] needs the other end to keep taking frames. A panic in it fails the log.
pub type Sink = Box<dyn FnMut(Position, Frame) + Send>;

/// Runs on the log's own thread between the sync and the answers, so it is quick and does not block or panic.
pub type Then = Box<dyn FnOnce() + Send>;

/// The log, open for writing. Dropping it closes it as [`Log::close`] does.
pub struct Log {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    running: Mutex<Option<Running>>,
}

/// What ends when the log is closed.
struct Running {
    writer: JoinHandle<()>,
    filler: JoinHandle<()>,
    _lock: File,
}

impl Log {
    /// Opens or creates the log in `dir`, reading and checking all of it; blocking I/O. `sink` gets every frame appended from
    /// now on; what is there already comes from [`Log::replay`].
    ///
    /// # Errors
    /// [`LogError::Corrupt`], [`LogError::MissingSegment`] and the like name what is damaged; nothing is repaired but an
    /// unfinished end. [`LogError::InUse`]: another process, or this one, has it open.
    pub fn open(dir: &Path, options: LogOptions, sink: Sink) -> Result<(Self, Opened), LogError> {
        Self::open_on(Arc::new(RealDisk), dir, options, sink)
    }

    fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions, sink: Sink) -> Result<(Self, Opened), LogError> {
        let Ready { folder, lock, start, recent, opened } = recover::open(dir, options, disk)?;
        let folder = Arc::new(folder);
        let shared = Arc::new(Shared::new(Queue::new(&folder.options), start.last, recent));
        let writer = Writer::new(Arc::clone(&shared), Arc::clone(&folder), sink, start);
        let writer = spawn("scouter-log-write", dir, move || writer.run())?;
        let filled = Arc::clone(&folder);
        let filler = spawn("scouter-log-fill", dir, move || filled.fill_when_wanted());
        let filler = match filler {
            Ok(filler) => filler,
            Err(error) => {
                shared.queue.close();
                let _ = writer.join();
                return Err(error);
            }
        };
        let running = Mutex::new(Some(Running { writer, filler, _lock: lock }));
        Ok((Self { shared, folder, running }, opened))
    }

    /// Opens the log of a stopped server for reading: changes nothing on disk, takes no lock, passes over an unfinished end.
    pub fn open_read_only(dir: &Path) -> Result<(LogReader, Opened), LogError> {
        let recovered = recover::open_read_only(dir)?;
        let opened = recovered.opened();
        Ok((LogReader { dir: dir.to_owned(), recovered }, opened))
    }

    /// Appends a frame and answers when it is durable, with its position. Waits while the queue is full.
    ///
    /// Cancel-safe: dropped while it waits for room, the frame is never written; dropped later, it may or may not be. It needs
    /// no particular async runtime.
    ///
    /// # Errors
    /// See [`LogError::is_retryable`]. After an error other than [`LogError::Failed`] the frame is not in the log; after
    /// `Failed` nobody knows, and opening the log again tells.
    pub async fn append_durable(&self, frame: Frame) -> Result<Position, LogError> {
        self.append(frame, None).await
    }

    /// As [`Log::append_durable`], for callers that have to know of their frame even if they are not there any more: `then` is called
    /// when the frame is durable, before the answer, and dropped when it never will be.
    pub async fn append_durable_then(&self, frame: Frame, then: Then) -> Result<Position, LogError> {
        self.append(frame, Some(then)).await
    }

    async fn append(&self, frame: Frame, then: Option<Then>) -> Result<Position, LogError> {
        let frame_bytes = self.admit(&frame)?;
        let answered = self.shared.queue.push(frame, frame_bytes, then).await?;
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(self.failed().unwrap_or(LogError::Closed)),
        }
    }

    /// The last durable position. Every position that `append_durable` has answered is at or below it.
    pub fn durable(&self) -> Position {
        Position(self.shared.durable.load(Ordering::Acquire))
    }

    /// The durable frames after `after`, up to what is durable now. The first item is an error when frames after `after` were
    /// trimmed. Blocking I/O.
    pub fn replay(&self, after: Position) -> Replay {
        let until = self.durable();
        let segments = self.folder.lock().segments.clone();
        Replay::new(self.folder.dir.clone(), segments, after, until)
    }

    /// Lets go of segments whose frames are all at or below `up_to`; the one that is written to stays. Blocking I/O, cheap when
    /// there is nothing to let go.
    pub fn trim(&self, up_to: Position) -> Result<(), LogError> {
        if let Some(error) = self.failed() {
            return Err(error);
        }
        let up_to = up_to.min(self.durable()).0;
        let synced = self.shared.synced.load(Ordering::Acquire);
        let log_id = self.folder.log_id;
        self.folder.trim(up_to, synced, |first| format::encode_ids(log_id, self.shared.recent().before(first)))
    }

    /// Makes the folder of a log to which nothing was appended for a while small, if all of its frames are at or below `up_to`: lets
    /// go of segments and spares and has the writer go on in a small segment. Blocking I/O, but waits for nobody: what is in
    /// use during one call goes at the next. Appending goes on as ever; the first segment of the usual size is written anew.
    pub fn rest(&self, up_to: Position) -> Result<(), LogError> {
        if up_to < self.durable() || self.shared.queue.used_frames() > 0 {
            return Ok(());
        }
        self.trim(up_to)?;
        self.folder.drop_spares(usize::MAX)?;
        self.shared.queue.rest();
        Ok(())
    }

    /// Lets go of all segments and spares of a log that was closed, if all of its frames are at or below `up_to`: so that the folder of
    /// a stopped server is small. The next opening makes a new segment. Blocking I/O.
    pub fn empty(&self, up_to: Position) -> Result<(), LogError> {
        let is_closed = self.running.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        let last = self.shared.synced.load(Ordering::Acquire);
        if !is_closed || self.failed().is_some() || up_to.0 < last || self.durable().0 != last {
            return Ok(());
        }
        let log_id = self.folder.log_id;
        self.folder.trim_all(last, |first| format::encode_ids(log_id, self.shared.recent().before(first)))
    }

    /// Why the log failed, if it did.
    pub fn failed(&self) -> Option<LogError> {
        self.shared.failure.get().cloned()
    }

    /// Why frames are refused now, if they are: no segment can be made for them. It passes by itself as soon as one can, also if no frame
    /// comes meanwhile.
    pub fn obstacle(&self) -> Option<LogError> {
        self.folder.obstacle()
    }

    /// Figures since it was opened.
    pub fn stats(&self) -> LogStats {
        let (segments, disk_bytes) = {
            let state = self.folder.lock();
            (state.segments.len() as u64, state.disk_bytes)
        };
        LogStats {
            frames: self.shared.frames.load(Ordering::Relaxed),
            payload_bytes: self.shared.payload_bytes.load(Ordering::Relaxed),
            commits: self.shared.commits.load(Ordering::Relaxed),
            segments,
            disk_bytes,
            queued_frames: self.shared.queue.used_frames(),
            queued_bytes: self.shared.queue.used_bytes(),
        }
    }

    /// Takes no more frames, makes durable, answers and hands over what is queued, syncs, drops the sink. Blocking; a second
    /// call does nothing. The error is the one that ended the log, or of writing down that it was closed.
    pub fn close(&self) -> Result<(), LogError> {
        let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return self.failed().map_or(Ok(()), Err);
        };
        self.shared.queue.close();
        // A thread that panicked has noted it as the log's failure.
        let _ = running.writer.join();
        let _ = running.filler.join();
        if let Some(error) = self.failed() {
            return Err(error);
        }
        self.folder.note_durable(self.shared.synced.load(Ordering::Acquire))
    }

    /// Bytes of the frame in a segment, if it may enter.
    fn admit(&self, frame: &Frame) -> Result<u64, LogError> {
        let body_bytes = format::body_bytes(frame);
        let payload_bytes = frame.payload.len() as u64;
        if payload_bytes > MAX_PAYLOAD_BYTES as u64 {
            return Err(LogError::TooLarge { bytes: payload_bytes, limit_bytes: MAX_PAYLOAD_BYTES as u64 });
        }
        // A frame whose segment does not fit into the budget beside another would be refused for ever: no matter of retrying.
        let options = &self.folder.options;
        let limit_bytes = format::MAX_BODY_BYTES.min(options.max_bytes - options.segment_bytes - 2 * format::BLOCK_BYTES);
        if body_bytes > limit_bytes {
            return Err(LogError::TooLarge { bytes: body_bytes, limit_bytes });
        }
        Ok(format::frame_bytes(body_bytes))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Nobody is left to tell; what was answered is durable already.
        let _ = self.close();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dir", &self.folder.dir).field("durable", &self.durable()).finish_non_exhaustive()
    }
}

/// The log of a stopped server, for reading.
pub struct LogReader {
    dir: PathBuf,
    recovered: Recovered,
}

impl LogReader {
    /// The frames after `after`. The first item is an error when frames after `after` were trimmed.
    pub fn replay(&self, after: Position) -> Replay {
        Replay::new(self.dir.clone(), self.recovered.segments.clone(), after, Position(self.recovered.last))
    }
}

fn spawn(name: &str, dir: &Path, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LogError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| LogError::io("start the threads of", dir, error))
}
