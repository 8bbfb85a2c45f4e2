//! A histogram of durations with a fixed size: 32 steps for each doubling, so a quantile is off by 3 % at most.

use std::time::Duration;

const STEPS_PER_DOUBLING: usize = 32;
const STEP_BITS: u32 = STEPS_PER_DOUBLING.trailing_zeros();
const BUCKETS: usize = STEPS_PER_DOUBLING * 48;

/// Counts of durations, in microseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// The duration in milliseconds that a share `quantile` (0 to 1) of all durations does not exceed; 0 when nothing was recorded.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        let wanted = (quantile * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_bound(index) as f64 / 1000.0;
            }
        }
        0.0
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS_PER_DOUBLING as u64 {
        return micros as usize;
    }
    let doubling = micros.ilog2() - STEP_BITS;
    let step = (micros >> doubling) as usize - STEPS_PER_DOUBLING;
    ((doubling as usize + 1) * STEPS_PER_DOUBLING + step).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    if bucket < STEPS_PER_DOUBLING {
        return bucket as u64;
    }
    let doubling = bucket / STEPS_PER_DOUBLING - 1;
    let step = bucket % STEPS_PER_DOUBLING + STEPS_PER_DOUBLING;
    ((step as u64 + 1) << doubling) - 1
}

#[cfg(test)]
mod tests;
