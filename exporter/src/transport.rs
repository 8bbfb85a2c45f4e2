//! Ways to a receiver, under one contract: [`Transport`].
//!
//! | transport | configuration | what an `Ok` of `send` means |
//! | --- | --- | --- |
//! | gRPC | [`GrpcConfig`] | on the server's disk |
//! | HTTP | [`HttpConfig`] | on the server's disk |
//! | OTLP over gRPC or HTTP | [`OtlpConfig`] | what the server that answers makes of it; Scouter's: on its disk |
//! | Kafka | `KafkaConfig`, with the feature `kafka` | all replicas in sync have it |
//! | Redis | `RedisConfig`, with the feature `redis` | Redis has it, as durably as it is configured |
//! | RabbitMQ | `RabbitMqConfig`, with the feature `rabbitmq` | confirmed by the broker: in a durable queue |
//! | memory | [`InMemoryTransport`] | kept in this process |
//!
//! [`TransportConfig`] is any of the configurations. A [`Pipeline`](crate::Pipeline) retries, renews, splits and counts above each of them in the same way.

mod grpc;
mod http;
mod http_client;
mod http_config;
mod in_memory;
mod json;
#[cfg(feature = "kafka")]
mod kafka;
mod otlp;
#[cfg(any(feature = "kafka", feature = "rabbitmq", feature = "redis"))]
mod pause;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
#[cfg(test)]
mod secrets;
#[cfg(any(feature = "kafka", feature = "rabbitmq", feature = "redis"))]
mod slot;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use scouter_tonic::client::{CallError, CallErrorKind};
use tokio::time::Instant;
use tonic::Code;

#[cfg(test)]
pub(crate) use self::http_client::{RpcStatus, refusal};
#[cfg(feature = "kafka")]
pub use self::kafka::{KafkaCompression, KafkaConfig, KafkaSasl, KafkaSecurity};
#[cfg(feature = "rabbitmq")]
pub use self::rabbitmq::RabbitMqConfig;
#[cfg(feature = "redis")]
pub use self::redis::{RedisConfig, RedisMode};
pub(crate) use self::{grpc::GrpcTransport, http::HttpTransport, otlp::OtlpTransport};
pub use self::{http_config::HttpConfig, in_memory::InMemoryTransport};
use crate::{ConfigError, GrpcConfig, OtlpConfig, encode::RequestFormat};

/// What [`Transport`]'s methods return.
pub type TransportFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One way of requests to a receiver.
///
/// The contract, which one suite of tests holds every implementation to:
///
/// - **Ok means taken over.** When [`send`](Self::send) is `Ok`, the receiver has the whole request as safely as it ever will, but for what it
///   says it rejected for ever. A broker's word counts once its own acknowledgement is there, never before.
/// - **An error means nothing about the request's fate unless its kind does.** After `Refused` the receiver has nothing of it. After `Retryable` and
///   `DeadlineExceeded` it may have all of it. Sending the same bytes again is always safe: they carry the `batch_id` they carried before.
/// - **One deadline** covers connecting, logging in and the exchange. `send` is ready by then; it makes one attempt, and retrying is its
///   caller's.
/// - **Cancellation.** Dropping the future stops waiting; the receiver may have the request. It leaves the transport as usable as before.
/// - **Order.** Within a request spans and records keep their order. Requests that are sent at once arrive in any order; one that is sent after
///   another one's `Ok` comes after it where the receiver knows an order at all.
/// - **No silent split, no silent loss.** A request is one message to the receiver, or several of which each is recognised when it comes
///   again. A request that is too large for the receiver is an error with the code `ResourceExhausted`, and nothing of it is stored.
/// - **Nothing waits inside.** Between calls a transport holds no spans and no records. So whoever has his answers has flushed, and there is no
///   method for that.
/// - **Close.** [`close`](Self::close) ends connections in an orderly way. What is under way may fail; what is sent afterwards fails, or opens a
///   connection anew.
/// - **Building one needs neither network nor runtime.** Connections are made when they are first used, and again when they are lost.
///   Methods are called inside a tokio runtime with timers and I/O, always the same one.
/// - **Secrets** appear in no error and no `Debug` output.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends an encoded request once.
    ///
    /// # Errors
    /// See [`CallErrorKind`], and above.
    fn send(&self, request: Bytes, deadline: Instant) -> TransportFuture<'_, Result<Sent, CallError>>;

    /// Ends connections, by `deadline` at the latest.
    fn close(&self, deadline: Instant) -> TransportFuture<'_, ()> {
        let _ = deadline;
        Box::pin(std::future::ready(()))
    }

    /// Which message requests must be.
    fn format(&self) -> RequestFormat {
        RequestFormat::Scouter
    }

    /// How long requests may take and how large they may be.
    fn limits(&self) -> Limits;

    /// While the receiver refuses the credentials: how long calls still fail at once, and the receiver's words.
    fn credentials_pause(&self) -> Option<(Duration, CallError)> {
        None
    }

    /// The same transport with connections of its own, for a process that forked.
    fn with_new_connection(&self) -> Arc<dyn Transport>;

    /// What kind of exporter it makes, in OpenTelemetry's words where they have one, and the receiver's address.
    fn component(&self) -> (&'static str, String);
}

/// What a receiver says to a request it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Spans it rejected for ever.
    pub rejected_spans: u64,
    /// Records it rejected for ever.
    pub rejected_records: u64,
    /// Its words, above all for what it rejected.
    pub message: String,
    /// What was sent, before compression: JSON is larger than the request it stands for.
    pub bytes: u64,
}

/// Bounds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for connect, login and all attempts of one request.
    pub timeout: Duration,
    /// Time for a flush whose caller has no say in it: a request without a limit must not make it wait for ever.
    pub flush_timeout: Duration,
    /// Largest request, in bytes before compression.
    pub max_request_bytes: usize,
}

/// Which way, and how. Any configuration turns into it:
///
/// ```
/// use scouter_exporter::{GrpcConfig, HttpConfig, Pipeline, QueueConfig, TransportConfig};
///
/// let transport: TransportConfig = GrpcConfig::default().into();
/// let transport: TransportConfig = HttpConfig::default().into();
/// let pipeline = Pipeline::new(transport, QueueConfig::default())?;
/// # Ok::<(), scouter_exporter::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TransportConfig {
    /// Scouter's gRPC.
    Grpc(GrpcConfig),
    /// Scouter's HTTP.
    Http(HttpConfig),
    /// Any OTLP server; it takes no monitoring records.
    Otlp(OtlpConfig),
    /// Kafka.
    #[cfg(feature = "kafka")]
    Kafka(KafkaConfig),
    /// Redis Streams, or pub/sub.
    #[cfg(feature = "redis")]
    Redis(RedisConfig),
    /// RabbitMQ.
    #[cfg(feature = "rabbitmq")]
    RabbitMq(RabbitMqConfig),
    /// This process.
    InMemory(InMemoryTransport),
}

impl TransportConfig {
    /// Builds the transport. Reads certificate files; touches no network.
    ///
    /// # Errors
    /// Every fault of the configuration.
    pub fn build(self) -> Result<Arc<dyn Transport>, ConfigError> {
        Ok(match self {
            Self::Grpc(config) => Arc::new(GrpcTransport::new(config)?),
            Self::Http(config) => Arc::new(HttpTransport::new(config)?),
            Self::Otlp(config) => Arc::new(OtlpTransport::new(&config)?),
            #[cfg(feature = "kafka")]
            Self::Kafka(config) => Arc::new(kafka::KafkaTransport::new(config)?),
            #[cfg(feature = "redis")]
            Self::Redis(config) => Arc::new(redis::RedisTransport::new(config)?),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(config) => Arc::new(rabbitmq::RabbitMqTransport::new(config)?),
            Self::InMemory(transport) => Arc::new(transport),
        })
    }
}

impl From<GrpcConfig> for TransportConfig {
    fn from(config: GrpcConfig) -> Self {
        Self::Grpc(config)
    }
}

impl From<HttpConfig> for TransportConfig {
    fn from(config: HttpConfig) -> Self {
        Self::Http(config)
    }
}

impl From<OtlpConfig> for TransportConfig {
    fn from(config: OtlpConfig) -> Self {
        Self::Otlp(config)
    }
}

#[cfg(feature = "kafka")]
impl From<KafkaConfig> for TransportConfig {
    fn from(config: KafkaConfig) -> Self {
        Self::Kafka(config)
    }
}

#[cfg(feature = "redis")]
impl From<RedisConfig> for TransportConfig {
    fn from(config: RedisConfig) -> Self {
        Self::Redis(config)
    }
}

#[cfg(feature = "rabbitmq")]
impl From<RabbitMqConfig> for TransportConfig {
    fn from(config: RabbitMqConfig) -> Self {
        Self::RabbitMq(config)
    }
}

impl From<InMemoryTransport> for TransportConfig {
    fn from(transport: InMemoryTransport) -> Self {
        Self::InMemory(transport)
    }
}

/// A peer may send any number.
fn count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Receivers tell late, or not at all, what is too large for them.
///
/// # Errors
/// It is larger than the configuration says.
fn check_length(request: &[u8], max_request_bytes: usize) -> Result<(), CallError> {
    if request.len() <= max_request_bytes {
        return Ok(());
    }
    let message = format!("a request has at most {max_request_bytes} bytes");
    Err(CallError::new(CallErrorKind::Refused, Code::ResourceExhausted, message))
}
