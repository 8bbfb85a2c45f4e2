//! How spans wait for their request. Where they are sent is [`GrpcConfig`](crate::GrpcConfig).

#[cfg(test)]
mod tests;

use std::time::Duration;

use scouter_tonic::client::{ConfigError, ConfigFault};

/// Longer delays would overflow the clock.
const MAX_SCHEDULE_DELAY: Duration = Duration::from_secs(366 * 24 * 3600);

/// What happens to a queued batch whose `timeout` passed although retrying could still help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutagePolicy {
    /// It stays and is tried again until it is delivered, refused, or the pipeline shuts down; what comes while the queue is full
    /// is dropped as `queue_full`. An outage costs at most the memory of the queue.
    #[default]
    Keep,
    /// It is dropped and counted as `export_timeout`, as OpenTelemetry's own exporters do.
    Drop,
}

/// Bounds and timing of a [`Pipeline`](crate::Pipeline)'s queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Spans that may wait or be in flight.
    pub max_spans: usize,
    /// Bytes of encoded spans that may wait or be in flight.
    pub max_bytes: usize,
    /// Spans in a request; reaching it sends at once.
    pub max_batch_spans: usize,
    /// How long a span waits for company. The first spans after a pause are sent sooner. At most 366 days.
    pub schedule_delay: Duration,
    /// Requests that may be in flight at the same time.
    pub max_in_flight: usize,
    /// What an outage longer than the timeout costs.
    pub outage: OutagePolicy,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max_spans: 2048 * 16,
            max_bytes: 64 * 1024 * 1024,
            max_batch_spans: 512,
            schedule_delay: Duration::from_secs(1),
            max_in_flight: 4,
            outage: OutagePolicy::Keep,
        }
    }
}

impl QueueConfig {
    /// The defaults, with `OTEL_BSP_MAX_QUEUE_SIZE`, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, `OTEL_BSP_SCHEDULE_DELAY` (milliseconds) and
    /// `OTEL_BSP_MAX_CONCURRENT_EXPORTS` where they are set. An empty variable counts as unset; one that is
    /// not a whole number is logged and ignored, as OpenTelemetry's specification asks.
    ///
    /// # Errors
    /// Every setting out of range.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// [`QueueConfig::from_env`] with another source of variables.
    ///
    /// # Errors
    /// As [`QueueConfig::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let number = |name: &'static str| {
            let value = variable(name).filter(|value| !value.trim().is_empty())?;
            let number = value.trim().parse::<u64>();
            if number.is_err() {
                tracing::warn!(variable = name, %value, "an environment variable is ignored: it is not a whole number");
            }
            number.ok()
        };
        let mut config = Self::default();
        if let Some(max_spans) = number("OTEL_BSP_MAX_QUEUE_SIZE") {
            config.max_spans = usize::try_from(max_spans).unwrap_or(usize::MAX);
        }
        if let Some(max_batch_spans) = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") {
            config.max_batch_spans = usize::try_from(max_batch_spans).unwrap_or(usize::MAX);
        } else {
            config.max_batch_spans = config.max_batch_spans.min(config.max_spans.max(1));
        }
        if let Some(delay) = number("OTEL_BSP_SCHEDULE_DELAY") {
            config.schedule_delay = Duration::from_millis(delay);
        }
        if let Some(max_in_flight) = number("OTEL_BSP_MAX_CONCURRENT_EXPORTS") {
            config.max_in_flight = usize::try_from(max_in_flight).unwrap_or(usize::MAX);
        }
        config.validate()?;
        Ok(config)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Every setting out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::check(self.faults())
    }

    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut check = |is_good: bool, name, expected| {
            if !is_good {
                faults.push(ConfigFault::Setting { name, expected });
            }
        };
        check(self.max_spans > 0, "max_spans", "greater than zero");
        check(self.max_bytes > 0, "max_bytes", "greater than zero");
        check(self.max_batch_spans > 0, "max_batch_spans", "greater than zero");
        check(self.max_batch_spans <= self.max_spans, "max_batch_spans", "at most max_spans");
        check(self.schedule_delay <= MAX_SCHEDULE_DELAY, "schedule_delay", "at most 366 days");
        check((1..=64).contains(&self.max_in_flight), "max_in_flight", "between 1 and 64");
        faults
    }
}
