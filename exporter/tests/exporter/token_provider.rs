//! Rule A-10: tokens from a provider, asked off the hot path.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use scouter_exporter::{
    BlockingToken, DropReason, FlushError, GrpcConfig, Pipeline, ProvidedToken, QueueConfig, Secret, TokenError, TokenFuture, TokenProvider,
};

use super::{
    server::{PATIENCE, Server, wait_until},
    spans::{assert_balanced, batch, block_on, envelope, span},
};

fn provided(token: &str) -> Result<ProvidedToken, TokenError> {
    Ok(ProvidedToken { token: token.into(), life: None })
}

fn with(server: &Server, provider: impl TokenProvider) -> Pipeline {
    let config = GrpcConfig { timeout: Duration::from_secs(2), ..server.config() };
    Pipeline::with_token_provider(config, QueueConfig::default(), Arc::new(provider)).unwrap()
}

fn accepting(token: &str) -> Server {
    let server = Server::start();
    server.state().valid_token = Some(token.to_owned());
    server
}

#[test]
fn a_10_a_provider_takes_the_place_of_login_and_many_requests_share_one_call() {
    let server = accepting("from the vault");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let pipeline = with(
        &server,
        BlockingToken::new(move |refused: Option<Secret>| {
            assert!(refused.is_none());
            counted.fetch_add(1, Ordering::Relaxed);
            provided("from the vault")
        }),
    );
    assert_eq!(calls.load(Ordering::Relaxed), 0, "building asks nobody");
    let sends: Vec<_> = (0..8).map(|number| pipeline.send(batch([number]))).collect();
    sends.into_iter().for_each(|send| block_on(send).unwrap());
    assert_eq!((calls.load(Ordering::Relaxed), server.logins_and_renewals()), (1, (0, 0)));
}

#[test]
fn a_10_a_refused_token_is_shown_to_the_provider_and_the_same_bytes_are_replayed() {
    let server = accepting("second");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let pipeline = with(
        &server,
        BlockingToken::new(move |refused: Option<Secret>| {
            let refused = refused.map(|token| token.reveal().to_owned());
            let token = if refused.is_some() { "second" } else { "first" };
            notes.lock().unwrap().push(refused);
            provided(token)
        }),
    );
    block_on(pipeline.send(batch(0..3))).unwrap();
    assert_eq!(*asked.lock().unwrap(), [None, Some("first".to_owned())]);
    let inserts = server.inserts();
    assert_eq!((inserts.len(), inserts[0].body == inserts[1].body), (2, true));
}

#[test]
fn a_10_a_token_is_asked_for_again_before_its_life_is_over() {
    let server = accepting("short");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let pipeline = with(
        &server,
        BlockingToken::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(ProvidedToken { token: "short".into(), life: Some(Duration::from_secs(1)) })
        }),
    );
    wait_until("the token is renewed", || {
        block_on(pipeline.send(batch(0..1))).unwrap();
        calls.load(Ordering::Relaxed) > 1
    });
    assert_eq!(pipeline.stats().retries, 0);
}

#[test]
fn a_10_what_is_unavailable_or_panics_is_asked_again() {
    let server = accepting("at last");
    let calls = AtomicUsize::new(0);
    let pipeline = with(
        &server,
        BlockingToken::new(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Err(TokenError::Unavailable("the vault is sealed".to_owned())),
            1 => panic!("a provider may be wrong"),
            _ => provided("at last"),
        }),
    );
    block_on(pipeline.send(batch(0..2))).unwrap();
    let stats = pipeline.stats();
    assert_eq!((stats.spans.exported, stats.retries), (2, 2));
}

#[test]
fn a_10_a_provider_that_refuses_pauses_and_the_queue_is_kept() {
    let server = accepting("never given");
    let pipeline = with(&server, BlockingToken::new(|_| Err(TokenError::Refused("no such workload".to_owned()))));
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    let error = pipeline.flush(PATIENCE).unwrap_err();
    assert!(matches!(&error, FlushError::Credentials { message } if message.contains("no such workload")), "{error}");
    assert_eq!(pipeline.stats().spans.pending(), 1);
    let report = pipeline.shutdown(Duration::from_secs(1));
    assert_eq!(report.stats.spans.dropped.get(DropReason::Unauthenticated), 1);
    assert_balanced(&report.stats);
}

/// Never gives a token.
struct Silent;

impl TokenProvider for Silent {
    fn token(&self, _refused: Option<Secret>) -> TokenFuture<'_> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_10_a_silent_provider_costs_the_deadline_and_ending_a_span_does_not_wait_for_it() {
    let server = Server::start();
    let pipeline = with(&server, Silent);
    let start = Instant::now();
    let send = pipeline.send(batch(0..1));
    assert!(pipeline.try_push(&envelope(), &span(1, 10)));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let error = block_on(send).unwrap_err().to_string();
    assert!(error.contains("token provider"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    let report = pipeline.shutdown(Duration::from_millis(100));
    assert_eq!(report.stats.spans.pending(), 0);
    assert_balanced(&report.stats);
}
