//! RabbitMQ: a persistent message a request, in a durable queue, confirmed by the broker before `send` is `Ok`.

mod link;
mod waiting;

#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use amqprs::{connection::OpenConnectionArguments, security::SecurityCredentials, tls::TlsAdaptor};
use bytes::Bytes;
use http::Uri;
use percent_encoding::percent_decode_str;
use scouter_tonic::{
    broker::{DEFAULT_NAME, JSON, SCOUTER_PROTOBUF},
    client::{
        CallError, DEFAULT_TIMEOUT, Payload, Secret, TlsFiles, bounds_faults, is_cut_by_its_password, is_loopback, shown_address, truth,
    },
};
use tokio::time::{Instant, timeout_at};

use self::{
    link::{Broker, Link},
    waiting::BY_ANOTHER,
};
use super::{Limits, Sent, Transport, TransportFuture, check_length, http_client::tls, json::JsonForm, pause::Pause, slot::Slot};
use crate::{ConfigError, ConfigFault, GrpcConfig};

/// What a RabbitMQ of today takes without being told otherwise is 16 MiB; older ones take more.
const DEFAULT_MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024 - 4096;
/// AMQP's short strings have at most 255 bytes; the dead messages' queue has a longer name than the queue.
const MAX_NAME_BYTES: usize = 200;

/// Where RabbitMQ is. Plain data; [`RabbitMqConfig::validate`] finds every fault at once.
#[derive(Clone)]
pub struct RabbitMqConfig {
    /// The broker's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who comes.
    pub username: String,
    /// And with which password.
    pub password: Secret,
    /// The virtual host.
    pub virtual_host: String,
    /// A durable queue. It is made if it is not there.
    pub queue: String,
    /// Speak TLS, as `amqps://` does.
    pub tls: bool,
    /// One deadline for connect, login and all attempts of a request. Between 1 ms and one day.
    pub timeout: Duration,
    /// Allow the password to cross plaintext to a host that is not loopback.
    pub insecure: bool,
    /// PEM file with certificate authorities trusted beside the system's and the bundled ones.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate that proves who this client is. Needs `client_key_file`.
    pub client_certificate_file: Option<PathBuf>,
    /// PEM file with the private key of the client's certificate.
    pub client_key_file: Option<PathBuf>,
    /// How requests are written. `Auto` is protobuf; servers that read JSON alone need `Json`.
    pub payload: Payload,
    /// Largest request, in bytes; at most the broker's `max_message_size`.
    pub max_request_bytes: usize,
}

impl Default for RabbitMqConfig {
    /// guest and the queue `scouter_monitoring` on `localhost:5672`.
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 5672,
            username: "guest".to_owned(),
            password: Secret::new("guest"),
            virtual_host: "/".to_owned(),
            queue: DEFAULT_NAME.to_owned(),
            tls: false,
            timeout: DEFAULT_TIMEOUT,
            insecure: false,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            payload: Payload::Auto,
            max_request_bytes: DEFAULT_MAX_REQUEST_BYTES,
        }
    }
}

impl RabbitMqConfig {
    /// The defaults, with `RABBITMQ_HOST`, `RABBITMQ_PORT`, `RABBITMQ_USERNAME`, `RABBITMQ_PASSWORD`, `RABBITMQ_QUEUE`, `RABBITMQ_INSECURE` and
    /// `RABBITMQ_CA_FILE` where they are set. `RABBITMQ_ADDR` (`amqp://user:password@host:port/virtual-host`, or `amqps://`) wins over those
    /// that it holds. An empty variable counts as unset.
    ///
    /// # Errors
    /// Every variable and every setting that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// [`RabbitMqConfig::from_env`] with another source of variables.
    ///
    /// # Errors
    /// As [`RabbitMqConfig::from_env`].
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
        if let Some(host) = read("RABBITMQ_HOST") {
            config.host = host;
        }
        if let Some(port) = read("RABBITMQ_PORT") {
            match port.trim().parse() {
                Ok(port) => config.port = port,
                Err(_) => faults.push(ConfigFault::Variable { name: "RABBITMQ_PORT", value: port, expected: "a port" }),
            }
        }
        if let Some(username) = read("RABBITMQ_USERNAME") {
            config.username = username;
        }
        if let Some(password) = read("RABBITMQ_PASSWORD") {
            config.password = password.into();
        }
        if let Some(queue) = read("RABBITMQ_QUEUE") {
            config.queue = queue;
        }
        config.insecure = truth("RABBITMQ_INSECURE", read("RABBITMQ_INSECURE"), &mut faults);
        config.ca_file = read("RABBITMQ_CA_FILE").map(PathBuf::from);
        if let Some(address) = read("RABBITMQ_ADDR") {
            match config.clone().at(&address) {
                Ok(at) => config = at,
                Err(fault) => faults.push(fault),
            }
        }
        (config, faults)
    }

    /// The same, at `amqp://user:password@host:port/virtual-host` or `amqps://...`. What the address leaves out stays.
    ///
    /// # Errors
    /// It is no such address.
    pub fn at(mut self, address: &str) -> Result<Self, ConfigFault> {
        let fault = || ConfigFault::Endpoint {
            uri: shown_address(address),
            reason: "the address of RabbitMQ is amqp://user:password@host:port/virtual-host or amqps://...".to_owned(),
        };
        if is_cut_by_its_password(address) {
            return Err(fault());
        }
        let uri: Uri = address.trim().parse().map_err(|_| fault())?;
        let scheme = uri.scheme_str().ok_or_else(fault)?.to_owned();
        self.tls = match scheme.as_str() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(fault()),
        };
        let plain = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| fault());
        self.host = uri.host().filter(|host| !host.is_empty()).ok_or_else(fault)?.trim_matches(['[', ']']).to_owned();
        self.port = uri.port_u16().unwrap_or(if self.tls { 5671 } else { 5672 });
        if let Some((user, _)) = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')) {
            let (username, password) = user.split_once(':').unwrap_or((user, ""));
            self.username = plain(username)?;
            self.password = plain(password)?.into();
        }
        let path = uri.path().trim_start_matches('/');
        if !path.is_empty() {
            self.virtual_host = plain(path)?;
        }
        Ok(self)
    }

    /// Checks what can be checked without the network.
    ///
    /// # Errors
    /// Every fault found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = bounds_faults(self.timeout, self.max_request_bytes);
        // A password that came with it is not shown.
        let is_host = !self.host.is_empty() && !self.host.contains(['@', '/', '?', '#']);
        if !is_host {
            faults.push(ConfigFault::Setting { name: "host", expected: "a host, without user and password" });
        }
        if self.port == 0 {
            faults.push(ConfigFault::Setting { name: "port", expected: "between 1 and 65535" });
        }
        if self.queue.is_empty() || self.queue.len() > MAX_NAME_BYTES {
            faults.push(ConfigFault::Setting { name: "queue", expected: "a name of at most 200 bytes" });
        }
        for (name, text) in [("username", &self.username), ("virtual_host", &self.virtual_host)] {
            if text.len() > MAX_NAME_BYTES {
                faults.push(ConfigFault::Setting { name, expected: "at most 200 bytes" });
            }
        }
        if is_host && !self.tls && !self.insecure && !is_loopback(&self.host) {
            faults.push(ConfigFault::Plaintext { host: self.host.clone() });
        }
        faults.extend(self.files().validate().err().map(|error| error.faults).unwrap_or_default());
        ConfigError::check(faults)
    }

    /// The settings of TLS, in the words of those who read the files.
    fn files(&self) -> GrpcConfig {
        GrpcConfig {
            ca_file: self.ca_file.clone(),
            client_certificate_file: self.client_certificate_file.clone(),
            client_key_file: self.client_key_file.clone(),
            ..GrpcConfig::default()
        }
    }

    fn address(&self) -> String {
        format!("{}://{}:{}", if self.tls { "amqps" } else { "amqp" }, self.host, self.port)
    }
}

impl fmt::Debug for RabbitMqConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqConfig")
            .field("address", &self.address())
            .field("username", &self.username)
            .field("password", &self.password)
            .field("virtual_host", &self.virtual_host)
            .field("queue", &self.queue)
            .field("timeout", &self.timeout)
            .field("insecure", &self.insecure)
            .field("ca_file", &self.ca_file)
            .field("client_certificate_file", &self.client_certificate_file)
            .field("client_key_file", &self.client_key_file)
            .field("payload", &self.payload)
            .field("max_request_bytes", &self.max_request_bytes)
            .finish()
    }
}

pub(crate) struct RabbitMqTransport {
    config: RabbitMqConfig,
    arguments: OpenConnectionArguments,
    broker: Arc<Broker>,
    link: Slot<Link>,
    pause: Pause,
    json: JsonForm,
}

impl RabbitMqTransport {
    pub(crate) fn new(config: RabbitMqConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut arguments = OpenConnectionArguments::default();
        arguments
            .host(&config.host)
            .port(config.port)
            .credentials(SecurityCredentials::new_plain(&config.username, config.password.reveal()))
            .virtual_host(&config.virtual_host)
            .heartbeat(10);
        if config.tls {
            let settings = tls(&TlsFiles::read(&config.files())?)?;
            arguments.tls_adaptor(TlsAdaptor::new(Arc::new(settings).into(), config.host.clone()));
        }
        Ok(Self { config, arguments, broker: Arc::default(), link: Slot::default(), pause: Pause::default(), json: JsonForm::default() })
    }

    async fn send_once(&self, request: Bytes, deadline: Instant) -> Result<Sent, CallError> {
        self.pause.check()?;
        check_length(&request, self.config.max_request_bytes)?;
        let bytes = request.len() as u64;
        let sent = match self.config.payload {
            Payload::Json => self.json.send(&request, |json| async move { self.publish(JSON, json.into(), deadline).await }).await,
            Payload::Auto => {
                let published = self.publish(SCOUTER_PROTOBUF, request, deadline).await;
                published.map(|()| Sent { bytes, ..Sent::default() })
            }
        };
        self.pause.note("rabbitmq", sent)
    }

    async fn publish(&self, content_type: &'static str, body: Bytes, deadline: Instant) -> Result<(), CallError> {
        loop {
            // JSON is larger than the request it stands for.
            check_length(&body, self.config.max_request_bytes.min(self.broker.max_message_bytes()))?;
            let mut used = None;
            let exchange = async {
                let open = || Link::open(self.arguments.clone(), self.config.queue.clone(), Arc::clone(&self.broker));
                let link = self.link.connection(Link::is_open, open).await?;
                used = Some(Arc::clone(&link));
                link.publish(&self.config.queue, content_type, body.clone()).await
            };
            let published = timeout_at(deadline, exchange).await.unwrap_or_else(|_| Err(CallError::deadline("RabbitMQ")));
            let Err(error) = published else { return Ok(()) };
            if let Some(used) = used {
                // Whether it is the connection that is dead is not known: the next call makes a new one.
                self.link.forget(&used);
            }
            // Whose message closed the channel has his own error by now, and is not sent another time: this one need not fail with it.
            if error.code() != BY_ANOTHER || Instant::now() >= deadline {
                return Err(error);
            }
        }
    }
}

impl Transport for RabbitMqTransport {
    fn send(&self, request: Bytes, deadline: Instant) -> TransportFuture<'_, Result<Sent, CallError>> {
        Box::pin(self.send_once(request, deadline))
    }

    fn close(&self, deadline: Instant) -> TransportFuture<'_, ()> {
        Box::pin(async move {
            if let Some(link) = self.link.take() {
                let _in_time_or_not = timeout_at(deadline, link.close()).await;
            }
        })
    }

    fn limits(&self) -> Limits {
        let RabbitMqConfig { timeout, max_request_bytes, .. } = self.config;
        Limits { timeout, flush_timeout: timeout, max_request_bytes }
    }

    fn credentials_pause(&self) -> Option<(Duration, CallError)> {
        self.pause.left()
    }

    fn with_new_connection(&self) -> Arc<dyn Transport> {
        Arc::new(Self {
            config: self.config.clone(),
            arguments: self.arguments.clone(),
            broker: Arc::clone(&self.broker),
            link: Slot::default(),
            pause: Pause::default(),
            json: self.json.clone(),
        })
    }

    fn component(&self) -> (&'static str, String) {
        ("rabbitmq_span_exporter", self.config.address())
    }
}

impl fmt::Debug for RabbitMqTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RabbitMq").field(&self.config).finish()
    }
}
