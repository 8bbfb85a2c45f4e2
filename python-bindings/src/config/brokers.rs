//! `RedisConfig` and `RabbitMQConfig`: a broker between this process and the servers. They can be read, not changed.

use std::path::PathBuf;

use pyo3::prelude::*;
use scouter_exporter::{
    RedisMode,
    transport::{RabbitMqConfig as Rabbit, RedisConfig as Redis},
};

use super::{TransportType, check, given_or_variable, python_bool, python_path, seconds};
use crate::error::Faults;

/// Where Redis is, and which stream of it servers take from.
///
/// What is omitted comes from the environment, then from the defaults.
///
/// Args:
///     address: ``redis://[user:password@]host:port``, or ``rediss://`` for TLS. ``REDIS_ADDR``, else ``redis://127.0.0.1:6379``. Its
///         password is never shown.
///     channel: Name of the stream, or of the channel. ``REDIS_CHANNEL``, else ``scouter_monitoring``.
///     mode: ``"stream"`` keeps what is sent until a server has stored it. ``"pubsub"`` keeps nothing, as existing deployments have it.
///         ``REDIS_MODE``, else ``"stream"``.
///     timeout_secs: One deadline for all attempts of a request. 10 by default.
///     insecure: Whether the password may cross plaintext to another host. ``REDIS_INSECURE``, else False.
///     ca_file: PEM file of certificate authorities to trust in place of the system's. ``REDIS_CA_FILE``.
///
/// Raises:
///     ConfigError: A `ValueError` that names every fault.
#[pyclass(module = "scouter.transport", subclass, frozen)]
pub(crate) struct RedisConfig {
    pub(crate) config: Redis,
}

#[pymethods]
impl RedisConfig {
    #[new]
    #[pyo3(signature = (address=None, channel=None, *, mode=None, timeout_secs=None, insecure=None, ca_file=None))]
    fn new(
        address: Option<String>,
        channel: Option<String>,
        mode: Option<&str>,
        timeout_secs: Option<f64>,
        insecure: Option<bool>,
        ca_file: Option<PathBuf>,
    ) -> PyResult<Self> {
        let mut faults = Faults::default();
        let mode = mode.and_then(|mode| match mode {
            "stream" => Some(RedisMode::Stream),
            "pubsub" => Some(RedisMode::PubSub),
            other => {
                faults.add(format!("mode must be \"stream\" or \"pubsub\", not \"{other}\""));
                None
            }
        });
        let (mut config, unreadable) = Redis::read(|name| match name {
            "REDIS_ADDR" => given_or_variable(address.clone(), name),
            "REDIS_MODE" if mode.is_some() => None,
            "REDIS_INSECURE" => given_or_variable(insecure.map(|insecure| insecure.to_string()), name),
            _ => given_or_variable(None, name),
        });
        faults.extend(unreadable);
        // An empty variable is as none; an empty argument is what was asked for.
        config.address = address.map_or(config.address, Into::into);
        config.channel = channel.unwrap_or(config.channel);
        config.mode = mode.unwrap_or(config.mode);
        config.timeout = seconds("timeout_secs", timeout_secs, &mut faults).unwrap_or(config.timeout);
        config.ca_file = ca_file.or(config.ca_file);
        check(faults, config.validate(), "RedisConfig")?;
        Ok(Self { config })
    }

    /// The address without user and password.
    #[getter]
    fn address(&self) -> String {
        self.config.shown_address()
    }

    #[getter]
    fn channel(&self) -> &str {
        &self.config.channel
    }

    #[getter]
    fn mode(&self) -> &'static str {
        match self.config.mode {
            RedisMode::Stream => "stream",
            RedisMode::PubSub => "pubsub",
        }
    }

    #[getter]
    fn timeout_secs(&self) -> f64 {
        self.config.timeout.as_secs_f64()
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
    #[expect(clippy::unused_self, reason = "an attribute of every configuration")]
    fn transport_type(&self) -> TransportType {
        TransportType::Redis
    }

    fn __repr__(&self) -> String {
        format!(
            "RedisConfig(address={:?}, channel={:?}, mode={:?}, timeout_secs={}, insecure={}, ca_file={})",
            self.address(),
            self.config.channel,
            self.mode(),
            self.timeout_secs(),
            python_bool(self.config.insecure),
            python_path(self.config.ca_file.as_deref()),
        )
    }
}

/// Where RabbitMQ is, and which queue of it servers take from.
///
/// What is omitted comes from the environment, then from the defaults. ``RABBITMQ_ADDR``
/// (``amqp://user:password@host:port/virtual-host``, or ``amqps://``) wins over the arguments that it holds, as in Scouter.
///
/// Args:
///     host: ``RABBITMQ_HOST``, else ``localhost``.
///     port: ``RABBITMQ_PORT``, else 5672.
///     username: ``RABBITMQ_USERNAME``, else ``guest``.
///     password: ``RABBITMQ_PASSWORD``, else ``guest``. Never shown.
///     queue: A durable queue; it is made if it is not there. ``RABBITMQ_QUEUE``, else ``scouter_monitoring``.
///     max_retries: Accepted for code that has it. A request is sent again until the broker has it or its
///         deadline is over.
///     virtual_host: ``/`` by default.
///     tls: Whether to speak TLS.
///     timeout_secs: One deadline for all attempts of a request. 10 by default.
///     insecure: Whether the password may cross plaintext to another host. ``RABBITMQ_INSECURE``, else False.
///     ca_file: PEM file of certificate authorities to trust beside the system's. ``RABBITMQ_CA_FILE``.
///
/// Raises:
///     ConfigError: A `ValueError` that names every fault.
#[pyclass(name = "RabbitMQConfig", module = "scouter.transport", subclass, frozen)]
pub(crate) struct RabbitMqConfig {
    pub(crate) config: Rabbit,
    max_retries: i64,
}

#[pymethods]
impl RabbitMqConfig {
    #[new]
    #[pyo3(signature = (
        host=None, port=None, username=None, password=None, queue=None, max_retries=3,
        *, virtual_host=None, tls=false, timeout_secs=None, insecure=None, ca_file=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn new(
        host: Option<String>,
        port: Option<i64>,
        username: Option<String>,
        password: Option<String>,
        queue: Option<String>,
        max_retries: i64,
        virtual_host: Option<String>,
        tls: bool,
        timeout_secs: Option<f64>,
        insecure: Option<bool>,
        ca_file: Option<PathBuf>,
    ) -> PyResult<Self> {
        let mut faults = Faults::default();
        let (mut config, unreadable) = Rabbit::read(|name| match name {
            // It comes last, as it wins.
            "RABBITMQ_ADDR" => None,
            "RABBITMQ_PORT" if port.is_some() => None,
            "RABBITMQ_INSECURE" => given_or_variable(insecure.map(|insecure| insecure.to_string()), name),
            _ => given_or_variable(None, name),
        });
        faults.extend(unreadable);
        config.host = host.unwrap_or(config.host);
        match port.map(u16::try_from) {
            None => {}
            Some(Ok(port)) => config.port = port,
            Some(Err(_)) => faults.add("port must be between 1 and 65535"),
        }
        config.username = username.unwrap_or(config.username);
        config.password = password.map_or(config.password, Into::into);
        config.queue = queue.unwrap_or(config.queue);
        config.virtual_host = virtual_host.unwrap_or(config.virtual_host);
        config.tls = tls;
        config.timeout = seconds("timeout_secs", timeout_secs, &mut faults).unwrap_or(config.timeout);
        config.ca_file = ca_file.or(config.ca_file);
        if let Some(address) = given_or_variable(None, "RABBITMQ_ADDR").filter(|address| !address.trim().is_empty()) {
            match config.clone().at(&address) {
                Ok(at) => config = at,
                Err(fault) => faults.extend(vec![fault]),
            }
        }
        check(faults, config.validate(), "RabbitMQConfig")?;
        Ok(Self { config, max_retries })
    }

    #[getter]
    fn host(&self) -> &str {
        &self.config.host
    }

    #[getter]
    fn port(&self) -> u16 {
        self.config.port
    }

    #[getter]
    fn username(&self) -> &str {
        &self.config.username
    }

    #[getter]
    fn queue(&self) -> &str {
        &self.config.queue
    }

    #[getter]
    fn max_retries(&self) -> i64 {
        self.max_retries
    }

    #[getter]
    fn virtual_host(&self) -> &str {
        &self.config.virtual_host
    }

    #[getter]
    fn tls(&self) -> bool {
        self.config.tls
    }

    #[getter]
    fn timeout_secs(&self) -> f64 {
        self.config.timeout.as_secs_f64()
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
    #[expect(clippy::unused_self, reason = "an attribute of every configuration")]
    fn transport_type(&self) -> TransportType {
        TransportType::RabbitMq
    }

    fn __repr__(&self) -> String {
        format!(
            "RabbitMQConfig(host={:?}, port={}, username={:?}, password=\"***\", queue={:?}, virtual_host={:?}, tls={}, timeout_secs={}, \
             insecure={}, ca_file={})",
            self.config.host,
            self.config.port,
            self.config.username,
            self.config.queue,
            self.config.virtual_host,
            python_bool(self.config.tls),
            self.timeout_secs(),
            python_bool(self.config.insecure),
            python_path(self.config.ca_file.as_deref()),
        )
    }
}
