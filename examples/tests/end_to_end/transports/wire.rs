//! What a broker has of a request: one message of the same bytes, so that everything in it keeps its order, by TLS as well.

use scouter_exporter::{RabbitMqConfig, RedisConfig};
use scouter_tonic::client::CallErrorKind;

use super::{
    PATIENCE, Route,
    brokered::{RabbitMq, Redis},
    built, request, soon,
};

/// What the broker has, oldest first, while no server takes from it.
trait Messages: Route {
    async fn without_server() -> Self;

    async fn messages(&self) -> Vec<Vec<u8>>;
}

impl Messages for Redis {
    async fn without_server() -> Self {
        let mut route = Self::open().await;
        route.0.server.kill().await;
        route
    }

    async fn messages(&self) -> Vec<Vec<u8>> {
        let client = ::redis::Client::open(self.0.broker.address()).expect("an address");
        let mut connection = client.get_multiplexed_async_connection().await.expect("Redis is there");
        let mut command = ::redis::cmd("XRANGE");
        command.arg("scouter_monitoring").arg("-").arg("+");
        let entries: ::redis::streams::StreamRangeReply = command.query_async(&mut connection).await.expect("it is a stream");
        entries.ids.iter().map(|id| id.get("payload").expect("it has a payload")).collect()
    }
}

impl Messages for RabbitMq {
    async fn without_server() -> Self {
        let mut route = Self::open().await;
        route.0.server.kill().await;
        route
    }

    async fn messages(&self) -> Vec<Vec<u8>> {
        let mut arguments = amqprs::connection::OpenConnectionArguments::new("127.0.0.1", self.0.broker.port, "guest", "guest");
        let connection = amqprs::connection::Connection::open(&arguments.finish()).await.expect("RabbitMQ is there");
        let channel = connection.open_channel(None).await.expect("a channel");
        let mut messages = Vec::new();
        let arguments = || amqprs::channel::BasicGetArguments::new("scouter_monitoring");
        while let Some((_, _, payload)) = channel.basic_get(arguments()).await.expect("the queue is there") {
            messages.push(payload);
        }
        connection.close().await.expect("it closes");
        messages
    }
}

async fn a_request_is_one_message_of_the_same_bytes<M: Messages>() {
    let route = M::without_server().await;
    let transport = built(route.config());
    let requests: Vec<_> = (0..20).map(|number| request(number, 1 + number * 7)).collect();
    for request in &requests {
        transport.send(request.clone(), soon(PATIENCE)).await.expect("it is taken");
    }
    assert!(route.messages().await == requests, "the broker has something else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_one_entry_of_the_same_bytes_in_redis() {
    a_request_is_one_message_of_the_same_bytes::<Redis>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_one_message_of_the_same_bytes_in_rabbitmq() {
    a_request_is_one_message_of_the_same_bytes::<RabbitMq>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_redis_is_of_the_authority_that_is_named() {
    let route = Redis::open().await;
    let named = route.settings_tls();
    let stranger = RedisConfig { ca_file: None, ..named.clone() };
    of_the_authority_that_is_named(&route, named.into(), stranger.into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_rabbitmq_is_of_the_authority_that_is_named() {
    let route = RabbitMq::open().await;
    let named = route.settings_tls();
    let stranger = RabbitMqConfig { ca_file: None, ..named.clone() };
    of_the_authority_that_is_named(&route, named.into(), stranger.into()).await;
}

async fn of_the_authority_that_is_named<R: Route>(
    route: &R,
    named: scouter_exporter::TransportConfig,
    stranger: scouter_exporter::TransportConfig,
) {
    let error = built(stranger).send(request(1, 10), soon(PATIENCE)).await.expect_err("nobody vouches for the broker");
    assert_eq!(error.kind(), CallErrorKind::Retryable, "{error}");
    assert!(error.to_string().to_lowercase().contains("certificate"), "the reason is told: {error}");
    let transport = built(named);
    for number in 0..3 {
        transport.send(request(number, 100), soon(PATIENCE)).await.expect("it is taken");
    }
    route.expect_spans(300).await;
}

/// A queue of that name and another kind: RabbitMQ closes the channel, and its reason is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmqs_reason_for_a_refusal_is_told() {
    let route = RabbitMq::without_server().await;
    let mut arguments = amqprs::connection::OpenConnectionArguments::new("127.0.0.1", route.0.broker.port, "guest", "guest");
    let connection = amqprs::connection::Connection::open(&arguments.finish()).await.expect("RabbitMQ is there");
    let channel = connection.open_channel(None).await.expect("a channel");
    let fleeting = amqprs::channel::QueueDeclareArguments::new("fleeting");
    channel.queue_declare(fleeting).await.expect("it is declared");
    let config = RabbitMqConfig { queue: "fleeting".to_owned(), ..route.settings() };
    let error = built(config.into()).send(request(1, 10), soon(PATIENCE)).await.expect_err("the queue is of another kind");
    assert_eq!(error.kind(), CallErrorKind::Refused, "{error}");
    assert!(error.message().contains("PRECONDITION_FAILED") && error.message().contains("durable"), "{error}");
    let config = RabbitMqConfig { virtual_host: "nowhere".to_owned(), ..route.settings() };
    let error = built(config.into()).send(request(1, 10), soon(PATIENCE)).await.expect_err("there is no such host");
    assert!(error.is_retryable() && error.message().contains("vhost nowhere not found"), "{error}");
    connection.close().await.expect("it closes");
}
