//! Kafka, as a broker that requests are taken from. It is used when its address is given.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Faults, Secret, brokers::check_plaintext};

/// A topic has a name of at most 249 bytes; that of the dead has a longer one.
const MAX_NAME_BYTES: usize = 240;

/// Options about Kafka; names and defaults are Scouter's where it has them.
#[derive(Debug, Clone, Args)]
pub struct KafkaOptions {
    /// Kafka to take requests from: host:port of some of its brokers, with commas between them
    #[arg(long, env = "KAFKA_BROKERS", value_name = "HOSTS")]
    pub kafka_brokers: Option<String>,
    /// The topics that clients and Collectors send to, with commas between them
    #[arg(long, env = "KAFKA_TOPIC", default_value = "scouter_monitoring", value_name = "NAMES")]
    pub kafka_topic: String,
    /// Servers of one group share the partitions
    #[arg(long, env = "KAFKA_GROUP", default_value = "scouter", value_name = "NAME")]
    pub kafka_group: String,
    /// Where a group begins that has no offsets yet: earliest or latest
    #[arg(long, env = "KAFKA_OFFSET_RESET", default_value = "earliest", value_name = "END")]
    pub kafka_offset_reset: String,
    /// Consumers in this server
    #[arg(long, env = "KAFKA_WORKER_COUNT", default_value = "1", value_name = "COUNT")]
    pub kafka_worker_count: String,
    /// What this server is called in its group; no other server of the group may be called so. By default a name that is kept in the storage
    #[arg(long, env = "KAFKA_INSTANCE_ID", value_name = "NAME")]
    pub kafka_instance_id: Option<String>,
    /// For so long the partitions of a server that is gone wait for it to come back
    #[arg(long, env = "KAFKA_SESSION_TIMEOUT_SECONDS", default_value = "30", value_name = "SECONDS")]
    pub kafka_session_timeout_seconds: String,
    /// Partitions of the topic, if this server makes it as its log
    #[arg(long, env = "KAFKA_PARTITIONS", default_value = "8", value_name = "COUNT")]
    pub kafka_partitions: String,
    /// PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; by default SASL_SSL with a user, and PLAINTEXT without
    #[arg(long, env = "KAFKA_SECURITY_PROTOCOL", value_name = "NAME")]
    pub kafka_security_protocol: Option<String>,
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
    #[arg(long, env = "KAFKA_SASL_MECHANISM", default_value = "PLAIN", value_name = "NAME")]
    pub kafka_sasl_mechanism: String,
    /// User
    #[arg(long, env = "KAFKA_USERNAME", value_name = "NAME")]
    pub kafka_username: Option<String>,
    /// Password
    #[arg(long, env = "KAFKA_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub kafka_password: Option<Secret>,
    /// PEM file of the certificate authorities that are trusted in place of the system's
    #[arg(long, env = "KAFKA_CERT_LOCATION", value_name = "FILE")]
    pub kafka_cert_location: Option<PathBuf>,
}

/// The log that servers share, beside where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedLog {
    /// Of the topic, if it is made here.
    pub partitions: i32,
}

/// Where Kafka is, and what is there.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `host:port`, with commas.
    pub brokers: String,
    /// The topics.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// `earliest` or `latest`.
    pub offset_reset: &'static str,
    /// Consumers in this server.
    pub consumers: usize,
    /// What this server is called in its group, if that was said.
    pub instance: Option<String>,
    /// How long its partitions wait for it.
    pub session_timeout: Duration,
    /// The client library's word.
    pub security: &'static str,
    /// User, password and the mechanism, where SASL asks for them.
    pub sasl: Option<(String, Secret, String)>,
    /// Certificate authorities.
    pub ca_file: Option<PathBuf>,
}

impl KafkaOptions {
    pub(super) fn check(&self, is_insecure: bool, faults: &mut Faults) -> Option<Kafka> {
        let consumers = faults.number("--kafka-worker-count", &self.kafka_worker_count, 1..=64);
        let session_timeout =
            Duration::from_secs(faults.number("--kafka-session-timeout-seconds", &self.kafka_session_timeout_seconds, 6..=1800));
        let brokers = given(&self.kafka_brokers)?;
        if !cfg!(feature = "kafka") {
            faults.add("--kafka-brokers is given, and this server was built without the feature kafka".to_owned());
        }
        let is_address = |host: &str| {
            host.rsplit_once(':')
                .is_some_and(|(name, port)| !name.is_empty() && !name.contains(['@', '/', '?', '#']) && port.parse::<u16>().is_ok())
        };
        if !brokers.split(',').all(|host| is_address(host.trim())) {
            faults.add("--kafka-brokers: it is host:port, and others after commas".to_owned());
        }
        let topics: Vec<String> = self.kafka_topic.split(',').map(|topic| topic.trim().to_owned()).collect();
        let is_name = |name: &str| {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_allowed)
        };
        if !topics.iter().all(|topic| is_name(topic)) {
            faults.add(format!(
                "--kafka-topic is {:?}; it is names of letters, digits, dots, underscores and dashes, with commas between them",
                self.kafka_topic
            ));
        }
        let instance = given(&self.kafka_instance_id).map(str::to_owned);
        for (flag, name) in [("--kafka-group", Some(self.kafka_group.as_str())), ("--kafka-instance-id", instance.as_deref())] {
            if name.is_some_and(|name| !is_name(name)) {
                faults.add(format!("{flag} is {:?}; it is letters, digits, dots, underscores and dashes", name.unwrap_or_default()));
            }
        }
        let offset_reset = one_of(faults, "--kafka-offset-reset", &self.kafka_offset_reset, &["earliest", "latest"]);
        let username = given(&self.kafka_username).map(str::to_owned);
        let default = if username.is_some() { "sasl_ssl" } else { "plaintext" };
        let protocol = given(&self.kafka_security_protocol).unwrap_or(default);
        let security = one_of(faults, "--kafka-security-protocol", protocol, &["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]);
        let mechanism = one_of(faults, "--kafka-sasl-mechanism", &self.kafka_sasl_mechanism, &["plain", "scram-sha-256", "scram-sha-512"]);
        let sasl = security.starts_with("sasl").then(|| {
            let password = self.kafka_password.clone().unwrap_or_else(|| String::new().into());
            (username.unwrap_or_default(), password, mechanism.to_ascii_uppercase())
        });
        if sasl.as_ref().is_some_and(|(username, password, _)| username.is_empty() || password.expose().is_empty()) {
            faults.add("--kafka-security-protocol asks for a user, and --kafka-username or --kafka-password is not given".to_owned());
        }
        if security == "sasl_plaintext" && mechanism == "plain" && !is_insecure {
            let hosts = brokers.split(',').filter_map(|host| host.trim().rsplit_once(':'));
            hosts.for_each(|(host, _)| check_plaintext("--kafka-brokers", "SASL_SSL or SCRAM", host, faults));
        }
        Some(Kafka {
            brokers: brokers.to_owned(),
            topics,
            group: self.kafka_group.clone(),
            offset_reset,
            consumers,
            instance,
            session_timeout,
            security,
            sasl,
            ca_file: self.kafka_cert_location.clone().filter(|path| !path.as_os_str().is_empty()),
        })
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// One of these words, in lower or upper case.
fn one_of(faults: &mut Faults, flag: &str, text: &str, words: &[&'static str]) -> &'static str {
    words.iter().copied().find(|word| word.eq_ignore_ascii_case(text.trim())).unwrap_or_else(|| {
        faults.add(format!("{flag} is {text:?}; it is one of {}", words.join(", ")));
        words[0]
    })
}
