//! Redis Streams: an entry a request, taken from there by a Scouter server's consumer group. And pub/sub, for deployments that have it.
//!
//! `Ok` means that Redis has the entry, as durably as it is configured to have anything: with `appendfsync always` on its disk, by default
//! on its disk within a second. An entry stays until a server has stored it. Pub/sub keeps nothing: `Ok` means that somebody listened.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError, ServerErrorKind,
    TlsCertificates, aio::MultiplexedConnection,
};
use bytes::Bytes;
use scouter_tonic::{
    broker::{CONTENT_TYPE, DEFAULT_NAME, JSON, PAYLOAD, SCOUTER_PROTOBUF},
    client::{
        CallError, CallErrorKind, DEFAULT_TIMEOUT, Payload, Secret, TlsFiles, bounds_faults, is_cut_by_its_password, is_loopback,
        shown_address, truth,
    },
    limits::MAX_REQUEST_BYTES,
};
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use super::{Limits, Sent, Transport, TransportFuture, check_length, json::JsonForm, pause::Pause, slot::Slot};
use crate::{ConfigError, ConfigFault, GrpcConfig};

const DEFAULT_ADDRESS: &str = "redis://127.0.0.1:6379";
/// Redis's own setting.
const MAX_VALUE: &str = "proto-max-bulk-len";

/// How Redis keeps what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisMode {
    /// In a stream, until a server has stored it.
    #[default]
    Stream,
    /// Not at all: whoever listens now gets it, as existing deployments have it. What nobody hears is sent again; what a server hears and then
    /// loses is lost.
    PubSub,
}

/// Where Redis is. Plain data; [`RedisConfig::validate`] finds every fault at once.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port[/db]`, or `rediss://` for TLS. A secret, for the password in it.
    pub address: Secret,
    /// Name of the stream, or of the channel.
    pub channel: String,
    /// Stream or pub/sub.
    pub mode: RedisMode,
    /// One deadline for connect and all attempts of a request. Between 1 ms and one day.
    pub timeout: Duration,
    /// Allow the password to cross plaintext to a host that is not loopback.
    pub insecure: bool,
    /// PEM file with certificate authorities trusted in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// How requests are written. `Auto`: protobuf into a stream, JSON to a channel, whose listeners may be servers that read nothing else.
    pub payload: Payload,
    /// Largest request, in bytes.
    pub max_request_bytes: usize,
}

impl Default for RedisConfig {
    /// The stream `scouter_monitoring` on `redis://127.0.0.1:6379`.
    fn default() -> Self {
        Self {
            address: DEFAULT_ADDRESS.into(),
            channel: DEFAULT_NAME.to_owned(),
            mode: RedisMode::Stream,
            timeout: DEFAULT_TIMEOUT,
            insecure: false,
            ca_file: None,
            payload: Payload::Auto,
            max_request_bytes: MAX_REQUEST_BYTES,
        }
    }
}

impl RedisConfig {
    /// The defaults, with `REDIS_ADDR`, `REDIS_CHANNEL`, `REDIS_MODE` (`stream` or `pubsub`), `REDIS_INSECURE` and `REDIS_CA_FILE` where they are
    /// set. An empty variable counts as unset.
    ///
    /// # Errors
    /// Every variable and every setting that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// [`RedisConfig::from_env`] with another source of variables.
    ///
    /// # Errors
    /// As [`RedisConfig::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let (config, faults) = Self::read(variable);
        ConfigError::check_both(faults, config.validate())?;
        Ok(config)
    }

    /// What the variables say and which of them cannot be read, for those who change settings before the whole is judged.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> (Self, Vec<ConfigFault>) {
        let read = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let mut faults = Vec::new();
        let mut config = Self::default();
        if let Some(address) = read("REDIS_ADDR") {
            config.address = address.into();
        }
        if let Some(channel) = read("REDIS_CHANNEL") {
            config.channel = channel;
        }
        match read("REDIS_MODE").map(|mode| (mode.to_ascii_lowercase(), mode)) {
            None => {}
            Some((mode, _)) if mode == "stream" => config.mode = RedisMode::Stream,
            Some((mode, _)) if mode == "pubsub" => config.mode = RedisMode::PubSub,
            Some((_, value)) => faults.push(ConfigFault::Variable { name: "REDIS_MODE", value, expected: "stream or pubsub" }),
        }
        config.insecure = truth("REDIS_INSECURE", read("REDIS_INSECURE"), &mut faults);
        config.ca_file = read("REDIS_CA_FILE").map(PathBuf::from);
        (config, faults)
    }

    /// Checks what can be checked without the network.
    ///
    /// # Errors
    /// Every fault found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = bounds_faults(self.timeout, self.max_request_bytes);
        if self.channel.is_empty() {
            faults.push(ConfigFault::Setting { name: "channel", expected: "a name" });
        }
        match self.address.reveal().into_connection_info() {
            Ok(info) if !is_cut_by_its_password(self.address.reveal()) => {
                let has_password = info.redis_settings().password().is_some();
                if let ConnectionAddr::Tcp(host, _) = info.addr()
                    && has_password
                    && !self.insecure
                    && !is_loopback(host)
                {
                    faults.push(ConfigFault::Plaintext { host: host.clone() });
                }
            }
            _ => {
                let reason = "the address of Redis is redis://host:port or rediss://host:port".to_owned();
                faults.push(ConfigFault::Endpoint { uri: self.shown_address(), reason });
            }
        }
        ConfigError::check(faults)
    }

    /// The address without user and password.
    pub fn shown_address(&self) -> String {
        shown_address(self.address.reveal())
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("address", &self.shown_address())
            .field("channel", &self.channel)
            .field("mode", &self.mode)
            .field("timeout", &self.timeout)
            .field("insecure", &self.insecure)
            .field("ca_file", &self.ca_file)
            .field("payload", &self.payload)
            .field("max_request_bytes", &self.max_request_bytes)
            .finish()
    }
}

pub(crate) struct RedisTransport {
    config: RedisConfig,
    client: Client,
    /// Who logs in, and which database.
    login: RedisConnectionInfo,
    connection: Slot<MultiplexedConnection>,
    /// What Redis takes as one value. It hangs up on a larger one, and on everybody else who uses the connection.
    max_value_bytes: AtomicUsize,
    pause: Pause,
    json: JsonForm,
}

impl RedisTransport {
    pub(crate) fn new(config: RedisConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let fault = |error: RedisError| ConfigFault::Tls { reason: error.to_string() };
        let root_cert = TlsFiles::read(&GrpcConfig { ca_file: config.ca_file.clone(), ..GrpcConfig::default() })?.ca_pem;
        let info = config.address.reveal().into_connection_info().map_err(fault)?;
        let login = info.redis_settings().clone();
        // The client takes whatever goes wrong with a login for a wrong password. It is told of none, and this transport logs in itself.
        let info = info.set_redis_settings(RedisConnectionInfo::default());
        let client = if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            // The client takes the process's provider of cryptography; where there is none yet, it is the one that the other transports use.
            let _there_was_one = rustls::crypto::ring::default_provider().install_default();
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert }).map_err(fault)?
        } else {
            Client::open(info).map_err(fault)?
        };
        Ok(Self {
            config,
            client,
            login,
            connection: Slot::default(),
            max_value_bytes: AtomicUsize::new(usize::MAX),
            pause: Pause::default(),
            json: JsonForm::default(),
        })
    }

    async fn send_once(&self, request: Bytes, deadline: Instant) -> Result<Sent, CallError> {
        self.pause.check()?;
        check_length(&request, self.config.max_request_bytes)?;
        let is_json = match self.config.payload {
            Payload::Json => true,
            Payload::Auto => self.config.mode == RedisMode::PubSub,
        };
        let sent = if is_json {
            self.json.send(&request, |json| async move { self.put(JSON, &json, deadline).await }).await
        } else {
            self.put(SCOUTER_PROTOBUF, &request, deadline).await.map(|()| Sent { bytes: request.len() as u64, ..Sent::default() })
        };
        self.pause.note("redis", sent)
    }

    async fn put(&self, content_type: &str, payload: &[u8], deadline: Instant) -> Result<(), CallError> {
        let mut used = None;
        let exchange = async {
            let opened = self.connection.connection(|_| true, || self.open()).await;
            let connection = opened.map_err(|error| (error, false))?;
            // JSON is larger than the request it stands for.
            let max_bytes = self.config.max_request_bytes.min(self.max_value_bytes.load(Ordering::Relaxed));
            check_length(payload, max_bytes).map_err(|error| (error, false))?;
            used = Some(Arc::clone(&connection));
            let mut connection = MultiplexedConnection::clone(&connection);
            let mut command = match self.config.mode {
                RedisMode::Stream => ::redis::cmd("XADD"),
                RedisMode::PubSub => ::redis::cmd("PUBLISH"),
            };
            command.arg(&self.config.channel);
            match self.config.mode {
                RedisMode::Stream => {
                    command.arg("*").arg(CONTENT_TYPE).arg(content_type).arg(PAYLOAD).arg(payload);
                    command.query_async::<String>(&mut connection).await.map(drop)
                }
                RedisMode::PubSub => match command.arg(payload).query_async::<u64>(&mut connection).await {
                    Ok(0) => {
                        let words = format!("nobody listens to the channel `{}`", self.config.channel);
                        return Err((CallError::new(CallErrorKind::Retryable, Code::Unavailable, words), false));
                    }
                    heard => heard.map(drop),
                },
            }
            .map_err(|error| (failed(&error), is_worn_out(&error)))
        };
        let (error, is_worn_out) = match timeout_at(deadline, exchange).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failed)) => failed,
            // It may be the connection that is dead.
            Err(_) => (CallError::deadline("Redis"), true),
        };
        if let Some(used) = used.filter(|_| is_worn_out) {
            self.connection.forget(&used);
        }
        Err(error)
    }

    /// Connects and logs in.
    async fn open(&self) -> Result<MultiplexedConnection, CallError> {
        // The caller's deadline is the limit of both.
        let limits = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&limits).await.map_err(|error| failed(&error))?;
        if let Some(password) = self.login.password() {
            let mut command = ::redis::cmd("AUTH");
            command.arg(self.login.username()).arg(password);
            command.query_async::<()>(&mut connection).await.map_err(|error| not_logged_in(&error))?;
        }
        if self.login.db() != 0 {
            ::redis::cmd("SELECT").arg(self.login.db()).query_async::<()>(&mut connection).await.map_err(|error| failed(&error))?;
        }
        // Whose user may not ask finds out by being hung up on.
        let limit = ::redis::cmd("CONFIG").arg("GET").arg(MAX_VALUE).query_async::<Vec<String>>(&mut connection).await;
        let bytes = limit.ok().and_then(|answer| answer.get(1)?.parse().ok());
        self.max_value_bytes.store(bytes.unwrap_or(usize::MAX), Ordering::Relaxed);
        Ok(connection)
    }
}

/// What Redis says to a command it does not take.
fn failed(error: &RedisError) -> CallError {
    let text = format!("Redis: {error}");
    let (kind, code) = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => (CallErrorKind::Credentials, Code::Unauthenticated),
        (_, Some("NOPERM")) => (CallErrorKind::Credentials, Code::PermissionDenied),
        // A Redis that is loading, a replica or without its master, full, or without enough replicas: another day, or another one.
        (_, Some("LOADING" | "READONLY" | "MASTERDOWN" | "OOM" | "MISCONF" | "NOREPLICAS" | "TRYAGAIN" | "CLUSTERDOWN" | "BUSY")) => {
            (CallErrorKind::Retryable, Code::Unavailable)
        }
        (_, Some("ERR")) if text.contains("max number of clients") => (CallErrorKind::Retryable, Code::Unavailable),
        (_, Some("ERR")) if text.contains("invalid bulk length") => (CallErrorKind::Refused, Code::ResourceExhausted),
        // The stream's key is something else, or a bug of ours: no repetition helps.
        (_, Some("ERR" | "WRONGTYPE")) => (CallErrorKind::Refused, Code::FailedPrecondition),
        // No connection, or words that Redis had not learnt when this was written.
        _ => (CallErrorKind::Retryable, Code::Unavailable),
    };
    CallError::new(kind, code, text)
}

/// To AUTH, ERR means that there is no such user, or no password at all.
fn not_logged_in(error: &RedisError) -> CallError {
    match failed(error) {
        refused if refused.code() == Code::FailedPrecondition => {
            CallError::new(CallErrorKind::Credentials, Code::Unauthenticated, refused.message())
        }
        other => other,
    }
}

/// The connection is dead, or leads to what was the master once: another one may lead to the new master.
fn is_worn_out(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
        // After these words Redis hangs up.
        || error.to_string().contains("Protocol error")
}

impl Transport for RedisTransport {
    fn send(&self, request: Bytes, deadline: Instant) -> TransportFuture<'_, Result<Sent, CallError>> {
        Box::pin(self.send_once(request, deadline))
    }

    fn close(&self, _deadline: Instant) -> TransportFuture<'_, ()> {
        Box::pin(async { drop(self.connection.take()) })
    }

    fn limits(&self) -> Limits {
        let RedisConfig { timeout, max_request_bytes, .. } = self.config;
        Limits { timeout, flush_timeout: timeout, max_request_bytes }
    }

    fn credentials_pause(&self) -> Option<(Duration, CallError)> {
        self.pause.left()
    }

    fn with_new_connection(&self) -> Arc<dyn Transport> {
        Arc::new(Self {
            config: self.config.clone(),
            client: self.client.clone(),
            login: self.login.clone(),
            connection: Slot::default(),
            max_value_bytes: AtomicUsize::new(usize::MAX),
            pause: Pause::default(),
            json: self.json.clone(),
        })
    }

    fn component(&self) -> (&'static str, String) {
        ("redis_span_exporter", self.config.shown_address())
    }
}

impl fmt::Debug for RedisTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.config).finish()
    }
}
