//! The account of every span and record.

use std::fmt;

/// Why a span or record was dropped by the client. Closed: each has its own counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The queue was full, by count or by bytes.
    QueueFull,
    /// It does not fit a request even alone.
    TooLarge,
    /// The deadline passed while the server could not be reached or asked for patience.
    ExportTimeout,
    /// The server answered with an error that retrying does not mend.
    Refused,
    /// The server does not accept the credentials.
    Unauthenticated,
    /// It was handed over after shutdown, or was not delivered within the time shutdown had.
    Shutdown,
    /// The exporter itself failed: a panic while encoding or sending, or no thread to run on.
    Internal,
}

impl DropReason {
    /// All reasons, in the order of [`Dropped`]'s fields.
    pub const ALL: [Self; 7] =
        [Self::QueueFull, Self::TooLarge, Self::ExportTimeout, Self::Refused, Self::Unauthenticated, Self::Shutdown, Self::Internal];

    /// Its name as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::ExportTimeout => "export_timeout",
            Self::Refused => "refused",
            Self::Unauthenticated => "unauthenticated",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Dropped spans or records by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped([u64; DropReason::ALL.len()]);

impl Dropped {
    /// Those dropped for one reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Those dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|reason| (reason, self.get(reason)))
    }

    pub(crate) fn add(&mut self, reason: DropReason, count: u64) {
        self.0[reason as usize] += count;
    }
}

/// The account of one kind of thing: spans, or monitoring records.
///
/// At every moment `ended == exported + rejected + dropped.total() + queued + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Handed to the pipeline.
    pub ended: u64,
    /// Taken in: neither refused by a full queue nor handed over after shutdown.
    pub accepted: u64,
    /// Acknowledged by the server.
    pub exported: u64,
    /// Refused by the server for ever, while it stored the rest of their request.
    pub rejected: u64,
    /// Given up by the client.
    pub dropped: Dropped,
    /// Waiting for a request.
    pub queued: u64,
    /// In a request, or between two attempts of one.
    pub in_flight: u64,
}

impl Account {
    /// Not yet decided.
    pub fn pending(&self) -> u64 {
        self.queued + self.in_flight
    }

    /// Dropped or rejected.
    pub fn lost(&self) -> u64 {
        self.dropped.total() + self.rejected
    }

    /// True when every one is accounted for; always, or there is a bug.
    pub fn is_balanced(&self) -> bool {
        self.ended == self.exported + self.rejected + self.dropped.total() + self.queued + self.in_flight
    }
}

/// What a pipeline has done so far: one consistent picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Spans.
    pub spans: Account,
    /// Monitoring records.
    pub records: Account,
    /// Requests acknowledged.
    pub requests: u64,
    /// Attempts after the first of a request.
    pub retries: u64,
    /// Bytes of acknowledged requests, before compression.
    pub bytes: u64,
    /// Bytes of encoded spans waiting or in flight.
    pub pending_bytes: u64,
    /// Most bytes ever waiting or in flight.
    pub pending_bytes_high_water: u64,
    /// What went wrong last, with the server's own words.
    pub last_error: Option<String>,
}

/// What a shutdown left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// The account at the end. Nothing is pending any more, unless an earlier shutdown is still at work.
    pub stats: Stats,
    /// Spans and records that this shutdown could not deliver.
    pub undelivered: u64,
    /// True when the pipeline was shut down before.
    pub was_shut_down: bool,
}
