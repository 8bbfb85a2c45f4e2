//! When windows are published, and how much may wait.

use std::time::Duration;

use super::aggregate::Triggers;
use crate::{ConfigError, ConfigFault, OutagePolicy, QueueConfig};

/// Longest time a window may stay open.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Bounds and timing of a [`RecordQueue`](super::RecordQueue).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordQueueConfig {
    /// A window is published after this time at the latest, whatever its profile's kind. At most a day.
    pub max_age: Duration,
    /// Items after which the bins of a PSI profile are published.
    pub psi_rows: u64,
    /// Records that may wait or be in flight.
    pub max_records: usize,
    /// Bytes of encoded records that may wait or be in flight.
    pub max_bytes: usize,
    /// How long published records wait for company in a request. The first ones after a pause are sent sooner.
    pub schedule_delay: Duration,
    /// Requests that may be in flight at the same time.
    pub max_in_flight: usize,
    /// What an outage longer than the timeout costs.
    pub outage: OutagePolicy,
}

impl Default for RecordQueueConfig {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(30),
            psi_rows: 1000,
            max_records: 1024 * 1024,
            max_bytes: 64 * 1024 * 1024,
            schedule_delay: Duration::from_secs(1),
            max_in_flight: 4,
            outage: OutagePolicy::Keep,
        }
    }
}

impl RecordQueueConfig {
    /// The defaults, with Scouter's `SCOUTER_QUEUE_PUBLISH_INTERVAL_SECS` as `max_age` where it is set.
    ///
    /// # Errors
    /// When it is no whole number of seconds, or out of range.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// [`RecordQueueConfig::from_env`] with another source of variables.
    ///
    /// # Errors
    /// As [`RecordQueueConfig::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        const NAME: &str = "SCOUTER_QUEUE_PUBLISH_INTERVAL_SECS";
        let mut config = Self::default();
        if let Some(value) = variable(NAME).filter(|value| !value.trim().is_empty()) {
            let Ok(seconds) = value.trim().parse() else {
                return Err(ConfigFault::Variable { name: NAME, value, expected: "a whole number of seconds" }.into());
            };
            config.max_age = Duration::from_secs(seconds);
        }
        config.validate()?;
        Ok(config)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Every setting out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        let mut check = |is_good: bool, name, expected| {
            if !is_good {
                faults.push(ConfigFault::Setting { name, expected });
            }
        };
        check(!self.max_age.is_zero() && self.max_age <= MAX_AGE, "max_age", "above zero and at most a day");
        check(self.psi_rows > 0, "psi_rows", "greater than zero");
        check(self.max_records > 0, "max_records", "greater than zero");
        ConfigError::check(faults)?;
        self.pipeline_queue().validate()
    }

    pub(super) fn triggers(&self) -> Triggers {
        Triggers { psi_rows: self.psi_rows, max_age: self.max_age }
    }

    /// The bounds of a pipeline for nothing but these records.
    pub(super) fn pipeline_queue(&self) -> QueueConfig {
        let default = QueueConfig::default();
        QueueConfig {
            max_spans: self.max_records,
            max_bytes: self.max_bytes,
            max_batch_spans: default.max_batch_spans.min(self.max_records.max(1)),
            schedule_delay: self.schedule_delay,
            max_in_flight: self.max_in_flight,
            outage: self.outage,
        }
    }
}
