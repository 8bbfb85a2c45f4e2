//! The account of every item and value that went into a queue.

use std::fmt;

use crate::Stats;

/// Why an item did not count at all. Closed: each has its own counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemDrop {
    /// It is not of the kind that the profile takes, such as metrics for a profile of features.
    WrongKind,
    /// It cannot be read: no item at all, or a value of no use. Counted by bindings to other languages.
    Unreadable,
    /// None of its values counts: the profile watches other names, or no value has a number or a bin.
    NothingWatched,
    /// It came after shutdown.
    Shutdown,
}

impl ItemDrop {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::WrongKind, Self::Unreadable, Self::NothingWatched, Self::Shutdown];

    /// Its name as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongKind => "wrong_kind",
            Self::Unreadable => "unreadable",
            Self::NothingWatched => "nothing_watched",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for ItemDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why one value of an item did not count, while its neighbours did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueSkip {
    /// The profile does not watch its name.
    NotWatched,
    /// It could not be read. Counted by bindings to other languages.
    Unreadable,
    /// A text that the profile's feature map gives no number.
    UnknownText,
    /// NaN or an infinity, for which there is no bin. (Means carry them.)
    NotFinite,
    /// No bin of the feature holds it.
    NoBin,
}

impl ValueSkip {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::NotWatched, Self::Unreadable, Self::UnknownText, Self::NotFinite, Self::NoBin];

    /// Its name as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotWatched => "not_watched",
            Self::Unreadable => "unreadable",
            Self::UnknownText => "unknown_text",
            Self::NotFinite => "not_finite",
            Self::NoBin => "no_bin",
        }
    }
}

/// Dropped items by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedItems([u64; ItemDrop::ALL.len()]);

impl DroppedItems {
    /// Those dropped for one reason.
    pub fn get(&self, reason: ItemDrop) -> u64 {
        self.0[reason as usize]
    }

    /// Those dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, reason: ItemDrop) {
        self.0[reason as usize] += 1;
    }
}

/// Values of features and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueAccount {
    /// Those that went into a bin or a mean.
    pub counted: u64,
    skipped: [u64; ValueSkip::ALL.len()],
}

impl ValueAccount {
    /// Those that did not count for one reason.
    pub fn skipped(&self, reason: ValueSkip) -> u64 {
        self.skipped[reason as usize]
    }

    /// Writes down what became of a value, and gives 1 when it counted.
    pub(super) fn note(&mut self, outcome: Result<(), ValueSkip>) -> u64 {
        match outcome {
            Ok(()) => self.counted += 1,
            Err(reason) => self.skipped[reason as usize] += 1,
        }
        u64::from(outcome.is_ok())
    }
}

/// The account of one queue.
///
/// At every moment `inserted == published + waiting + sampled_out + dropped.total()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueAccount {
    /// Items handed to it.
    pub inserted: u64,
    /// Items whose records were handed on; [`RecordQueueStats::delivery`] says what became of those.
    pub published: u64,
    /// Items counted in the window that is not yet published.
    pub waiting: u64,
    /// Evaluation records left out by the sample ratio.
    pub sampled_out: u64,
    /// Items that did not count.
    pub dropped: DroppedItems,
    /// The values in the items.
    pub values: ValueAccount,
}

impl QueueAccount {
    /// True when every item is accounted for; always, or there is a bug.
    pub fn is_balanced(&self) -> bool {
        self.inserted == self.published + self.waiting + self.sampled_out + self.dropped.total()
    }
}

/// What all queues have done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordQueueStats {
    /// Each queue by its alias.
    pub queues: Vec<(String, QueueAccount)>,
    /// The records made of the items, and their requests; the spans too where the pipeline is shared with a tracer.
    pub delivery: Stats,
}

impl RecordQueueStats {
    /// The account of one queue.
    pub fn queue(&self, alias: &str) -> Option<&QueueAccount> {
        self.queues.iter().find(|(known, _)| known == alias).map(|(_, account)| account)
    }
}

/// What a shutdown left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordQueueReport {
    /// The account at the end.
    pub stats: RecordQueueStats,
    /// Records that are not known to be stored: lost during this shutdown, or still on their way through a pipeline that goes on.
    pub undelivered: u64,
    /// True when the queue was shut down before.
    pub was_shut_down: bool,
}
