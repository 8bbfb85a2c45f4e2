//! Whether the destination works, and whose turn it is to try. Pure state; time comes from the caller.
//!
//! It is the destination that backs off, not each request: while it fails, one attempt at a time finds out whether it is back, with
//! pauses between, and the first answer lets all others go. So an outage costs the network little however much is queued, and its end
//! is noticed within one short pause. A request that fails while others are answered has a problem of its own and waits by itself.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::delivery::back_off;

/// Longest pause between two attempts while the destination fails, half of it again for jitter: how late the end of an outage is noticed.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The same while the queue is nearly full, and every moment costs spans.
const MAX_URGENT_PAUSE: Duration = Duration::from_millis(500);
/// Attempts that a destination which fails gets after shutdown began, within the time shutdown has. One that is gone is not waited for.
pub(super) const SHUTDOWN_ATTEMPTS: u32 = 4;

#[derive(Debug, Default)]
pub(super) struct Health {
    /// Attempts in a row that found the destination failing.
    failures: u32,
    /// Those among them that began after the shutdown did.
    failures_in_shutdown: u32,
    /// No attempt before this one while it fails.
    retry_at: Option<Instant>,
    /// The server asked to be left alone until then.
    throttled_until: Option<Instant>,
    is_probing: bool,
    in_flight: usize,
    /// Counts what happens here; says what came after what.
    events: u64,
    last_answer: u64,
    last_failure: u64,
    shutdown_at: Option<u64>,
    waiting: BTreeSet<Ticket>,
}

/// A place in the line of those who want to make an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// The right to make one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    began: u64,
    is_probe: bool,
}

/// What a request that wants to be sent shall do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    Go(Attempt),
    At(Instant),
    /// After something changed.
    Later,
    /// The destination had its attempts after shutdown began.
    GiveUp,
}

/// Whose fault a failed attempt was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Destination,
    /// Others were answered meanwhile, or between its attempts.
    Request,
}

impl Health {
    /// Joins the line, at its end.
    pub(super) fn join(&mut self) -> Ticket {
        self.events += 1;
        self.waiting.insert(Ticket(self.events));
        Ticket(self.events)
    }

    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    pub(super) fn turn(&mut self, ticket: Ticket, now: Instant, max_in_flight: usize) -> Turn {
        if self.failures_in_shutdown >= SHUTDOWN_ATTEMPTS {
            return Turn::GiveUp;
        }
        let is_failing = self.is_failing();
        let due = self.throttled_until.max(self.retry_at.filter(|_| is_failing));
        if let Some(due) = due.filter(|due| *due > now) {
            return Turn::At(due);
        }
        // The first in line probes, so that a request that can never succeed does not probe for ever.
        let may_probe = !self.is_probing && self.waiting.first() == Some(&ticket);
        if self.in_flight >= max_in_flight || (is_failing && !may_probe) {
            return Turn::Later;
        }
        self.events += 1;
        self.in_flight += 1;
        self.is_probing |= is_failing;
        Turn::Go(Attempt { began: self.events, is_probe: is_failing })
    }

    /// The destination answered, whatever it said. True when it had been failing.
    pub(super) fn answered(&mut self) -> bool {
        self.events += 1;
        self.last_answer = self.events;
        self.failures_in_shutdown = 0;
        std::mem::take(&mut self.failures) > 0
    }

    /// No answer, or one that says that the destination does not work just now. `before` is the attempt of the same request that failed
    /// before this one;
    /// `is_urgent`: much waits.
    pub(super) fn failed(&mut self, attempt: Attempt, before: Option<Attempt>, now: Instant, is_urgent: bool) -> Fault {
        if self.last_answer > before.unwrap_or(attempt).began {
            return Fault::Request;
        }
        // Of several attempts that failed side by side the first one counts.
        if self.last_failure < attempt.began {
            self.events += 1;
            self.last_failure = self.events;
            self.retry_at = Some(now + back_off(self.failures, if is_urgent { MAX_URGENT_PAUSE } else { MAX_PAUSE }));
            self.failures = self.failures.saturating_add(1);
            self.failures_in_shutdown += u32::from(self.shutdown_at.is_some_and(|shutdown| attempt.began > shutdown));
        }
        Fault::Destination
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// The attempt is over, however it ended.
    pub(super) fn done(&mut self, attempt: Attempt) {
        self.in_flight -= 1;
        self.is_probing &= !attempt.is_probe;
    }

    /// The server asked to be left alone; a flush does not cut this short.
    pub(super) fn throttle(&mut self, until: Instant) {
        self.throttled_until = self.throttled_until.max(Some(until));
    }

    /// The next attempt may be made at once.
    pub(super) fn hurry(&mut self) {
        self.retry_at = None;
    }

    /// Shutdown began: everything gets an attempt at once, and pauses begin anew.
    pub(super) fn begin_shutdown(&mut self) {
        self.events += 1;
        self.shutdown_at = Some(self.events);
        self.failures = 0;
        self.hurry();
    }
}
