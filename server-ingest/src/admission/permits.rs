//! Permits to take in a large request. They are counted in bytes, and who asked first has his first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{MIB, STREAMS_A_WINDOW, Share};

/// This part of the requests' memory may be at work with permits, and at most so much for each CPU: what is at work should still be in its
/// cache when the next stage looks at it.
const PART: usize = 4;
const BYTES_A_CPU: usize = 8 * MIB;
/// The permit of a request is for no more than this part of all, so that there are always others at work.
const PART_OF_ONE: usize = 2;
/// A request of so many bytes is here when it is looked at, and needs none.
const SMALL_BYTES: usize = 16 * 1024;
const KIB: usize = 1024;
/// For how long one waits. A client has some ten seconds, and comes again sooner when it is told so.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many may wait, in all and of one connection. Each holds what was read of it while others of its connection came in, at most the window
/// of an HTTP/2 stream. These together are less than the window of the connection, or there would be none left for those that come in.
const MOST_WAITING: usize = 1024;
const MOST_WAITING_OF_ONE: usize = STREAMS_A_WINDOW as usize - 1;
/// A request that is not whole by then has lost its permit to those who wait: a few slow senders must not stop the others.
const TIME_TO_COME_IN: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Permits {
    kib: Arc<Semaphore>,
    all_kib: usize,
    waiting: AtomicUsize,
}

/// Of one request, from before it is read until its rows are there or it was too slow.
#[derive(Debug)]
pub(super) struct Permit {
    coming_in: Option<ComingIn>,
    kib: Option<OwnedSemaphorePermit>,
}

/// Others wait already, or it took too long.
#[derive(Debug)]
pub(super) struct TooMany;

impl Permits {
    pub(super) fn new(requests_bytes: usize) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let all_kib = ((requests_bytes / PART).min(BYTES_A_CPU * cpus) / KIB).max(1);
        Self { kib: Arc::new(Semaphore::new(all_kib)), all_kib, waiting: AtomicUsize::new(0) }
    }

    /// For a request of so many bytes of the connection `share`; `None` for one that needs none.
    pub(super) async fn take(&self, share: &Arc<Share>, bytes: usize, may_wait: impl Fn() -> bool) -> Result<Option<Permit>, TooMany> {
        // Who was slow the last time comes in as he can, counted by the byte, and takes nobody's turn again.
        if bytes <= SMALL_BYTES || share.was_slow.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let kib = (bytes / KIB).min(self.all_kib.div_ceil(PART_OF_ONE));
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let permit = |kib| Permit { coming_in: Some(ComingIn::begin(share)), kib: Some(kib) };
        if let Ok(kib) = Arc::clone(&self.kib).try_acquire_many_owned(kib) {
            return Ok(Some(permit(kib)));
        }
        let waiting = Waiting::begin(&self.waiting, share);
        if !may_wait() || waiting.are_too_many() {
            return Err(TooMany);
        }
        let waited = tokio::time::timeout(PATIENCE, Arc::clone(&self.kib).acquire_many_owned(kib)).await;
        // It comes in before it no longer waits, so that its connection is read at once.
        waited.ok().and_then(Result::ok).map(|kib| Some(permit(kib))).ok_or(TooMany)
    }
}

impl Permit {
    /// The request is whole.
    pub(super) fn complete(&mut self) {
        self.coming_in = None;
    }

    /// It is others' turn. The request goes on without, and its connection is still read for it.
    pub(super) fn give_up(&mut self) {
        self.kib = None;
        if let Some(coming_in) = &self.coming_in {
            coming_in.share.was_slow.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn ends(&self) -> Option<Instant> {
        self.coming_in.as_ref().filter(|_| self.kib.is_some()).map(|coming_in| coming_in.ends)
    }
}

#[derive(Debug)]
struct ComingIn {
    share: Arc<Share>,
    ends: Instant,
}

impl ComingIn {
    fn begin(share: &Arc<Share>) -> Self {
        share.coming_in.fetch_add(1, Ordering::AcqRel);
        share.reader.wake();
        Self { share: Arc::clone(share), ends: Instant::now() + TIME_TO_COME_IN }
    }
}

impl Drop for ComingIn {
    fn drop(&mut self) {
        self.share.coming_in.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts one who waits; when he no longer does, his connection may be read again.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    share: &'a Share,
}

impl<'a> Waiting<'a> {
    fn begin(all: &'a AtomicUsize, share: &'a Share) -> Self {
        all.fetch_add(1, Ordering::AcqRel);
        share.waiting.fetch_add(1, Ordering::AcqRel);
        Self { all, share }
    }

    fn are_too_many(&self) -> bool {
        self.all.load(Ordering::Relaxed) > MOST_WAITING || self.share.waiting.load(Ordering::Relaxed) > MOST_WAITING_OF_ONE
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::AcqRel);
        self.share.waiting.fetch_sub(1, Ordering::AcqRel);
        self.share.reader.wake();
    }
}

#[cfg(test)]
mod tests;
