//! `SpanExporter` of the SDK.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};

use crate::{
    ConfigError, OtlpConfig, Pipeline, QueueConfig, Stats, TransportConfig,
    encode::{EncodedBatch, EncodedEnvelope, EncodedResource},
};

/// Scopes whose bytes are remembered. A process has a handful; one that makes them up as it goes must not leak.
const MAX_CACHED_SCOPES: usize = 64;

/// Sends the SDK's spans to Scouter. A thin shim over [`Pipeline`]: encodes on the caller's thread, then waits for the outcome.
///
/// Works under the SDK's batch processor, a simple processor, any async runtime and none, since it runs on threads of its own.
///
/// ```no_run
/// use scouter_exporter::{GrpcConfig, GrpcSpanExporter, opentelemetry_sdk::trace::SdkTracerProvider};
///
/// let exporter = GrpcSpanExporter::new(GrpcConfig::from_env()?)?;
/// let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
/// // ... spans ...
/// provider.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GrpcSpanExporter {
    pipeline: Pipeline,
    resource: Arc<EncodedResource>,
    scopes: Mutex<Vec<(InstrumentationScope, Arc<EncodedEnvelope>)>>,
}

impl GrpcSpanExporter {
    /// An exporter with its own pipeline. Needs neither network nor runtime.
    ///
    /// # Errors
    /// Every fault of the configuration.
    pub fn new(config: impl Into<TransportConfig>) -> Result<Self, ConfigError> {
        Ok(Self::with_pipeline(Pipeline::new(config, QueueConfig::default())?))
    }

    /// An exporter to any OTLP server, with its own pipeline. Needs neither network nor runtime.
    ///
    /// # Errors
    /// Every fault of the configuration.
    pub fn new_otlp(config: OtlpConfig) -> Result<Self, ConfigError> {
        Ok(Self::with_pipeline(Pipeline::new_otlp(config, QueueConfig::default())?))
    }

    /// An exporter that sends through a pipeline shared with others.
    pub fn with_pipeline(pipeline: Pipeline) -> Self {
        Self { pipeline, resource: EncodedResource::new([], None), scopes: Mutex::new(Vec::new()) }
    }

    /// The account of the pipeline.
    pub fn stats(&self) -> Stats {
        self.pipeline.stats()
    }

    /// The pipeline, to read its account or to send monitoring records after the exporter moved into a provider.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    fn encode(&self, batch: &[SpanData]) -> EncodedBatch {
        let mut encoded = EncodedBatch::default();
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = 0;
        for span in batch {
            let scope = &span.instrumentation_scope;
            if scopes.get(last).is_none_or(|(known, _)| known != scope) {
                last = match scopes.iter().position(|(known, _)| known == scope) {
                    Some(index) => index,
                    None => {
                        if scopes.len() == MAX_CACHED_SCOPES {
                            scopes.clear();
                        }
                        scopes.push((scope.clone(), EncodedEnvelope::from_sdk(Arc::clone(&self.resource), scope)));
                        scopes.len() - 1
                    }
                };
            }
            encoded.push_span_data(&scopes[last].1, span);
        }
        encoded
    }
}

impl SpanExporter for GrpcSpanExporter {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let encoded = self.encode(&batch);
        drop(batch);
        let sent = self.pipeline.send(encoded);
        async move { sent.await.map_err(OTelSdkError::from) }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let report = self.pipeline.shutdown(timeout);
        if report.was_shut_down {
            Err(OTelSdkError::AlreadyShutdown)
        } else if report.undelivered > 0 {
            Err(OTelSdkError::Timeout(timeout))
        } else {
            Ok(())
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.pipeline.flush(self.pipeline.flush_timeout()).map_err(OTelSdkError::from)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = EncodedResource::from_sdk(resource);
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
