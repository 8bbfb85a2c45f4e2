//! `KafkaConfig`: a topic between this process and the servers. It can be read, not changed.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use pyo3::prelude::*;
use scouter_exporter::transport::{KafkaCompression, KafkaConfig as Kafka, KafkaSasl, KafkaSecurity};

use super::{TransportType, check, given_or_variable, python_bool, python_path, seconds};
use crate::error::Faults;

/// Settings of the client library that `config` may hold, and what they are here.
const LIBRARY_SETTINGS: [(&str, &str); 6] = [
    ("bootstrap.servers", "KAFKA_BROKERS"),
    ("sasl.mechanism", "KAFKA_SASL_MECHANISM"),
    ("sasl.password", "KAFKA_PASSWORD"),
    ("sasl.username", "KAFKA_USERNAME"),
    ("security.protocol", "KAFKA_SECURITY_PROTOCOL"),
    ("ssl.ca.location", "KAFKA_CERT_LOCATION"),
];

/// Where Kafka is, and which topic of it servers take from.
///
/// What is omitted comes from `config`, then from the environment, then from the defaults.
///
/// Args:
///     username: ``KAFKA_USERNAME``, or ``KAFKA_KEY``. With one, TLS and SASL are spoken unless something else is said.
///     password: ``KAFKA_PASSWORD``, or ``KAFKA_SECRET``. Never shown.
///     brokers: ``host:port`` of some brokers, with commas between them. ``KAFKA_BROKERS``, else ``localhost:9092``.
///     topic: ``SCOUTER_KAFKA_TOPIC``, or ``KAFKA_TOPIC``, else ``scouter_monitoring``.
///     compression_type: ``"gzip"``, ``"lz4"``, ``"snappy"``, ``"zstd"`` or ``"none"``.
///     message_timeout_ms: `timeout_secs` in milliseconds, for code that has it.
///     message_max_bytes: The largest message that the brokers take. 1 MiB by default, as theirs.
///     log_level: Accepted for code that has it.
///     config: Settings by the names of Kafka's client library: ``bootstrap.servers``, ``security.protocol``, ``sasl.mechanism``,
///         ``sasl.username``, ``sasl.password``, ``ssl.ca.location``.
///     max_retries: Accepted for code that has it. A request is sent again until the brokers have it or its
///         deadline is over.
///     security_protocol: ``"PLAINTEXT"``, ``"SSL"``, ``"SASL_PLAINTEXT"`` or ``"SASL_SSL"``. ``KAFKA_SECURITY_PROTOCOL``.
///     sasl_mechanism: ``"PLAIN"``, ``"SCRAM-SHA-256"`` or ``"SCRAM-SHA-512"``. ``KAFKA_SASL_MECHANISM``, else ``"PLAIN"``.
///     timeout_secs: One deadline for all attempts of a request. 10 by default.
///     insecure: Whether the password may cross plaintext to another host. ``KAFKA_INSECURE``, else False.
///     ca_file: PEM file of certificate authorities to trust in place of the system's. ``KAFKA_CERT_LOCATION``.
///     client_certificate_file: PEM file of this client's certificate.
///     client_key_file: PEM file of its private key.
///
/// Raises:
///     ConfigError: A `ValueError` that names every fault.
#[pyclass(module = "scouter.transport", subclass, frozen)]
pub(crate) struct KafkaConfig {
    pub(crate) config: Kafka,
    max_retries: i64,
}

#[pymethods]
impl KafkaConfig {
    #[new]
    #[pyo3(signature = (
        username=None, password=None, brokers=None, topic=None, compression_type=None, message_timeout_ms=None, message_max_bytes=None,
        log_level=None, config=None, max_retries=3,
        *, security_protocol=None, sasl_mechanism=None, timeout_secs=None, insecure=None, ca_file=None, client_certificate_file=None,
        client_key_file=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn new(
        username: Option<String>,
        password: Option<String>,
        brokers: Option<String>,
        topic: Option<String>,
        compression_type: Option<&str>,
        message_timeout_ms: Option<u64>,
        message_max_bytes: Option<usize>,
        log_level: Option<Py<PyAny>>,
        config: Option<BTreeMap<String, String>>,
        max_retries: i64,
        security_protocol: Option<String>,
        sasl_mechanism: Option<String>,
        timeout_secs: Option<f64>,
        insecure: Option<bool>,
        ca_file: Option<PathBuf>,
        client_certificate_file: Option<PathBuf>,
        client_key_file: Option<PathBuf>,
    ) -> PyResult<Self> {
        drop(log_level);
        let mut faults = Faults::default();
        let settings = config.unwrap_or_default();
        for name in settings.keys().filter(|name| LIBRARY_SETTINGS.iter().all(|(known, _)| known != name)) {
            let known = LIBRARY_SETTINGS.map(|(known, _)| known).join(", ");
            faults.add(format!("config cannot hold {name:?}; it takes {known}"));
        }
        let (mut config, unreadable) = Kafka::read(|name| {
            let given = match name {
                "KAFKA_BROKERS" => brokers.clone(),
                "KAFKA_USERNAME" => username.clone(),
                "KAFKA_PASSWORD" => password.clone(),
                "SCOUTER_KAFKA_TOPIC" => topic.clone(),
                "KAFKA_SECURITY_PROTOCOL" => security_protocol.clone(),
                "KAFKA_SASL_MECHANISM" => sasl_mechanism.clone(),
                "KAFKA_INSECURE" => insecure.map(|insecure| insecure.to_string()),
                _ => None,
            };
            let setting =
                || LIBRARY_SETTINGS.iter().find(|(_, variable)| *variable == name).and_then(|(setting, _)| settings.get(*setting));
            given_or_variable(given.or_else(|| setting().cloned()), name)
        });
        faults.extend(unreadable);
        // An empty variable is as none; an empty argument is what was asked for.
        config.brokers = brokers.unwrap_or(config.brokers);
        config.topic = topic.unwrap_or(config.topic);
        config.compression = match compression_type {
            None => config.compression,
            Some("none") => KafkaCompression::None,
            Some("gzip") => KafkaCompression::Gzip,
            Some("lz4") => KafkaCompression::Lz4,
            Some("snappy") => KafkaCompression::Snappy,
            Some("zstd") => KafkaCompression::Zstd,
            Some(other) => {
                faults.add(format!("compression_type must be \"gzip\", \"lz4\", \"snappy\", \"zstd\" or \"none\", not \"{other}\""));
                config.compression
            }
        };
        config.timeout = message_timeout_ms.map_or(config.timeout, Duration::from_millis);
        config.timeout = seconds("timeout_secs", timeout_secs, &mut faults).unwrap_or(config.timeout);
        config.max_request_bytes = message_max_bytes.map_or(config.max_request_bytes, |bytes| bytes.saturating_sub(Kafka::HEAD_BYTES));
        config.ca_file = ca_file.or(config.ca_file);
        config.client_certificate_file = client_certificate_file;
        config.client_key_file = client_key_file;
        check(faults, config.validate(), "KafkaConfig")?;
        Ok(Self { config, max_retries })
    }

    /// The brokers' addresses.
    #[getter]
    fn brokers(&self) -> String {
        self.config.shown_brokers()
    }

    #[getter]
    fn topic(&self) -> &str {
        &self.config.topic
    }

    #[getter]
    fn username(&self) -> &str {
        &self.config.username
    }

    #[getter]
    fn compression_type(&self) -> &'static str {
        match self.config.compression {
            KafkaCompression::None => "none",
            KafkaCompression::Gzip => "gzip",
            KafkaCompression::Lz4 => "lz4",
            KafkaCompression::Snappy => "snappy",
            KafkaCompression::Zstd => "zstd",
        }
    }

    #[getter]
    fn security_protocol(&self) -> &'static str {
        match self.config.security {
            KafkaSecurity::Plaintext => "PLAINTEXT",
            KafkaSecurity::Tls => "SSL",
            KafkaSecurity::SaslPlaintext => "SASL_PLAINTEXT",
            KafkaSecurity::SaslTls => "SASL_SSL",
        }
    }

    #[getter]
    fn sasl_mechanism(&self) -> &'static str {
        match self.config.sasl {
            KafkaSasl::Plain => "PLAIN",
            KafkaSasl::ScramSha256 => "SCRAM-SHA-256",
            KafkaSasl::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    #[getter]
    fn message_max_bytes(&self) -> usize {
        self.config.max_request_bytes + Kafka::HEAD_BYTES
    }

    #[getter]
    fn max_retries(&self) -> i64 {
        self.max_retries
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
        TransportType::Kafka
    }

    fn __repr__(&self) -> String {
        format!(
            "KafkaConfig(brokers={:?}, topic={:?}, username={:?}, password=\"***\", security_protocol={:?}, sasl_mechanism={:?}, \
             compression_type={:?}, message_max_bytes={}, timeout_secs={}, insecure={}, ca_file={})",
            self.brokers(),
            self.config.topic,
            self.config.username,
            self.security_protocol(),
            self.sasl_mechanism(),
            self.compression_type(),
            self.message_max_bytes(),
            self.timeout_secs(),
            python_bool(self.config.insecure),
            python_path(self.config.ca_file.as_deref()),
        )
    }
}
