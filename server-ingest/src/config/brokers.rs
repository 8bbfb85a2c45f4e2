//! Brokers that requests are taken from. A broker is used when its address is given.

use clap::Args;
use percent_encoding::percent_decode_str;
use scouter_tonic::client::{is_cut_by_its_password, is_loopback};

use super::{Faults, Kafka, KafkaOptions, Secret};

/// AMQP's short texts have at most 255 bytes; the queue of dead messages has a longer name than the queue.
const MAX_NAME_BYTES: usize = 200;

/// Options about brokers; names and defaults are Scouter's.
#[derive(Debug, Clone, Args)]
pub struct BrokerOptions {
    /// Redis to take requests from: rediss://user:password@host:6379, or redis:// on this machine
    #[arg(long, env = "REDIS_ADDR", value_name = "URI", hide_env_values = true)]
    pub redis_addr: Option<Secret>,
    /// The stream, and the channel, that clients send to
    #[arg(long, env = "REDIS_CHANNEL", default_value = "scouter_monitoring", value_name = "NAME")]
    pub redis_channel: String,
    /// Consumers of the stream, in this server
    #[arg(long, env = "REDIS_CONSUMER_COUNT", default_value = "1", value_name = "COUNT")]
    pub redis_consumer_count: String,
    /// Servers of one group share the stream
    #[arg(long, env = "REDIS_GROUP", default_value = "scouter", value_name = "NAME")]
    pub redis_group: String,

    /// RabbitMQ to take requests from: amqps://user:password@host:5671/virtual-host, or amqp:// on this machine
    #[arg(long, env = "RABBITMQ_ADDR", value_name = "URI", hide_env_values = true)]
    pub rabbitmq_addr: Option<Secret>,
    /// The durable queue that clients send to
    #[arg(long, env = "RABBITMQ_QUEUE", default_value = "scouter_monitoring", value_name = "NAME")]
    pub rabbitmq_queue: String,
    /// Consumers of the queue, in this server
    #[arg(long, env = "RABBITMQ_CONSUMER_COUNT", default_value = "1", value_name = "COUNT")]
    pub rabbitmq_consumer_count: String,
    /// Messages that the broker hands out before it hears of one, to each consumer
    #[arg(long, env = "RABBITMQ_PREFETCH_COUNT", default_value = "10", value_name = "COUNT")]
    pub rabbitmq_prefetch_count: String,
    /// What the consumers are called at the broker
    #[arg(long, env = "RABBITMQ_CONSUMER_TAG", default_value = "scouter", value_name = "NAME")]
    pub rabbitmq_consumer_tag: String,

    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaOptions,
}

/// The brokers that are used.
#[derive(Debug, Clone, Default)]
pub struct Brokers {
    /// Redis.
    pub redis: Option<Redis>,
    /// RabbitMQ.
    pub rabbitmq: Option<RabbitMq>,
    /// Kafka.
    pub kafka: Option<Kafka>,
}

/// Where Redis is, and what is there.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis://` or `rediss://`.
    pub address: Secret,
    /// Name of the stream and of the channel.
    pub channel: String,
    /// Name of the consumer group; servers of one group share the stream.
    pub group: String,
    /// Consumers of the stream in this server.
    pub consumers: usize,
}

/// Where RabbitMQ is, and what is there.
#[derive(Debug, Clone)]
pub struct RabbitMq {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// Virtual host.
    pub virtual_host: String,
    /// Speak TLS.
    pub tls: bool,
    /// The durable queue.
    pub queue: String,
    /// Messages at once, of each consumer.
    pub prefetch: u16,
    /// What this server is called at the broker.
    pub tag: String,
    /// Consumers of the queue in this server.
    pub consumers: usize,
}

impl RabbitMq {
    /// At `amqp://user:password@host:port/virtual-host`, or `amqps://...`; guest at the default port where it does not say. What is wrong
    /// with an address does not quote it: there is a password in it.
    fn at(address: &Secret) -> Result<Self, &'static str> {
        const EXPECTED: &str = "it is amqp://user:password@host:port/virtual-host, or amqps://...";
        if is_cut_by_its_password(address.expose()) {
            return Err(EXPECTED);
        }
        let uri: http::Uri = address.expose().trim().parse().map_err(|_| EXPECTED)?;
        let tls = match uri.scheme_str() {
            Some("amqp") => false,
            Some("amqps") => true,
            _ => return Err(EXPECTED),
        };
        let plain = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| EXPECTED);
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(EXPECTED)?.trim_matches(['[', ']']).to_owned();
        let user = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')).map_or("guest:guest", |(user, _)| user);
        let (username, password) = user.split_once(':').unwrap_or((user, ""));
        let (username, password) = (plain(username)?, plain(password)?);
        let virtual_host = plain(uri.path().trim_start_matches('/'))?;
        // AMQP's short texts.
        if username.len() > MAX_NAME_BYTES || virtual_host.len() > MAX_NAME_BYTES {
            return Err("its user or its virtual host has more than 200 bytes");
        }
        Ok(Self {
            host,
            port: uri.port_u16().unwrap_or(if tls { 5671 } else { 5672 }),
            username,
            password: password.into(),
            virtual_host: if virtual_host.is_empty() { "/".to_owned() } else { virtual_host },
            tls,
            queue: String::new(),
            prefetch: 1,
            tag: String::new(),
            consumers: 1,
        })
    }
}

impl BrokerOptions {
    pub(super) fn check(&self, is_insecure: bool, faults: &mut Faults) -> Brokers {
        Brokers {
            redis: self.redis(is_insecure, faults),
            rabbitmq: self.rabbitmq(is_insecure, faults),
            kafka: self.kafka.check(is_insecure, faults),
        }
    }

    fn redis(&self, is_insecure: bool, faults: &mut Faults) -> Option<Redis> {
        let consumers = faults.number("--redis-consumer-count", &self.redis_consumer_count, 1..=64);
        let address = given(&self.redis_addr)?.clone();
        if !cfg!(feature = "redis") {
            faults.add("--redis-addr is given, and this server was built without the feature redis".to_owned());
        }
        let uri: Option<http::Uri> =
            Some(address.expose().trim()).filter(|text| !is_cut_by_its_password(text)).and_then(|text| text.parse().ok());
        match uri.as_ref().map(|uri| (uri.scheme_str(), uri.host().filter(|host| !host.is_empty()))) {
            Some((Some("rediss"), Some(_))) => {}
            Some((Some("redis"), Some(host))) => {
                let has_password = uri.as_ref().and_then(http::Uri::authority).is_some_and(|authority| authority.as_str().contains('@'));
                if has_password && !is_insecure {
                    check_plaintext("--redis-addr", "rediss://", host, faults);
                }
            }
            _ => faults.add("--redis-addr: it is redis://user:password@host:port, or rediss://...".to_owned()),
        }
        for (flag, name) in [("--redis-channel", &self.redis_channel), ("--redis-group", &self.redis_group)] {
            if name.is_empty() {
                faults.add(format!("{flag} is empty; it is a name"));
            }
        }
        Some(Redis { address, channel: self.redis_channel.clone(), group: self.redis_group.clone(), consumers })
    }

    fn rabbitmq(&self, is_insecure: bool, faults: &mut Faults) -> Option<RabbitMq> {
        let consumers = faults.number("--rabbitmq-consumer-count", &self.rabbitmq_consumer_count, 1..=64);
        let prefetch = faults.number("--rabbitmq-prefetch-count", &self.rabbitmq_prefetch_count, 1..=10_000);
        let address = given(&self.rabbitmq_addr)?;
        if !cfg!(feature = "rabbitmq") {
            faults.add("--rabbitmq-addr is given, and this server was built without the feature rabbitmq".to_owned());
        }
        for (flag, name) in [("--rabbitmq-queue", &self.rabbitmq_queue), ("--rabbitmq-consumer-tag", &self.rabbitmq_consumer_tag)] {
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                faults.add(format!("{flag} is {name:?}; it is a name of at most {MAX_NAME_BYTES} bytes"));
            }
        }
        let rabbit = RabbitMq::at(address).map_err(|fault| faults.add(format!("--rabbitmq-addr: {fault}"))).ok()?;
        if !rabbit.tls && !is_insecure {
            check_plaintext("--rabbitmq-addr", "amqps://", &rabbit.host, faults);
        }
        Some(RabbitMq { queue: self.rabbitmq_queue.clone(), prefetch, tag: self.rabbitmq_consumer_tag.clone(), consumers, ..rabbit })
    }
}

/// A password goes in clear text to this machine only.
pub(super) fn check_plaintext(flag: &str, encrypted: &str, host: &str, faults: &mut Faults) {
    if !is_loopback(host) {
        faults.add(format!("{flag}: a password would cross the network to {host} in clear text; use {encrypted}, or say --insecure"));
    }
}

fn given(address: &Option<Secret>) -> Option<&Secret> {
    address.as_ref().filter(|address| !address.expose().trim().is_empty())
}
