//! What a client must know to reach a server, checked before anything is sent.

use std::{fmt, path::PathBuf, time::Duration};

use http::Uri;

use super::{
    address::{is_loopback, shown_address},
    checks::{MAX_TIMEOUT, bounds_faults, truth},
    tls,
};
use crate::limits::{DEFAULT_GRPC_PORT, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES};

/// Time for connect, login and all attempts of one request together, unless the configuration says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A password or a token. `Debug` and `Display` show `***`; only [`Secret::reveal`] gives the text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself. Never log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True when there is nothing to keep secret.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self::new(secret)
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self::new(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How request bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// gzip; every OTLP server reads it.
    Gzip,
    /// zstd; an order of magnitude cheaper than gzip at the same ratio.
    Zstd,
}

/// How spans and records are written in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// As protobuf, unless the server says at login that it reads nothing but JSON.
    #[default]
    Auto,
    /// As the JSON that every Scouter server reads.
    Json,
}

/// Where Scouter's gRPC server is and how to speak to it. Plain data; [`GrpcConfig::validate`] finds every fault at once.
#[derive(Clone)]
pub struct GrpcConfig {
    /// `http://host:port`, `https://host:port`, `host:port` (https, unless the host is loopback or `insecure` is set) or `unix:/path`.
    pub server_uri: String,
    /// User of `AuthService.Login`. Empty: the client does not log in, and `headers` may hold an `authorization` of their own.
    pub username: String,
    /// Password of `AuthService.Login`.
    pub password: Secret,
    /// One deadline for connect, login and all attempts of a request. Between 1 ms and one day.
    pub timeout: Duration,
    /// Time for one TCP connect and TLS handshake; never more than `timeout`.
    pub connect_timeout: Option<Duration>,
    /// Interval of HTTP/2 pings on a connection where a request waits and nothing arrives; `None` means 4 s. They tell a dead connection
    /// from a slow server: one whose peer lost power, or that was forgotten on the way, is replaced instead of used for ever.
    pub keep_alive_interval: Option<Duration>,
    /// How long an answer to a ping may take before the connection is given up; `None` means 4 s.
    pub keep_alive_timeout: Option<Duration>,
    /// Ping although no request is in flight.
    pub keep_alive_while_idle: bool,
    /// Allow the password and the token to cross plaintext to a host that is not loopback.
    pub insecure: bool,
    /// PEM file with certificate authorities trusted beside the system's and the bundled ones.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate, and those between it and its authority, that proves who this client is. Needs `client_key_file`.
    pub client_certificate_file: Option<PathBuf>,
    /// PEM file with the private key of the client's certificate.
    pub client_key_file: Option<PathBuf>,
    /// Compression of requests.
    pub compression: Compression,
    /// How spans and records are written.
    pub payload: Payload,
    /// Metadata sent with every call, for gateways in between. Values are treated as secrets.
    pub headers: Vec<(String, String)>,
    /// Largest request, in bytes before compression. A lower value than the server's is always safe.
    pub max_request_bytes: usize,
    /// Largest answer that is read, in bytes. A larger one fails the request for good.
    pub max_response_bytes: usize,
    /// Product token in front of the client's own `user-agent`, such as `my-agent/1.2`.
    pub user_agent_prefix: Option<String>,
}

impl Default for GrpcConfig {
    /// guest/guest on `http://localhost:50051`.
    fn default() -> Self {
        Self {
            server_uri: format!("http://localhost:{DEFAULT_GRPC_PORT}"),
            username: "guest".to_owned(),
            password: Secret::new("guest"),
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: None,
            keep_alive_interval: None,
            keep_alive_timeout: None,
            keep_alive_while_idle: false,
            insecure: false,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            compression: Compression::None,
            payload: Payload::Auto,
            headers: Vec::new(),
            max_request_bytes: MAX_REQUEST_BYTES,
            max_response_bytes: MAX_RESPONSE_BYTES,
            user_agent_prefix: None,
        }
    }
}

impl fmt::Debug for GrpcConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header_names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("GrpcConfig")
            .field("server_uri", &self.shown_uri())
            .field("username", &self.username)
            .field("password", &self.password)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("keep_alive_interval", &self.keep_alive_interval)
            .field("keep_alive_timeout", &self.keep_alive_timeout)
            .field("keep_alive_while_idle", &self.keep_alive_while_idle)
            .field("insecure", &self.insecure)
            .field("ca_file", &self.ca_file)
            .field("client_certificate_file", &self.client_certificate_file)
            .field("client_key_file", &self.client_key_file)
            .field("compression", &self.compression)
            .field("payload", &self.payload)
            .field("headers", &header_names)
            .field("max_request_bytes", &self.max_request_bytes)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("user_agent_prefix", &self.user_agent_prefix)
            .finish()
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}", join(.faults))]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<ConfigFault>,
}

impl ConfigError {
    /// `Ok` when there are no faults.
    ///
    /// # Errors
    /// The faults, when there are any.
    pub fn check(faults: Vec<ConfigFault>) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self { faults }) }
    }

    /// The faults found while reading settings, and then those of the whole, at once.
    ///
    /// # Errors
    /// Every one of them.
    pub fn check_both(mut read: Vec<ConfigFault>, validated: Result<(), Self>) -> Result<(), Self> {
        if let Err(error) = validated {
            read.extend(error.faults);
        }
        Self::check(read)
    }
}

impl From<ConfigFault> for ConfigError {
    fn from(fault: ConfigFault) -> Self {
        Self { faults: vec![fault] }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// The address cannot be used.
    #[error("server_uri `{uri}` cannot be used: {reason}")]
    ServerUri {
        /// The address given, without user and password.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Credentials would cross the network in the clear.
    #[error(
        "refusing to send credentials in plaintext to `{host}`, which is not this machine; use https://, or set insecure=true to allow it"
    )]
    Plaintext {
        /// The host that was named.
        host: String,
    },
    /// The address of an OTLP endpoint cannot be used.
    #[error("endpoint `{uri}` cannot be used: {reason}")]
    Endpoint {
        /// The address given, without user and password.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The CA file cannot be read.
    #[error("cannot read ca_file `{}`: {source}", path.display())]
    CaFile {
        /// The path given.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The CA file holds nothing usable.
    #[error("ca_file `{}` holds no PEM certificate", path.display())]
    CaFileEmpty {
        /// The path given.
        path: PathBuf,
    },
    /// The file of the client's certificate or of its key cannot be read.
    #[error("cannot read {setting} `{}`: {source}", path.display())]
    ClientFile {
        /// `client_certificate_file` or `client_key_file`.
        setting: &'static str,
        /// The path given.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file of the client's certificate or of its key holds something else.
    #[error("{setting} `{}` holds no PEM {expected}", path.display())]
    ClientFileContent {
        /// `client_certificate_file` or `client_key_file`.
        setting: &'static str,
        /// The path given.
        path: PathBuf,
        /// What it must hold.
        expected: &'static str,
    },
    /// Of the client's certificate and its key only one is given.
    #[error("{given} is set, but {missing} is not; a client certificate needs both")]
    ClientPair {
        /// The setting that is there.
        given: &'static str,
        /// The setting that is not.
        missing: &'static str,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {reason}")]
    Tls {
        /// What is missing.
        reason: String,
    },
    /// A header cannot be sent.
    #[error("header `{name}` cannot be sent: {reason}")]
    Header {
        /// Its name; the value is kept out of messages.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A setting is out of its range.
    #[error("{name} must be {expected}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// An environment variable cannot be read.
    #[error("environment variable {name}=`{value}` must be {expected}")]
    Variable {
        /// The variable's name.
        name: &'static str,
        /// Its value; never that of a password.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
}

impl GrpcConfig {
    /// The server's address without user, password, query and fragment.
    pub fn shown_uri(&self) -> String {
        shown_address(&self.server_uri)
    }

    /// The defaults, with `SCOUTER_GRPC_URI`, `SCOUTER_USERNAME`, `SCOUTER_PASSWORD`, `SCOUTER_GRPC_INSECURE`,
    /// `SCOUTER_GRPC_CA_FILE`, `SCOUTER_GRPC_CLIENT_CERTIFICATE_FILE` and `SCOUTER_GRPC_CLIENT_KEY_FILE` where they are set.
    /// An empty variable counts as unset.
    ///
    /// # Errors
    /// Every variable and every setting that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// [`GrpcConfig::from_env`] with another source of variables.
    ///
    /// # Errors
    /// As [`GrpcConfig::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let read = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let mut faults = Vec::new();
        let mut config = Self::default();
        if let Some(uri) = read("SCOUTER_GRPC_URI") {
            config.server_uri = uri;
        }
        if let Some(username) = read("SCOUTER_USERNAME") {
            config.username = username;
        }
        if let Some(password) = read("SCOUTER_PASSWORD") {
            config.password = Secret::new(password);
        }
        config.insecure = truth("SCOUTER_GRPC_INSECURE", read("SCOUTER_GRPC_INSECURE"), &mut faults);
        config.ca_file = read("SCOUTER_GRPC_CA_FILE").map(PathBuf::from);
        config.client_certificate_file = read("SCOUTER_GRPC_CLIENT_CERTIFICATE_FILE").map(PathBuf::from);
        config.client_key_file = read("SCOUTER_GRPC_CLIENT_KEY_FILE").map(PathBuf::from);
        faults.extend(config.faults());
        ConfigError::check(faults)?;
        Ok(config)
    }

    /// Checks what can be checked without the network. Certificate files are opened when a client is built.
    ///
    /// # Errors
    /// Every fault found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::check(self.faults())
    }

    fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        match Target::parse(&self.server_uri, self.insecure) {
            Ok(target) => {
                let is_in_the_clear = !target.is_encrypted && !target.is_this_machine && !self.insecure;
                if is_in_the_clear && self.sends_credentials() {
                    faults.push(ConfigFault::Plaintext { host: target.host });
                }
            }
            Err(fault) => faults.push(fault),
        }
        faults.extend(bounds_faults(self.timeout, self.max_request_bytes));
        if self.connect_timeout.is_some_and(|timeout| timeout.is_zero() || timeout > MAX_TIMEOUT) {
            faults.push(ConfigFault::Setting { name: "connect_timeout", expected: "greater than zero and at most one day" });
        }
        if self.keep_alive_interval.is_some_and(|interval| interval.is_zero() || interval > MAX_TIMEOUT) {
            faults.push(ConfigFault::Setting { name: "keep_alive_interval", expected: "greater than zero and at most one day" });
        }
        if self.keep_alive_timeout.is_some_and(|timeout| timeout.is_zero() || timeout > MAX_TIMEOUT) {
            faults.push(ConfigFault::Setting { name: "keep_alive_timeout", expected: "greater than zero and at most one day" });
        }
        if self.max_response_bytes == 0 {
            faults.push(ConfigFault::Setting { name: "max_response_bytes", expected: "greater than zero" });
        }
        if self.user_agent_prefix.as_ref().is_some_and(|prefix| !is_printable(prefix)) {
            faults.push(ConfigFault::Setting { name: "user_agent_prefix", expected: "printable ASCII" });
        }
        let (certificate, key) = (self.client_certificate_file.is_some(), self.client_key_file.is_some());
        if certificate != key {
            let (given, missing) =
                if key { (tls::CLIENT_KEY, tls::CLIENT_CERTIFICATE) } else { (tls::CLIENT_CERTIFICATE, tls::CLIENT_KEY) };
            faults.push(ConfigFault::ClientPair { given, missing });
        }
        for (name, value) in &self.headers {
            if let Err(reason) = check_header(name, value, self.username.is_empty()) {
                faults.push(ConfigFault::Header { name: name.clone(), reason });
            }
        }
        faults
    }

    /// The server's address with a scheme.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn address(&self) -> Result<String, ConfigFault> {
        Target::parse(&self.server_uri, self.insecure).map(|target| target.endpoint)
    }

    fn sends_credentials(&self) -> bool {
        !self.username.is_empty() || self.headers.iter().any(|(name, _)| is_credential(name))
    }
}

/// Headers that services use for secrets.
fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "api-key", "apikey", "api_key", "token", "cookie", "secret"].iter().any(|part| name.contains(part))
}

/// A parsed address.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// What tonic is given.
    pub(super) endpoint: String,
    /// The host, for messages.
    pub(super) host: String,
    pub(super) is_encrypted: bool,
    /// Loopback, or a unix socket.
    pub(super) is_this_machine: bool,
}

impl Target {
    pub(super) fn parse(server_uri: &str, insecure: bool) -> Result<Self, ConfigFault> {
        let text = server_uri.trim();
        let fault = |reason: &str| ConfigFault::ServerUri { uri: shown_address(text), reason: reason.to_owned() };
        if text.starts_with("unix:") {
            return Ok(Self { endpoint: text.to_owned(), host: text.to_owned(), is_encrypted: false, is_this_machine: true });
        }
        let with_scheme = match text.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => text.to_owned(),
            Some(_) => return Err(fault("its scheme must be http, https or unix")),
            None if text.is_empty() => return Err(fault("it is empty")),
            None => {
                let host = format!("http://{text}").parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
                let plaintext = insecure || host.is_some_and(|host| is_loopback(&host));
                format!("{}://{text}", if plaintext { "http" } else { "https" })
            }
        };
        let uri: Uri = with_scheme.parse().map_err(|_| fault("it is not a URI"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| fault("it names no host"))?.to_owned();
        // Wherever it is: `http://user:pass/word@host` and `http://user:pass?word@host` have a host `user`.
        if text.contains('@') {
            return Err(fault("user and password belong into their own settings, and an @ of a path is written %40"));
        }
        Ok(Self { is_encrypted: uri.scheme_str() == Some("https"), is_this_machine: is_loopback(&host), endpoint: with_scheme, host })
    }
}

fn is_printable(text: &str) -> bool {
    tonic::metadata::AsciiMetadataValue::try_from(text).is_ok()
}

fn check_header(name: &str, value: &str, may_authorize: bool) -> Result<(), &'static str> {
    let reserved = ["te", "content-type", "content-length", "content-encoding", "transfer-encoding", "host", "user-agent"];
    let name = name.to_ascii_lowercase();
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err("its name is not a header name");
    }
    if name.ends_with("-bin") {
        return Err("binary metadata is not supported");
    }
    if reserved.contains(&name.as_str()) || name.starts_with("grpc-") || (name == "authorization" && !may_authorize) {
        return Err("its name is reserved");
    }
    if !is_printable(value) {
        return Err("its value is not printable ASCII");
    }
    Ok(())
}

fn join(faults: &[ConfigFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
