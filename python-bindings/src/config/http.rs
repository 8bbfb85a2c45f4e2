//! `HttpConfig`: the same server over HTTP, for spans, records and questions.

use std::path::PathBuf;

use pyo3::prelude::*;

use super::{TransportType, check, compression_name, compression_named, given_or_variable, python_bool, python_path, seconds};
use crate::error::Faults;

/// Where Scouter's HTTP server is and who calls it.
///
/// What is omitted comes from the environment, then from the defaults. Spans and records travel as protobuf,
/// behind a login that is renewed, or with a token or an ingest key.
///
/// Args:
///     server_uri: ``http://host:port`` or ``https://host:port``. ``SCOUTER_SERVER_URI``, else ``http://localhost:8000``.
///     username: ``SCOUTER_USERNAME``, else ``guest``.
///     password: ``SCOUTER_PASSWORD``, else ``guest``. Never shown.
///     auth_token: A token or an ingest key, in place of name and password. ``SCOUTER_AUTH_TOKEN``. Never shown.
///     timeout_secs: One deadline for all attempts of a request. 10 by default.
///     insecure: Whether credentials may cross plaintext to another host. ``SCOUTER_HTTP_INSECURE``, else False.
///     ca_file: PEM file of certificate authorities to trust beside the system's. ``SCOUTER_HTTP_CA_FILE``.
///     compression: ``"none"``, ``"gzip"`` or ``"zstd"``. None by default.
///
/// Raises:
///     ConfigError: A `ValueError` that names every fault.
#[pyclass(module = "scouter.transport", subclass)]
pub(crate) struct HttpConfig {
    pub(crate) config: scouter_exporter::HttpConfig,
}

impl HttpConfig {
    fn new_checked(mut config: scouter_exporter::HttpConfig, faults: Faults) -> PyResult<Self> {
        check(faults, config.validate(), "HttpConfig")?;
        // Who asks questions needs a scheme, and paths follow.
        let target = scouter_exporter::GrpcConfig {
            server_uri: config.server_uri,
            insecure: config.insecure,
            ..scouter_exporter::GrpcConfig::default()
        };
        config.server_uri = target.address().unwrap_or(target.server_uri).trim_end_matches('/').to_owned();
        Ok(Self { config })
    }

    fn change(&mut self, change: impl FnOnce(&mut scouter_exporter::HttpConfig)) -> PyResult<()> {
        let mut config = self.config.clone();
        change(&mut config);
        *self = Self::new_checked(config, Faults::default())?;
        Ok(())
    }
}

#[pymethods]
impl HttpConfig {
    #[new]
    #[pyo3(signature = (
        server_uri=None, username=None, password=None, auth_token=None,
        *, timeout_secs=None, insecure=None, ca_file=None, compression=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn new(
        server_uri: Option<String>,
        username: Option<String>,
        password: Option<String>,
        auth_token: Option<String>,
        timeout_secs: Option<f64>,
        insecure: Option<bool>,
        ca_file: Option<PathBuf>,
        compression: Option<&str>,
    ) -> PyResult<Self> {
        let mut faults = Faults::default();
        let (mut config, unreadable) = scouter_exporter::HttpConfig::read(|name| {
            let given = match name {
                "SCOUTER_SERVER_URI" => server_uri.clone(),
                "SCOUTER_USERNAME" => username.clone(),
                "SCOUTER_PASSWORD" => password.clone(),
                "SCOUTER_AUTH_TOKEN" => auth_token.clone(),
                "SCOUTER_HTTP_INSECURE" => insecure.map(|insecure| insecure.to_string()),
                _ => None,
            };
            given_or_variable(given, name)
        });
        faults.extend(unreadable);
        // An empty variable is as none; an empty argument is what was asked for.
        config.server_uri = server_uri.unwrap_or(config.server_uri);
        config.username = username.unwrap_or(config.username);
        config.password = password.map_or(config.password, Into::into);
        config.timeout = seconds("timeout_secs", timeout_secs, &mut faults).unwrap_or(config.timeout);
        config.ca_file = ca_file.or(config.ca_file);
        config.compression = compression_named(compression, &mut faults);
        Self::new_checked(config, faults)
    }

    #[getter]
    fn server_uri(&self) -> &str {
        &self.config.server_uri
    }

    #[setter]
    fn set_server_uri(&mut self, server_uri: String) -> PyResult<()> {
        self.change(|config| config.server_uri = server_uri)
    }

    #[getter]
    fn username(&self) -> &str {
        &self.config.username
    }

    #[setter]
    fn set_username(&mut self, username: String) -> PyResult<()> {
        self.change(|config| config.username = username)
    }

    #[setter]
    fn set_password(&mut self, password: String) -> PyResult<()> {
        self.change(|config| config.password = password.into())
    }

    #[setter]
    fn set_auth_token(&mut self, auth_token: String) -> PyResult<()> {
        self.change(|config| config.auth_token = auth_token.into())
    }

    #[getter]
    fn timeout_secs(&self) -> f64 {
        self.config.timeout.as_secs_f64()
    }

    #[getter]
    fn insecure(&self) -> bool {
        self.config.insecure
    }

    #[getter]
    fn ca_file(&self) -> Option<String> {
        self.config.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned())
    }

    #[getter]
    fn compression(&self) -> &'static str {
        compression_name(self.config.compression)
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of every configuration")]
    fn transport_type(&self) -> TransportType {
        TransportType::Http
    }

    /// For `scouter.client`, which logs in.
    #[getter(_password)]
    fn password(&self) -> &str {
        self.config.password.reveal()
    }

    /// For `scouter.client`; empty where there is none.
    #[getter(_auth_token)]
    fn auth_token(&self) -> &str {
        self.config.auth_token.reveal()
    }

    fn __repr__(&self) -> String {
        let token = if self.config.auth_token.is_empty() { "None" } else { "\"***\"" };
        format!(
            "HttpConfig(server_uri={:?}, username={:?}, password=\"***\", auth_token={token}, timeout_secs={}, insecure={}, ca_file={}, \
             compression={:?})",
            self.config.server_uri,
            self.config.username,
            self.config.timeout.as_secs_f64(),
            python_bool(self.config.insecure),
            python_path(self.config.ca_file.as_deref()),
            self.compression(),
        )
    }
}
