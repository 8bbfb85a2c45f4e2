//! How much memory the server works in, and how much unfinished work it takes on at once.
//!
//! The operator sets one number. [`MemoryPlan`] divides it among all that grows with the load. Of its largest part, that of the
//! requests, every byte that the server holds, as it came and inflated, is counted while it comes in and until it is on disk and
//! its rows are there.
//!
//! Nobody waits for room: who finds none is refused at once and gives back what he had, so that requests under way cannot starve each
//! other. Four rules keep the goodput of a server that is offered more than it can take:
//! - *Few at work.* A large request is read when it has a permit ([`permits`]), and waits for it for a moment, with its bytes in the
//!   sender's socket. As many as keep the server busy have one; more would come in in small pieces, be cold when they are looked at, and
//!   fill the memory. Who would wait for long is refused.
//! - *A share for each.* Above three quarters of the budget no connection has more than an equal share ([`Share`]), and the last part is
//!   for those who have little. So one that sends without pause leaves room for the others.
//! - *Come again, but not all at once.* A refusal says when, later the more are refused, and not the same to everyone.
//! - *A connection that was refused is not read for a moment*, longer each time until something of it is taken. Whoever does not
//!   heed the answer is then slowed down by TCP, and what he sends costs nothing.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::task::AtomicWaker;

use crate::error::{IngestError, RETRY_AFTER};

mod permits;

use permits::{Permit, Permits, TooMany};

const MIB: usize = 1024 * 1024;

/// Streams of a connection of HTTP/2 that may each have sent their whole window before they are read.
pub const STREAMS_A_WINDOW: u32 = 4;

/// What a request takes beside its bytes: buffers of its connection, its task, its frame.
const REQUEST_BYTES: usize = 4 * 1024;

/// This part of the budget is for connections that have no more than that part of it.
const LAST_PART: usize = 16;
const LITTLE_PART: usize = 256;

/// For how long a connection is not read after a refusal, at first and at most.
const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(2);
/// It rests for as long again for each so many others that hold something.
const RIVALS_A_REST: usize = 8;
/// The time to come again grows up to this many times.
const MAX_PRESSURE: u64 = 8;
/// Refusing is felt as soon as one is refused for so many that are taken.
const REFUSALS_FELT: u64 = 4;
/// Over which the pressure is taken.
const PRESSURE_WINDOW_MS: u64 = 1000;

/// The parts of the memory that the operator gives, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// All of it.
    pub total: usize,
    /// Requests between the door and the rows.
    pub requests: usize,
    /// Rows that are not yet in the tables. At half of it they are flushed, above it none are added.
    pub hot_rows: usize,
    /// Indexes that tell which files hold a trace.
    pub trace_index: usize,
    /// The most that one connection may have sent before it is read.
    pub connection_window: usize,
    /// Buffers of all connections.
    pub connection_buffers: usize,
}

impl MemoryPlan {
    /// What the program takes whatever comes: its pages, its threads, two passwords being checked, what the allocator keeps.
    const FIXED: usize = 120 * MIB;
    /// Of one connection: HTTP/2 allows every client frames of this size.
    pub const LEAST_BUFFER: usize = 16 * 1024;

    /// Connections get what each needs, and a sixteenth of what is left for larger buffers. Of the rest, half is for requests and a
    /// quarter for rows; what then remains is for indexes and for what a flush takes.
    pub fn of(total: usize, max_connections: usize) -> Self {
        let left = total.saturating_sub(Self::FIXED);
        let connection_buffers = Self::LEAST_BUFFER.saturating_mul(max_connections).saturating_add(left / 16);
        let left = left.saturating_sub(connection_buffers);
        let requests = left / 2;
        let connection_window = (requests / 16).clamp(512 * 1024, 16 * MIB);
        Self { total, requests, hot_rows: left / 4, trace_index: left / 16, connection_window, connection_buffers }
    }

    /// The least total for requests of up to `max_request_bytes`: JSON takes four times its length while it is decoded, and
    /// the last part of the requests' memory is not for large ones.
    pub fn least(max_request_bytes: usize, max_connections: usize) -> usize {
        let rest = (9 * max_request_bytes).max(32 * MIB);
        Self::FIXED + rest.saturating_add(Self::LEAST_BUFFER.saturating_mul(max_connections)).saturating_mul(16).div_ceil(15)
    }
}

/// A budget of bytes of requests between the door and the disk.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    total: usize,
    used: AtomicUsize,
    /// Shares that are not empty.
    holders: AtomicUsize,
    refused: AtomicU64,
    pressure: Pressure,
    obstacle: Mutex<Option<Arc<str>>>,
    permits: Permits,
}

/// What one connection has of the budget, and how it takes refusals.
#[derive(Debug)]
pub struct Share {
    held: AtomicUsize,
    /// Refused in a row; halved by each request that is taken.
    refusals: AtomicU32,
    /// How many connections held something when it was refused.
    rivals: AtomicUsize,
    began: Instant,
    /// Milliseconds since `began`; 0 when it is read as it comes.
    rests_until: AtomicU64,
    /// Requests that come in with a permit, and that wait for one.
    coming_in: AtomicUsize,
    waiting: AtomicUsize,
    /// The last of them lost its permit.
    was_slow: AtomicBool,
    /// Who reads the connection, to be woken when it is to be read again.
    reader: AtomicWaker,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            held: AtomicUsize::new(0),
            refusals: AtomicU32::new(0),
            rivals: AtomicUsize::new(0),
            began: Instant::now(),
            rests_until: AtomicU64::new(0),
            coming_in: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            was_slow: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        }
    }
}

impl Share {
    /// That of a request's connection.
    pub fn of(extensions: &http::Extensions) -> Arc<Self> {
        extensions.get::<Arc<Self>>().cloned().unwrap_or_default()
    }

    /// Has the connection not be read for a moment if its request was refused for want of room, and for no other fault. Called when the
    /// refusal can be sent.
    pub fn rest(&self, refusal: &IngestError) {
        if matches!(refusal, IngestError::Overloaded { .. })
            && let Some(rest) = rest_after(self.refusals.load(Ordering::Relaxed), self.rivals.load(Ordering::Relaxed))
        {
            self.rests_until.store(millis(self.began.elapsed() + rest), Ordering::Relaxed);
        }
    }

    /// Whether one of its requests had a permit and is still coming in.
    pub fn is_coming_in(&self) -> bool {
        self.coming_in.load(Ordering::Acquire) > 0
    }

    /// Ready when there is somebody to take what is read, else `context` is woken then. While all that came waits for a permit, more would
    /// only fill the memory; a connection that `rests` is read for what was let in and for nothing else.
    pub fn poll_read(&self, context: &Context<'_>, rests: bool) -> Poll<()> {
        let is_read = || self.is_coming_in() || !(rests || self.waiting.load(Ordering::Acquire) > 0);
        if is_read() {
            return Poll::Ready(());
        }
        self.reader.register(context.waker());
        // The permit may have come meanwhile.
        if is_read() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// When it is to be read again, if not now.
    pub fn rests_until(&self) -> Option<Instant> {
        let until = self.rests_until.load(Ordering::Relaxed);
        if until == 0 {
            return None;
        }
        let until = self.began + Duration::from_millis(until);
        if until > Instant::now() {
            return Some(until);
        }
        self.rests_until.store(0, Ordering::Relaxed);
        None
    }
}

/// What one request takes of the budget; given back when dropped.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    share: Arc<Share>,
    bytes: usize,
    permit: Option<Permit>,
}

impl Admission {
    /// `total_bytes` bounds the bytes of all requests under way together.
    pub fn new(total_bytes: usize) -> Self {
        Self(Arc::new(Budget {
            total: total_bytes,
            used: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            pressure: Pressure::default(),
            obstacle: Mutex::default(),
            permits: Permits::new(total_bytes),
        }))
    }

    /// Says why the requests under way are not stored, or that they are. Refusals then name that: the room will be there when the
    /// obstacle is gone, and not before.
    pub fn set_obstacle(&self, obstacle: Option<Arc<str>>) {
        *self.0.obstacle.lock().unwrap_or_else(PoisonError::into_inner) = obstacle;
    }

    /// Lets a request of the connection `share` begin that says it has `announced` bytes. They are taken as they come, not now:
    /// a slow client must not hold what it has not sent.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`] when they would not fit now.
    pub fn begin(&self, share: &Arc<Share>, announced: usize) -> Result<Room, IngestError> {
        let mut room = Room { budget: Arc::clone(&self.0), share: Arc::clone(share), bytes: 0, permit: None };
        room.expect(announced)?;
        room.grow(REQUEST_BYTES)?;
        Ok(room)
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes there are.
    pub fn total_bytes(&self) -> usize {
        self.0.total
    }

    /// How often there was no room.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl Budget {
    /// Whether a connection that holds `held` may have `bytes` more while `used` are in use.
    fn allows(&self, used: usize, held: usize, bytes: usize) -> bool {
        let (wanted, of_this) = (used.saturating_add(bytes), held.saturating_add(bytes));
        let total = if of_this <= self.total / LITTLE_PART { self.total } else { self.total - self.total / LAST_PART };
        let holders = self.holders.load(Ordering::Relaxed).max(1);
        wanted <= total && (wanted <= self.total / 4 * 3 || of_this <= (self.total / holders).max(REQUEST_BYTES))
    }
}

impl Room {
    /// Refuses what would not fit if all of it came now.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`].
    pub fn expect(&self, bytes: usize) -> Result<(), IngestError> {
        let used = self.budget.used.load(Ordering::Relaxed);
        let held = self.share.held.load(Ordering::Relaxed);
        if self.budget.allows(used, held, bytes) { Ok(()) } else { Err(self.refuse()) }
    }

    /// Waits for a permit to take in so many bytes. A small request needs none.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`]: too many wait, or it did not come soon.
    pub async fn take_permit(&mut self, bytes: usize) -> Result<(), IngestError> {
        // While there is an obstacle, who waits does so in vain.
        let may_wait = || self.obstacle().is_none();
        self.permit = self.budget.permits.take(&self.share, bytes, may_wait).await.map_err(|TooMany| self.refuse())?;
        Ok(())
    }

    /// Until when it must be whole to keep its permit, which somebody else may be waiting for.
    pub fn permit_ends(&self) -> Option<Instant> {
        self.permit.as_ref().and_then(Permit::ends)
    }

    /// It comes in too slowly to have one.
    pub fn give_up_permit(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.give_up();
        }
    }

    /// Takes more.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`]; nothing more was taken.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IngestError> {
        let held = self.share.held.load(Ordering::Relaxed);
        let take = |used: usize| self.budget.allows(used, held, bytes).then(|| used + bytes);
        if self.budget.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take).is_err() {
            return Err(self.refuse());
        }
        if bytes > 0 && self.share.held.fetch_add(bytes, Ordering::AcqRel) == 0 {
            self.budget.holders.fetch_add(1, Ordering::AcqRel);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives some of it back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::AcqRel);
        if bytes > 0 && self.share.held.fetch_sub(bytes, Ordering::AcqRel) == bytes {
            self.budget.holders.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The request is here, whole.
    pub fn complete(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.complete();
        }
        self.share.was_slow.store(false, Ordering::Relaxed);
        let _ = self.share.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |refusals| Some(refusals / 2));
        self.budget.pressure.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// These bytes, which give the room back when the last who has them lets them go.
    pub fn around(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Kept { bytes, _room: self })
    }

    fn obstacle(&self) -> Option<Arc<str>> {
        self.budget.obstacle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refuse(&self) -> IngestError {
        self.budget.refused.fetch_add(1, Ordering::Relaxed);
        self.share.refusals.fetch_add(1, Ordering::Relaxed);
        self.share.rivals.store(self.budget.holders.load(Ordering::Relaxed), Ordering::Relaxed);
        let because = self.obstacle();
        let come_again = self.budget.pressure.come_again();
        // Where nothing is stored the pressure tells of those who ask, not of the work there is: they may as well ask soon.
        let come_again = if because.is_some() { come_again.min(RETRY_AFTER * 2) } else { come_again };
        IngestError::Overloaded { come_again, because }
    }
}

struct Kept {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// How many are refused for one that is taken.
#[derive(Debug)]
struct Pressure {
    began: Instant,
    /// Of the second under way.
    taken: AtomicU64,
    refused: AtomicU64,
    window_began_ms: AtomicU64,
    /// Of the second before.
    level: AtomicU64,
}

impl Default for Pressure {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self { began: Instant::now(), taken: zero(), refused: zero(), window_began_ms: zero(), level: AtomicU64::new(1) }
    }
}

impl Pressure {
    /// Counts a refusal and says when to come again.
    fn come_again(&self) -> Duration {
        let now = millis(self.began.elapsed());
        let window_began = self.window_began_ms.load(Ordering::Relaxed);
        if now.saturating_sub(window_began) >= PRESSURE_WINDOW_MS
            && self.window_began_ms.compare_exchange(window_began, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            let (refused, taken) = (self.refused.swap(0, Ordering::Relaxed), self.taken.swap(0, Ordering::Relaxed));
            self.level.store((refused * REFUSALS_FELT / taken.max(1)).clamp(1, MAX_PRESSURE), Ordering::Relaxed);
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        let level = self.level.load(Ordering::Relaxed);
        // Those who are refused together must not come back together.
        RETRY_AFTER.saturating_mul(u32::try_from(level).unwrap_or(1)) + Duration::from_millis(rand::random_range(0..500 * level))
    }
}

/// How long a connection rests that was refused so often in a row. Where many others keep the server busy meanwhile it costs nothing
/// to let it rest for longer; one that is alone must soon be back.
fn rest_after(refusals: u32, rivals: usize) -> Option<Duration> {
    let doublings = refusals.checked_sub(1)?.min(10);
    let crowd = u32::try_from((rivals / RIVALS_A_REST).clamp(1, 20)).unwrap_or(1);
    Some((FIRST_REST * crowd * (1 << doublings)).min(LONGEST_REST))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
