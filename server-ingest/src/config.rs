//! The server's configuration: one table of flags and variables, checked as a whole.

use std::{fmt, net::SocketAddr, path::PathBuf};

use clap::Args;
use thiserror::Error;

/// Everything `scouter-server serve` can be told.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Folder of the log, the tables and the keys
    #[arg(long, env = "SCOUTER_STORAGE_URI", default_value = "./scouter_storage", value_name = "FOLDER")]
    pub storage: String,
    /// Where Scouter's gRPC services and OTLP/gRPC listen
    #[arg(long, env = "SCOUTER_GRPC_ADDR", default_value = "127.0.0.1:50051", value_name = "ADDR")]
    pub grpc_addr: String,
    /// Where queries, Scouter's HTTP routes, OTLP/HTTP, /healthz and /metrics are served
    #[arg(long, env = "SCOUTER_HTTP_ADDR", default_value = "127.0.0.1:8000", value_name = "ADDR")]
    pub http_addr: String,
    /// Where OTLP/gRPC listens; empty switches it off
    #[arg(long, env = "SCOUTER_OTLP_GRPC_ADDR", default_value = "127.0.0.1:4317", value_name = "ADDR")]
    pub otlp_grpc_addr: String,
    /// Where OTLP/HTTP listens; empty switches it off
    #[arg(long, env = "SCOUTER_OTLP_HTTP_ADDR", default_value = "127.0.0.1:4318", value_name = "ADDR")]
    pub otlp_http_addr: String,
    /// The user who may send and ask; without one it is guest, on loopback addresses only
    #[arg(long, env = "SCOUTER_DEFAULT_USERNAME", value_name = "NAME")]
    pub default_username: Option<String>,
    /// That user's password
    #[arg(long, env = "SCOUTER_DEFAULT_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub default_password: Option<Secret>,
    /// When an answer is given: `fsync` after the disk has it, `os` after the operating system has it
    #[arg(long, env = "SCOUTER_DURABILITY", default_value = "fsync", value_name = "fsync|os")]
    pub durability: String,
    /// Days that are kept by the date of their partition, today included; 0 keeps everything
    #[arg(long, env = "SCOUTER_RETENTION_DAYS", default_value_t = 0, value_name = "DAYS")]
    pub retention_days: u32,
    /// Size that merged table files are meant to reach
    #[arg(long, env = "SCOUTER_COMPACT_TARGET_MIB", default_value_t = 128, value_name = "MIB")]
    pub compact_target_mib: u64,
    /// Seconds that files taken out of a table stay on disk for readers outside of this server
    #[arg(long, env = "SCOUTER_DELETE_GRACE_SECONDS", default_value_t = 600, value_name = "SECONDS")]
    pub delete_grace_seconds: u64,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A configuration that was checked.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The storage folder.
    pub storage: PathBuf,
    /// The Scouter gRPC listener.
    pub grpc: SocketAddr,
    /// The HTTP listener.
    pub http: SocketAddr,
    /// The OTLP/gRPC listener, if any.
    pub otlp_grpc: Option<SocketAddr>,
    /// The OTLP/HTTP listener, if any.
    pub otlp_http: Option<SocketAddr>,
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: Secret,
    /// What an acknowledgement means.
    pub durability: scouter_storage::log::Durability,
    /// What is done with the tables' files in the background.
    pub maintenance: scouter_storage::store::MaintenanceOptions,
}

impl Secret {
    /// The text itself, for the one place that hashes or sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Error)]
#[error("the configuration cannot be used:\n  - {}", .faults.join("\n  - "))]
pub struct ConfigError {
    /// One sentence a fault.
    pub faults: Vec<String>,
}

impl Config {
    /// Checks all of it.
    ///
    /// # Errors
    /// Every fault, at once.
    pub fn validate(&self) -> Result<Checked, ConfigError> {
        let mut faults = Vec::new();
        let storage = parse_storage(&self.storage, &mut faults);
        let grpc = parse_address("--grpc-addr", &self.grpc_addr, &mut faults);
        let http = parse_address("--http-addr", &self.http_addr, &mut faults);
        let optional = |flag, text: &str, faults: &mut Vec<String>| (!text.trim().is_empty()).then(|| parse_address(flag, text, faults));
        let otlp_grpc = optional("--otlp-grpc-addr", &self.otlp_grpc_addr, &mut faults);
        let otlp_http = optional("--otlp-http-addr", &self.otlp_http_addr, &mut faults);
        let durability = match self.durability.as_str() {
            "fsync" => scouter_storage::log::Durability::Fsync,
            "os" => scouter_storage::log::Durability::Os,
            other => {
                faults.push(format!("--durability is {other:?}; it is fsync or os"));
                scouter_storage::log::Durability::Fsync
            }
        };
        if !(1..=4096).contains(&self.compact_target_mib) {
            faults.push(format!("--compact-target-mib is {}; it is 1 to 4096", self.compact_target_mib));
        }
        let maintenance = scouter_storage::store::MaintenanceOptions {
            target_file_bytes: self.compact_target_mib.saturating_mul(1024 * 1024),
            delete_grace: std::time::Duration::from_secs(self.delete_grace_seconds),
            retention_days: (self.retention_days > 0).then_some(self.retention_days),
            ..Default::default()
        };
        let is_given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let password = self.default_password.clone().filter(|password| !password.expose().is_empty());
        let (username, password) = match (is_given(&self.default_username), password) {
            (true, Some(password)) => (self.default_username.clone().unwrap_or_default(), password),
            (true, None) => {
                faults.push("SCOUTER_DEFAULT_USERNAME is set and SCOUTER_DEFAULT_PASSWORD is not".to_owned());
                (String::new(), Secret::from(""))
            }
            (false, Some(_)) => {
                faults.push("SCOUTER_DEFAULT_PASSWORD is set and SCOUTER_DEFAULT_USERNAME is not".to_owned());
                (String::new(), Secret::from(""))
            }
            (false, None) => {
                let listeners = [Some(grpc), Some(http), otlp_grpc, otlp_http];
                if let Some(open) = listeners.into_iter().flatten().find(|address| !address.ip().is_loopback()) {
                    faults.push(format!(
                        "{open} can be reached from other machines, where the default user guest is not allowed; set SCOUTER_DEFAULT_USERNAME and SCOUTER_DEFAULT_PASSWORD, or listen on 127.0.0.1"
                    ));
                }
                ("guest".to_owned(), Secret::from("guest"))
            }
        };
        if faults.is_empty() {
            Ok(Checked { storage, grpc, http, otlp_grpc, otlp_http, username, password, durability, maintenance })
        } else {
            Err(ConfigError { faults })
        }
    }
}

/// The folder meant by `--storage`: a path, or a `file://` URI.
pub fn parse_storage(text: &str, faults: &mut Vec<String>) -> PathBuf {
    match text.split_once("://") {
        None if text.is_empty() => faults.push("--storage is empty; name a folder".to_owned()),
        None => {}
        Some(("file", path)) if path.starts_with('/') => return PathBuf::from(path),
        Some(_) => {
            faults.push(format!("--storage is {text:?}; this version stores in a local folder, named by its path or by file:///path"))
        }
    }
    PathBuf::from(text)
}

fn parse_address(flag: &str, text: &str, faults: &mut Vec<String>) -> SocketAddr {
    let localhost = text.trim().strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    localhost.as_deref().unwrap_or(text.trim()).parse().unwrap_or_else(|_| {
        faults.push(format!("{flag} is {text:?}; it is an IP address and a port, such as 127.0.0.1:50051"));
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

#[cfg(test)]
mod tests;
