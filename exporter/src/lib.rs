//! OpenTelemetry spans and monitoring records to Scouter, over one authenticated gRPC connection.
//!
//! | you have | use |
//! | --- | --- |
//! | an application that uses `tracing` | [`init_tracing`]: provider, layer and guard in one call |
//! | an OpenTelemetry `SdkTracerProvider` | [`GrpcSpanProcessor`]; or [`GrpcSpanExporter`] behind any processor of the SDK |
//! | spans of your own, such as a binding to another language | [`encode::SpanWriter`] and [`Pipeline`] |
//! | features, metrics and evaluations of a model | [`queue::RecordQueue`] |
//! | monitoring records that are made already | [`Pipeline::send_records`] |
//! | another way to the server than gRPC | [`TransportConfig`] with [`Pipeline::new`] |
//! | tests of your own | [`InMemoryExporter`], which keeps what would have been sent; [`InMemoryTransport`] for a whole pipeline |
//! | another OTLP server, such as a collector | [`OtlpConfig`] with [`GrpcSpanProcessor::new_otlp`]; both at once: [`GrpcSpanProcessor::with_pipelines`] |
//!
//! ```no_run
//! use scouter_exporter::{GrpcConfig, init_tracing};
//! use tracing_subscriber::prelude::*;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // SCOUTER_GRPC_URI, SCOUTER_USERNAME and SCOUTER_PASSWORD, or guest on http://localhost:50051.
//!     let telemetry = init_tracing("scorer", GrpcConfig::from_env()?)?;
//!     tracing_subscriber::registry().with(telemetry.layer()).init();
//!
//!     tracing::info_span!("score", model = "ranker").in_scope(|| tracing::info!("scored"));
//!
//!     println!("{:?}", telemetry.stats());
//!     Ok(()) // the guard delivers what is left, for at most five seconds
//! }
//! ```
//!
//! # What it promises
//!
//! - Building needs neither network nor runtime. It runs on a thread of its own, so it works under the SDK's batch thread, a simple
//!   processor, any async runtime and none.
//! - A span is encoded once, when it ends. Everything is bounded by count and by bytes.
//! - Every span is accounted for: [`Stats`] says what was exported, rejected by the server, or dropped, and why.
//! - One deadline covers connect, login and all attempts of a request; a refused token costs one renewal and one replay of the same bytes.
//! - An outage costs nothing that fits the queue; see [`OutagePolicy`].
//!
//! # Examples
//!
//! In the `examples` folder, each runs with `cargo run -p scouter-exporter --example NAME`:
//!
//! | name | what it shows |
//! | --- | --- |
//! | `axum` | a web service: a span a request, joined to its caller's trace, delivered at Ctrl-C |
//! | `batch_job` | a job without an async runtime: checkpoint, report, exit code |
//! | `short_lived` | a process of milliseconds with a time limit for all of its telemetry |
//!
//! With the feature `self-metrics`, `Pipeline::register_metrics` reports the same numbers to an OpenTelemetry meter.
//!
//! The `opentelemetry` crates it was built with are re-exported, so that versions cannot diverge.

pub mod encode;
pub mod queue;

mod config;
mod error;
mod exporter;
mod in_memory;
#[cfg(feature = "self-metrics")]
mod metrics;
mod otlp;
mod payload;
mod pipeline;
mod processor;
mod stats;
pub mod subscriber;
pub mod transport;

pub use config::{OutagePolicy, QueueConfig};
pub use error::{ExportError, FlushError};
pub use exporter::GrpcSpanExporter;
pub use in_memory::{FinishedSpan, InMemoryExporter};
pub use otlp::{OtlpConfig, OtlpProtocol};
pub use pipeline::Pipeline;
pub use processor::GrpcSpanProcessor;
pub use scouter_tonic::{
    client::{
        BlockingToken, Compression, ConfigError, ConfigFault, GrpcConfig, Payload, ProvidedToken, Secret, TokenError, TokenFuture,
        TokenProvider,
    },
    message::{self, MonitoringRecord},
};
pub use stats::{Account, DropReason, Dropped, ShutdownReport, Stats};
pub use subscriber::{Telemetry, init_tracing};
#[cfg(feature = "rabbitmq")]
pub use transport::RabbitMqConfig;
pub use transport::{HttpConfig, InMemoryTransport, Transport, TransportConfig};
#[cfg(feature = "kafka")]
pub use transport::{KafkaCompression, KafkaConfig, KafkaSasl, KafkaSecurity};
#[cfg(feature = "redis")]
pub use transport::{RedisConfig, RedisMode};

pub use opentelemetry;
pub use opentelemetry_proto;
pub use opentelemetry_sdk;
pub use tracing_opentelemetry;
