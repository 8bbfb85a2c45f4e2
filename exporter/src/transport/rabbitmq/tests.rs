use proptest::prelude::*;
use scouter_tonic::client::CallErrorKind;
use tonic::Code;

use super::*;
use crate::transport::secrets::{SECRET, addresses_with_secrets};

fn read(pairs: &[(&str, &str)]) -> Result<RabbitMqConfig, ConfigError> {
    RabbitMqConfig::from_variables(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

#[test]
fn names_and_defaults_are_scouters() {
    let config = read(&[]).unwrap();
    assert_eq!((config.address().as_str(), config.queue.as_str()), ("amqp://localhost:5672", "scouter_monitoring"));
    let config = read(&[("RABBITMQ_HOST", "127.0.0.1"), ("RABBITMQ_PORT", "1"), ("RABBITMQ_QUEUE", "other")]).unwrap();
    assert_eq!((config.address().as_str(), config.queue.as_str()), ("amqp://127.0.0.1:1", "other"));
}

#[test]
fn an_address_wins_over_what_it_holds() {
    let address = ("RABBITMQ_ADDR", "amqps://ada:hi%40den@rabbit.example/blue%2Fgreen");
    let config = read(&[("RABBITMQ_HOST", "localhost"), ("RABBITMQ_USERNAME", "grace"), address]).unwrap();
    assert_eq!(
        (config.address().as_str(), config.username.as_str(), config.password.reveal()),
        ("amqps://rabbit.example:5671", "ada", "hi@den")
    );
    assert_eq!(config.virtual_host, "blue/green");
    let plain = read(&[("RABBITMQ_USERNAME", "grace"), ("RABBITMQ_ADDR", "amqp://127.0.0.1:7")]).unwrap();
    assert_eq!((plain.address().as_str(), plain.username.as_str(), plain.virtual_host.as_str()), ("amqp://127.0.0.1:7", "grace", "/"));
}

#[test]
fn every_fault_comes_at_once_and_none_shows_the_password() {
    let long = "q".repeat(201);
    let error = read(&[("RABBITMQ_PORT", "many"), ("RABBITMQ_QUEUE", &long), ("RABBITMQ_ADDR", "http://ada:hidden@x")]).unwrap_err();
    assert_eq!(error.faults.len(), 3, "{error}");
    assert!(!error.to_string().contains("hidden"), "{error}");
}

#[test]
fn a_password_does_not_cross_plaintext_unless_that_is_said() {
    let open = ("RABBITMQ_ADDR", "amqp://ada:hidden@rabbit.example");
    assert!(read(&[open]).unwrap_err().to_string().contains("plaintext"));
    let config = read(&[open, ("RABBITMQ_INSECURE", "1")]).unwrap();
    assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
}

#[test]
fn what_is_left_of_a_password_with_a_slash_is_no_virtual_host() {
    for address in ["amqp://ada:12/hid@den@localhost/blue", "amqp://ada:12?hid@den@localhost/blue", "amqp://ada:12@hid#den@localhost"] {
        let error = read(&[("RABBITMQ_ADDR", address)]).unwrap_err();
        assert!(error.to_string().contains("amqp://user:password@host") && !error.to_string().contains("hid"), "{error}");
    }
}

/// A broker that hangs up as soon as somebody comes.
async fn hanging_up() -> RabbitMqTransport {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let _gone = listener.accept().await.unwrap();
        }
    });
    RabbitMqTransport::new(RabbitMqConfig { host: "127.0.0.1".to_owned(), port, ..RabbitMqConfig::default() }).unwrap()
}

#[tokio::test]
async fn a_password_that_was_right_once_is_not_said_to_be_wrong() {
    let send = |transport: RabbitMqTransport| async move {
        transport.send(Bytes::from_static(b"x"), Instant::now() + Duration::from_secs(20)).await.unwrap_err()
    };
    let stranger = send(hanging_up().await).await;
    assert_eq!((stranger.kind(), stranger.code()), (CallErrorKind::Credentials, Code::Unauthenticated), "{stranger}");
    let known = hanging_up().await;
    known.broker.note_login();
    let error = send(known).await;
    assert_eq!((error.kind(), error.code()), (CallErrorKind::Retryable, Code::Unavailable), "{error}");
}

#[tokio::test]
async fn every_call_ends_by_its_own_deadline_before_a_broker_that_says_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = RabbitMqConfig { host: "127.0.0.1".to_owned(), port, ..RabbitMqConfig::default() };
    let transport = Arc::new(RabbitMqTransport::new(config).unwrap());
    let patient = Arc::clone(&transport);
    let patient = tokio::spawn(async move { patient.send(Bytes::from_static(b"x"), Instant::now() + Duration::from_secs(60)).await });
    tokio::task::yield_now().await;
    for _ in 0..3 {
        let sending = transport.send(Bytes::from_static(b"x"), Instant::now() + Duration::from_millis(100));
        let error = tokio::time::timeout(Duration::from_secs(20), sending).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), CallErrorKind::DeadlineExceeded, "{error}");
    }
    patient.abort();
}

proptest! {
    #[test]
    fn no_part_of_a_password_is_shown(address in addresses_with_secrets("amqp")) {
        let shown = match RabbitMqConfig::default().at(&address) {
            Ok(config) => format!("{config:?} {:?}", config.validate().map_err(|error| error.to_string())),
            Err(fault) => format!("{fault} {fault:?}"),
        };
        prop_assert!(!shown.contains(SECRET), "{}", shown);
    }
}
