//! The one door behind all doors: admitted, judged, durable, acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use scouter_storage::{
    log::{BatchId, Door, Frame, RecentBatch, Then},
    otlp::{Envelope, Rejected, Verdict, judge},
    store::Store,
};
use scouter_tonic::limits::MAX_REQUEST_BYTES;

#[cfg(feature = "kafka")]
use crate::shared_log::KafkaLog;
use crate::{
    admission::Room,
    auth::{Denied, Permission},
    error::{IngestError, text_of},
    profiles::Profiles,
    receive::{Received, Turns},
    telemetry::{Metrics, RequestStage},
};

mod dedupe;
mod json;
mod message;
mod otlp_json;
pub mod request;
mod spaces;

pub use message::Message;
pub use spaces::Limited;

use dedupe::{Before, Claim, DedupeWindow};

/// Judging more bytes than this may take longer than half a millisecond, so it leaves the reactor's time slice.
const JUDGE_INLINE_BYTES: usize = 512 * 1024;

/// A caller is not kept longer than this by a store that is stuck. What it sent may still be written; its repetition is known.
const APPEND_WAIT: Duration = Duration::from_secs(8);

/// What a client sent through one of the doors.
#[derive(Debug)]
pub struct Submission {
    /// The door it came through.
    pub door: Door,
    /// Which message `payload` is.
    pub envelope: Envelope,
    /// The bytes of the message, decompressed.
    pub payload: Bytes,
    /// The sender's id of this batch; without one the payload's hash serves.
    pub batch_id: Option<BatchId>,
    /// What was refused while the payload was made, and is not in it.
    pub refused: RefusedBefore,
    /// What the payload takes of the memory budget, until its rows are there.
    pub room: Room,
    /// Set when the sender may not write records of every space.
    pub limited: Option<Limited>,
}

impl Submission {
    /// What was received, whole.
    pub fn new(door: Door, envelope: Envelope, received: Received) -> Self {
        let Received { payload, room } = received;
        Self { door, envelope, payload, batch_id: None, refused: RefusedBefore::default(), room, limited: None }
    }

    /// The same, from a sender with these limits.
    pub fn limited_to(self, limited: Option<Limited>) -> Self {
        Self { limited, ..self }
    }
}

/// Spans and records whose JSON cannot be written as protobuf.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefusedBefore {
    /// How many spans.
    pub spans: u32,
    /// How many records.
    pub records: u32,
    /// Names the first and its fault.
    pub words: String,
}

/// The truth about an accepted request: everything not rejected is on disk, or in the shared log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Spans stored.
    pub spans: u32,
    /// Monitoring records stored.
    pub records: u32,
    /// Spans refused for ever.
    pub rejected_spans: u32,
    /// Records refused for ever.
    pub rejected_records: u32,
    /// The same batch was stored before; nothing was written now.
    pub duplicate: bool,
}

/// A receipt and the words for what was refused, empty when nothing was.
#[derive(Debug)]
pub struct Accepted {
    /// Counts.
    pub receipt: Receipt,
    /// Names the first refused item and its fault.
    pub refusal: String,
}

/// Where requests are made durable.
#[derive(Clone)]
pub enum Durable {
    /// In the log on this server's disk.
    Disk(Arc<Store>),
    /// In the log that servers share.
    #[cfg(feature = "kafka")]
    Kafka(KafkaLog),
}

impl Durable {
    async fn append_then(&self, frame: Frame, then: Then) -> Result<(), IngestError> {
        match self {
            Self::Disk(store) => Ok(store.append_then(frame, then).await.map(drop)?),
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.append_then(frame, then).await,
        }
    }

    /// Why nothing can be made durable now, if so, though it may pass by itself.
    pub fn obstacle(&self) -> Option<Arc<str>> {
        match self {
            Self::Disk(store) => store.obstacle().map(|error| text_of(&error).into()),
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.obstacle(),
        }
    }

    fn limit_bytes(&self) -> usize {
        match self {
            Self::Disk(_) => MAX_REQUEST_BYTES,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.limit_bytes().min(MAX_REQUEST_BYTES),
        }
    }
}

/// Takes requests from every door into the log.
pub struct Ingest {
    durable: Durable,
    profiles: Arc<Profiles>,
    window: DedupeWindow,
    metrics: Arc<Metrics>,
    turns: Turns,
    closed: AtomicBool,
    /// Second of the last line that asked for a person; a full disk fails every request, and one line a second is enough.
    complained_at: AtomicU64,
}

impl Ingest {
    /// `recent` are the batches the log still remembers; `profiles` tell which space a record is of; `turns` are for judging large requests.
    pub fn new(durable: Durable, profiles: Arc<Profiles>, recent: Vec<RecentBatch>, metrics: Arc<Metrics>, turns: Turns) -> Self {
        Self {
            durable,
            profiles,
            window: DedupeWindow::new(recent, unix_nano_now()),
            metrics,
            turns,
            closed: AtomicBool::new(false),
            complained_at: AtomicU64::new(0),
        }
    }

    /// Stores what can be stored of `submission`. Returning `Ok` means it is on disk.
    ///
    /// # Errors
    /// Nothing was stored, or it cannot be known whether it was: see [`IngestError::answer`] for who should send again.
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, IngestError> {
        let door = submission.door;
        let bytes = submission.payload.len();
        let outcome = self.submit_uncounted(submission).await;
        self.metrics.count_submission(door, bytes, &outcome);
        if let Err(error) = &outcome
            && error.answer().needs_a_person
        {
            self.complain(error);
        }
        outcome
    }

    async fn submit_uncounted(&self, submission: Submission) -> Result<Accepted, IngestError> {
        let Submission { door, envelope, payload, batch_id, refused, room, limited } = submission;
        if self.closed.load(Ordering::Acquire) {
            return Err(IngestError::ShuttingDown);
        }
        let limit_bytes = self.durable.limit_bytes();
        if payload.len() > limit_bytes {
            return Err(IngestError::TooLarge { limit_bytes });
        }
        let begun = Instant::now();
        let verdict = if payload.len() > JUDGE_INLINE_BYTES {
            let _turn = self.turns.take(payload.len()).await;
            tokio::task::block_in_place(|| judge(&payload, envelope))?
        } else {
            judge(&payload, envelope)?
        };
        self.metrics.time_stage(RequestStage::Judge, begun.elapsed());
        let mut refusal = refusal_text(&verdict, &refused);
        let mut receipt = receipt(&verdict);
        receipt.rejected_spans += refused.spans;
        receipt.rejected_records += refused.records;
        let mut rejected_records = indexes(&verdict.rejected_records);
        if let Some(limited) = &limited {
            if self.profiles.is_shared() && Limited::has_unknown_records(&payload, envelope, &self.profiles) {
                self.profiles.look_soon().await;
            }
            let (foreign, words) = limited.foreign_records(&payload, envelope, &rejected_records, &self.profiles);
            let count = u32::try_from(foreign.len()).unwrap_or(u32::MAX);
            if count > 0 && count == receipt.records && receipt.spans == 0 {
                return Err(Denied::Forbidden { who: limited.name().to_owned(), needs: Permission::Write }.into());
            }
            receipt.records -= count;
            receipt.rejected_records += count;
            rejected_records.extend(foreign);
            rejected_records.sort_unstable();
            refusal = [refusal, words].into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join("; ");
        }
        if receipt.spans == 0 && receipt.records == 0 {
            // Nothing to keep: an empty request, or one whose every item was refused.
            return Ok(Accepted { receipt, refusal });
        }
        let received_unix_nano = unix_nano_now();
        let batch_id = batch_id.unwrap_or_else(|| BatchId(twox_hash::XxHash3_128::oneshot(&payload).to_le_bytes()));
        let rejected = u32::try_from(rejected_records.len()).unwrap_or(u32::MAX);
        let repeated = |before| Ok(repeated(receipt, refusal.clone(), rejected, before));
        let claim = match self.window.claim(batch_id, received_unix_nano, rejected) {
            Claim::Mine(claim) => claim,
            Claim::Stored(before) => return repeated(before),
            Claim::UnderWay(twin) => {
                let outcome = tokio::time::timeout(APPEND_WAIT, twin).await.map_err(|_| self.slow())?;
                return outcome.map_or(Err(IngestError::TwinFailed), repeated);
            }
        };
        let frame = Frame {
            door,
            envelope,
            received_unix_nano,
            batch_id,
            rejected_spans: indexes(&verdict.rejected_spans),
            rejected_records,
            // Given back when its rows are there, not when the caller is answered or hangs up: until then the bytes are in memory.
            payload: room.around(payload),
        };
        // Held by the frame, not by the caller: who hangs up must not leave the claim undecided while his frame is being written. Dropped
        // uncalled, the id is free again.
        let then = Box::new(move || claim.stored());
        let begun = Instant::now();
        let written = tokio::time::timeout(APPEND_WAIT, self.durable.append_then(frame, then)).await;
        let written = written.map_err(|_| self.slow())?;
        self.metrics.time_stage(RequestStage::Append, begun.elapsed());
        written?;
        Ok(Accepted { receipt, refusal })
    }

    /// A turn for reading the JSON of a request of so many bytes, if it is that.
    pub async fn turn(&self, bytes: usize) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.turns.take(bytes).await
    }

    /// The store did not answer in [`APPEND_WAIT`].
    fn slow(&self) -> IngestError {
        IngestError::StoreSlow { because: self.durable.obstacle() }
    }

    fn complain(&self, error: &IngestError) {
        let second = unix_nano_now() / 1_000_000_000;
        if self.complained_at.swap(second, Ordering::Relaxed) != second {
            tracing::error!(error = error.text(), "requests cannot be stored");
        }
    }

    /// From now on every submission is answered with [`IngestError::ShuttingDown`].
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

/// What a repeated batch is told: what of it was stored when it came first, whatever its sender may write by now. `rejected` is how many
/// records of its payload would be refused now.
fn repeated(now: Receipt, refusal: String, rejected: u32, before: Before) -> Accepted {
    let in_payload = now.records + rejected;
    let (receipt, words) = match before.rejected_records {
        Some(before) => {
            let before = before.min(in_payload);
            let receipt = Receipt { records: in_payload - before, rejected_records: now.rejected_records - rejected + before, ..now };
            let words = format!("{before} records of this batch were refused when it came first; send them in another one");
            (receipt, (before > rejected).then_some(words))
        }
        None => {
            let words = "this batch was stored before; how many of its records were refused then is not known any more";
            (now, (in_payload > 0).then(|| words.to_owned()))
        }
    };
    let refusal = [refusal, words.unwrap_or_default()].into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join("; ");
    Accepted { receipt: Receipt { duplicate: true, ..receipt }, refusal }
}

fn indexes(rejected: &[Rejected]) -> Vec<u32> {
    rejected.iter().map(|rejected| rejected.index).collect()
}

fn receipt(verdict: &Verdict) -> Receipt {
    let rejected_spans = u32::try_from(verdict.rejected_spans.len()).unwrap_or(u32::MAX);
    let rejected_records = u32::try_from(verdict.rejected_records.len()).unwrap_or(u32::MAX);
    Receipt {
        spans: verdict.spans - rejected_spans,
        records: verdict.records - rejected_records,
        rejected_spans,
        rejected_records,
        duplicate: false,
    }
}

/// A few sentences, however much was refused: an answer has a limit too.
fn refusal_text(verdict: &Verdict, before: &RefusedBefore) -> String {
    let describe = |what: &str, rejected: &[Rejected]| {
        rejected.first().map(|first| match rejected.len() {
            1 => format!("{what} {}: {}", first.index, first.reason),
            count => format!("{count} {what}s refused, the first is {what} {}: {}", first.index, first.reason),
        })
    };
    let before = (before.spans + before.records > 0).then(|| before.words.clone());
    [before, describe("span", &verdict.rejected_spans), describe("record", &verdict.rejected_records)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

pub(crate) fn unix_nano_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
