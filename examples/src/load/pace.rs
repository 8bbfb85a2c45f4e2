//! When each batch is due.

use std::time::{Duration, Instant};

use super::Until;

/// An even pace from a starting moment, or none.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    batch_interval: Option<Duration>,
}

impl Pace {
    pub(super) fn new(start: Instant, spans_per_s: Option<f64>, batch_spans: u64) -> Self {
        Self { start, batch_interval: spans_per_s.map(|rate| Duration::from_secs_f64(batch_spans as f64 / rate)) }
    }

    /// Waits until `batch` is due; answers the moment from which its acknowledgement is timed, or `None` when the run is over by then.
    pub(super) async fn wait(&self, batch: u64, until: &Until) -> Option<Instant> {
        let now = Instant::now();
        let due = match self.batch_interval {
            Some(interval) => self.start + interval.mul_f64(batch as f64),
            None => now,
        };
        if let Until::Elapsed(limit) = until
            && due.max(now) >= self.start + *limit
        {
            return None;
        }
        if due < now {
            return Some(due);
        }
        tokio::time::sleep_until(due.into()).await;
        Some(Instant::now())
    }
}
