//! A server whose broker is not there, or says nothing.

use std::net::TcpListener;

use super::Receiver;

/// It does not wait for one that takes a connection and does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stops_while_its_brokers_say_nothing() {
    // The operating system takes the connections.
    let [silent_kafka, redis, rabbitmq] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let [redis, rabbitmq] = [("redis", &redis), ("amqp", &rabbitmq)]
        .map(|(scheme, listener)| format!("{scheme}://{}", listener.local_addr().expect("it is bound")));
    let kafka = silent_kafka.local_addr().expect("it is bound").to_string();
    let mut server = Receiver::start(&["--kafka-brokers", &kafka, "--redis-addr", &redis, "--rabbitmq-addr", &rabbitmq]).await;
    assert_eq!(server.count("spans").await, 0);
    server.stop().await;
    let log = server.log();
    assert!(log.contains("stopped") && !log.contains("did not end in time") && !log.contains("started again"), "{log}");
}

/// A broker that is not there hinders nobody, neither while the server runs nor when it stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_its_brokers_serves_and_stops() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it is bound").port();
    let (redis, rabbitmq) = (format!("redis://127.0.0.1:{port}"), format!("amqp://127.0.0.1:{port}"));
    let kafka = format!("127.0.0.1:{port}");
    let mut server = Receiver::start(&["--kafka-brokers", &kafka, "--redis-addr", &redis, "--rabbitmq-addr", &rabbitmq]).await;
    assert_eq!(server.count("spans").await, 0);
    server.stop().await;
    let log = server.log();
    assert!(log.contains("stopped") && !log.contains("did not end in time"), "{log}");
}
