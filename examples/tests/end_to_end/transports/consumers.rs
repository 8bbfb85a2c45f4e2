//! What servers promise of messages that they take from a broker.

mod alone;
mod odd;
mod pairs;
mod pressure;

use std::time::Duration;

use scouter_exporter::{Pipeline, QueueConfig};
use serde_json::json;
use tokio::time::timeout;

use super::{
    PATIENCE, Route,
    brokered::{Brokered, Kafka, RabbitMq, Redis},
    built,
    contract::push_spans,
    direct::Receiver,
    request, soon,
};
use crate::brokers::{Broker, Kind, Settings};

/// What a killed server had of a Redis stream is another one's after half a minute.
const LONG: Duration = Duration::from_secs(150);

/// What a test does at a broker beside transport and server.
pub(super) trait Side: Route {
    /// As an existing client, or a stranger, sends it.
    async fn put(&self, payload: &[u8], content_type: Option<&str>);

    /// Messages that could not be stored, with the reason of each.
    async fn dead(&self) -> Vec<(Vec<u8>, String)>;

    /// With a server that has more flags.
    async fn open_with(flags: &[&str]) -> Self;

    /// Messages that wait for a server. Those that one has are not always among them.
    async fn waiting(&self) -> u64;

    /// Messages that a server has and has not acknowledged, of `sent` that are not stored.
    async fn held(&self, sent: u64) -> u64;

    fn broker(&self) -> &Broker;

    fn server(&self) -> &Receiver;

    async fn kill_server(&mut self);

    async fn revive_server(&mut self);

    /// SIGTERM, and an end in good order.
    async fn stop_server(&mut self);

    /// Also when the server has stopped, in good order: what it had and did not acknowledge waits then.
    async fn expect_nothing_waits(&mut self) {
        self.expect_empty().await;
        self.stop_server().await;
        self.expect_empty().await;
    }

    async fn expect_empty(&self) {
        let empty = async {
            while self.waiting().await > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LONG, empty).await.expect("everything is acknowledged");
    }

    async fn expect_dead(&self, count: usize) -> Vec<(Vec<u8>, String)> {
        let buried = async {
            loop {
                let dead = self.dead().await;
                if dead.len() >= count {
                    return dead;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let dead = timeout(PATIENCE, buried).await.expect("they are put with the dead");
        assert_eq!(dead.len(), count);
        dead
    }
}

/// Nothing that the broker has is lost with a server, and nothing of it is stored twice.
async fn a_server_that_dies_loses_nothing<S: Side>() {
    let mut side = S::open().await;
    let pipeline = Pipeline::new(side.config(), QueueConfig { max_batch_spans: 20, ..QueueConfig::default() }).expect("good settings");
    for _ in 0..3 {
        push_spans(&pipeline, 1_500);
        tokio::time::sleep(Duration::from_millis(100)).await;
        side.kill_server().await;
        push_spans(&pipeline, 500);
        side.revive_server().await;
    }
    let flushing = pipeline.clone();
    tokio::task::spawn_blocking(move || flushing.flush(PATIENCE)).await.expect("no panic").expect("the broker has everything");
    side.expect_spans(6_000).await;
    side.expect_nothing_waits().await;
    assert!(side.dead().await.is_empty());
}

/// Ten of them, and more, stand in nobody's way.
async fn poison_goes_to_the_dead_with_its_reason<S: Side>() {
    let mut side = S::open().await;
    for number in 0..100 {
        side.put(format!("{{\"poison\": {number}").as_bytes(), None).await;
        side.put(&[0xff, number], Some("application/x-protobuf;message=scouter.grpc.v1.InsertMessageRequest")).await;
    }
    built(side.config()).send(request(1, 30), soon(PATIENCE)).await.expect("it is taken");
    side.expect_spans(30).await;
    let dead = side.expect_dead(200).await;
    for (payload, reason) in &dead {
        assert!(!payload.is_empty() && (reason.contains("JSON") || reason.contains("protobuf")), "{payload:?}: {reason}");
    }
    side.expect_nothing_waits().await;
}

/// The messages of Scouter's own clients, in all three shapes.
async fn json_of_existing_clients_is_taken<S: Side>() {
    let mut side = S::open().await;
    let record = json!({"records": [{"Custom": {
        "created_at": "2026-04-25T21:18:24.123456789Z", "uid": "u", "metric": "mae", "value": 10.2, "entity_id": 0,
    }}]});
    let tag = json!({"entity_type": "trace", "entity_id": "0af7651916cd43dd8448eb211c80319c", "key": "env", "value": "prod"});
    let span = json!({
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "op", "kind": 1,
        "startTimeUnixNano": "1777151904123456789", "endTimeUnixNano": "1777151904133456789",
    });
    let trace = json!({"request": {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}});
    for message in [&record, &tag, &trace] {
        side.put(message.to_string().as_bytes(), None).await;
    }
    side.expect_spans(1).await;
    let arrived = async {
        while side.records().await < 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, arrived).await.expect("the record arrives");
    side.expect_nothing_waits().await;
    assert!(side.dead().await.is_empty());
}

/// It finishes what it took, and what it did not take waits for its successor.
async fn a_server_that_stops_leaves_the_rest<S: Side>() {
    let mut side = S::open().await;
    let pipeline = Pipeline::new(side.config(), QueueConfig { max_batch_spans: 10, ..QueueConfig::default() }).expect("good settings");
    push_spans(&pipeline, 3_000);
    side.stop_server().await;
    push_spans(&pipeline, 1_000);
    let flushing = pipeline.clone();
    tokio::task::spawn_blocking(move || flushing.flush(PATIENCE)).await.expect("no panic").expect("the broker has everything");
    side.revive_server().await;
    side.expect_spans(4_000).await;
    side.expect_nothing_waits().await;
}

/// A broker that comes late, or again, is found without anybody's help.
async fn a_server_finds_its_broker_again<S: Side>() {
    let mut side = S::open().await;
    for number in 0..2 {
        assert!(side.kill().await);
        side.revive().await;
        let transport = built(side.config());
        transport.send(request(number, 10), soon(PATIENCE)).await.expect("it is taken");
        side.expect_spans(10 * (number + 1)).await;
    }
    side.expect_nothing_waits().await;
}

macro_rules! sides {
    ($($name:ident: $side:ident),* $(,)?) => {$(
        mod $name {
            use super::$side;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_server_that_dies_loses_nothing() {
                super::a_server_that_dies_loses_nothing::<$side>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn poison_goes_to_the_dead_with_its_reason() {
                super::poison_goes_to_the_dead_with_its_reason::<$side>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn json_of_existing_clients_is_taken() {
                super::json_of_existing_clients_is_taken::<$side>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_server_that_stops_leaves_the_rest() {
                super::a_server_that_stops_leaves_the_rest::<$side>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_server_finds_its_broker_again() {
                super::a_server_finds_its_broker_again::<$side>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn two_servers_and_a_broker_killed_in_turn_lose_nothing() {
                super::pairs::two_servers_and_a_broker_killed_in_turn_lose_nothing::<$side>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn messages_stay_with_the_broker_while_there_is_no_room() {
                super::pressure::messages_stay_with_the_broker_while_there_is_no_room::<$side>().await;
            }
        }
    )*};
}

sides! {
    kafka: Kafka,
    redis: Redis,
    rabbitmq: RabbitMq,
}

macro_rules! server_of {
    ($kind:ident) => {
        server_of!($kind, Settings::default());
    };
    ($kind:ident, $settings:expr) => {
        async fn open_with(flags: &[&str]) -> Self {
            Self(Brokered::open_with(Kind::$kind, $settings, flags).await)
        }

        fn broker(&self) -> &Broker {
            &self.0.broker
        }

        fn server(&self) -> &Receiver {
            &self.0.server
        }

        async fn kill_server(&mut self) {
            self.0.server.kill().await;
        }

        async fn revive_server(&mut self) {
            self.0.server.revive().await;
        }

        async fn stop_server(&mut self) {
            self.0.server.stop().await;
        }
    };
}

pub(super) use server_of;

impl Side for Redis {
    async fn put(&self, payload: &[u8], content_type: Option<&str>) {
        let mut command = ::redis::cmd("XADD");
        command.arg("scouter_monitoring").arg("*").arg("payload").arg(payload);
        if let Some(content_type) = content_type {
            command.arg("content-type").arg(content_type);
        }
        command.query_async::<String>(&mut self.connection().await).await.expect("it is added");
    }

    async fn dead(&self) -> Vec<(Vec<u8>, String)> {
        let mut command = ::redis::cmd("XRANGE");
        command.arg("scouter_monitoring.dead").arg("-").arg("+");
        let entries: Vec<(String, Vec<Vec<u8>>)> = command.query_async(&mut self.connection().await).await.expect("it is a stream");
        let field = |fields: &[Vec<u8>], name: &str| {
            let mut pairs = fields.chunks_exact(2);
            pairs.find_map(|pair| (pair[0] == name.as_bytes()).then(|| pair[1].clone())).unwrap_or_default()
        };
        let dead = |fields: &[Vec<u8>]| (field(fields, "payload"), String::from_utf8_lossy(&field(fields, "scouter-reason")).into_owned());
        entries.iter().map(|(_, fields)| dead(fields)).collect()
    }

    async fn waiting(&self) -> u64 {
        ::redis::cmd("XLEN").arg("scouter_monitoring").query_async(&mut self.connection().await).await.expect("it is a stream")
    }

    async fn held(&self, _sent: u64) -> u64 {
        let mut command = ::redis::cmd("XPENDING");
        command.arg("scouter_monitoring").arg("scouter");
        let pending: ::redis::streams::StreamPendingReply = command.query_async(&mut self.connection().await).await.expect("it is a group");
        pending.count() as u64
    }

    server_of!(Redis);
}

impl Redis {
    async fn connection(&self) -> ::redis::aio::MultiplexedConnection {
        let client = ::redis::Client::open(self.broker().address()).expect("an address");
        client.get_multiplexed_async_connection().await.expect("Redis is there")
    }
}

impl Side for RabbitMq {
    async fn put(&self, payload: &[u8], content_type: Option<&str>) {
        let (connection, channel) = self.channel().await;
        // As clients do: without a queue, which a server that has just come up may not have made yet, a message is nobody's.
        let queue = amqprs::channel::QueueDeclareArguments::durable_client_named("scouter_monitoring");
        channel.queue_declare(queue).await.expect("there is a queue");
        let mut properties = amqprs::BasicProperties::default();
        if let Some(content_type) = content_type {
            properties.with_content_type(content_type);
        }
        let arguments = amqprs::channel::BasicPublishArguments::new("", "scouter_monitoring");
        channel.basic_publish(properties, payload.to_vec(), arguments).await.expect("it is sent");
        channel.close().await.expect("the broker has read it");
        connection.close().await.expect("it closes");
    }

    /// Reads them all, and leaves them there. There are none while there is no queue for them.
    async fn dead(&self) -> Vec<(Vec<u8>, String)> {
        let (connection, channel) = self.channel().await;
        let mut dead = Vec::new();
        let arguments = || amqprs::channel::BasicGetArguments::new("scouter_monitoring.dead");
        while let Ok(Some((_, properties, payload))) = channel.basic_get(arguments()).await {
            let reason = properties.headers().and_then(|headers| headers.get(&"scouter-reason".try_into().ok()?));
            dead.push((payload, reason.map(ToString::to_string).unwrap_or_default()));
        }
        connection.close().await.expect("it closes");
        dead
    }

    /// Those that a consumer has count from the moment it is gone.
    async fn waiting(&self) -> u64 {
        let (connection, channel) = self.channel().await;
        let declared = channel.queue_declare(amqprs::channel::QueueDeclareArguments::durable_client_named("scouter_monitoring")).await;
        let (_, ready, _) = declared.expect("the queue is there").expect("an answer was asked for");
        connection.close().await.expect("it closes");
        ready.into()
    }

    async fn held(&self, sent: u64) -> u64 {
        sent - self.waiting().await
    }

    server_of!(RabbitMq);
}

impl RabbitMq {
    async fn channel(&self) -> (amqprs::connection::Connection, amqprs::channel::Channel) {
        let mut arguments = amqprs::connection::OpenConnectionArguments::new("127.0.0.1", self.broker().port, "guest", "guest");
        let connection = amqprs::connection::Connection::open(&arguments.finish()).await.expect("RabbitMQ is there");
        let channel = connection.open_channel(None).await.expect("a channel");
        (connection, channel)
    }
}
