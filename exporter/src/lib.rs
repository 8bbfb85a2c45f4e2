//! OpenTelemetry spans and monitoring records to Scouter.
pub mod encode;

mod config;
mod error;
mod exporter;
mod pipeline;
mod processor;
mod stats;
pub mod subscriber;

pub use config::{OutagePolicy, QueueConfig};
pub use error::{ExportError, FlushError};
pub use exporter::GrpcSpanExporter;
pub use pipeline::Pipeline;
pub use processor::GrpcSpanProcessor;
pub use scouter_tonic::{
    client::{Compression, ConfigError, ConfigFault, GrpcConfig, Secret},
    message::{self, MonitoringRecord},
};
pub use stats::{Account, DropReason, Dropped, ShutdownReport, Stats};
pub use subscriber::{Telemetry, init_tracing};

pub use opentelemetry;
pub use opentelemetry_sdk;
pub use tracing_opentelemetry;
