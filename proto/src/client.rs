//! The gRPC client.

mod config;

pub use config::{Compression, ConfigError, ConfigFault, DEFAULT_TIMEOUT, GrpcConfig, Secret};
