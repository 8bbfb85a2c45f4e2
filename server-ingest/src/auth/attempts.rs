//! How often a password may be guessed.
//!
//! Failures are counted by user and address together, by address, and by user, each in a bucket that empties with time. A user
//! who is guessed at from elsewhere can still log in from where he is, until very many addresses take part. A right password
//! costs nothing, so a fleet behind one address logs in freely. Unknown users are counted as known ones are.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Buckets kept at once; beyond it the fullest stay and a bucket's past is forgotten rather than memory spent.
const MAX_BUCKETS: usize = 10_000;
/// A name may be as long as a request; what tells names apart fits in this.
const NAME_CHARS: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    Pair(String, IpAddr),
    Address(IpAddr),
    User(String),
}

/// How many failures fit, and how long one takes to be forgotten.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    failures: f64,
    forgotten_after: Duration,
}

impl Whose {
    fn allowance(&self) -> Allowance {
        match self {
            Self::Pair(..) => Allowance { failures: 10.0, forgotten_after: Duration::from_secs(6) },
            Self::Address(_) => Allowance { failures: 30.0, forgotten_after: Duration::from_secs(2) },
            Self::User(_) => Allowance { failures: 100.0, forgotten_after: Duration::from_secs(2) },
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    failures: f64,
    at: Instant,
}

/// The failures of the last minutes.
#[derive(Debug, Default, Clone)]
pub(super) struct Attempts(Arc<Mutex<HashMap<Whose, Bucket>>>);

/// An attempt under way. It counts as failed meanwhile, so that attempts at the same time count too, and afterwards only if it has
/// [`failed`](Attempt::failed): one that was right, or that came to no check, costs nothing.
#[derive(Debug)]
#[must_use]
pub(super) struct Attempt {
    attempts: Attempts,
    whose: [Whose; 3],
    has_failed: bool,
}

impl Attempt {
    /// The password was wrong.
    pub(super) fn failed(mut self) {
        self.has_failed = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.has_failed {
            return;
        }
        let mut buckets = self.attempts.0.lock().unwrap_or_else(PoisonError::into_inner);
        for whose in &self.whose {
            if let Some(bucket) = buckets.get_mut(whose) {
                bucket.failures = (bucket.failures - 1.0).max(0.0);
            }
        }
    }
}

impl Attempts {
    /// Begins an attempt.
    ///
    /// # Errors
    /// There were too many failures; the time after which one is allowed again.
    pub(super) fn begin(&self, user: &str, address: IpAddr, now: Instant) -> Result<Attempt, Duration> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = keys(user, address);
        let wait = all.iter().map(|whose| level(&buckets, whose, now).1).max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(wait);
        }
        if buckets.len() + all.len() > MAX_BUCKETS {
            buckets.retain(|whose, bucket| emptied(bucket, whose.allowance(), now) > 1.0);
            if buckets.len() + all.len() > MAX_BUCKETS {
                buckets.clear();
            }
        }
        for whose in &all {
            let failures = level(&buckets, whose, now).0 + 1.0;
            buckets.insert(whose.clone(), Bucket { failures, at: now });
        }
        Ok(Attempt { attempts: self.clone(), whose: all, has_failed: false })
    }
}

fn keys(user: &str, address: IpAddr) -> [Whose; 3] {
    let user: String = user.chars().take(NAME_CHARS).collect();
    [Whose::Pair(user.clone(), address), Whose::Address(address), Whose::User(user)]
}

fn emptied(bucket: &Bucket, allowance: Allowance, now: Instant) -> f64 {
    let forgotten = now.saturating_duration_since(bucket.at).as_secs_f64() / allowance.forgotten_after.as_secs_f64();
    (bucket.failures - forgotten).max(0.0)
}

/// The failures in a bucket, and how long until one more fits.
fn level(buckets: &HashMap<Whose, Bucket>, whose: &Whose, now: Instant) -> (f64, Duration) {
    let allowance = whose.allowance();
    let failures = buckets.get(whose).map_or(0.0, |bucket| emptied(bucket, allowance, now));
    let over = (failures + 1.0 - allowance.failures).max(0.0);
    (failures, allowance.forgotten_after.mul_f64(over))
}

#[cfg(test)]
mod tests;
