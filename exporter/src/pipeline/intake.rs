//! The way into the queue: from a thread that has a span or records, over its lane, to the batches that the worker takes.

use std::sync::{Arc, MutexGuard, atomic::Ordering};

use super::{
    lanes::Intake,
    state::{Shared, State, Unit},
};
use crate::{
    DropReason,
    encode::{EncodedBatch, EncodedEnvelope, EncodedRecords, RECORDS_WORTH_A_REQUEST, TooLarge, span_name},
};

/// What became of records that were offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Taken,
    /// The queue is full; nothing is counted.
    NoRoom,
    /// Dropped and counted.
    Dropped,
}

impl Shared {
    /// Takes a span into the lane of this thread. False when it was dropped and counted.
    pub(super) fn push(self: &Arc<Self>, envelope: &Arc<EncodedEnvelope>, span: &[u8]) -> bool {
        let mut intake = self.lanes.of_this_thread();
        if intake.is_closed {
            intake.dropped.add(DropReason::Shutdown, 1);
            return false;
        }
        if EncodedBatch::framed_len(span.len()) > self.limits.max_request_bytes {
            intake.dropped.add(DropReason::TooLarge, 1);
            drop(intake);
            let too_large = TooLarge { name: span_name(span).unwrap_or("?").to_owned(), bytes: span.len(), is_record: false };
            self.lock().stats.last_error = Some(self.describe(&too_large));
            return false;
        }
        let Some((share, used)) = self.budget.reserve(1, EncodedBatch::framed_len(span.len())) else {
            intake.dropped.add(DropReason::QueueFull, 1);
            return false;
        };
        if !self.ensure_worker() {
            self.budget.release(share);
            intake.dropped.add(DropReason::Internal, 1);
            return false;
        }
        let is_first = intake.batch.is_empty();
        intake.batch.push(envelope, span);
        intake.share.add(share);
        intake.high_water = intake.high_water.max(used);
        self.note_pushed(intake, is_first);
        true
    }

    /// Takes records into the lane of this thread, all or none; more than the bounds allow when nothing else waits. Only what is dropped
    /// for good is counted: `NoRoom` is the caller's to count, or to try again.
    pub(super) fn offer_records(self: &Arc<Self>, records: &EncodedRecords) -> Offer {
        let count = records.len() as u64;
        let mut intake = self.lanes.of_this_thread();
        let refused = if intake.is_closed {
            Some(DropReason::Shutdown)
        } else if !self.takes_records() {
            Some(DropReason::Refused)
        } else {
            None
        };
        if let Some(reason) = refused {
            intake.dropped_records.add(reason, count);
            return Offer::Dropped;
        }
        let reserved = self.budget.reserve(count, records.bytes()).or_else(|| self.budget.reserve_alone(count, records.bytes()));
        let Some((share, used)) = reserved else { return Offer::NoRoom };
        if !self.ensure_worker() {
            self.budget.release(share);
            intake.dropped_records.add(DropReason::Internal, count);
            return Offer::Dropped;
        }
        let is_first = intake.batch.is_empty();
        intake.batch.push_records(records);
        intake.share.add(share);
        intake.high_water = intake.high_water.max(used);
        self.note_pushed(intake, is_first);
        Offer::Taken
    }

    /// Takes records into the lane of this thread, all or none. False when they were dropped and counted.
    pub(super) fn push_records(self: &Arc<Self>, records: &EncodedRecords) -> bool {
        match self.offer_records(records) {
            Offer::Taken => true,
            Offer::Dropped => false,
            Offer::NoRoom => {
                self.lanes.of_this_thread().dropped_records.add(DropReason::QueueFull, records.len() as u64);
                false
            }
        }
    }

    /// Hands a full lane to the queue, and wakes the worker for what it does not know of.
    fn note_pushed(&self, mut intake: MutexGuard<'_, Intake>, is_first: bool) {
        let is_full = self.is_full(&intake.batch);
        if is_full {
            self.lock().take_in(self, &mut intake);
        }
        let wake = is_full || (is_first && !self.lanes.has_spans.swap(true, Ordering::AcqRel));
        drop(intake);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Whether a batch is worth a request.
    fn is_full(&self, batch: &EncodedBatch) -> bool {
        batch.spans() >= self.queue.max_batch_spans
            || batch.records() >= RECORDS_WORTH_A_REQUEST
            || batch.bytes() >= self.limits.max_request_bytes / 2
    }

    /// Moves what is in the lanes to the queue.
    pub(super) fn collect(&self) {
        self.lanes.has_spans.store(false, Ordering::Release);
        self.lock().opened_at = None;
        for mut intake in self.lanes.each().filter(|intake| !intake.batch.is_empty()) {
            self.lock().take_in(self, &mut intake);
        }
    }

    /// Takes no more spans; those in the lanes go to the queue.
    pub(super) fn close_lanes(&self) {
        for mut intake in self.lanes.each() {
            intake.is_closed = true;
            if !intake.batch.is_empty() {
                self.lock().take_in(self, &mut intake);
            }
        }
    }
}

impl State {
    /// Takes the batch of a lane into the queue.
    pub(super) fn take_in(&mut self, shared: &Shared, intake: &mut Intake) {
        let (spans, records) = (intake.batch.spans(), intake.batch.records());
        let share = std::mem::take(&mut intake.share);
        for (account, count) in [(&mut self.stats.spans, spans), (&mut self.stats.records, records)] {
            account.ended += count as u64;
            account.accepted += count as u64;
            account.queued += count as u64;
        }
        if let Some((number, last)) = self.batches.back_mut()
            && last.spans() + spans <= shared.queue.max_batch_spans
            && last.records() + records <= RECORDS_WORTH_A_REQUEST
            && last.bytes() + intake.batch.bytes() < shared.limits.max_request_bytes / 2
            && let Some(unit) = self.units.get_mut(number)
        {
            last.append(&intake.batch);
            intake.batch.clear();
            unit.spans += spans as u64;
            unit.records += records as u64;
            unit.share.add(share);
            return;
        }
        let batch = std::mem::replace(&mut intake.batch, self.spare.pop().unwrap_or_default());
        self.batches.push_back((self.next_unit, batch));
        self.units.insert(self.next_unit, Unit { spans: spans as u64, records: records as u64, share, ..Unit::default() });
        self.next_unit += 1;
    }
}
