//! Where a pipeline goes, and how: what any of the configurations of `scouter.transport` says.

use std::{path::PathBuf, time::Duration};

use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError},
    intern,
    prelude::*,
};
use scouter_exporter::{
    Compression, HttpConfig, Pipeline, QueueConfig, TransportConfig,
    transport::{RabbitMqConfig, RedisConfig, RedisMode},
};

use crate::{config::GrpcConfig, error::Faults};

/// Each configuration says of itself what was checked there.
#[derive(FromPyObject)]
struct Kind {
    #[pyo3(item)]
    kind: String,
}

#[derive(FromPyObject)]
struct Http {
    #[pyo3(item)]
    server_uri: String,
    #[pyo3(item)]
    username: String,
    #[pyo3(item)]
    password: String,
    #[pyo3(item)]
    auth_token: String,
    #[pyo3(item)]
    timeout_secs: f64,
    #[pyo3(item)]
    insecure: bool,
    #[pyo3(item)]
    compression: String,
    #[pyo3(item)]
    ca_file: Option<PathBuf>,
}

#[derive(FromPyObject)]
struct Redis {
    #[pyo3(item)]
    address: String,
    #[pyo3(item)]
    channel: String,
    #[pyo3(item)]
    mode: String,
    #[pyo3(item)]
    timeout_secs: f64,
    #[pyo3(item)]
    insecure: bool,
    #[pyo3(item)]
    ca_file: Option<PathBuf>,
}

#[derive(FromPyObject)]
struct RabbitMq {
    #[pyo3(item)]
    host: String,
    #[pyo3(item)]
    port: u16,
    #[pyo3(item)]
    username: String,
    #[pyo3(item)]
    password: String,
    #[pyo3(item)]
    virtual_host: String,
    #[pyo3(item)]
    queue: String,
    #[pyo3(item)]
    tls: bool,
    #[pyo3(item)]
    timeout_secs: f64,
    #[pyo3(item)]
    insecure: bool,
    #[pyo3(item)]
    ca_file: Option<PathBuf>,
}

/// What `config` says, which may be any configuration of `scouter.transport`, or nothing for gRPC as the environment says.
///
/// # Errors
/// `ConfigError` with every fault; `TypeError` for what is no configuration.
pub(crate) fn config(config: Option<&Bound<'_, PyAny>>) -> PyResult<TransportConfig> {
    let Some(config) = config else { return Ok(GrpcConfig::or_from_env(None)?.into()) };
    if let Ok(grpc) = config.cast::<GrpcConfig>() {
        return Ok(GrpcConfig::or_from_env(Some(grpc.borrow()))?.into());
    }
    let name = config.get_type().name()?;
    let Some(settings) = config.getattr_opt(intern!(config.py(), "_transport_settings"))? else {
        return Err(PyTypeError::new_err(format!("transport_config must be a GrpcConfig or another one of scouter.transport, not {name}")));
    };
    let settings = settings.call0()?;
    match settings.extract::<Kind>()?.kind.as_str() {
        "http" => Ok(settings.extract::<Http>()?.into()),
        "redis" => Ok(settings.extract::<Redis>()?.into()),
        "rabbitmq" => Ok(settings.extract::<RabbitMq>()?.into()),
        other => Err(PyTypeError::new_err(format!("{name} is for a transport {other:?}, which there is not"))),
    }
}

/// A pipeline to there.
///
/// # Errors
/// As [`config`].
pub(crate) fn pipeline(config: Option<&Bound<'_, PyAny>>, queue: QueueConfig) -> PyResult<Pipeline> {
    let name = config.map_or(Ok("GrpcConfig".to_owned()), |config| config.get_type().name().map(|name| name.to_string()))?;
    Pipeline::new(self::config(config)?, queue).or_else(|error| {
        let mut faults = Faults::default();
        faults.extend(error.faults);
        faults.check(&name).and(Err(PyRuntimeError::new_err("a configuration error without a fault")))
    })
}

impl From<Http> for TransportConfig {
    fn from(http: Http) -> Self {
        let config = HttpConfig {
            server_uri: http.server_uri,
            username: http.username,
            password: http.password.into(),
            auth_token: http.auth_token.into(),
            timeout: seconds(http.timeout_secs),
            insecure: http.insecure,
            compression: match http.compression.as_str() {
                "gzip" => Compression::Gzip,
                "zstd" => Compression::Zstd,
                _ => Compression::None,
            },
            ca_file: http.ca_file,
            ..HttpConfig::default()
        };
        config.into()
    }
}

impl From<Redis> for TransportConfig {
    fn from(redis: Redis) -> Self {
        let config = RedisConfig {
            address: redis.address.into(),
            channel: redis.channel,
            mode: if redis.mode == "pubsub" { RedisMode::PubSub } else { RedisMode::Stream },
            timeout: seconds(redis.timeout_secs),
            insecure: redis.insecure,
            ca_file: redis.ca_file,
            ..RedisConfig::default()
        };
        config.into()
    }
}

impl From<RabbitMq> for TransportConfig {
    fn from(rabbit: RabbitMq) -> Self {
        let config = RabbitMqConfig {
            host: rabbit.host,
            port: rabbit.port,
            username: rabbit.username,
            password: rabbit.password.into(),
            virtual_host: rabbit.virtual_host,
            queue: rabbit.queue,
            tls: rabbit.tls,
            timeout: seconds(rabbit.timeout_secs),
            insecure: rabbit.insecure,
            ca_file: rabbit.ca_file,
            ..RabbitMqConfig::default()
        };
        config.into()
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
