//! The contract of [`Transport`], held by every implementation against the real receiver.
//!
//! Each test of [`contract`] is written once, over a [`Route`]; `routes!` makes one test of it for every route. Some promises have no meaning in
//! memory: that route skips them by having no receiver that can die, and no credentials.

mod brokered;
mod consumers;
mod contract;
mod cost;
pub(crate) mod direct;
mod proxy;
mod silence;
mod topics;
mod wire;

use std::{net::SocketAddr, time::Duration};

use scouter_examples::spans::{Envelope, Size, SpanSource};
use scouter_exporter::{Transport, TransportConfig};
use tokio::{
    process::Command,
    time::{Instant, timeout},
};

use crate::brokers::{Broker, Kind};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a receiver takes at most that was asked to be small: less than every transport's own limit.
const RECEIVERS_LIMIT: usize = 1 << 20;
/// 2026-03-01: the tables partition by day.
const START_UNIX_NANO: u64 = 1_772_323_200_000_000_000;

/// A transport, and what is at its other end.
pub(crate) trait Route: Sized {
    /// Sets everything up, empty.
    async fn open() -> Self;

    /// A configuration that reaches the receiver.
    fn config(&self) -> TransportConfig;

    /// Everything set up with a receiver that takes no request above [`RECEIVERS_LIMIT`]. `None` where there is no such limit.
    async fn open_small() -> Option<Self> {
        None
    }

    /// Where requests go. `None` where that is no address, and nothing can stand in between.
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    /// A configuration that reaches the receiver by way of `address`.
    fn config_at(&self, _address: SocketAddr) -> TransportConfig {
        self.config()
    }

    /// CPU time so far: of a broker in between, and of the server.
    fn cpu(&self) -> [Duration; 2] {
        [Duration::ZERO; 2]
    }

    /// One whose password is `wrong-password`, if there are passwords.
    fn config_with_wrong_password(&self) -> Option<TransportConfig>;

    /// Spans that ended up at the last receiver, repetitions included.
    async fn spans(&self) -> u64;

    /// Monitoring records that did.
    async fn records(&self) -> u64;

    /// What takes the requests dies without a word. False when it cannot.
    async fn kill(&mut self) -> bool;

    /// It is there again, at the same address, with what it had.
    async fn revive(&mut self);

    /// Waits until as many spans as that are there.
    async fn expect_at_least(&self, expected: u64) {
        let arrived = async {
            while self.spans().await < expected {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(PATIENCE, arrived).await.is_err() {
            panic!("{} of {expected} spans arrived", self.spans().await);
        }
    }

    /// Waits until as many spans as that are there, and sees that they do not become more.
    async fn expect_spans(&self, expected: u64) {
        self.expect_at_least(expected).await;
        assert_eq!(self.spans().await, expected, "spans arrived more than once");
    }
}

/// Requests of spans that differ by `seed`.
fn request(seed: u64, spans: u64) -> bytes::Bytes {
    SpanSource::new(seed, Size::Small, START_UNIX_NANO, 1_000).body(0..spans, Envelope::Scouter)
}

fn soon(after: Duration) -> Instant {
    Instant::now() + after
}

fn built(config: TransportConfig) -> std::sync::Arc<dyn Transport> {
    config.build().expect("the configuration is good")
}

/// One word on the command line of the example decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_program_runs_over_each_transport() {
    let (kafka, redis, rabbitmq) = tokio::join!(Broker::start(Kind::Kafka), Broker::start(Kind::Redis), Broker::start(Kind::RabbitMq));
    // The listener that asks for a password is for the others.
    let (kafka_address, redis_address, rabbitmq_address) = (kafka.plain_address(), redis.address(), rabbitmq.address());
    let flags = ["--kafka-brokers", &kafka_address[..], "--redis-addr", &redis_address, "--rabbitmq-addr", &rabbitmq_address];
    let receiver = direct::Receiver::start(&flags).await;
    let (grpc, http) = (format!("http://{}", receiver.addresses.grpc), format!("http://{}", receiver.addresses.http));
    for (number, (way, variable, address)) in [
        ("grpc", "SCOUTER_GRPC_URI", &grpc),
        ("http", "SCOUTER_SERVER_URI", &http),
        ("kafka", "KAFKA_BROKERS", &kafka_address),
        ("redis", "REDIS_ADDR", &redis_address),
        ("rabbitmq", "RABBITMQ_ADDR", &rabbitmq_address),
    ]
    .into_iter()
    .enumerate()
    {
        let program = Command::new(env!("CARGO_BIN_EXE_transports")).arg(way).env(variable, address).output().await;
        let output = program.expect("the example's program starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), "delivered 1 span, 1 record", "{way}: {}", String::from_utf8_lossy(&output.stderr));
        let arrived = async {
            while receiver.count("spans").await + receiver.count("custom_drift").await < 2 * (number as u64 + 1) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, arrived).await.unwrap_or_else(|_| panic!("what went by {way} is not there"));
    }
    assert_eq!((receiver.count("spans").await, receiver.count("custom_drift").await), (5, 5));
}

/// One module of tests a route.
macro_rules! routes {
    ($($name:ident: $route:ty),* $(,)?) => {$(
        mod $name {
            use super::{contract, silence};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn ok_means_taken_over() {
                contract::ok_means_taken_over::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn the_same_bytes_are_stored_once() {
                contract::the_same_bytes_are_stored_once::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn spans_and_records_travel_the_same_way() {
                contract::spans_and_records_travel_the_same_way::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn large_requests_arrive_whole_or_are_refused() {
                contract::large_requests_arrive_whole_or_are_refused::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_the_receiver_finds_too_large_fails_alone() {
                contract::what_the_receiver_finds_too_large_fails_alone::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn each_call_ends_by_its_own_deadline_before_a_silent_receiver() {
                silence::each_call_ends_by_its_own_deadline_before_a_silent_receiver::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_shutdown_waits_for_a_slow_receiver_and_not_for_a_silent_one() {
                silence::a_shutdown_waits_for_a_slow_receiver_and_not_for_a_silent_one::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_receiver_that_is_gone_costs_the_deadline() {
                contract::a_receiver_that_is_gone_costs_the_deadline::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn nothing_is_lost_when_the_receiver_dies_under_load() {
                contract::nothing_is_lost_when_the_receiver_dies_under_load::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn who_stops_waiting_harms_nothing() {
                contract::who_stops_waiting_harms_nothing::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn wrong_credentials_are_told_and_kept_secret() {
                contract::wrong_credentials_are_told_and_kept_secret::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_shutdown_delivers_what_is_left() {
                contract::a_shutdown_delivers_what_is_left::<$route>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_closed_transport_does_not_hang() {
                contract::a_closed_transport_does_not_hang::<$route>().await;
            }
        }
    )*};
}

routes! {
    memory: super::direct::Memory,
    grpc: super::direct::Grpc,
    http: super::direct::Http,
    kafka: super::brokered::Kafka,
    redis: super::brokered::Redis,
    rabbitmq: super::brokered::RabbitMq,
}
