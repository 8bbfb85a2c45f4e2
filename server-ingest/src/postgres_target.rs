//! Where PostgreSQL is: what `--database-uri` says, read and completed.
//!
//! It stands below the configuration, which checks it, and below [`crate::postgres`], which goes there. A password crosses a network only under
//! TLS: whoever wants plaintext to another machine says `sslmode=disable`.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

/// For a connection with all its handshakes.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A database, as `postgres://user:password@host:port/database?option=value` or `key=value` pairs name it.
#[derive(Clone)]
pub struct Target {
    pub(crate) config: Config,
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
        // What follows the first one would be taken for the host, and shown.
        if text.starts_with("postgres") && text.matches('@').count() > 1 {
            return Err(
                "an @ in a user, a password or an option is written %40; write postgres://user:password@host:5432/database".to_owned()
            );
        }
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

fn is_on_this_machine(config: &Config) -> bool {
    let is_local = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => scouter_tonic::client::is_loopback(name),
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

#[cfg(test)]
mod tests;
