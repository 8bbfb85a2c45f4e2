//! How long to wait before sending again.

use std::time::{Duration, Instant};

use crate::spans::mix;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Pauses that double, with jitter, until the time is up.
#[derive(Debug)]
pub(super) struct Backoff {
    deadline: Instant,
    pause: Duration,
    jitter: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64, give_up_after: Duration) -> Self {
        Self { deadline: Instant::now() + give_up_after, pause: FIRST_PAUSE, jitter: mix(seed) }
    }

    /// The next pause, between half of the full one and all of it; `None` when it is time to give up.
    pub(super) fn next(&mut self) -> Option<Duration> {
        if Instant::now() >= self.deadline {
            return None;
        }
        self.jitter = mix(self.jitter);
        let share = 0.5 + (self.jitter >> 11) as f64 / (1_u64 << 54) as f64;
        let pause = self.pause.mul_f64(share);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}
