//! Delivery.
use crate::{
    ConfigError, ExportError, FlushError, GrpcConfig, QueueConfig, ShutdownReport, Stats,
    encode::{EncodedBatch, EncodedEnvelope},
};
use scouter_tonic::message::MonitoringRecord;
use std::{future::Future, sync::Arc, time::Duration};

/// Queue, worker and client.
#[derive(Clone, Debug)]
pub struct Pipeline {
    inner: Arc<(GrpcConfig, QueueConfig)>,
}

impl Pipeline {
    /// Builds; needs no network and no runtime.
    ///
    /// # Errors
    /// Configuration.
    pub fn new(config: GrpcConfig, queue: QueueConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { inner: Arc::new((config, queue)) })
    }
    /// Queues a span; false: dropped and counted.
    pub fn try_push(&self, _envelope: &Arc<EncodedEnvelope>, _span: &[u8]) -> bool {
        let _ = &self.inner;
        false
    }
    /// Sends, bypassing the queue.
    pub fn send(&self, _batch: EncodedBatch) -> impl Future<Output = Result<(), ExportError>> + Send + 'static {
        async { Err(ExportError::AlreadyShutdown) }
    }
    /// Sends records.
    pub fn send_records(&self, _records: Vec<MonitoringRecord>) -> impl Future<Output = Result<(), ExportError>> + Send + 'static {
        async { Err(ExportError::AlreadyShutdown) }
    }
    /// Waits for everything before.
    ///
    /// # Errors
    /// Undelivered.
    pub fn flush(&self, _timeout: Duration) -> Result<(), FlushError> {
        Err(FlushError::AlreadyShutdown)
    }
    /// Ends.
    pub fn shutdown(&self, _timeout: Duration) -> ShutdownReport {
        ShutdownReport { stats: self.stats(), undelivered: 0, was_shut_down: false }
    }
    /// The deadline of a request.
    pub fn timeout(&self) -> Duration {
        self.inner.0.timeout
    }
    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
    /// In the child after fork.
    pub fn after_fork_in_child(&self) {}
}
