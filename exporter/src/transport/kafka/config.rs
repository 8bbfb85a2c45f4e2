//! Where Kafka is.

use std::{fmt, path::PathBuf, time::Duration};

use rdkafka::ClientConfig;
use scouter_tonic::{
    broker::DEFAULT_NAME,
    client::{DEFAULT_TIMEOUT, Payload, Secret, bounds_faults, is_loopback, shown_address, truth},
};

use crate::{ConfigError, ConfigFault};

/// What a broker takes without being told otherwise is 1 MiB and 12 bytes, of which key, headers and frame take some.
const DEFAULT_MAX_REQUEST_BYTES: usize = 1024 * 1024 - HEAD_BYTES;
/// Key, headers and frame of a record, with room.
const HEAD_BYTES: usize = 4096;
/// What the client library allows.
const MOST_REQUEST_BYTES: usize = 1_000_000_000 - HEAD_BYTES;

/// How a connection is protected, and whether user and password are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaSecurity {
    /// Not at all.
    #[default]
    Plaintext,
    /// By TLS.
    Tls,
    /// Not at all, with user and password.
    SaslPlaintext,
    /// By TLS, with user and password.
    SaslTls,
}

/// How user and password are proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaSasl {
    /// By showing them.
    #[default]
    Plain,
    /// Without showing them, with SHA-256.
    ScramSha256,
    /// Without showing them, with SHA-512.
    ScramSha512,
}

/// How what is sent is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaCompression {
    /// Not at all.
    None,
    /// As Scouter's clients do.
    #[default]
    Gzip,
    /// Less, and faster.
    Lz4,
    /// Less, and faster.
    Snappy,
    /// More, and faster. Brokers know it since Kafka 2.1.
    Zstd,
}

/// Where Kafka is. Plain data; [`KafkaConfig::validate`] finds every fault at once.
#[derive(Clone)]
pub struct KafkaConfig {
    /// `host:port` of some of the brokers, with commas between them.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Whether TLS is spoken, and whether user and password are asked for.
    pub security: KafkaSecurity,
    /// How user and password are proven.
    pub sasl: KafkaSasl,
    /// Who comes.
    pub username: String,
    /// And with which password.
    pub password: Secret,
    /// How what is sent is compressed.
    pub compression: KafkaCompression,
    /// One deadline for connect, login and all attempts of a request. Between 1 ms and one day.
    pub timeout: Duration,
    /// Allow the password to cross plaintext to a host that is not loopback.
    pub insecure: bool,
    /// PEM file with certificate authorities trusted in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate that proves who this client is. Needs `client_key_file`.
    pub client_certificate_file: Option<PathBuf>,
    /// PEM file with the private key of the client's certificate.
    pub client_key_file: Option<PathBuf>,
    /// How requests are written. `Auto` is protobuf; servers that read JSON alone need `Json`.
    pub payload: Payload,
    /// Largest request, in bytes; 4 KiB below the topic's `max.message.bytes`.
    pub max_request_bytes: usize,
}

impl Default for KafkaConfig {
    /// The topic `scouter_monitoring` on `localhost:9092`.
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            topic: DEFAULT_NAME.to_owned(),
            security: KafkaSecurity::default(),
            sasl: KafkaSasl::default(),
            username: String::new(),
            password: Secret::new(""),
            compression: KafkaCompression::default(),
            timeout: DEFAULT_TIMEOUT,
            insecure: false,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            payload: Payload::Auto,
            max_request_bytes: DEFAULT_MAX_REQUEST_BYTES,
        }
    }
}

impl KafkaConfig {
    /// What the largest message has more than the largest request: key, headers and frame of a record, with room.
    pub const HEAD_BYTES: usize = HEAD_BYTES;

    /// The defaults, with `KAFKA_BROKERS`, `SCOUTER_KAFKA_TOPIC` or `KAFKA_TOPIC`, `KAFKA_USERNAME` or `KAFKA_KEY`, `KAFKA_PASSWORD` or
    /// `KAFKA_SECRET`, `KAFKA_SECURITY_PROTOCOL` (`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`, which is what a user without it means),
    /// `KAFKA_SASL_MECHANISM` (`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`), `KAFKA_INSECURE` and `KAFKA_CERT_LOCATION` where they are set.
    /// An empty variable counts as unset.
    ///
    /// # Errors
    /// Every variable and every setting that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// [`KafkaConfig::from_env`] with another source of variables.
    ///
    /// # Errors
    /// As [`KafkaConfig::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let (config, faults) = Self::read(variable);
        ConfigError::check_both(faults, config.validate())?;
        Ok(config)
    }

    /// What the variables say and which of them cannot be read, for those who change settings before the whole is judged.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> (Self, Vec<ConfigFault>) {
        let read = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let mut faults = Vec::new();
        let mut config = Self::default();
        if let Some(brokers) = read("KAFKA_BROKERS") {
            config.brokers = brokers;
        }
        if let Some(topic) = read("SCOUTER_KAFKA_TOPIC").or_else(|| read("KAFKA_TOPIC")) {
            config.topic = topic;
        }
        if let Some(username) = read("KAFKA_USERNAME").or_else(|| read("KAFKA_KEY")) {
            config.username = username;
            config.security = KafkaSecurity::SaslTls;
        }
        if let Some(password) = read("KAFKA_PASSWORD").or_else(|| read("KAFKA_SECRET")) {
            config.password = password.into();
        }
        if let Some(value) = read("KAFKA_SECURITY_PROTOCOL") {
            match value.trim().to_ascii_uppercase().as_str() {
                "PLAINTEXT" => config.security = KafkaSecurity::Plaintext,
                "SSL" => config.security = KafkaSecurity::Tls,
                "SASL_PLAINTEXT" => config.security = KafkaSecurity::SaslPlaintext,
                "SASL_SSL" => config.security = KafkaSecurity::SaslTls,
                _ => {
                    let expected = "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL";
                    faults.push(ConfigFault::Variable { name: "KAFKA_SECURITY_PROTOCOL", value, expected });
                }
            }
        }
        if let Some(value) = read("KAFKA_SASL_MECHANISM") {
            match value.trim().to_ascii_uppercase().as_str() {
                "PLAIN" => config.sasl = KafkaSasl::Plain,
                "SCRAM-SHA-256" => config.sasl = KafkaSasl::ScramSha256,
                "SCRAM-SHA-512" => config.sasl = KafkaSasl::ScramSha512,
                _ => {
                    let expected = "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";
                    faults.push(ConfigFault::Variable { name: "KAFKA_SASL_MECHANISM", value, expected });
                }
            }
        }
        config.insecure = truth("KAFKA_INSECURE", read("KAFKA_INSECURE"), &mut faults);
        config.ca_file = read("KAFKA_CERT_LOCATION").map(PathBuf::from);
        (config, faults)
    }

    /// Checks what can be checked without the network.
    ///
    /// # Errors
    /// Every fault found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = bounds_faults(self.timeout, self.max_request_bytes);
        if self.max_request_bytes > MOST_REQUEST_BYTES {
            faults.push(ConfigFault::Setting { name: "max_request_bytes", expected: "at most 999995904" });
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        // The topic of the dead has a longer name than the topic.
        if self.topic.is_empty() || self.topic.len() > 240 || !self.topic.bytes().all(is_name) {
            faults.push(ConfigFault::Setting { name: "topic", expected: "letters, digits, dots, underscores and dashes, at most 240" });
        }
        let hosts: Vec<&str> = self.brokers.split(',').map(str::trim).collect();
        let is_host = |name: &str| !name.is_empty() && !name.contains(['@', '/', '?', '#']);
        let is_address = |host: &&str| host.rsplit_once(':').is_some_and(|(name, port)| is_host(name) && port.parse::<u16>().is_ok());
        if !hosts.iter().all(is_address) {
            faults.push(ConfigFault::Setting { name: "brokers", expected: "host:port, and others after commas" });
        }
        for (name, text) in [("username", self.username.as_str()), ("password", self.password.reveal())] {
            if self.has_password() && text.is_empty() {
                faults.push(ConfigFault::Setting { name, expected: "some text, where SASL asks for it" });
            }
        }
        if self.client_certificate_file.is_some() != self.client_key_file.is_some() {
            faults.push(ConfigFault::Setting { name: "client_key_file", expected: "a file beside client_certificate_file, or neither" });
        }
        if self.security == KafkaSecurity::SaslPlaintext && self.sasl == KafkaSasl::Plain && !self.insecure {
            // What is no address may hold a password.
            let names = hosts.iter().filter(|host| is_address(host)).filter_map(|host| host.rsplit_once(':')).map(|(name, _)| name);
            faults.extend(names.filter(|name| !is_loopback(name)).map(|name| ConfigFault::Plaintext { host: name.to_owned() }).take(1));
        }
        ConfigError::check(faults)
    }

    /// The brokers. There is no place for a password in them; if somebody wrote one, it is left out.
    pub fn shown_brokers(&self) -> String {
        self.brokers.split(',').map(shown_address).collect::<Vec<_>>().join(",")
    }

    fn has_password(&self) -> bool {
        matches!(self.security, KafkaSecurity::SaslPlaintext | KafkaSecurity::SaslTls)
    }

    /// The settings of an idempotent producer: in the order sent, acknowledged by all replicas in sync.
    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "scouter-exporter")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // What nobody waits for any more does not stay for ever.
            .set("message.timeout.ms", self.timeout.as_millis().max(100).to_string())
            // A request is a batch already, and what the broker refuses is one request.
            .set("linger.ms", "0")
            .set("batch.num.messages", "1")
            .set("message.max.bytes", (self.max_request_bytes + HEAD_BYTES).to_string())
            .set("queue.buffering.max.kbytes", (self.max_request_bytes.max(64 * 1024 * 1024) / 512).min(2_097_151).to_string())
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            .set(
                "compression.type",
                match self.compression {
                    KafkaCompression::None => "none",
                    KafkaCompression::Gzip => "gzip",
                    KafkaCompression::Lz4 => "lz4",
                    KafkaCompression::Snappy => "snappy",
                    KafkaCompression::Zstd => "zstd",
                },
            )
            .set(
                "security.protocol",
                match self.security {
                    KafkaSecurity::Plaintext => "plaintext",
                    KafkaSecurity::Tls => "ssl",
                    KafkaSecurity::SaslPlaintext => "sasl_plaintext",
                    KafkaSecurity::SaslTls => "sasl_ssl",
                },
            );
        if self.compression == KafkaCompression::Gzip {
            // Twice as fast as its default, and spans become hardly larger.
            client.set("compression.level", "1");
        }
        if self.has_password() {
            let mechanism = match self.sasl {
                KafkaSasl::Plain => "PLAIN",
                KafkaSasl::ScramSha256 => "SCRAM-SHA-256",
                KafkaSasl::ScramSha512 => "SCRAM-SHA-512",
            };
            client.set("sasl.mechanism", mechanism).set("sasl.username", &self.username).set("sasl.password", self.password.reveal());
        }
        for (name, file) in [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.client_certificate_file),
            ("ssl.key.location", &self.client_key_file),
        ] {
            if let Some(file) = file {
                client.set(name, file.to_string_lossy());
            }
        }
        client
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.shown_brokers())
            .field("topic", &self.topic)
            .field("security", &self.security)
            .field("sasl", &self.sasl)
            .field("username", &self.username)
            .field("password", &self.password)
            .field("compression", &self.compression)
            .field("timeout", &self.timeout)
            .field("insecure", &self.insecure)
            .field("ca_file", &self.ca_file)
            .field("client_certificate_file", &self.client_certificate_file)
            .field("client_key_file", &self.client_key_file)
            .field("payload", &self.payload)
            .field("max_request_bytes", &self.max_request_bytes)
            .finish()
    }
}
