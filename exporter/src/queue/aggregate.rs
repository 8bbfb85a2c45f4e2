//! The counters of one queue, and how they become records.
//!
//! Observations are counted as they come and not kept, so the memory of a queue is that of its profile, however much goes in.
//! Terms: a *row* is one item of features or metrics; a *window* is the rows since the last time records were made of them.
//!
//! Invariants:
//! - each item is published, waiting, sampled out, or dropped for a reason;
//! - counts that found no room in the pipeline stay and are added to: a full queue costs PSI its resolution in time and no value.

use std::time::{Duration, Instant, SystemTime};

use super::{
    account::{ItemDrop, QueueAccount, ValueSkip},
    item::{AsFeature, EvalRecord, FeatureValue, lower_case},
    plan::{MeansPlan, Order, Plan, PsiPlan, Texts},
};
use crate::{
    Pipeline,
    encode::{EncodedRecords, unix_nano},
    pipeline::Offer,
};

/// Records handed to the pipeline at once.
const MAX_CHUNK_RECORDS: usize = 512;
/// How long counts that found no room wait before the next attempt.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Scouter's tables keep microseconds, and its table of metrics one row an entity and microsecond.
const STAMP_STEP_NANOS: u64 = 1000;

/// Where records go: the pipeline, but for tests.
pub(super) trait Sink {
    /// All or none; what finds no room is not counted.
    fn offer(&self, records: &EncodedRecords) -> Offer;
    /// All or none; what finds no room is dropped and counted.
    fn push(&self, records: &EncodedRecords);
}

impl Sink for Pipeline {
    fn offer(&self, records: &EncodedRecords) -> Offer {
        self.offer_records(records)
    }

    fn push(&self, records: &EncodedRecords) {
        // Counted there.
        let _taken = self.try_push_records(records);
    }
}

/// What becomes of counts when the pipeline has no room for their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    Keep,
    Drop,
}

/// What a queue has counted and not yet published.
#[derive(Debug)]
pub(super) struct Aggregate {
    counters: Counters,
    rows: u64,
    /// Of the window; `None` without rows.
    due_at: Option<Instant>,
    /// Rows at which the window is published.
    full_at: u64,
    pub(super) is_closed: bool,
    last_stamp: u64,
    order: Order,
    records: EncodedRecords,
    pub(super) account: QueueAccount,
}

#[derive(Debug)]
enum Counters {
    /// By place of the bin.
    Bins(Vec<u64>),
    /// By place of the name.
    Means(Vec<Mean>),
    /// Nothing is counted.
    Eval,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    values: u64,
}

/// When a window is published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Triggers {
    pub(super) psi_rows: u64,
    pub(super) max_age: Duration,
}

impl Triggers {
    fn rows(self, plan: &Plan) -> u64 {
        match plan {
            Plan::Psi(_) => self.psi_rows,
            Plan::Means(means) => means.sample_size,
            Plan::Eval(_) => 1,
        }
    }
}

impl Aggregate {
    pub(super) fn new(plan: &Plan, triggers: Triggers) -> Self {
        let counters = match plan {
            Plan::Psi(psi) => Counters::Bins(vec![0; psi.bins]),
            Plan::Means(means) => Counters::Means(vec![Mean::default(); means.watched.len()]),
            Plan::Eval(_) => Counters::Eval,
        };
        Self {
            counters,
            rows: 0,
            due_at: None,
            full_at: triggers.rows(plan),
            is_closed: false,
            last_stamp: 0,
            order: Order::default(),
            records: EncodedRecords::default(),
            account: QueueAccount::default(),
        }
    }

    /// When the window is published if it does not fill before.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// The account, the window's rows included.
    pub(super) fn account(&self) -> QueueAccount {
        QueueAccount { waiting: self.rows, ..self.account }
    }

    /// Counts a row of features. `Err` when nothing of it counts.
    pub(super) fn add_features<F: AsFeature>(&mut self, plan: &Plan, row: &[F]) -> Result<(), ItemDrop> {
        self.begin_row()?;
        let mut counted = 0;
        match (plan, &mut self.counters) {
            (Plan::Psi(psi), Counters::Bins(bins)) => {
                for feature in row {
                    counted += self.account.values.note(count_in_bin(psi, bins, &mut self.order, feature));
                }
            }
            (Plan::Means(means), Counters::Means(sums)) if !means.is_metrics => {
                for feature in row {
                    let place = means.watched.place(feature.name(), &mut self.order);
                    counted += self.account.values.note(add_to_mean(means, sums, place, feature.value()));
                }
            }
            _ => return Err(self.drop_item(ItemDrop::WrongKind)),
        }
        self.end_row(counted)
    }

    /// Counts a row of metrics, whose names may be in any case. `Err` when nothing of it counts.
    pub(super) fn add_metrics<F: AsFeature>(&mut self, plan: &Plan, row: &[F]) -> Result<(), ItemDrop> {
        self.begin_row()?;
        let mut counted = 0;
        match (plan, &mut self.counters) {
            (Plan::Means(means), Counters::Means(sums)) if means.is_metrics => {
                for metric in row {
                    let lower = lower_case(metric.name());
                    let place = means.watched.place(lower.as_deref().unwrap_or(metric.name()), &mut self.order);
                    counted += self.account.values.note(add_to_mean(means, sums, place, metric.value()));
                }
            }
            _ => return Err(self.drop_item(ItemDrop::WrongKind)),
        }
        self.end_row(counted)
    }

    /// Hands a record on. Its account goes on among the pipeline's records.
    pub(super) fn add_eval(&mut self, plan: &Plan, uid: &str, ratio: f64, record: &EvalRecord, to: &impl Sink) -> Result<(), ItemDrop> {
        self.begin_row()?;
        if !matches!(plan, Plan::Eval(_)) {
            return Err(self.drop_item(ItemDrop::WrongKind));
        }
        if ratio < 1.0 && rand::random::<f64>() >= ratio {
            self.account.sampled_out += 1;
            return Ok(());
        }
        self.records.clear();
        self.records.push_eval(&record.lend(uid));
        self.account.published += 1;
        // A record that is dropped is in the pipeline's account.
        to.push(&self.records);
        Ok(())
    }

    /// Writes down an item that could not be read.
    pub(super) fn note_unreadable(&mut self) {
        self.account.inserted += 1;
        self.drop_item(ItemDrop::Unreadable);
    }

    fn drop_item(&mut self, reason: ItemDrop) -> ItemDrop {
        self.account.dropped.add(reason);
        reason
    }

    /// True when the row filled the window.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= self.full_at
    }

    /// Starts the clock of a window with its first row; true when it was not running.
    pub(super) fn start_clock(&mut self, triggers: Triggers) -> bool {
        let starts = self.rows > 0 && self.due_at.is_none();
        if starts {
            self.due_at = Some(Instant::now() + triggers.max_age);
        }
        starts
    }

    /// Makes records of the window. False when some of it stays because there is no room.
    pub(super) fn publish(&mut self, plan: &Plan, triggers: Triggers, to: &impl Sink, no_room: NoRoom) -> bool {
        if self.rows == 0 {
            return true;
        }
        let done = match plan {
            Plan::Psi(psi) => self.publish_bins(psi, to, no_room),
            Plan::Means(means) => {
                self.publish_means(means, to);
                true
            }
            Plan::Eval(_) => true,
        };
        if done {
            self.account.published += self.rows;
            self.rows = 0;
            self.due_at = None;
            self.full_at = triggers.rows(plan);
        } else {
            self.due_at = Some(Instant::now() + RETRY_DELAY.min(triggers.max_age));
            self.full_at = self.rows + triggers.rows(plan);
        }
        done
    }

    /// Every bin of each feature that was seen, those without a value included.
    fn publish_bins(&mut self, plan: &PsiPlan, to: &impl Sink, no_room: NoRoom) -> bool {
        let now = self.stamps(1);
        let Counters::Bins(bins) = &mut self.counters else { return true };
        let mut chunk = 0..0;
        self.records.clear();
        for (place, feature) in plan.features.iter().enumerate() {
            let range = feature.first..feature.first + feature.ids.len();
            if bins[range.clone()].iter().any(|count| *count > 0) {
                if self.records.len() + range.len() > MAX_CHUNK_RECORDS && !self.records.is_empty() {
                    if !hand_over(&mut self.records, &mut bins[chunk.clone()], to, no_room) {
                        return false;
                    }
                    chunk = range.start..range.start;
                }
                let subject = plan.watched.subject(place);
                for (id, count) in feature.ids.iter().zip(&bins[range.clone()]) {
                    self.records.push_psi(subject, now, *id, *count);
                }
            }
            chunk.end = range.end;
        }
        hand_over(&mut self.records, &mut bins[chunk], to, no_room)
    }

    /// The mean of each name that was seen. What finds no room is dropped, and counted there: a sample cannot be added to.
    fn publish_means(&mut self, plan: &MeansPlan, to: &impl Sink) {
        let mut stamp = self.stamps(if plan.is_metrics { plan.watched.len() as u64 } else { 1 });
        let Counters::Means(means) = &mut self.counters else { return };
        self.records.clear();
        for (place, mean) in means.iter_mut().enumerate().filter(|(_, mean)| mean.values > 0) {
            let value = mean.sum / mean.values as f64;
            *mean = Mean::default();
            let subject = plan.watched.subject(place);
            if plan.is_metrics {
                self.records.push_custom(subject, stamp, value);
                stamp += STAMP_STEP_NANOS;
            } else {
                self.records.push_spc(subject, stamp, value);
            }
            if self.records.len() == MAX_CHUNK_RECORDS {
                to.push(&self.records);
                self.records.clear();
            }
        }
        to.push(&self.records);
        self.records.clear();
    }

    /// The time of the first of that many records which need different ones, all later than those before.
    fn stamps(&mut self, records: u64) -> u64 {
        let first = unix_nano(SystemTime::now()).max(self.last_stamp.saturating_add(STAMP_STEP_NANOS));
        self.last_stamp = first.saturating_add(records.saturating_sub(1).saturating_mul(STAMP_STEP_NANOS));
        first
    }

    fn begin_row(&mut self) -> Result<(), ItemDrop> {
        self.account.inserted += 1;
        if self.is_closed {
            return Err(self.drop_item(ItemDrop::Shutdown));
        }
        self.order.begin();
        Ok(())
    }

    fn end_row(&mut self, counted: u64) -> Result<(), ItemDrop> {
        if counted == 0 {
            return Err(self.drop_item(ItemDrop::NothingWatched));
        }
        self.rows += 1;
        Ok(())
    }
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.values += 1;
    }
}

/// Offers a chunk, and empties its bins when it was taken or dropped.
fn hand_over(records: &mut EncodedRecords, bins: &mut [u64], to: &impl Sink, no_room: NoRoom) -> bool {
    let is_done = match no_room {
        NoRoom::Keep => to.offer(records) != Offer::NoRoom,
        NoRoom::Drop => {
            to.push(records);
            true
        }
    };
    if is_done {
        bins.fill(0);
    }
    records.clear();
    is_done
}

fn count_in_bin(plan: &PsiPlan, bins: &mut [u64], order: &mut Order, feature: &impl AsFeature) -> Result<(), ValueSkip> {
    let place = plan.watched.place(feature.name(), order).ok_or(ValueSkip::NotWatched)?;
    let feature_plan = &plan.features[place];
    let value = number(feature.value(), Some(&feature_plan.texts))?;
    if !value.is_finite() {
        return Err(ValueSkip::NotFinite);
    }
    let bin = feature_plan.limits.place(value).ok_or(ValueSkip::NoBin)?;
    bins[feature_plan.first + bin] += 1;
    Ok(())
}

fn add_to_mean(plan: &MeansPlan, means: &mut [Mean], place: Option<usize>, value: FeatureValue<'_>) -> Result<(), ValueSkip> {
    let place = place.ok_or(ValueSkip::NotWatched)?;
    means[place].add(number(value, plan.texts.get(place))?);
    Ok(())
}

/// A text counts as the number that the feature map gives it.
fn number(value: FeatureValue<'_>, texts: Option<&Texts>) -> Result<f64, ValueSkip> {
    match value {
        FeatureValue::Int(value) => Ok(value as f64),
        FeatureValue::Float(value) => Ok(value),
        FeatureValue::Text(text) => {
            let number = texts.and_then(|texts| texts.number(text)).ok_or(ValueSkip::UnknownText)?;
            Ok(number as f64)
        }
        FeatureValue::Unusable => Err(ValueSkip::Unreadable),
    }
}

#[cfg(test)]
mod tests;
