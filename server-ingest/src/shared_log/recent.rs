//! Requests that came twice: the ids of those that a partition had lately.
//!
//! A request that is sent again is in the partition of the first one, whoever took it. Ids are remembered for ten minutes of the messages' own
//! time. Who gets a partition reads back for them, the newest first, up to [`READ_BACK_MESSAGES`]; what was sent again after longer is a row twice
//! until files are merged.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::kafka::Partition;

pub(super) const WINDOW_MILLIS: i64 = 600_000;
/// Ids of all partitions, some 80 bytes each.
const MAX_IDS: usize = 400_000;
/// Read back from the start of a partition that changes hands.
pub(super) const READ_BACK_MESSAGES: i64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct Recent(HashMap<Partition, Window>);

#[derive(Debug, Default)]
struct Window {
    ids: HashSet<[u8; 16]>,
    /// In the order they came, with the time of their message.
    order: VecDeque<([u8; 16], i64)>,
}

impl Recent {
    /// Remembers an id; false when it was there before.
    pub(super) fn is_new(&mut self, partition: &Partition, id: [u8; 16], millis: i64) -> bool {
        if !self.0.contains_key(partition) {
            self.0.insert(partition.clone(), Window::default());
        }
        let most = MAX_IDS / self.0.len();
        let Some(window) = self.0.get_mut(partition) else { return true };
        if !window.ids.insert(id) {
            return false;
        }
        window.order.push_back((id, millis));
        while let Some((oldest, came)) = window.order.front().copied()
            && (window.order.len() > most || millis.saturating_sub(came) > WINDOW_MILLIS)
        {
            window.order.pop_front();
            window.ids.remove(&oldest);
        }
        true
    }

    pub(super) fn forget(&mut self, partition: &Partition) {
        self.0.remove(partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_for_ten_minutes_and_by_partition() {
        let (one, other) = (("t".to_owned(), 0), ("t".to_owned(), 1));
        let mut recent = Recent::default();
        assert!(recent.is_new(&one, [1; 16], 0));
        assert!(!recent.is_new(&one, [1; 16], WINDOW_MILLIS));
        assert!(recent.is_new(&other, [1; 16], 0));
        assert!(recent.is_new(&one, [2; 16], WINDOW_MILLIS + 1));
        assert!(recent.is_new(&one, [1; 16], WINDOW_MILLIS + 1), "forgotten");
        recent.forget(&one);
        assert!(recent.is_new(&one, [2; 16], WINDOW_MILLIS + 1));
    }
}
