//! Plain OTLP: the same span bytes to any server that speaks it, over gRPC or HTTP.
//!
//! How requests travel is the transport's; here is its configuration. What the environment says is read by `environment`, by the rules of
//! OpenTelemetry's specification.

mod environment;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use scouter_tonic::{
    client::{Compression, DEFAULT_TIMEOUT, TraceExportAnswer, quiet::aloud, shown_address},
    limits::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES},
};

use crate::{ConfigError, ConfigFault, GrpcConfig};

const DEFAULT_GRPC_ENDPOINT: &str = "http://localhost:4317";
const DEFAULT_HTTP_ENDPOINT: &str = "http://localhost:4318/v1/traces";
const TRACES_PATH: &str = "/v1/traces";
/// Stands for "no limit" where clocks do arithmetic: the longest time a client takes.
const NO_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How OTLP's requests travel. Both carry the same protobuf bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC, usually on port 4317.
    #[default]
    Grpc,
    /// Protobuf in HTTP/1.1, usually on port 4318.
    HttpProtobuf,
}

/// Where an OTLP server is and how to speak to it. Plain data; [`OtlpConfig::validate`] finds every fault at once.
///
/// ```
/// use scouter_exporter::{OtlpConfig, Pipeline, QueueConfig};
///
/// let config = OtlpConfig {
///     headers: vec![("x-tenant".to_owned(), "blue".to_owned())],
///     ..OtlpConfig::http("http://localhost:4318")
/// };
/// assert_eq!(config.endpoint, "http://localhost:4318/v1/traces");
/// let pipeline = Pipeline::new_otlp(config, QueueConfig::default())?;
/// # Ok::<(), scouter_exporter::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// gRPC or HTTP.
    pub protocol: OtlpProtocol,
    /// gRPC: `http://host:port`, `https://host:port`, `host:port` or `unix:/path`. HTTP: the whole URL, its path included.
    pub endpoint: String,
    /// An endpoint without a scheme is reached without TLS; and a header with a token may cross plaintext to another host.
    pub insecure: bool,
    /// Sent with every request. Values are treated as secrets.
    pub headers: Vec<(String, String)>,
    /// One deadline for connect and all attempts of a request; zero is none.
    pub timeout: Duration,
    /// Compression of requests.
    pub compression: Compression,
    /// PEM file with certificate authorities trusted beside the system's and the bundled ones.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate that proves who this client is. Needs `client_key_file`.
    pub client_certificate_file: Option<PathBuf>,
    /// PEM file with the private key of the client's certificate.
    pub client_key_file: Option<PathBuf>,
    /// Product token in front of the exporter's own `user-agent`, such as `my-agent/1.2`.
    pub user_agent_prefix: Option<String>,
    /// Largest request, in bytes before compression. What is larger is split.
    pub max_request_bytes: usize,
    /// Largest answer that is read, in bytes. A larger one fails the request for good.
    pub max_response_bytes: usize,
}

impl Default for OtlpConfig {
    /// gRPC on `http://localhost:4317`.
    fn default() -> Self {
        Self {
            protocol: OtlpProtocol::Grpc,
            endpoint: DEFAULT_GRPC_ENDPOINT.to_owned(),
            insecure: false,
            headers: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            compression: Compression::None,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            user_agent_prefix: None,
            max_request_bytes: MAX_REQUEST_BYTES,
            max_response_bytes: MAX_RESPONSE_BYTES,
        }
    }
}

impl OtlpConfig {
    /// OTLP over gRPC.
    pub fn grpc(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), ..Self::default() }
    }

    /// OTLP over HTTP, to `/v1/traces` under a base URL.
    pub fn http(base_url: &str) -> Self {
        Self { protocol: OtlpProtocol::HttpProtobuf, endpoint: under_base(base_url), ..Self::default() }
    }

    /// The defaults, with `OTEL_EXPORTER_OTLP_PROTOCOL`, `_ENDPOINT`, `_INSECURE`, `_HEADERS`, `_TIMEOUT` (milliseconds), `_COMPRESSION`,
    /// `_CERTIFICATE`, `_CLIENT_CERTIFICATE` and `_CLIENT_KEY` where they are set. Each has a form for traces alone, such as
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, that beats the general one. An empty variable counts as unset. What cannot be understood is
    /// logged and ignored, as OpenTelemetry's specification asks.
    ///
    /// The code beats the environment: set the field afterwards.
    ///
    /// # Errors
    /// Settings that are understood but cannot work, such as an address without a host.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// [`OtlpConfig::from_env`] for a protocol that the code decides, so that the endpoint follows it.
    ///
    /// # Errors
    /// As [`OtlpConfig::from_env`].
    pub fn from_env_for(protocol: OtlpProtocol) -> Result<Self, ConfigError> {
        let config = Self::read_env_for(protocol);
        config.validate()?;
        Ok(config)
    }

    /// [`OtlpConfig::from_env_for`] for those who change settings before the whole is judged, by [`OtlpConfig::validate`]: what the code
    /// decides makes the variable for it irrelevant, right or wrong.
    pub fn read_env_for(protocol: OtlpProtocol) -> Self {
        environment::read(&|name| std::env::var(name).ok(), Some(protocol), &mut environment::log)
    }

    /// [`OtlpConfig::from_env`] with another source of variables.
    ///
    /// # Errors
    /// As [`OtlpConfig::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let config = environment::read(&variable, None, &mut environment::log);
        config.validate()?;
        Ok(config)
    }

    /// Checks what can be checked without the network. Certificate files are opened when a pipeline is built.
    ///
    /// # Errors
    /// Every fault found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = self.grpc_config().validate().err().map(|error| error.faults).unwrap_or_default();
        for fault in &mut faults {
            if let ConfigFault::ServerUri { uri, reason } = fault {
                *fault = ConfigFault::Endpoint { uri: std::mem::take(uri), reason: std::mem::take(reason) };
            }
        }
        if self.protocol == OtlpProtocol::HttpProtobuf && is_unix(&self.endpoint) {
            let reason = "HTTP over a unix socket is not supported".to_owned();
            faults.push(ConfigFault::Endpoint { uri: shown_address(&self.endpoint), reason });
        }
        ConfigError::check(faults)
    }

    /// The time of one request, with a number for "no limit" that clocks can add.
    pub(crate) fn effective_timeout(&self) -> Duration {
        if self.timeout.is_zero() { NO_LIMIT } else { self.timeout.min(NO_LIMIT) }
    }

    /// Connecting has a limit even where the request has none.
    fn connect_timeout(&self) -> Duration {
        if self.timeout.is_zero() { DEFAULT_TIMEOUT } else { self.effective_timeout() }
    }

    /// A client without a user. Its rules for addresses, headers and files are OTLP's over HTTP too.
    pub(crate) fn grpc_config(&self) -> GrpcConfig {
        GrpcConfig {
            server_uri: self.endpoint_with_scheme(),
            username: String::new(),
            password: "".into(),
            timeout: self.effective_timeout(),
            connect_timeout: Some(self.connect_timeout()),
            insecure: self.insecure,
            ca_file: self.ca_file.clone(),
            client_certificate_file: self.client_certificate_file.clone(),
            client_key_file: self.client_key_file.clone(),
            compression: self.compression,
            headers: self.headers.clone(),
            max_request_bytes: self.max_request_bytes,
            max_response_bytes: self.max_response_bytes,
            user_agent_prefix: self.user_agent_prefix.clone(),
            ..GrpcConfig::default()
        }
    }

    /// A scheme says whether there is TLS; without one `insecure` does, whatever the host.
    fn endpoint_with_scheme(&self) -> String {
        let endpoint = self.endpoint.trim();
        if endpoint.is_empty() || endpoint.contains("://") || is_unix(endpoint) {
            endpoint.to_owned()
        } else {
            format!("{}://{endpoint}", if self.insecure { "http" } else { "https" })
        }
    }
}

impl fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its names of settings are these, and it knows how to keep secrets.
        f.debug_struct("OtlpConfig").field("protocol", &self.protocol).field("client", &self.grpc_config()).finish()
    }
}

fn is_unix(endpoint: &str) -> bool {
    endpoint.trim().starts_with("unix:")
}

fn under_base(base_url: &str) -> String {
    format!("{}{TRACES_PATH}", base_url.trim().trim_end_matches('/'))
}

/// Logs what a server warns of, once until it says something else.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<String>);

impl Warnings {
    pub(crate) fn tell(&self, answer: &TraceExportAnswer) {
        if answer.rejected_spans > 0 || answer.message.is_empty() {
            return;
        }
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != answer.message {
            told.clone_from(&answer.message);
            drop(told);
            aloud(|| tracing::warn!(message = %answer.message, "the server took the spans and warns"));
        }
    }
}
