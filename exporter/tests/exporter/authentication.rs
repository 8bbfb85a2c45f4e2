//! Rules: tokens, credentials, and what must stay secret.

use std::time::Duration;

use scouter_exporter::{ConfigFault, DropReason, FlushError, GrpcConfig, GrpcSpanExporter, Pipeline, QueueConfig};
use scouter_tonic::client::{CallErrorKind, GrpcClient};
use tonic::{Code, Status};

use super::{
    server::{PASSWORD, PATIENCE, Reply, Server, refused_address, wait_until},
    spans::{assert_balanced, batch, block_on, envelope, pipeline, span},
};

#[test]
fn a_01_building_needs_no_network() {
    let config = GrpcConfig { server_uri: format!("http://{}", refused_address()), ..GrpcConfig::default() };
    GrpcSpanExporter::new(config).unwrap();
}

#[test]
fn a_02_the_first_request_logs_in_and_others_share_its_login() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    assert_eq!(server.state().logins, 0);
    let sends: Vec<_> = (0..8).map(|number| pipeline.send(batch([number]))).collect();
    for send in sends {
        block_on(send).unwrap();
    }
    assert_eq!(server.state().logins, 1);
    assert_eq!(server.inserts().len(), 8);
}

#[test]
fn a_03_a_token_is_renewed_before_it_expires() {
    let server = Server::start();
    server.state().expires_in_seconds = 2;
    let pipeline = pipeline(&server);
    wait_until("the token is renewed", || {
        block_on(pipeline.send(batch(0..1))).unwrap();
        server.state().refreshes > 0
    });
    assert_eq!(server.state().logins, 1);
    assert!(pipeline.stats().retries == 0);
}

#[test]
fn a_03_a_rotated_token_is_renewed_before_it_expires_as_well() {
    let server = Server::start();
    server.state().expires_in_seconds = 2;
    server.script([Reply::Rotate("rotated")]);
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..1))).unwrap();
    wait_until("the rotated token is renewed", || {
        block_on(pipeline.send(batch(0..1))).unwrap();
        server.state().refreshes > 0
    });
    assert_eq!(server.state().logins, 1);
}

#[test]
fn a_03_an_early_renewal_without_an_answer_leaves_time_for_the_batch() {
    let server = Server::start();
    server.state().expires_in_seconds = 2;
    let pipeline = Pipeline::new(GrpcConfig { timeout: Duration::from_secs(4), ..server.config() }, QueueConfig::default()).unwrap();
    block_on(pipeline.send(batch(0..1))).unwrap();
    server.state().refresh_hangs = true;
    // The middle of the time in which a token is renewed although it still works.
    std::thread::sleep(Duration::from_millis(1800));
    block_on(pipeline.send(batch(1..2))).unwrap();
    assert_eq!(server.inserts().len(), 2);
}

#[test]
fn a_04_a_refused_token_costs_one_renewal_and_the_same_bytes_are_replayed() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..1))).unwrap();
    server.state().valid_token = Some("another one".to_owned());
    let sends: Vec<_> = (0..4).map(|number| pipeline.send(batch([number]))).collect();
    for send in sends {
        block_on(send).unwrap();
    }
    assert_eq!(server.logins_and_renewals(), (1, 1));
    let inserts = server.inserts();
    let refused: Vec<_> = inserts[1..].iter().filter(|insert| insert.token.as_deref() == Some("Bearer token-1")).collect();
    assert!(!refused.is_empty());
    for refused in refused {
        let replays = inserts.iter().filter(|insert| insert.body == refused.body && insert.token.as_deref() == Some("Bearer token-2"));
        assert_eq!(replays.count(), 1, "the same bytes, batch_id included, once more");
    }
    assert_eq!(pipeline.stats().spans.exported, 5);
}

#[test]
fn a_04_a_session_that_cannot_be_renewed_is_replaced_by_a_login() {
    let server = Server::start();
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..1))).unwrap();
    server.state().valid_token = None;
    server.state().refresh_fails = true;
    block_on(pipeline.send(batch(0..1))).unwrap();
    assert_eq!(server.logins_and_renewals(), (2, 1));
}

#[test]
fn a_04_a_token_refused_twice_drops_the_batch_and_counts_it() {
    let server = Server::start();
    server.state().default_reply = Some(Reply::Fail(Code::Unauthenticated, "not you"));
    let pipeline = pipeline(&server);
    let error = block_on(pipeline.send(batch(0..3))).unwrap_err().to_string();
    assert!(error.contains("not you"), "{error}");
    let stats = pipeline.stats();
    assert_eq!(stats.spans.dropped.get(DropReason::Unauthenticated), 3);
    assert_eq!(server.inserts().len(), 2);
    assert_balanced(&stats);
}

#[test]
fn a_05_a_wrong_password_is_said_at_once_and_not_repeated() {
    let server = Server::start();
    let pipeline = Pipeline::new(GrpcConfig { password: "wrong".into(), ..server.config() }, QueueConfig::default()).unwrap();
    for _ in 0..5 {
        let error = block_on(pipeline.send(batch(0..1))).unwrap_err().to_string();
        assert!(error.contains("user and password") && error.contains("wrong user or password"), "{error}");
    }
    assert_eq!(server.state().logins, 1, "a refused password is not tried again at once");
    let stats = pipeline.stats();
    assert_eq!(stats.spans.dropped.get(DropReason::Unauthenticated), 5);
    assert!(stats.last_error.is_some_and(|error| error.contains("wrong user or password")));
}

#[test]
fn a_05_the_queue_is_kept_while_the_password_is_wrong() {
    let server = Server::start();
    let pipeline = Pipeline::new(GrpcConfig { password: "wrong".into(), ..server.config() }, QueueConfig::default()).unwrap();
    for number in 0..10 {
        assert!(pipeline.try_push(&envelope(), &span(number, 10)));
    }
    let error = pipeline.flush(PATIENCE).unwrap_err();
    assert!(matches!(&error, FlushError::Credentials { message } if message == "wrong user or password"), "{error}");
    let stats = pipeline.stats();
    assert_eq!((stats.spans.pending(), stats.spans.lost()), (10, 0));
    let report = pipeline.shutdown(Duration::from_secs(5));
    assert_eq!(report.undelivered, 10);
    assert_balanced(&report.stats);
}

#[test]
fn a_05_an_unavailable_login_is_retried_like_any_request() {
    let server = Server::start();
    server.state().login_replies.extend([Some(Status::unavailable("starting")), Some(Status::unavailable("starting"))]);
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..1))).unwrap();
    assert_eq!(server.state().logins, 3);
    assert_eq!(pipeline.stats().retries, 2);
}

#[test]
fn a_06_a_rotated_token_is_used_from_then_on() {
    let server = Server::start();
    server.script([Reply::Rotate("rotated")]);
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..1))).unwrap();
    block_on(pipeline.send(batch(0..1))).unwrap();
    assert_eq!(server.inserts()[1].token.as_deref(), Some("Bearer rotated"));
    assert_eq!(server.logins_and_renewals(), (1, 0));
}

#[test]
fn a_07_secrets_stay_out_of_debug_and_errors() {
    let server = Server::start();
    let mut config = server.config();
    config.headers = vec![("x-api-key".to_owned(), "header secret".to_owned())];
    let exporter = GrpcSpanExporter::new(config.clone()).unwrap();
    server.script([Reply::Fail(Code::InvalidArgument, "no")]);
    let error = block_on(exporter.pipeline().send(batch(0..1))).unwrap_err();
    let text = format!("{config:?} {exporter:?} {:?} {error:?} {error} {:?}", exporter.pipeline(), exporter.stats());
    for secret in [PASSWORD, "header secret", "token-1"] {
        assert!(!text.contains(secret), "{secret} leaks: {text}");
    }
}

#[test]
fn a_08_credentials_do_not_cross_plaintext_to_another_host_unless_told_so() {
    let remote = |insecure| GrpcConfig { server_uri: "http://scouter.example.com:50051".to_owned(), insecure, ..GrpcConfig::default() };
    let error = GrpcSpanExporter::new(remote(false)).unwrap_err();
    assert!(matches!(&error.faults[..], [ConfigFault::Plaintext { host }] if host == "scouter.example.com"), "{error}");
    GrpcSpanExporter::new(remote(true)).unwrap();
    for local in ["http://localhost:1", "http://127.0.0.2:1", "http://[::1]:1", "localhost:1", "unix:/run/scouter"] {
        GrpcSpanExporter::new(GrpcConfig { server_uri: local.to_owned(), ..GrpcConfig::default() }).unwrap();
    }
}

#[tokio::test]
async fn typed_bytes_handed_to_the_client_itself_are_refused_where_nobody_reads_them() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    server.state().is_old_scouter = true;
    let client = GrpcClient::new(server.config()).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    assert!(client.wants_json(deadline).await.unwrap());
    let error = client.insert_message(Default::default(), deadline).await.unwrap_err().to_string();
    assert!(error.contains("accepts_typed_messages"), "{error}");
    assert!(server.inserts().is_empty());
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

#[tokio::test]
async fn the_client_validates_its_token_and_reports_a_server_without_health_service() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let client = GrpcClient::new(server.config()).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    assert!(client.validate_token(deadline).await.unwrap());
    server.state().valid_token = None;
    assert!(!client.validate_token(deadline).await.unwrap());
    let error = client.health_check("", deadline).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (CallErrorKind::Refused, Code::Unimplemented));
    assert_eq!(server.logins_and_renewals(), (1, 0));
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

#[test]
fn a_09_the_servers_expires_in_counts_and_neither_the_clock_nor_the_claims_of_the_token() {
    // By this machine's clock the token was over long ago: its server's clock is wrong, or this one is.
    let server = Server::start();
    server.state().expires_in_seconds = 3600;
    server.state().claims = Some("eyJleHAiOjF9"); // {"exp":1}
    let pipeline_of_old = pipeline(&server);
    (0..5).for_each(|number| block_on(pipeline_of_old.send(batch(number..number + 1))).unwrap());
    assert_eq!(server.logins_and_renewals(), (1, 0));

    let server = Server::start();
    server.state().expires_in_seconds = 2;
    server.state().claims = Some("eyJleHAiOjMyNTAzNjgwMDAwfQ"); // {"exp":32503680000}
    let pipeline_of_young = pipeline(&server);
    wait_until("the token is renewed although its claims give it a thousand years", || {
        block_on(pipeline_of_young.send(batch(0..1))).unwrap();
        server.state().refreshes > 0
    });
}
