//! What goes into a queue.

use std::time::SystemTime;

use opentelemetry::{Context, trace::TraceContextExt};
use serde::Serialize;

use crate::{
    encode::{EvalRef, unix_nano},
    payload::rfc3339,
};

/// A value of a feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FeatureValue<'a> {
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A category, by the name that the profile's feature map gives a number.
    Text(&'a str),
    /// Neither: something that a binding to another language was given and cannot read. It is counted as such.
    Unusable,
}

/// One named value: a feature that a model was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    name: String,
    value: OwnedValue,
}

#[derive(Clone, Debug, PartialEq)]
enum OwnedValue {
    Int(i64),
    Float(f64),
    Text(String),
}

/// Something with a name and a value: a feature, or a metric.
pub trait AsFeature {
    /// Its name.
    fn name(&self) -> &str;
    /// Its value.
    fn value(&self) -> FeatureValue<'_>;
}

impl Feature {
    /// A whole number.
    pub fn int(name: impl Into<String>, value: i64) -> Self {
        Self { name: name.into(), value: OwnedValue::Int(value) }
    }

    /// A number.
    pub fn float(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value: OwnedValue::Float(value) }
    }

    /// A text.
    pub fn string(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: OwnedValue::Text(value.into()) }
    }

    /// A category; the same as [`Feature::string`].
    pub fn categorical(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::string(name, value)
    }
}

impl AsFeature for Feature {
    fn name(&self) -> &str {
        &self.name
    }

    fn value(&self) -> FeatureValue<'_> {
        match &self.value {
            OwnedValue::Int(value) => FeatureValue::Int(*value),
            OwnedValue::Float(value) => FeatureValue::Float(*value),
            OwnedValue::Text(value) => FeatureValue::Text(value),
        }
    }
}

impl AsFeature for (&str, FeatureValue<'_>) {
    fn name(&self) -> &str {
        self.0
    }

    fn value(&self) -> FeatureValue<'_> {
        self.1
    }
}

/// The features of one prediction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features(Vec<Feature>);

impl Features {
    /// The features given.
    pub fn new(features: impl IntoIterator<Item = Feature>) -> Self {
        Self(features.into_iter().collect())
    }

    /// In the order given.
    pub fn as_slice(&self) -> &[Feature] {
        &self.0
    }
}

/// A value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    name: String,
    value: f64,
}

impl Metric {
    /// Its name becomes lower case, as Scouter's are. NaN and infinities are values.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        let name = name.into();
        Self { name: lower_case(&name).map_or(name, String::from), value }
    }

    /// Its value.
    pub fn number(&self) -> f64 {
        self.value
    }
}

impl AsFeature for Metric {
    fn name(&self) -> &str {
        &self.name
    }

    fn value(&self) -> FeatureValue<'_> {
        FeatureValue::Float(self.value)
    }
}

/// `None` when it is lower case already.
pub(super) fn lower_case(name: &str) -> Option<String> {
    let is_lower = name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    (!is_lower).then(|| name.to_lowercase())
}

/// Values of metrics at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<Metric>);

impl Metrics {
    /// The metrics given.
    pub fn new(metrics: impl IntoIterator<Item = Metric>) -> Self {
        Self(metrics.into_iter().collect())
    }

    /// In the order given.
    pub fn as_slice(&self) -> &[Metric] {
        &self.0
    }
}

/// One interaction of a model or an agent, to be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalRecord {
    /// The record's own id; a UUID of version 7.
    pub uid: String,
    /// An id of the caller's choice; empty for none.
    pub record_id: String,
    /// What records of one session share; a UUID of version 7 unless it is given.
    pub session_id: String,
    /// When it was made, in nanoseconds since the epoch.
    pub created_at_unix_nano: u64,
    /// JSON text of what the evaluation looks at.
    pub context_json: String,
    /// The trace it belongs to. Where there is none, a queue takes that of the span which is current as the record is inserted.
    pub trace_id: Option<[u8; 16]>,
    /// `key=value`.
    pub tags: Vec<String>,
}

impl EvalRecord {
    /// A record of this moment, whose context is the JSON of `context`.
    ///
    /// # Errors
    /// When `context` has no JSON.
    pub fn new(context: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self::from_json(serde_json::to_string(context)?))
    }

    /// A record of this moment; `context_json` must be JSON, or the server refuses it.
    pub fn from_json(context_json: impl Into<String>) -> Self {
        Self {
            uid: new_uid(),
            record_id: String::new(),
            session_id: new_uid(),
            created_at_unix_nano: unix_nano(SystemTime::now()),
            context_json: context_json.into(),
            trace_id: None,
            tags: Vec::new(),
        }
    }

    /// Adds the tag `key=value`.
    pub fn add_tag(&mut self, key: &str, value: &str) {
        self.tags.push(format!("{key}={value}"));
    }

    /// When it was made, as RFC 3339 text.
    pub fn created_at(&self) -> String {
        rfc3339(self.created_at_unix_nano)
    }

    /// As it travels.
    pub(super) fn lend<'a>(&'a self, entity_uid: &'a str) -> EvalRef<'a> {
        EvalRef {
            created_at_unix_nano: self.created_at_unix_nano,
            entity_uid,
            uid: &self.uid,
            record_id: &self.record_id,
            session_id: &self.session_id,
            context_json: &self.context_json,
            trace_id: self.trace_id.or_else(current_trace_id),
            tags: &self.tags,
            record_source: "User",
            status: "Pending",
        }
    }
}

fn current_trace_id() -> Option<[u8; 16]> {
    let context = Context::current();
    let span = context.span();
    let span_context = span.span_context();
    span_context.is_valid().then(|| span_context.trace_id().to_bytes())
}

/// A UUID of version 7. Random without a state that a fork could share, but for this thread's numbers, which
/// [`Pipeline::after_fork_in_child`](crate::Pipeline::after_fork_in_child) renews.
pub fn new_uid() -> String {
    let millis = unix_nano(SystemTime::now()) / 1_000_000;
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid().to_string()
}

/// Any item, lent to a queue.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// For SPC and PSI profiles.
    Features(&'a Features),
    /// For custom profiles.
    Metrics(&'a Metrics),
    /// For evaluation profiles.
    Eval(&'a EvalRecord),
}

impl<'a> From<&'a Features> for Item<'a> {
    fn from(features: &'a Features) -> Self {
        Self::Features(features)
    }
}

impl<'a> From<&'a Metrics> for Item<'a> {
    fn from(metrics: &'a Metrics) -> Self {
        Self::Metrics(metrics)
    }
}

impl<'a> From<&'a EvalRecord> for Item<'a> {
    fn from(record: &'a EvalRecord) -> Self {
        Self::Eval(record)
    }
}
