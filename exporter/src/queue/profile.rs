//! Drift and evaluation profiles, as Scouter writes them to files.
//!
//! A profile says whose records they are and how observations become records. Only what a client needs is read; the rest, such as
//! alerts and schedules, is the server's.

mod json;

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
};

use self::json::{Fault, Json, Node};
use super::account::ItemDrop;
use super::plan::{BinLimits, EvalPlan, MeansPlan, Plan, PsiFeature, PsiPlan, Texts, Watched};

/// What a profile watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DriftType {
    /// Statistical process control: means of samples of each feature.
    Spc,
    /// Population stability index: how often each feature falls into each of its bins.
    Psi,
    /// Means of metrics of the user's own.
    Custom,
    /// Evaluation of a model or an agent, under the name that Scouter gives it today.
    GenAi,
    /// The same, under the name that later versions give it.
    Agent,
}

impl DriftType {
    /// The name in profiles.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spc => "Spc",
            Self::Psi => "Psi",
            Self::Custom => "Custom",
            Self::GenAi => "GenAI",
            Self::Agent => "Agent",
        }
    }

    /// What goes into its queue.
    pub const fn takes(self) -> &'static str {
        match self {
            Self::Spc | Self::Psi => "Features",
            Self::Custom => "Metrics",
            Self::GenAi | Self::Agent => "an EvalRecord",
        }
    }
}

impl fmt::Display for DriftType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// So many names of a profile are told.
const NAMES_TOLD: usize = 8;

/// A drift or evaluation profile.
#[derive(Clone, Debug)]
pub struct Profile {
    uid: String,
    space: String,
    name: String,
    version: String,
    drift_type: DriftType,
    pub(super) plan: Plan,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("cannot read the profile `{}`: {source}", path.display())]
    Read {
        /// The path given.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It is no JSON.
    #[error("{origin} is not JSON: {source}")]
    Json {
        /// Where it came from.
        origin: String,
        /// Line and column.
        source: serde_json::Error,
    },
    /// A field is not what it must be.
    #[error("{origin}: `{field}` must be {expected}, not {found}")]
    Field {
        /// Where it came from.
        origin: String,
        /// Its path, such as `config.uid`.
        field: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
}

impl Profile {
    /// Reads a file that Scouter's `save_to_json` wrote.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else; the message names file, field and what was expected.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ProfileError> {
        let path = path.as_ref();
        let text = std::fs::read(path).map_err(|source| ProfileError::Read { path: path.to_owned(), source })?;
        Self::read(&text, format!("the profile `{}`", path.display()))
    }

    /// Reads the JSON of a profile, as Scouter's `model_dump_json` gives it.
    ///
    /// # Errors
    /// When it is something else; the message names field and what was expected.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, ProfileError> {
        Self::read(json.as_ref(), "the profile".to_owned())
    }

    /// The profile's own id: the entity of all its records.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The space it belongs to.
    pub fn space(&self) -> &str {
        &self.space
    }

    /// Its name in the space.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it watches.
    pub fn drift_type(&self) -> DriftType {
        self.drift_type
    }

    /// The names of the features or metrics that count, as items spell them; none for evaluations.
    pub fn watched(&self) -> &[String] {
        match &self.plan {
            Plan::Psi(plan) => plan.watched.names(),
            Plan::Means(plan) => plan.watched.names(),
            Plan::Eval(_) => &[],
        }
    }

    /// What an item must be to count, for whoever reads why one did not.
    pub fn expectation(&self, reason: ItemDrop) -> String {
        let watched = self.watched();
        if reason != ItemDrop::NothingWatched || watched.is_empty() {
            return format!("it takes {}", self.drift_type.takes());
        }
        let mut told: Vec<_> = watched.iter().take(NAMES_TOLD).map(|name| format!("`{name}`")).collect();
        if watched.len() > NAMES_TOLD {
            told.push(format!("{} more", watched.len() - NAMES_TOLD));
        }
        format!("its profile watches {}, and nothing of it has a value that counts", told.join(", "))
    }

    /// `space/name/vVERSION/type`, as Scouter's logs name it.
    pub fn identifier(&self) -> String {
        format!("{}/{}/v{}/{}", self.space, self.name, self.version, self.drift_type.name().to_ascii_lowercase())
    }

    fn read(json: &[u8], origin: String) -> Result<Self, ProfileError> {
        let value = match Json::read(json) {
            Ok(value) => value,
            Err(source) => return Err(ProfileError::Json { origin, source }),
        };
        Self::of(Node::root(&value)).map_err(|Fault { field, expected, found }| ProfileError::Field { origin, field, expected, found })
    }

    fn of(root: Node<'_>) -> Result<Self, Fault> {
        let config = root.key("config");
        let uid = config.key("uid").name()?.to_owned();
        let drift_type = config.key("drift_type");
        let drift_type = match drift_type.text()?.to_ascii_lowercase().as_str() {
            "spc" => DriftType::Spc,
            "psi" => DriftType::Psi,
            "custom" => DriftType::Custom,
            "genai" => DriftType::GenAi,
            "agent" => DriftType::Agent,
            _ => return Err(drift_type.fault("one of Spc, Psi, Custom, GenAI and Agent")),
        };
        let plan = match drift_type {
            DriftType::Psi => Plan::Psi(psi(&uid, root, config)?),
            DriftType::Spc => Plan::Means(spc(&uid, root, config)?),
            DriftType::Custom => Plan::Means(custom(&uid, root, config)?),
            DriftType::GenAi | DriftType::Agent => Plan::Eval(EvalPlan { sample_ratio: sample_ratio(config)? }),
        };
        Ok(Self {
            space: config.key("space").text()?.to_owned(),
            name: config.key("name").text()?.to_owned(),
            version: config.key("version").text()?.to_owned(),
            uid,
            drift_type,
            plan,
        })
    }
}

fn psi(uid: &str, root: Node<'_>, config: Node<'_>) -> Result<PsiPlan, Fault> {
    let features = root.key("features");
    let wanted: Option<HashSet<&str>> = monitored(config)?.map(|names| names.into_iter().collect());
    let mut plans = Vec::new();
    let mut watched = Watched::default();
    let mut bins = 0;
    for (name, feature) in features.entries()? {
        if !wanted.as_ref().is_none_or(|wanted| wanted.contains(name)) || !watched.add(uid, name) {
            continue;
        }
        let plan = psi_feature(name, feature, config, bins)?;
        bins += plan.ids.len();
        plans.push(plan);
    }
    if plans.is_empty() {
        return Err(features.fault("an object with at least one feature that the profile monitors"));
    }
    Ok(PsiPlan { watched, features: plans, bins })
}

fn psi_feature(name: &str, feature: Node<'_>, config: Node<'_>, first: usize) -> Result<PsiFeature, Fault> {
    let bin_type = feature.key("bin_type");
    let is_numeric = match bin_type.text()? {
        "Numeric" => true,
        "Category" => false,
        _ => return Err(bin_type.fault("Numeric or Category")),
    };
    let bins = feature.key("bins");
    let (mut ids, mut limits) = (Vec::new(), Vec::new());
    for bin in bins.items()? {
        ids.push(bin.key("id").integer()?);
        if is_numeric {
            limits.push((bin.key("lower_limit").number()?, bin.key("upper_limit").number()?));
        }
    }
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    if sorted.is_empty() || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(bins.fault("a list of at least one bin, each with an id of its own"));
    }
    let limits = if is_numeric { BinLimits::of_ranges(limits) } else { BinLimits::of_categories(&ids) };
    Ok(PsiFeature { ids, limits, texts: texts(config, name)?, first })
}

fn spc(uid: &str, root: Node<'_>, config: Node<'_>) -> Result<MeansPlan, Fault> {
    let names: Vec<&str> = match monitored(config)? {
        Some(names) => names,
        None => root.key("features").entries()?.map(|(name, _)| name).collect(),
    };
    let mut watched = Watched::default();
    let mut texts_of = Vec::new();
    for name in names {
        if watched.add(uid, name) {
            texts_of.push(texts(config, name)?);
        }
    }
    if watched.is_empty() {
        return Err(root.key("features").fault("an object with at least one feature"));
    }
    Ok(MeansPlan { watched, texts: texts_of, sample_size: sample_size(config)?, is_metrics: false })
}

fn custom(uid: &str, root: Node<'_>, config: Node<'_>) -> Result<MeansPlan, Fault> {
    let metrics = root.key("metrics");
    let mut watched = Watched::default();
    for (name, _) in metrics.entries()? {
        // Names of metrics are lower case wherever Scouter makes them.
        watched.add_spelled(uid, name, &name.to_lowercase());
    }
    if watched.is_empty() {
        return Err(metrics.fault("an object with at least one metric"));
    }
    Ok(MeansPlan { texts: Vec::new(), watched, sample_size: sample_size(config)?, is_metrics: true })
}

/// The features to monitor; `None`, for all, when the profile names none.
fn monitored<'a>(config: Node<'a>) -> Result<Option<Vec<&'a str>>, Fault> {
    let Some(list) = config.key("alert_config").key("features_to_monitor").given() else { return Ok(None) };
    let names = list.items()?.map(|name| name.text()).collect::<Result<Vec<_>, _>>()?;
    Ok((!names.is_empty()).then_some(names))
}

/// What texts of a feature stand for.
fn texts(config: Node<'_>, feature: &str) -> Result<Texts, Fault> {
    let Some(map) = config.key("feature_map").key("features").given() else { return Ok(Texts::default()) };
    let Some(of_feature) = map.key(feature).given() else { return Ok(Texts::default()) };
    of_feature.entries()?.map(|(text, number)| Ok((text.to_owned(), number.integer()?))).collect()
}

fn sample_size(config: Node<'_>) -> Result<u64, Fault> {
    let node = config.key("sample_size");
    u64::try_from(node.integer()?).ok().filter(|size| *size > 0).ok_or_else(|| node.fault("a whole number above zero"))
}

fn sample_ratio(config: Node<'_>) -> Result<f64, Fault> {
    let Some(node) = config.key("sample_ratio").given() else { return Ok(1.0) };
    Some(node.number()?).filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| node.fault("a number between 0 and 1"))
}
