//! Where PostgreSQL is, and the way there.
//!
//! A password crosses a network only under TLS with a checked certificate. To an address of this machine TLS is used if the server offers
//! it. Whoever wants plaintext to another machine says `sslmode=disable`.

use std::{fmt, future::Future, net::IpAddr, pin::Pin, str::FromStr, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Client, Config,
    config::{Host, SslMode},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::TlsConnector;

use super::PostgresError;

/// For a connection with all its handshakes.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A database, as `postgres://user:password@host:port/database?option=value` or `key=value` pairs name it.
#[derive(Clone)]
pub struct Target {
    config: Config,
    shown: String,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl FromStr for Target {
    type Err = String;

    /// The error never quotes the text, which holds a password.
    fn from_str(text: &str) -> Result<Self, String> {
        // Certificates are always checked here, so the stricter words say the same.
        let text = text.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
        let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
            format!("it is no address of a PostgreSQL database{cause}; write postgres://user:password@host:5432/database")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("it names no host; write postgres://user:password@host:5432/database".to_owned());
        }
        if config.get_ssl_mode() == SslMode::Prefer && !is_on_this_machine(&config) {
            config.ssl_mode(SslMode::Require);
        }
        if config.get_application_name().is_none() {
            config.application_name("scouter-server");
        }
        config.connect_timeout(CONNECT_WITHIN);
        let shown = shown(&config);
        Ok(Self { config, shown })
    }
}

impl Target {
    /// A connection; its task ends with the client.
    pub(super) async fn connect(&self) -> Result<Client, PostgresError> {
        let connecting = self.config.connect(Tls::new(self.config.get_ssl_mode())?);
        let (client, connection) =
            tokio::time::timeout(CONNECT_WITHIN, connecting).await.map_err(|_| PostgresError::Silent { within: CONNECT_WITHIN })??;
        tokio::spawn(async move {
            // Its error is also that of the statement under way.
            let _ = connection.await;
        });
        Ok(client)
    }
}

fn is_on_this_machine(config: &Config) -> bool {
    let is_local = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
    };
    config.get_hosts().iter().all(is_local) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// Everything but the password.
fn shown(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Unix(path) => path.display().to_string(),
        Host::Tcp(name) => name.clone(),
    });
    let hosts: Vec<String> =
        if config.get_hosts().is_empty() { config.get_hostaddrs().iter().map(IpAddr::to_string).collect() } else { hosts.collect() };
    let ports: Vec<String> = config.get_ports().iter().map(u16::to_string).collect();
    let user = config.get_user().unwrap_or("?");
    let port = if ports.is_empty() { "5432".to_owned() } else { ports.join(",") };
    format!("{user}@{}:{port}/{}", hosts.join(","), config.get_dbname().unwrap_or(user))
}

/// Makes TLS connections whose certificate is checked by the roots of the operating system, or of `SSL_CERT_FILE`.
#[derive(Clone)]
struct Tls(Option<Arc<ClientConfig>>);

impl Tls {
    fn new(mode: SslMode) -> Result<Self, PostgresError> {
        if mode == SslMode::Disable {
            return Ok(Self(None));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() && mode == SslMode::Require {
            return Err(PostgresError::NoRoots);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites of both versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Some(Arc::new(config))))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type TlsConnect = Handshake;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, Self::Error> {
        // A Unix socket has no name; nothing will be asked to prove it.
        let name = if domain.is_empty() { "localhost" } else { domain };
        Ok(Handshake { config: self.0.clone(), name: ServerName::try_from(name)?.to_owned() })
    }
}

struct Handshake {
    config: Option<Arc<ClientConfig>>,
    name: ServerName<'static>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Stream<S>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Stream<S>, std::io::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or_else(|| std::io::Error::other("TLS is off"))?;
            TlsConnector::from(config).connect(self.name, stream).await.map(Stream)
        })
    }
}

/// A TLS stream. Binding its channel to the password is left out: the certificate is checked.
struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>, bytes: &[u8]) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
