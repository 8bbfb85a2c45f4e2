//! Where Scouter's HTTP server is.

#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, time::Duration};

use scouter_tonic::{
    client::{Compression, ConfigError, ConfigFault, DEFAULT_TIMEOUT, Payload, Secret, shown_address, truth},
    limits::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES},
};

use crate::GrpcConfig;

const DEFAULT_URI: &str = "http://localhost:8000";

/// Where Scouter's HTTP server is and how to speak to it. Plain data; [`HttpConfig::validate`] finds every fault at once.
#[derive(Clone)]
pub struct HttpConfig {
    /// `http://host:port`, `https://host:port`, or `host:port` (https, unless the host is loopback or `insecure` is set). A path is kept in
    /// front of the server's own.
    pub server_uri: String,
    /// User of the login. Empty, and no `auth_token`: nothing is sent to authorise requests but `headers`.
    pub username: String,
    /// Password of the login.
    pub password: Secret,
    /// A token or an ingest key, in place of user and password. It is sent as it is, and never renewed.
    pub auth_token: Secret,
    /// One deadline for connect, login and all attempts of a request. Between 1 ms and one day.
    pub timeout: Duration,
    /// Time for one TCP connect; never more than `timeout`.
    pub connect_timeout: Option<Duration>,
    /// Allow the password and the token to cross plaintext to a host that is not loopback.
    pub insecure: bool,
    /// PEM file with certificate authorities trusted beside the system's and the bundled ones.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate that proves who this client is. Needs `client_key_file`.
    pub client_certificate_file: Option<PathBuf>,
    /// PEM file with the private key of the client's certificate.
    pub client_key_file: Option<PathBuf>,
    /// Compression of requests.
    pub compression: Compression,
    /// How spans and records are written. `Auto` is protobuf; servers that read JSON alone need `Json`.
    pub payload: Payload,
    /// Sent with every request, for gateways in between. Values are treated as secrets.
    pub headers: Vec<(String, String)>,
    /// Largest request, in bytes before compression.
    pub max_request_bytes: usize,
    /// Largest answer that is read, in bytes.
    pub max_response_bytes: usize,
    /// Product token in front of the exporter's own `user-agent`, such as `my-agent/1.2`.
    pub user_agent_prefix: Option<String>,
}

impl Default for HttpConfig {
    /// guest on `http://localhost:8000`.
    fn default() -> Self {
        Self {
            server_uri: DEFAULT_URI.to_owned(),
            username: "guest".to_owned(),
            password: Secret::new("guest"),
            auth_token: Secret::default(),
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: None,
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

impl HttpConfig {
    /// The defaults, with `SCOUTER_SERVER_URI`, `SCOUTER_USERNAME`, `SCOUTER_PASSWORD`, `SCOUTER_AUTH_TOKEN`, `SCOUTER_HTTP_INSECURE` and
    /// `SCOUTER_HTTP_CA_FILE` where they are set. An empty variable counts as unset.
    ///
    /// # Errors
    /// Every variable and every setting that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// [`HttpConfig::from_env`] with another source of variables.
    ///
    /// # Errors
    /// As [`HttpConfig::from_env`].
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
        if let Some(uri) = read("SCOUTER_SERVER_URI") {
            config.server_uri = uri;
        }
        if let Some(username) = read("SCOUTER_USERNAME") {
            config.username = username;
        }
        if let Some(password) = read("SCOUTER_PASSWORD") {
            config.password = Secret::new(password);
        }
        if let Some(token) = read("SCOUTER_AUTH_TOKEN") {
            config.auth_token = Secret::new(token);
        }
        config.insecure = truth("SCOUTER_HTTP_INSECURE", read("SCOUTER_HTTP_INSECURE"), &mut faults);
        config.ca_file = read("SCOUTER_HTTP_CA_FILE").map(PathBuf::from);
        (config, faults)
    }

    /// Checks what can be checked without the network. Certificate files are opened when a transport is built.
    ///
    /// # Errors
    /// Every fault found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = self.as_grpc().validate().err().map(|error| error.faults).unwrap_or_default();
        if self.server_uri.trim().starts_with("unix:") {
            let reason = "HTTP over a unix socket is not supported".to_owned();
            faults.push(ConfigFault::ServerUri { uri: shown_address(&self.server_uri), reason });
        }
        if self.server_uri.contains(['?', '#']) {
            let reason = "paths are put behind it, so it has no query and no fragment".to_owned();
            faults.push(ConfigFault::ServerUri { uri: shown_address(&self.server_uri), reason });
        }
        if !self.auth_token.is_empty() && http::HeaderValue::from_str(self.auth_token.reveal()).is_err() {
            faults.push(ConfigFault::Setting { name: "auth_token", expected: "printable ASCII" });
        }
        ConfigError::check(faults)
    }

    /// The settings that both protocols have. Whoever sends a token sends credentials, as whoever has a user.
    pub(super) fn as_grpc(&self) -> GrpcConfig {
        let username = if self.auth_token.is_empty() { self.username.clone() } else { "token".to_owned() };
        GrpcConfig {
            server_uri: self.server_uri.clone(),
            username,
            password: self.password.clone(),
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
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
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("auth_token", &self.auth_token)
            .field("payload", &self.payload)
            // Its names of settings are these, and it knows how to keep secrets.
            .field("client", &self.as_grpc())
            .finish()
    }
}
