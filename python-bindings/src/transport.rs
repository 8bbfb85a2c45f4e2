//! Where a pipeline goes: a Scouter server by gRPC, or any OTLP server by HTTP.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError},
    intern,
    prelude::*,
};
use scouter_exporter::{Compression, OtlpConfig, Pipeline, QueueConfig};

use crate::{config::GrpcConfig, error::Faults};

/// What `scouter.transport.HttpConfig` says of itself, checked there.
#[derive(FromPyObject)]
struct Http {
    #[pyo3(item)]
    endpoint: String,
    #[pyo3(item)]
    headers: BTreeMap<String, String>,
    #[pyo3(item)]
    timeout_secs: f64,
    #[pyo3(item)]
    insecure: bool,
    #[pyo3(item)]
    compression: String,
    #[pyo3(item)]
    ca_file: Option<PathBuf>,
}

/// A pipeline to where `config` says, which may be a `GrpcConfig`, an `HttpConfig`, or nothing for what the environment says.
///
/// # Errors
/// `ConfigError` with every fault; `TypeError` for what is no configuration.
pub(crate) fn pipeline(config: Option<&Bound<'_, PyAny>>, queue: QueueConfig) -> PyResult<Pipeline> {
    let grpc = match config {
        None => GrpcConfig::or_from_env(None)?,
        Some(config) => match config.cast::<GrpcConfig>() {
            Ok(grpc) => GrpcConfig::or_from_env(Some(grpc.borrow()))?,
            Err(_) => return http_pipeline(config, queue),
        },
    };
    built("GrpcConfig", Pipeline::new(grpc, queue))
}

fn http_pipeline(config: &Bound<'_, PyAny>, queue: QueueConfig) -> PyResult<Pipeline> {
    let Some(settings) = config.getattr_opt(intern!(config.py(), "_otlp_settings"))? else {
        let kind = config.get_type().name()?;
        return Err(PyTypeError::new_err(format!("transport_config must be a GrpcConfig or an HttpConfig, not {kind}")));
    };
    let http: Http = settings.call0()?.extract()?;
    let compression = match http.compression.as_str() {
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        _ => Compression::None,
    };
    let config = OtlpConfig {
        headers: http.headers.into_iter().collect(),
        timeout: Duration::try_from_secs_f64(http.timeout_secs).unwrap_or_default(),
        insecure: http.insecure,
        compression,
        ca_file: http.ca_file,
        ..OtlpConfig::http(&http.endpoint)
    };
    built("HttpConfig", Pipeline::new_otlp(config, queue))
}

fn built(what: &str, pipeline: Result<Pipeline, scouter_exporter::ConfigError>) -> PyResult<Pipeline> {
    pipeline.or_else(|error| {
        let mut faults = Faults::default();
        faults.extend(error.faults);
        faults.check(what).and(Err(PyRuntimeError::new_err("a configuration error without a fault")))
    })
}
