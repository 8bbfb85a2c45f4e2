//! For applications that use the `tracing` crate: provider, layer, filter and guard in one call.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
    registry::LookupSpan,
};

use crate::{ConfigError, FlushError, GrpcSpanProcessor, Pipeline, QueueConfig, ShutdownReport, Stats, TransportConfig};

/// Time the guard gives to delivery when it is dropped.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// Crates whose spans come from sending spans. Exporting those would make more of them, without end.
const TRANSPORT_CRATES: [&str; 12] = [
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "rustls",
    "tokio_rustls",
    "opentelemetry",
    "opentelemetry_sdk",
    "tracing_opentelemetry",
    "scouter_exporter",
    "scouter_tonic",
];

/// Starts tracing: a provider whose spans go to Scouter, set as the global one together with W3C propagation.
/// What is returned gives the layer for `tracing` and delivers what is left when it is dropped, so keep it until `main` ends.
///
/// Reads `OTEL_BSP_*` for the queue and `OTEL_RESOURCE_ATTRIBUTES` for the resource. Needs neither network nor runtime.
///
/// ```no_run
/// use scouter_exporter::{GrpcConfig, init_tracing};
/// use tracing_subscriber::prelude::*;
///
/// let telemetry = init_tracing("scorer", GrpcConfig::from_env()?)?;
/// tracing_subscriber::registry().with(telemetry.layer()).init();
///
/// tracing::info_span!("score").in_scope(|| tracing::info!(score = 0.9, "scored"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Every fault of the configuration and of the variables read.
pub fn init_tracing(service_name: impl Into<String>, config: impl Into<TransportConfig>) -> Result<Telemetry, ConfigError> {
    let resource = Resource::builder().with_service_name(service_name.into()).build();
    init_tracing_with(resource, config, QueueConfig::from_env()?)
}

/// [`init_tracing`] with a resource and a queue of one's own.
///
/// # Errors
/// Every fault of the configuration.
pub fn init_tracing_with(resource: Resource, config: impl Into<TransportConfig>, queue: QueueConfig) -> Result<Telemetry, ConfigError> {
    let processor = GrpcSpanProcessor::new(config, queue)?;
    let pipeline = processor.pipeline().clone();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build();
    opentelemetry::global::set_tracer_provider(provider.clone());
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(Telemetry { provider, pipeline, drop_timeout: DROP_TIMEOUT })
}

/// The `tracing` layer with its filter.
pub type TracingLayer<S> =
    tracing_subscriber::filter::Filtered<tracing_opentelemetry::OpenTelemetryLayer<S, SdkTracer>, WithoutTransport, S>;

/// Running telemetry. Dropping it delivers what is left, for at most five seconds unless told otherwise.
#[must_use = "dropping it ends tracing; keep it until the end of main"]
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
    pipeline: Pipeline,
    drop_timeout: Duration,
}

impl Telemetry {
    /// A layer for `tracing_subscriber`, in a lean preset: no source location, no thread, no busy and idle time on spans.
    /// Spans of the transport are kept out; everything from level INFO up is let in.
    pub fn layer<S>(&self) -> TracingLayer<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        self.layer_with_level(LevelFilter::INFO)
    }

    /// [`Telemetry::layer`] with another level.
    pub fn layer_with_level<S>(&self, level: LevelFilter) -> TracingLayer<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("tracing"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(WithoutTransport::new(level))
    }

    /// Sets the time that dropping may take.
    pub fn with_drop_timeout(mut self, timeout: Duration) -> Self {
        self.drop_timeout = timeout;
        self
    }

    /// The provider, for code that uses OpenTelemetry directly.
    pub fn provider(&self) -> &SdkTracerProvider {
        &self.provider
    }

    /// The pipeline, to send monitoring records over the same connection.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The account of every span so far.
    pub fn stats(&self) -> Stats {
        self.pipeline.stats()
    }

    /// Delivers what ended before this call.
    ///
    /// # Errors
    /// What could not be delivered, and the server's words.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.pipeline.flush(timeout)
    }

    /// Ends tracing and says what became of every span.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let report = self.pipeline.shutdown(timeout);
        // The pipeline is down; this only stops the provider from making spans that nobody takes.
        let _already_down = self.provider.shutdown_with_timeout(Duration::ZERO);
        report
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.shutdown(self.drop_timeout);
    }
}

/// A filter that lets spans and events of a level through, except those of the crates that transport spans.
///
/// It compares whole crate names; `tracing_subscriber::filter::Targets` compares prefixes, and would silence a crate `tower_control`
/// together with `tower`.
#[derive(Clone, Copy, Debug)]
pub struct WithoutTransport {
    level: LevelFilter,
}

impl WithoutTransport {
    /// Lets `level` and what is more severe through.
    pub fn new(level: LevelFilter) -> Self {
        Self { level }
    }

    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let crate_name = target.split_once("::").map_or(target, |(crate_name, _)| crate_name);
        *metadata.level() <= self.level && !TRANSPORT_CRATES.contains(&crate_name)
    }
}

impl<S> Filter<S> for WithoutTransport {
    fn enabled(&self, metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        self.lets_through(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.lets_through(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }
}
