//! `SpanProcessor` of the SDK.

use std::{
    cell::RefCell,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{Span, SpanData, SpanProcessor},
};

use crate::{
    ConfigError, FlushError, OtlpConfig, Pipeline, QueueConfig, Stats, TransportConfig,
    encode::{EncodedEnvelope, EncodedResource, write_span},
};

/// Scopes whose bytes are remembered.
const MAX_CACHED_SCOPES: usize = 64;
/// A thread gives its buffer back to the allocator when one span made it larger than this.
const MAX_KEPT_BUFFER_BYTES: usize = 256 * 1024;

/// Encodes each span as it ends, on the thread that ends it, and queues the bytes. Never blocks on I/O.
///
/// ```no_run
/// use scouter_exporter::{GrpcConfig, GrpcSpanProcessor, QueueConfig, opentelemetry_sdk::trace::SdkTracerProvider};
///
/// let processor = GrpcSpanProcessor::new(GrpcConfig::from_env()?, QueueConfig::from_env()?)?;
/// let pipeline = processor.pipeline().clone();
/// let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
/// // ... spans ...
/// provider.shutdown()?;
/// println!("{:?}", pipeline.stats());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GrpcSpanProcessor {
    pipeline: Pipeline,
    /// Further destinations of the same bytes.
    also: Vec<Pipeline>,
    takes_unsampled: bool,
    /// Changes with the resource, so that envelopes remembered by threads are not used with another one.
    generation: u64,
    resource: Arc<EncodedResource>,
    scopes: RwLock<Vec<(InstrumentationScope, Arc<EncodedEnvelope>)>>,
}

/// What a thread keeps between two spans: its buffer, and the envelope it used last.
struct Scratch {
    buffer: Vec<u8>,
    last: Option<(u64, InstrumentationScope, Arc<EncodedEnvelope>)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { buffer: Vec::new(), last: None }) };
}

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl GrpcSpanProcessor {
    /// A processor with its own pipeline. Needs neither network nor runtime.
    ///
    /// # Errors
    /// Every fault of the configuration.
    pub fn new(config: impl Into<TransportConfig>, queue: QueueConfig) -> Result<Self, ConfigError> {
        Ok(Self::with_pipeline(Pipeline::new(config, queue)?))
    }

    /// A processor to any OTLP server, with its own pipeline. Needs neither network nor runtime.
    ///
    /// # Errors
    /// Every fault of the configuration.
    pub fn new_otlp(config: OtlpConfig, queue: QueueConfig) -> Result<Self, ConfigError> {
        Ok(Self::with_pipeline(Pipeline::new_otlp(config, queue)?))
    }

    /// A processor that queues into a pipeline shared with others.
    pub fn with_pipeline(pipeline: Pipeline) -> Self {
        Self::with_pipelines(pipeline, [])
    }

    /// A processor that encodes a span once and queues the bytes for several destinations, such as Scouter and a collector. Each has a
    /// queue, a connection and an account of its own, so one that is slow or gone costs the others nothing.
    pub fn with_pipelines(first: Pipeline, also: impl IntoIterator<Item = Pipeline>) -> Self {
        Self {
            pipeline: first,
            also: also.into_iter().collect(),
            takes_unsampled: false,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            resource: EncodedResource::new([], None),
            scopes: RwLock::new(Vec::new()),
        }
    }

    /// Also takes spans that are recorded and not sampled. OpenTelemetry keeps those from exporters, and so does this processor
    /// otherwise; they are in no account then.
    #[must_use]
    pub fn with_unsampled_spans(mut self) -> Self {
        self.takes_unsampled = true;
        self
    }

    /// All pipelines, the first one first.
    pub fn pipelines(&self) -> impl Iterator<Item = &Pipeline> {
        std::iter::once(&self.pipeline).chain(&self.also)
    }

    /// The account of the first pipeline.
    pub fn stats(&self) -> Stats {
        self.pipeline.stats()
    }

    /// The first pipeline, to keep after the processor moved into a provider.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    fn envelope(&self, scope: &InstrumentationScope) -> Arc<EncodedEnvelope> {
        let scopes = self.scopes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, envelope)) = scopes.iter().find(|(known, _)| known == scope) {
            return Arc::clone(envelope);
        }
        drop(scopes);
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, envelope)) = scopes.iter().find(|(known, _)| known == scope) {
            return Arc::clone(envelope);
        }
        if scopes.len() == MAX_CACHED_SCOPES {
            scopes.clear();
        }
        let envelope = EncodedEnvelope::from_sdk(Arc::clone(&self.resource), scope);
        scopes.push((scope.clone(), Arc::clone(&envelope)));
        envelope
    }

    fn encode_and_push(&self, scratch: &mut Scratch, span: &SpanData) {
        let scope = &span.instrumentation_scope;
        let is_last = matches!(&scratch.last, Some((generation, known, _)) if *generation == self.generation && known == scope);
        if !is_last {
            scratch.last = Some((self.generation, scope.clone(), self.envelope(scope)));
        }
        let Some((_, _, envelope)) = &scratch.last else { return };
        scratch.buffer.clear();
        write_span(&mut scratch.buffer, span);
        self.pipeline.try_push(envelope, &scratch.buffer);
        for pipeline in &self.also {
            pipeline.try_push(envelope, &scratch.buffer);
        }
        if scratch.buffer.capacity() > MAX_KEPT_BUFFER_BYTES {
            scratch.buffer = Vec::new();
        }
    }
}

impl SpanProcessor for GrpcSpanProcessor {
    fn on_start(&self, _span: &mut Span, _cx: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !self.takes_unsampled && !span.span_context.is_sampled() {
            return;
        }
        let done = SCRATCH.try_with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => {
                self.encode_and_push(&mut scratch, &span);
                true
            }
            Err(_) => false,
        });
        // The thread is ending, or a span ended while another one was being encoded: do without the kept buffer.
        if done != Ok(true) {
            self.encode_and_push(&mut Scratch { buffer: Vec::new(), last: None }, &span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        // All begin before the first is waited for, so that one that is slow does not use up the others' time.
        let begun: Vec<_> = self.pipelines().map(|pipeline| (pipeline, pipeline.begin_flush())).collect();
        let start = Instant::now();
        let finish = |(pipeline, flush): (&Pipeline, Result<_, FlushError>)| {
            let timeout = pipeline.flush_timeout();
            pipeline.finish_flush(flush?, timeout, start.checked_add(timeout))
        };
        let results: Vec<_> = begun.into_iter().map(finish).collect();
        results.into_iter().collect::<Result<(), _>>().map_err(OTelSdkError::from)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let begun: Vec<_> = self.pipelines().map(|pipeline| (pipeline, pipeline.begin_shutdown(timeout))).collect();
        let reports: Vec<_> = begun.into_iter().map(|(pipeline, ending)| pipeline.finish_shutdown(ending)).collect();
        if reports.iter().any(|report| report.undelivered > 0) {
            Err(OTelSdkError::Timeout(timeout))
        } else if reports.iter().all(|report| report.was_shut_down) {
            Err(OTelSdkError::AlreadyShutdown)
        } else {
            Ok(())
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = EncodedResource::from_sdk(resource);
        self.generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        self.scopes.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
