//! What of each partition the store was given, and up to which offset that is in the tables.

use std::collections::{HashMap, VecDeque};

use scouter_storage::log::Position;

use crate::kafka::Partition;

#[derive(Debug, Default)]
pub(super) struct Ledger(HashMap<Partition, Account>);

#[derive(Debug, Default)]
struct Account {
    /// Positions that the store gave, and the offset after the message, in order.
    given: VecDeque<(Position, i64)>,
    /// Everything before this offset is in the tables, or nowhere to be stored.
    settled: Option<i64>,
    /// What the brokers were told.
    committed: Option<i64>,
    /// The least offset that can come.
    next: i64,
}

impl Ledger {
    /// The partition is read from `next` on.
    pub(super) fn begin(&mut self, partition: Partition, next: i64) {
        self.0.insert(partition, Account { next, ..Account::default() });
    }

    /// Takes note of the next message of a partition; false when one at or after its offset came before.
    pub(super) fn comes(&mut self, partition: &Partition, offset: i64) -> bool {
        let Some(account) = self.0.get_mut(partition) else { return true };
        let is_next = offset >= account.next;
        account.next = account.next.max(offset + 1);
        is_next
    }

    pub(super) fn has(&self, partition: &Partition) -> bool {
        self.0.contains_key(partition)
    }

    /// The store has the message at `offset`.
    pub(super) fn given(&mut self, partition: &Partition, offset: i64, position: Position) {
        if let Some(account) = self.0.get_mut(partition) {
            account.given.push_back((position, offset + 1));
        }
    }

    /// The message at `offset` has nothing to store.
    pub(super) fn skipped(&mut self, partition: &Partition, offset: i64) {
        if let Some(account) = self.0.get_mut(partition) {
            match account.given.back_mut() {
                Some((_, next)) => *next = offset + 1,
                None => account.settled = Some(offset + 1),
            }
        }
    }

    /// Everything up to `position` is in the tables.
    pub(super) fn settle(&mut self, position: Position) {
        for account in self.0.values_mut() {
            while let Some((given, next)) = account.given.front().copied()
                && given <= position
            {
                account.settled = Some(next);
                account.given.pop_front();
            }
        }
    }

    /// Where partitions got further since the brokers were told.
    pub(super) fn news(&self) -> Vec<(Partition, i64)> {
        let news = |(partition, account): (&Partition, &Account)| {
            account.settled.filter(|settled| Some(*settled) != account.committed).map(|settled| (partition.clone(), settled))
        };
        self.0.iter().filter_map(news).collect()
    }

    /// How far partitions are.
    pub(super) fn settled(&self) -> Vec<(Partition, i64)> {
        self.0.iter().filter_map(|(partition, account)| Some((partition.clone(), account.settled?))).collect()
    }

    pub(super) fn told(&mut self, told: &[(Partition, i64)]) {
        for (partition, offset) in told {
            if let Some(account) = self.0.get_mut(partition) {
                account.committed = Some(*offset);
            }
        }
    }

    /// Whether something was given that is not in the tables.
    pub(super) fn is_owing(&self, partition: &Partition) -> bool {
        self.0.get(partition).is_some_and(|account| !account.given.is_empty())
    }

    pub(super) fn end(&mut self, partition: &Partition) {
        self.0.remove(partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_settled_when_all_before_it_is() {
        let (one, other) = (("t".to_owned(), 0), ("t".to_owned(), 1));
        let mut ledger = Ledger::default();
        ledger.begin(one.clone(), 4);
        ledger.begin(other.clone(), 0);
        assert!(ledger.comes(&one, 4) && ledger.comes(&one, 6));
        assert!(!ledger.comes(&one, 6) && !ledger.comes(&one, 3) && ledger.comes(&other, 0));
        ledger.skipped(&one, 4);
        assert_eq!(ledger.news(), [(one.clone(), 5)]);
        ledger.told(&[(one.clone(), 5)]);
        assert_eq!(ledger.news(), []);
        assert_eq!(ledger.settled(), [(one.clone(), 5)]);

        ledger.given(&one, 5, Position(10));
        ledger.given(&other, 100, Position(11));
        ledger.given(&one, 6, Position(12));
        // Nothing to store, and not settled before what came before it.
        ledger.skipped(&one, 7);
        ledger.settle(Position(9));
        assert_eq!(ledger.news(), []);
        ledger.settle(Position(11));
        let mut news = ledger.news();
        news.sort();
        assert_eq!(news, [(one.clone(), 6), (other.clone(), 101)]);
        assert!(ledger.is_owing(&one) && !ledger.is_owing(&other));
        ledger.settle(Position(12));
        assert_eq!(ledger.news().into_iter().find(|(partition, _)| *partition == one), Some((one.clone(), 8)));
        ledger.end(&one);
        assert!(!ledger.has(&one));
        ledger.given(&one, 9, Position(13));
        assert_eq!(ledger.news(), [(other, 101)], "what is not ours any more is not counted");
    }
}
