//! Routes with a broker between the transport and a server of the test's own.

use std::{net::SocketAddr, time::Duration};

use scouter_exporter::{KafkaCompression, KafkaConfig, KafkaSecurity, RabbitMqConfig, RedisConfig, Secret, TransportConfig};

use super::{RECEIVERS_LIMIT, Route, direct::Receiver};
use crate::brokers::{Broker, Kind, PASSWORD, Settings, kafka::USER};

/// A broker, and a server that consumes from it.
pub(crate) struct Brokered {
    pub(crate) broker: Broker,
    pub(crate) server: Receiver,
}

impl Brokered {
    pub(crate) async fn open(kind: Kind) -> Self {
        Self::open_with(kind, Settings::default(), &[]).await
    }

    /// A broker with these settings, and a server with more flags.
    pub(crate) async fn open_with(kind: Kind, settings: Settings, flags: &[&str]) -> Self {
        let broker = Broker::start_with(kind, settings).await;
        let server = Receiver::start(&broker.flags().iter().map(String::as_str).chain(flags.iter().copied()).collect::<Vec<_>>()).await;
        Self { broker, server }
    }
}

macro_rules! by_a_broker {
    ($name:ident, $kind:ident, $is_carried:expr) => {
        impl Route for $name {
            async fn open() -> Self {
                Self(Brokered::open(Kind::$kind).await)
            }

            async fn open_small() -> Option<Self> {
                let settings = Settings { max_message_bytes: Some(RECEIVERS_LIMIT), ..Settings::default() };
                Some(Self(Brokered::open_with(Kind::$kind, settings, &[]).await))
            }

            fn config(&self) -> TransportConfig {
                self.settings_at(self.0.broker.port, None).into()
            }

            fn address(&self) -> Option<SocketAddr> {
                $is_carried.then(|| ([127, 0, 0, 1], self.0.broker.port).into())
            }

            fn config_at(&self, address: SocketAddr) -> TransportConfig {
                self.settings_at(address.port(), None).into()
            }

            fn config_with_wrong_password(&self) -> Option<TransportConfig> {
                Some(self.settings_at(self.0.broker.port, Some("wrong-password")).into())
            }

            fn cpu(&self) -> [Duration; 2] {
                [self.0.broker.cpu(), self.0.server.cpu()]
            }

            async fn spans(&self) -> u64 {
                self.0.server.count("spans").await
            }

            async fn records(&self) -> u64 {
                self.0.server.count("custom_drift").await
            }

            async fn kill(&mut self) -> bool {
                self.0.broker.kill().await;
                true
            }

            async fn revive(&mut self) {
                self.0.broker.revive().await;
            }
        }
    };
}

/// Kafka.
pub(crate) struct Kafka(pub(crate) Brokered);
// A broker tells clients its address, and they connect to that: nothing can stand in between.
by_a_broker!(Kafka, Kafka, false);

impl Kafka {
    fn settings_at(&self, port: u16, password: Option<&str>) -> KafkaConfig {
        let usual = KafkaConfig {
            brokers: format!("127.0.0.1:{port}"),
            security: KafkaSecurity::SaslPlaintext,
            username: USER.to_owned(),
            password: Secret::new(password.unwrap_or(PASSWORD)),
            ..KafkaConfig::default()
        };
        // The limit is one of what arrives at the broker, compressed, and the transport's own is below it.
        match self.0.broker.settings.max_message_bytes {
            Some(bytes) => KafkaConfig { compression: KafkaCompression::None, max_request_bytes: 4 * bytes, ..usual },
            None => usual,
        }
    }
}

/// Redis Streams.
pub(crate) struct Redis(pub(crate) Brokered);
by_a_broker!(Redis, Redis, true);

impl Redis {
    fn settings_at(&self, port: u16, password: Option<&str>) -> RedisConfig {
        let address = format!("redis://:{}@127.0.0.1:{port}", password.unwrap_or(PASSWORD));
        RedisConfig { address: address.into(), ..RedisConfig::default() }
    }

    /// With TLS, and nobody's word for the broker's certificate but its own.
    pub(super) fn settings_tls(&self) -> RedisConfig {
        let broker = &self.0.broker;
        let address = format!("rediss://:{PASSWORD}@127.0.0.1:{}", broker.tls_port);
        RedisConfig { address: address.into(), ca_file: Some(broker.certificate()), ..RedisConfig::default() }
    }
}

/// RabbitMQ.
pub(crate) struct RabbitMq(pub(crate) Brokered);
by_a_broker!(RabbitMq, RabbitMq, true);

impl RabbitMq {
    pub(super) fn settings(&self) -> RabbitMqConfig {
        self.settings_at(self.0.broker.port, None)
    }

    /// With TLS, and nobody's word for the broker's certificate but its own.
    pub(super) fn settings_tls(&self) -> RabbitMqConfig {
        let broker = &self.0.broker;
        RabbitMqConfig { tls: true, ca_file: Some(broker.certificate()), ..self.settings_at(broker.tls_port, None) }
    }

    fn settings_at(&self, port: u16, password: Option<&str>) -> RabbitMqConfig {
        RabbitMqConfig {
            host: "127.0.0.1".to_owned(),
            port,
            password: Secret::new(password.unwrap_or("guest")),
            ..RabbitMqConfig::default()
        }
    }
}
