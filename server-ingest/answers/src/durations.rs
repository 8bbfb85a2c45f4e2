//! How durations are distributed, in little memory: counts in ranges whose width is a 64th of their value.
//!
//! The layout is that of log-linear histograms such as HdrHistogram's: within a power of two the ranges are equally wide. A percentile is
//! the middle of its range, so it is within 1 % of the true duration. Unlike a t-digest the result depends on nothing but the durations.

/// Ranges in each power of two.
const RANGES: u64 = 64;
const RANGE_BITS: u32 = RANGES.trailing_zeros();

/// Durations that were seen, in nanoseconds. Negative ones, of broken clocks, count as 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations {
    /// The number of the first range in `counts`.
    first: usize,
    counts: Vec<u32>,
    total: u64,
    max: u64,
}

impl Durations {
    /// Tells by how many bytes it grew.
    pub(crate) fn add(&mut self, nanos: i64) -> usize {
        let before = self.bytes();
        let nanos = u64::try_from(nanos).unwrap_or(0);
        let range = range_of(nanos);
        if self.counts.is_empty() {
            self.first = range;
        } else if range < self.first {
            let missing = self.first - range;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = range;
        }
        let at = range - self.first;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] = self.counts[at].saturating_add(1);
        self.total += 1;
        self.max = self.max.max(nanos);
        self.bytes() - before
    }

    /// Adds what `other` saw.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.counts.is_empty() {
            return;
        }
        if self.counts.is_empty() {
            *self = other.clone();
            return;
        }
        if other.first < self.first {
            self.counts.splice(0..0, std::iter::repeat_n(0, self.first - other.first));
            self.first = other.first;
        }
        let shift = other.first - self.first;
        if self.counts.len() < shift + other.counts.len() {
            self.counts.resize(shift + other.counts.len(), 0);
        }
        for (count, more) in self.counts[shift..].iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    pub(crate) fn max(&self) -> i64 {
        i64::try_from(self.max).unwrap_or(i64::MAX)
    }

    /// The duration that the given share of them does not exceed; 0 without any.
    pub(crate) fn percentile(&self, share: f64) -> i64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        if wanted >= self.total {
            return self.max();
        }
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return i64::try_from(middle_of(self.first + index).min(self.max)).unwrap_or(i64::MAX);
            }
        }
        self.max()
    }

    /// About what it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<u32>()
    }
}

fn range_of(value: u64) -> usize {
    let range = if value < RANGES {
        value
    } else {
        let shift = value.ilog2() - RANGE_BITS;
        u64::from(shift + 1) * RANGES + ((value >> shift) - RANGES)
    };
    usize::try_from(range).unwrap_or(usize::MAX)
}

fn middle_of(range: usize) -> u64 {
    let range = range as u64;
    if range < RANGES {
        return range;
    }
    let shift = range / RANGES - 1;
    let low = (RANGES + range % RANGES) << shift;
    low + ((1_u64 << shift) >> 1)
}

#[cfg(test)]
mod tests;
