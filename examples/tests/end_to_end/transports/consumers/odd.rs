//! What happens at one broker and not at the other.

use std::time::Duration;

use amqprs::channel::QueueDeleteArguments;
use serde_json::json;
use tokio::time::timeout;

use super::{PATIENCE, RabbitMq, Redis, Route as _, Side as _, built, request, soon};

const QUEUE: &str = "scouter_monitoring";

/// Names that are no text, and no payload: one that could not be read would be fetched again for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_entry_of_any_bytes_is_buried_as_it_came() {
    let mut side = Redis::open().await;
    let name = [0xff, 0xfe, 0x00];
    let add = async |fields: &[&[u8]]| {
        let mut command = ::redis::cmd("XADD");
        command.arg(QUEUE).arg("*");
        for field in fields {
            command.arg(*field);
        }
        command.query_async::<String>(&mut side.connection().await).await.expect("it is added");
    };
    add(&[&name, b"value"]).await;
    add(&[b"payload", b"\xc3\x28", b"content-type", b"\xff"]).await;
    add(&[&name, b"value", b"payload", &request(2, 5), b"content-type", scouter_tonic::broker::SCOUTER_PROTOBUF.as_bytes()]).await;
    built(side.config()).send(request(1, 30), soon(PATIENCE)).await.expect("it is taken");
    side.expect_spans(35).await;
    let dead = side.expect_dead(2).await;
    assert!(dead.iter().any(|(payload, reason)| payload.is_empty() && reason.contains("no field")), "{dead:?}");
    assert!(dead.iter().any(|(payload, _)| payload == b"\xc3\x28"), "{dead:?}");
    let mut command = ::redis::cmd("XRANGE");
    command.arg(format!("{QUEUE}.dead")).arg("-").arg("+");
    let entries = command.query_async::<::redis::Value>(&mut side.connection().await).await.expect("it is a stream");
    let kept = format!("{entries:?}");
    assert!(kept.contains(&format!("{:?}", ::redis::Value::BulkString(name.to_vec()))), "{kept}");
    side.expect_nothing_waits().await;
}

/// As existing clients publish it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_existing_clients_publish_is_taken() {
    let side = Redis::open().await;
    for number in 0..20 {
        let record = json!({"Custom": {
            "created_at": "2026-04-25T21:18:24.123456789Z", "uid": "u", "metric": "mae", "value": number, "entity_id": 0,
        }});
        side.publish(json!({"records": [record]}).to_string().as_bytes()).await;
    }
    let arrived = async {
        while side.records().await < 20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, arrived).await.expect("the records arrive");
}

/// RabbitMQ ends the consumption and not the connection; a consumer that does not listen for it waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_of_rabbitmq_is_noticed() {
    let mut side = RabbitMq::open().await;
    built(side.config()).send(request(1, 10), soon(PATIENCE)).await.expect("it is taken");
    side.expect_spans(10).await;
    side.delete(QUEUE).await;
    built(side.config()).send(request(2, 10), soon(PATIENCE)).await.expect("it is taken");
    side.expect_spans(20).await;
    assert!(side.0.server.log().contains("the queue was deleted"), "it said why it began again");
    side.expect_nothing_waits().await;
}

/// The broker confirms a message for which there is no queue as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_message_without_a_place_is_not_acknowledged() {
    let mut side = RabbitMq::open().await;
    for round in 1..=3 {
        side.put(b"{\"poison\"", None).await;
        side.expect_dead(1).await;
        side.delete(&format!("{QUEUE}.dead")).await;
        side.put(format!("{{\"more {round}\"").as_bytes(), None).await;
        let dead = side.expect_dead(1).await;
        assert_eq!(dead[0].0, format!("{{\"more {round}\"").as_bytes());
        side.delete(&format!("{QUEUE}.dead")).await;
    }
    side.expect_nothing_waits().await;
}

impl Redis {
    /// To the channel, as soon as the server listens.
    pub(super) async fn publish(&self, message: &[u8]) {
        let mut connection = self.connection().await;
        let heard = async {
            while ::redis::cmd("PUBLISH").arg(QUEUE).arg(message).query_async::<u64>(&mut connection).await.expect("it is published") == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, heard).await.expect("the server listens");
    }
}

impl RabbitMq {
    async fn delete(&self, queue: &str) {
        let (connection, channel) = self.channel().await;
        channel.queue_delete(QueueDeleteArguments::new(queue)).await.expect("it is deleted");
        connection.close().await.expect("it closes");
    }
}
