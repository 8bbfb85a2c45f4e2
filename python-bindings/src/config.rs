//! The configurations of `scouter.transport`: Rust's, with Python's arguments in place of variables.
//!
//! Names of variables, defaults and rules are those of `scouter-exporter`; nothing of them is written here a second time.

mod brokers;
mod http;
mod kafka;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use pyo3::prelude::*;
use scouter_exporter::{Compression, ConfigError, Payload, Secret};

pub(crate) use self::{
    brokers::{RabbitMqConfig, RedisConfig},
    http::HttpConfig,
    kafka::KafkaConfig,
};
use crate::error::Faults;

/// The kinds of transport a configuration can stand for.
#[pyclass(module = "scouter.transport", eq, eq_int, frozen, hash, from_py_object)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TransportType {
    Grpc,
    Http,
    Kafka,
    #[pyo3(name = "RabbitMQ")]
    RabbitMq,
    Redis,
}

/// The text that was given, else the variable's.
fn given_or_variable(given: Option<String>, name: &str) -> Option<String> {
    given.or_else(|| std::env::var(name).ok())
}

/// Every fault as one exception.
pub(crate) fn check(mut faults: Faults, validated: Result<(), ConfigError>, name: &str) -> PyResult<()> {
    if let Err(error) = validated {
        faults.extend(error.faults);
    }
    faults.check(name)
}

/// A time in Python's seconds.
pub(crate) fn seconds(name: &str, value: Option<f64>, faults: &mut Faults) -> Option<Duration> {
    let value = value?;
    let duration = (value > 0.0).then(|| Duration::try_from_secs_f64(value).ok()).flatten();
    if duration.is_none() {
        faults.add(format!("{name} must be a number of seconds above zero, not {value}"));
    }
    duration
}

pub(crate) fn compression_named(name: Option<&str>, faults: &mut Faults) -> Compression {
    match name {
        None | Some("none") => Compression::None,
        Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some(other) => {
            faults.add(format!("compression must be \"none\", \"gzip\" or \"zstd\", not \"{other}\""));
            Compression::None
        }
    }
}

pub(crate) fn compression_name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

fn python_bool(truth: bool) -> &'static str {
    if truth { "True" } else { "False" }
}

fn python_path(path: Option<&Path>) -> String {
    path.map_or("None".to_owned(), |path| format!("{:?}", path.to_string_lossy()))
}

/// Where Scouter's gRPC server is and who calls it.
///
/// What is omitted comes from the environment, then from the defaults.
///
/// Args:
///     server_uri: ``http://host:port`` or ``https://host:port``. ``SCOUTER_GRPC_URI``, else ``http://localhost:50051``.
///     username: ``SCOUTER_USERNAME``, else ``guest``.
///     password: ``SCOUTER_PASSWORD``, else ``guest``. Never shown.
///     timeout_secs: One deadline for connect, login and all attempts of a request. 10 by default.
///     connect_timeout_secs: The longest a connection may take to come up.
///     keep_alive_interval_secs: Interval of pings while a request waits; 4 when omitted. They find connections that died unnoticed.
///     keep_alive_timeout_secs: How long the answer to a ping may take; 4 when omitted.
///     keep_alive_while_idle: Whether to ping while nothing is sent.
///     insecure: Whether credentials may cross plaintext to another host. ``SCOUTER_GRPC_INSECURE``, else False.
///     ca_file: PEM file of certificate authorities to trust beside the system's. ``SCOUTER_GRPC_CA_FILE``.
///     compression: ``"none"``, ``"gzip"`` or ``"zstd"``. None by default.
///     headers: Metadata for gateways on the way.
///     payload: ``"auto"``, or ``"json"`` to write requests as the JSON that every Scouter server reads; ``"auto"`` does so where the
///         server reads nothing else.
///
/// Raises:
///     ConfigError: A `ValueError` that names every fault.
#[pyclass(module = "scouter.transport", subclass)]
pub(crate) struct GrpcConfig {
    config: scouter_exporter::GrpcConfig,
}

impl GrpcConfig {
    /// The configuration, or the environment's.
    pub(crate) fn or_from_env(config: Option<PyRef<'_, Self>>) -> PyResult<scouter_exporter::GrpcConfig> {
        match config {
            Some(config) => Ok(config.config.clone()),
            None => scouter_exporter::GrpcConfig::from_env().or_else(|error| {
                check(Faults::default(), Err(error), "GrpcConfig")?;
                Ok(scouter_exporter::GrpcConfig::default())
            }),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut scouter_exporter::GrpcConfig)) -> PyResult<()> {
        let mut config = self.config.clone();
        change(&mut config);
        check(Faults::default(), config.validate(), "GrpcConfig")?;
        self.config = config;
        Ok(())
    }
}

#[pymethods]
impl GrpcConfig {
    #[new]
    #[pyo3(signature = (
        server_uri=None, username=None, password=None, timeout_secs=None, connect_timeout_secs=None,
        keep_alive_interval_secs=None, keep_alive_timeout_secs=None, keep_alive_while_idle=None,
        *, insecure=None, ca_file=None, compression=None, headers=None, payload=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn new(
        server_uri: Option<String>,
        username: Option<String>,
        password: Option<String>,
        timeout_secs: Option<f64>,
        connect_timeout_secs: Option<f64>,
        keep_alive_interval_secs: Option<f64>,
        keep_alive_timeout_secs: Option<f64>,
        keep_alive_while_idle: Option<bool>,
        insecure: Option<bool>,
        ca_file: Option<PathBuf>,
        compression: Option<&str>,
        headers: Option<BTreeMap<String, String>>,
        payload: Option<&str>,
    ) -> PyResult<Self> {
        let mut faults = Faults::default();
        let from_env = scouter_exporter::GrpcConfig::from_variables(|name| {
            let given = match name {
                "SCOUTER_GRPC_URI" => server_uri.clone(),
                "SCOUTER_USERNAME" => username.clone(),
                "SCOUTER_PASSWORD" => password.clone(),
                "SCOUTER_GRPC_INSECURE" => insecure.map(|insecure| insecure.to_string()),
                _ => None,
            };
            given_or_variable(given, name)
        });
        let mut config = from_env.unwrap_or_else(|error| {
            faults.extend(error.faults);
            scouter_exporter::GrpcConfig::default()
        });
        if let Some(timeout) = seconds("timeout_secs", timeout_secs, &mut faults) {
            config.timeout = timeout;
        }
        config.connect_timeout = seconds("connect_timeout_secs", connect_timeout_secs, &mut faults);
        config.keep_alive_interval = seconds("keep_alive_interval_secs", keep_alive_interval_secs, &mut faults);
        config.keep_alive_timeout = seconds("keep_alive_timeout_secs", keep_alive_timeout_secs, &mut faults);
        config.keep_alive_while_idle = keep_alive_while_idle.unwrap_or(config.keep_alive_while_idle);
        config.ca_file = ca_file.or(config.ca_file);
        config.compression = compression_named(compression, &mut faults);
        config.payload = match payload {
            None | Some("auto") => Payload::Auto,
            Some("json") => Payload::Json,
            Some(other) => {
                faults.add(format!("payload must be \"auto\" or \"json\", not \"{other}\""));
                Payload::Auto
            }
        };
        config.headers = headers.unwrap_or_default().into_iter().collect();
        check(faults, config.validate(), "GrpcConfig")?;
        Ok(Self { config })
    }

    #[getter]
    fn server_uri(&self) -> &str {
        &self.config.server_uri
    }

    #[setter]
    fn set_server_uri(&mut self, server_uri: String) -> PyResult<()> {
        self.change(|config| config.server_uri = server_uri)
    }

    #[getter]
    fn username(&self) -> &str {
        &self.config.username
    }

    #[setter]
    fn set_username(&mut self, username: String) -> PyResult<()> {
        self.change(|config| config.username = username)
    }

    #[setter]
    fn set_password(&mut self, password: String) -> PyResult<()> {
        self.change(|config| config.password = Secret::new(password))
    }

    #[getter]
    fn timeout_secs(&self) -> f64 {
        self.config.timeout.as_secs_f64()
    }

    #[getter]
    fn connect_timeout_secs(&self) -> Option<f64> {
        self.config.connect_timeout.map(|timeout| timeout.as_secs_f64())
    }

    #[getter]
    fn keep_alive_interval_secs(&self) -> Option<f64> {
        self.config.keep_alive_interval.map(|interval| interval.as_secs_f64())
    }

    #[getter]
    fn keep_alive_timeout_secs(&self) -> Option<f64> {
        self.config.keep_alive_timeout.map(|timeout| timeout.as_secs_f64())
    }

    #[getter]
    fn keep_alive_while_idle(&self) -> bool {
        self.config.keep_alive_while_idle
    }

    #[getter]
    fn insecure(&self) -> bool {
        self.config.insecure
    }

    #[getter]
    fn ca_file(&self) -> Option<String> {
        self.config.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned())
    }

    #[getter]
    fn compression(&self) -> &'static str {
        compression_name(self.config.compression)
    }

    #[getter]
    fn payload(&self) -> &'static str {
        match self.config.payload {
            Payload::Auto => "auto",
            Payload::Json => "json",
        }
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of every configuration")]
    fn transport_type(&self) -> TransportType {
        TransportType::Grpc
    }

    fn __repr__(&self) -> String {
        let seconds = |duration: Option<Duration>| duration.map_or("None".to_owned(), |duration| duration.as_secs_f64().to_string());
        format!(
            "GrpcConfig(server_uri={:?}, username={:?}, password=\"***\", timeout_secs={}, connect_timeout_secs={}, \
             keep_alive_interval_secs={}, keep_alive_timeout_secs={}, keep_alive_while_idle={}, insecure={}, ca_file={}, \
             compression={:?})",
            self.config.shown_uri(),
            self.config.username,
            self.config.timeout.as_secs_f64(),
            seconds(self.config.connect_timeout),
            seconds(self.config.keep_alive_interval),
            seconds(self.config.keep_alive_timeout),
            python_bool(self.config.keep_alive_while_idle),
            python_bool(self.config.insecure),
            python_path(self.config.ca_file.as_deref()),
            self.compression(),
        )
    }
}
