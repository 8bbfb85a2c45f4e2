//! Where a pipeline goes, and how: what any of the configurations of `scouter.transport` says.

use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError},
    prelude::*,
};
use scouter_exporter::{Pipeline, QueueConfig, TransportConfig};

use crate::{
    config::{GrpcConfig, HttpConfig, KafkaConfig, RabbitMqConfig, RedisConfig},
    error::Faults,
};

/// What `config` says, which may be any configuration of `scouter.transport`, or nothing for gRPC as the environment says.
///
/// # Errors
/// `ConfigError` with every fault; `TypeError` for what is no configuration.
pub(crate) fn config(config: Option<&Bound<'_, PyAny>>) -> PyResult<TransportConfig> {
    let Some(config) = config else { return Ok(GrpcConfig::or_from_env(None)?.into()) };
    if let Ok(grpc) = config.cast::<GrpcConfig>() {
        Ok(GrpcConfig::or_from_env(Some(grpc.borrow()))?.into())
    } else if let Ok(http) = config.cast::<HttpConfig>() {
        Ok(http.borrow().config.clone().into())
    } else if let Ok(redis) = config.cast::<RedisConfig>() {
        Ok(redis.get().config.clone().into())
    } else if let Ok(kafka) = config.cast::<KafkaConfig>() {
        Ok(kafka.get().config.clone().into())
    } else if let Ok(rabbit) = config.cast::<RabbitMqConfig>() {
        Ok(rabbit.get().config.clone().into())
    } else {
        let name = config.get_type().name()?;
        Err(PyTypeError::new_err(format!("transport_config must be a GrpcConfig or another one of scouter.transport, not {name}")))
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
