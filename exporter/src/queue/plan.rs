//! What a profile asks of the observations: which names count, into which bins they fall, how many make a sample.
//!
//! Made once from a profile and never changed; what is counted stands in [`Aggregate`](super::aggregate::Aggregate).

use std::collections::HashMap;

use crate::encode::RecordSubject;

/// How the items of one queue become records.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    Psi(PsiPlan),
    Means(MeansPlan),
    Eval(EvalPlan),
}

/// Values counted by bin, for each feature.
#[derive(Clone, Debug)]
pub(super) struct PsiPlan {
    pub(super) watched: Watched,
    /// In the order of `watched`.
    pub(super) features: Vec<PsiFeature>,
    /// Of all features.
    pub(super) bins: usize,
}

#[derive(Clone, Debug)]
pub(super) struct PsiFeature {
    pub(super) ids: Vec<i64>,
    pub(super) limits: BinLimits,
    pub(super) texts: Texts,
    /// Place of its first bin among the bins of all features.
    pub(super) first: usize,
}

/// Means of samples, of features or of metrics.
#[derive(Clone, Debug)]
pub(super) struct MeansPlan {
    pub(super) watched: Watched,
    /// In the order of `watched`; empty for metrics, which are numbers.
    pub(super) texts: Vec<Texts>,
    pub(super) sample_size: u64,
    pub(super) is_metrics: bool,
}

/// Records one by one.
#[derive(Clone, Debug)]
pub(super) struct EvalPlan {
    pub(super) sample_ratio: f64,
}

/// What the texts of a feature stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    numbers: HashMap<String, i64>,
    /// For texts that are not known.
    missing: Option<i64>,
}

impl FromIterator<(String, i64)> for Texts {
    fn from_iter<I: IntoIterator<Item = (String, i64)>>(pairs: I) -> Self {
        let numbers: HashMap<String, i64> = pairs.into_iter().collect();
        Self { missing: numbers.get("missing").copied(), numbers }
    }
}

impl Texts {
    pub(super) fn number(&self, text: &str) -> Option<i64> {
        self.numbers.get(text).copied().or(self.missing)
    }
}

/// Which bin a value falls into, as a place in the feature's list of bins.
#[derive(Clone, Debug)]
pub(super) enum BinLimits {
    /// Each bin begins where the last one ended: the upper limits, in order.
    Adjoining {
        lowest: f64,
        uppers: Vec<f64>,
    },
    /// Anything else: the first range that holds the value counts.
    Ranges(Vec<(f64, f64)>),
    Categories(HashMap<i64, usize>),
}

impl BinLimits {
    pub(super) fn of_ranges(ranges: Vec<(f64, f64)>) -> Self {
        let is_adjoining = ranges.windows(2).all(|pair| pair[0].1 == pair[1].0) && ranges.iter().all(|(lower, upper)| lower <= upper);
        match ranges.first() {
            Some((lowest, _)) if is_adjoining => {
                Self::Adjoining { lowest: *lowest, uppers: ranges.iter().map(|(_, upper)| *upper).collect() }
            }
            _ => Self::Ranges(ranges),
        }
    }

    pub(super) fn of_categories(ids: &[i64]) -> Self {
        Self::Categories(ids.iter().enumerate().map(|(place, id)| (*id, place)).collect())
    }

    /// A bin holds its upper limit and not its lower one. A category is a whole number; what is behind its point is cut off, as
    /// Scouter does.
    pub(super) fn place(&self, value: f64) -> Option<usize> {
        match self {
            Self::Adjoining { lowest, uppers } => {
                let place = uppers.partition_point(|upper| *upper < value);
                (value > *lowest && place < uppers.len()).then_some(place)
            }
            Self::Ranges(ranges) => ranges.iter().position(|(lower, upper)| value > *lower && value <= *upper),
            // Beyond 64 bits the number saturates, and no category has it.
            Self::Categories(places) => places.get(&(value as i64)).copied(),
        }
    }
}

/// The names that a profile watches, each with what its records begin with.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    names: Vec<String>,
    subjects: Vec<RecordSubject>,
    places: HashMap<String, u32>,
}

impl Watched {
    /// False when the name is there already.
    pub(super) fn add(&mut self, uid: &str, name: &str) -> bool {
        self.add_spelled(uid, name, name)
    }

    /// Adds a name that observations spell in another way.
    pub(super) fn add_spelled(&mut self, uid: &str, name: &str, spelled: &str) -> bool {
        let Ok(place) = u32::try_from(self.names.len()) else { return false };
        if self.places.contains_key(spelled) {
            return false;
        }
        self.places.insert(spelled.to_owned(), place);
        self.names.push(spelled.to_owned());
        let subject = self.subjects.first().map_or_else(|| RecordSubject::new(uid, name), |first| first.sibling(name));
        self.subjects.push(subject);
        true
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn subject(&self, place: usize) -> &RecordSubject {
        &self.subjects[place]
    }

    /// The place of a name. Items of one kind have the same names in the same order, so the one that followed last time is tried first.
    pub(super) fn place(&self, name: &str, order: &mut Order) -> Option<usize> {
        let at = order.next;
        order.next += 1;
        if let Some(guess) = order.places.get(at)
            && self.names[*guess as usize] == name
        {
            return Some(*guess as usize);
        }
        let place = *self.places.get(name)?;
        if let Some(guess) = order.places.get_mut(at) {
            *guess = place;
        } else if at == order.places.len() && at < self.names.len() {
            order.places.push(place);
        }
        Some(place as usize)
    }
}

/// In which order the names of the last item came.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    places: Vec<u32>,
    next: usize,
}

impl Order {
    pub(super) fn begin(&mut self) {
        self.next = 0;
    }
}

#[cfg(test)]
mod tests;
