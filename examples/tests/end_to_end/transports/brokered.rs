//! Routes with a broker between the transport and a server of the test's own.

use scouter_exporter::{RabbitMqConfig, RedisConfig, Secret, TransportConfig};

use super::{Route, direct::Receiver};
use crate::brokers::{Broker, Kind, PASSWORD};

/// A broker, and a server that consumes from it.
pub(crate) struct Brokered {
    pub(crate) broker: Broker,
    pub(crate) server: Receiver,
}

impl Brokered {
    pub(crate) async fn open(kind: Kind) -> Self {
        let broker = Broker::start(kind).await;
        let flag = match kind {
            Kind::Redis => "--redis-addr",
            Kind::RabbitMq => "--rabbitmq-addr",
        };
        let server = Receiver::start(&[flag, &broker.address()]).await;
        Self { broker, server }
    }
}

macro_rules! by_a_broker {
    ($name:ident, $kind:ident) => {
        impl Route for $name {
            async fn open() -> Self {
                Self(Brokered::open(Kind::$kind).await)
            }

            fn config(&self) -> TransportConfig {
                self.settings(None).into()
            }

            fn config_with_wrong_password(&self) -> Option<TransportConfig> {
                Some(self.settings(Some("wrong-password")).into())
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

/// Redis Streams.
pub(crate) struct Redis(pub(crate) Brokered);
by_a_broker!(Redis, Redis);

impl Redis {
    fn settings(&self, password: Option<&str>) -> RedisConfig {
        let address = self.0.broker.address().replace(PASSWORD, password.unwrap_or(PASSWORD));
        RedisConfig { address: address.into(), ..RedisConfig::default() }
    }
}

/// RabbitMQ.
pub(crate) struct RabbitMq(pub(crate) Brokered);
by_a_broker!(RabbitMq, RabbitMq);

impl RabbitMq {
    fn settings(&self, password: Option<&str>) -> RabbitMqConfig {
        RabbitMqConfig {
            host: "127.0.0.1".to_owned(),
            port: self.0.broker.port,
            password: Secret::new(password.unwrap_or("guest")),
            ..RabbitMqConfig::default()
        }
    }
}
