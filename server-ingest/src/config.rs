//! The server's configuration: one table of options, each a flag, a variable and a line of a file, checked as a whole.
//!
//! [`Config`] is the table. A flag wins over a variable, that over the file ([`mod@file`]), that over the default. Every value is text
//! until [`Config::validate`] has looked at all of them, so that all faults come at once.

use std::{
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use scouter_tonic::limits::MAX_REQUEST_BYTES;
use thiserror::Error;

use crate::{admission::MemoryPlan, auth::Accounts, postgres_target::Target, tls::TlsFiles};

mod brokers;
pub mod file;
mod kafka;

pub use brokers::{BrokerOptions, Brokers, RabbitMq, Redis};
pub use kafka::{Kafka, KafkaOptions, SharedLog};

const MIB: usize = 1024 * 1024;

/// A file waits for its commit for a minute at most; this leaves room for machines that stand still.
const SHARED_GRACE: Duration = Duration::from_secs(300);

/// Everything `scouter-server serve` can be told.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// File of options, one a line: their names without the dashes, = and a value (TOML)
    #[arg(long, env = "SCOUTER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say all that is wrong with the configuration, or that nothing is, and end
    #[arg(long)]
    pub check_config: bool,
    /// Print the configuration as a file, secrets hidden, and end
    #[arg(long)]
    pub print_config: bool,

    /// Folder of the log, the tables and the keys; with `--log kafka` where the tables are: s3://BUCKET/PATH, gs://BUCKET/PATH or
    /// az://CONTAINER/PATH, with its provider's variables (AWS_*, GOOGLE_*, AZURE_*)
    #[arg(long, env = "SCOUTER_STORAGE_URI", default_value = "./scouter_storage", value_name = "FOLDER|URL")]
    pub storage: String,
    /// The log: `disk` in the storage folder, for one server; `kafka`, the topic of `--kafka-topic`, for servers that share the tables
    #[arg(long, env = "SCOUTER_LOG", default_value = "disk", value_name = "disk|kafka")]
    pub log: String,
    /// Folder of users, keys and profiles, where it is not the storage; ./scouter_state with `--log kafka`
    #[arg(long, env = "SCOUTER_STATE", value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// When an answer is given: `fsync` after the disk has it, `os` after the operating system has it
    #[arg(long, env = "SCOUTER_DURABILITY", default_value = "fsync", value_name = "fsync|os")]
    pub durability: String,

    /// PostgreSQL that gets records, profiles and tags too, in Scouter's schema: postgres://user:password@host:5432/database
    #[arg(long, env = "DATABASE_URI", value_name = "URI", hide_env_values = true)]
    pub database_uri: Option<Secret>,

    /// Where requests come from beside the listeners.
    #[command(flatten)]
    pub brokers: BrokerOptions,

    /// Where Scouter's gRPC services and OTLP/gRPC listen
    #[arg(long, env = "SCOUTER_GRPC_ADDR", default_value = "127.0.0.1:50051", value_name = "ADDR")]
    pub grpc_addr: String,
    /// Where queries, Scouter's HTTP routes, OTLP/HTTP, health and metrics are served
    #[arg(long, env = "SCOUTER_HTTP_ADDR", default_value = "127.0.0.1:8000", value_name = "ADDR")]
    pub http_addr: String,
    /// Where OTLP/gRPC listens; empty switches it off
    #[arg(long, env = "SCOUTER_OTLP_GRPC_ADDR", default_value = "127.0.0.1:4317", value_name = "ADDR")]
    pub otlp_grpc_addr: String,
    /// Where OTLP/HTTP listens; empty switches it off
    #[arg(long, env = "SCOUTER_OTLP_HTTP_ADDR", default_value = "127.0.0.1:4318", value_name = "ADDR")]
    pub otlp_http_addr: String,
    /// A path before /v1/traces that is served as well, such as /otlp
    #[arg(long, env = "SCOUTER_OTLP_HTTP_BASE_PATH", default_value = "", value_name = "PATH")]
    pub otlp_http_base_path: String,

    /// The user who may do everything; without one, and without users added, it is guest, on loopback addresses only
    #[arg(long, env = "SCOUTER_DEFAULT_USERNAME", value_name = "NAME")]
    pub default_username: Option<String>,
    /// That user's password
    #[arg(long, env = "SCOUTER_DEFAULT_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub default_password: Option<Secret>,

    /// Days that are kept by the date of their partition, today included; 0 keeps everything
    #[arg(long, env = "SCOUTER_RETENTION_DAYS", default_value = "0", value_name = "DAYS")]
    pub retention_days: String,
    /// Size that merged table files are meant to reach
    #[arg(long, env = "SCOUTER_COMPACT_TARGET_MIB", default_value = "128", value_name = "MIB")]
    pub compact_target_mib: String,
    /// How long files taken out of a table stay on disk for readers outside of this server
    #[arg(long, env = "SCOUTER_DELETE_GRACE_SECONDS", default_value = "600", value_name = "SECONDS")]
    pub delete_grace_seconds: String,

    /// Certificate of every listener, with those between it and a root, in PEM
    #[arg(long, env = "SCOUTER_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM; both are read again on SIGHUP
    #[arg(long, env = "SCOUTER_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Roots, in PEM, that every client must have a certificate of
    #[arg(long, env = "SCOUTER_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Take passwords and tokens in clear text from other machines, for a server behind a proxy that does TLS, and send a broker's to it
    #[arg(long, env = "SCOUTER_INSECURE", default_value = "false", value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pub insecure: String,

    /// Memory of the whole server: the program, requests under way, rows not yet in the tables. Questions have limits of their own
    #[arg(long, env = "SCOUTER_MEMORY_BUDGET_MIB", default_value = "768", value_name = "MIB")]
    pub memory_budget_mib: String,
    /// Largest request, before and after decompression
    #[arg(long, env = "SCOUTER_MAX_REQUEST_MIB", default_value = "64", value_name = "MIB")]
    pub max_request_mib: String,
    /// Connections at once, of all listeners
    #[arg(long, env = "SCOUTER_MAX_CONNECTIONS", default_value = "1024", value_name = "COUNT")]
    pub max_connections: String,
    /// Connections at once from one address, in IPv6 from one network of 64 bits; 0 for as many as there are
    #[arg(long, env = "SCOUTER_MAX_CONNECTIONS_PER_ADDRESS", default_value = "512", value_name = "COUNT")]
    pub max_connections_per_address: String,
    /// Requests under way at once on one HTTP/2 connection
    #[arg(long, env = "SCOUTER_MAX_STREAMS", default_value = "256", value_name = "COUNT")]
    pub max_streams: String,
    /// For a connection's first bytes, its TLS handshake, a request's headers, and between two requests of HTTP/1.1
    #[arg(long, env = "SCOUTER_HEADER_TIMEOUT_SECONDS", default_value = "15", value_name = "SECONDS")]
    pub header_timeout_seconds: String,
    /// Longest silence within a request's body, and of a client that does not take its answer
    #[arg(long, env = "SCOUTER_SILENCE_TIMEOUT_SECONDS", default_value = "10", value_name = "SECONDS")]
    pub silence_timeout_seconds: String,
    /// For a request's whole body
    #[arg(long, env = "SCOUTER_BODY_TIMEOUT_SECONDS", default_value = "60", value_name = "SECONDS")]
    pub body_timeout_seconds: String,
    /// A connection without requests ends after this
    #[arg(long, env = "SCOUTER_IDLE_TIMEOUT_SECONDS", default_value = "600", value_name = "SECONDS")]
    pub idle_timeout_seconds: String,
    /// From the signal to stop to the end of the process
    #[arg(long, env = "SCOUTER_SHUTDOWN_TIMEOUT_SECONDS", default_value = "30", value_name = "SECONDS")]
    pub shutdown_timeout_seconds: String,
    /// From the signal to stop to closing the doors, for a balancer to notice that the server is not ready
    #[arg(long, env = "SCOUTER_SHUTDOWN_DELAY_SECONDS", default_value = "0", value_name = "SECONDS")]
    pub shutdown_delay_seconds: String,

    /// Log lines as text or as JSON objects
    #[arg(long, env = "SCOUTER_LOG_FORMAT", default_value = "text", value_name = "text|json")]
    pub log_format: String,
    /// Which log lines, such as debug or info,scouter_ingest=debug
    #[arg(long, env = "RUST_LOG", default_value = "info,object_store=warn", value_name = "FILTER")]
    pub log_filter: String,
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

impl Secret {
    /// The text itself, for the one place that hashes or sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Where the tables are, and with them the log that they are filled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In this folder, where the log is too.
    Folder(PathBuf),
    /// In this object store, which servers share. Their log is a topic of Kafka.
    Shared(String, SharedLog),
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Shared(url, _) => f.write_str(url),
        }
    }
}

/// A configuration that was checked.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Where the tables are.
    pub storage: Storage,
    /// The folder of users, keys and profiles.
    pub state: PathBuf,
    /// What an acknowledgement means.
    pub durability: scouter_storage::log::Durability,
    /// The database that gets records too, if any.
    pub database: Option<Target>,
    /// Where requests are taken from beside the listeners.
    pub brokers: Brokers,
    /// The Scouter gRPC listener.
    pub grpc: SocketAddr,
    /// The HTTP listener.
    pub http: SocketAddr,
    /// The OTLP/gRPC listener, if any.
    pub otlp_grpc: Option<SocketAddr>,
    /// The OTLP/HTTP listener, if any.
    pub otlp_http: Option<SocketAddr>,
    /// Begins with a slash and ends without one, or is empty.
    pub otlp_http_base_path: String,
    /// The user who is in no file, if any.
    pub user: Option<(String, Secret)>,
    /// The files of TLS, if it is on.
    pub tls: Option<TlsFiles>,
    /// How the memory is divided.
    pub memory: MemoryPlan,
    /// Largest request.
    pub max_request_bytes: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Of one address, if that has a limit.
    pub max_connections_per_address: Option<usize>,
    /// Requests at once on one connection.
    pub max_streams: u32,
    /// For headers.
    pub header_timeout: Duration,
    /// For silence.
    pub silence_timeout: Duration,
    /// For a body.
    pub body_timeout: Duration,
    /// For a connection without requests.
    pub idle_timeout: Duration,
    /// From signal to end.
    pub shutdown_timeout: Duration,
    /// From signal to closing the doors.
    pub shutdown_delay: Duration,
    /// What is done with the tables' files in the background.
    pub maintenance: scouter_storage::store::MaintenanceOptions,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Error)]
#[error("the configuration cannot be used:\n  - {}", .faults.join("\n  - "))]
pub struct ConfigError {
    /// One sentence a fault.
    pub faults: Vec<String>,
}

impl Config {
    /// Checks all of it, and that the files it names can be used.
    ///
    /// # Errors
    /// Every fault, at once.
    pub fn validate(&self) -> Result<Checked, ConfigError> {
        let mut faults = Faults::default();
        let is_insecure = self.is_insecure(&mut faults);
        let brokers = self.brokers.check(is_insecure, &mut faults);
        let (storage, state) = self.storage(&brokers, &mut faults);
        let grpc = faults.address("--grpc-addr", &self.grpc_addr);
        let http = faults.address("--http-addr", &self.http_addr);
        let otlp_grpc = faults.optional_address("--otlp-grpc-addr", &self.otlp_grpc_addr);
        let otlp_http = faults.optional_address("--otlp-http-addr", &self.otlp_http_addr);
        let durability = match self.durability.as_str() {
            "fsync" => scouter_storage::log::Durability::Fsync,
            "os" => scouter_storage::log::Durability::Os,
            other => {
                faults.add(format!("--durability is {other:?}; it is fsync or os"));
                scouter_storage::log::Durability::Fsync
            }
        };
        let open = [Some(grpc), Some(http), otlp_grpc, otlp_http].into_iter().flatten().find(|address| !address.ip().is_loopback());
        let max_request_bytes = faults.number("--max-request-mib", &self.max_request_mib, 1..=(MAX_REQUEST_BYTES / MIB)) * MIB;
        let memory_budget_mib = faults.number("--memory-budget-mib", &self.memory_budget_mib, 1..=1024 * 1024);
        let max_connections = faults.number("--max-connections", &self.max_connections, 1..=1_000_000);
        let least_mib = MemoryPlan::least(max_request_bytes, max_connections).div_ceil(MIB);
        if memory_budget_mib < least_mib {
            faults.add(format!(
                "--memory-budget-mib is {memory_budget_mib}; it is at least {least_mib} for --max-request-mib {} and --max-connections {max_connections}",
                max_request_bytes / MIB
            ));
        }
        let per_address = faults.number("--max-connections-per-address", &self.max_connections_per_address, 0..=1_000_000);
        let retention_days = faults.number("--retention-days", &self.retention_days, 0..=100_000);
        let maintenance = scouter_storage::store::MaintenanceOptions {
            target_file_bytes: faults.number("--compact-target-mib", &self.compact_target_mib, 1..=4096) * 1024 * 1024,
            delete_grace: faults.seconds("--delete-grace-seconds", &self.delete_grace_seconds, 0),
            retention_days: (retention_days > 0).then_some(retention_days),
            ..Default::default()
        };
        let database = self.database_uri.as_ref().map(Secret::expose).filter(|uri| !uri.is_empty());
        let database = database.and_then(|uri| uri.parse().map_err(|fault| faults.add(format!("--database-uri: {fault}"))).ok());
        if matches!(storage, Storage::Shared(..)) && maintenance.delete_grace < SHARED_GRACE {
            faults.add(format!(
                "--delete-grace-seconds is {}; with --log kafka it is at least {}, as another server may be about to commit a file",
                maintenance.delete_grace.as_secs(),
                SHARED_GRACE.as_secs()
            ));
        }
        if database.is_some() && matches!(storage, Storage::Shared(..)) {
            faults.add(
                "--database-uri is given with --log kafka; records are copied into PostgreSQL by servers with a log on disk only"
                    .to_owned(),
            );
        }
        let checked = Checked {
            maintenance,
            database,
            brokers,
            user: self.user(&state, open, &mut faults),
            tls: self.tls(open.filter(|_| !is_insecure), &mut faults),
            storage,
            state,
            durability,
            grpc,
            http,
            otlp_grpc,
            otlp_http,
            otlp_http_base_path: faults.base_path("--otlp-http-base-path", &self.otlp_http_base_path),
            memory: MemoryPlan::of(memory_budget_mib * MIB, max_connections),
            max_request_bytes,
            max_connections,
            max_connections_per_address: (per_address > 0).then_some(per_address),
            max_streams: faults.number("--max-streams", &self.max_streams, 1..=10_000),
            header_timeout: faults.seconds("--header-timeout-seconds", &self.header_timeout_seconds, 1),
            silence_timeout: faults.seconds("--silence-timeout-seconds", &self.silence_timeout_seconds, 1),
            body_timeout: faults.seconds("--body-timeout-seconds", &self.body_timeout_seconds, 1),
            idle_timeout: faults.seconds("--idle-timeout-seconds", &self.idle_timeout_seconds, 1),
            shutdown_timeout: faults.seconds("--shutdown-timeout-seconds", &self.shutdown_timeout_seconds, 1),
            shutdown_delay: faults.seconds("--shutdown-delay-seconds", &self.shutdown_delay_seconds, 0),
        };
        if checked.shutdown_delay >= checked.shutdown_timeout {
            faults.add("--shutdown-delay-seconds is part of --shutdown-timeout-seconds and must be less".to_owned());
        }
        if !["text", "json"].contains(&self.log_format.as_str()) {
            faults.add(format!("--log-format is {:?}; it is text or json", self.log_format));
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log_filter) {
            faults.add(format!("--log-filter is {:?}: {error}", self.log_filter));
        }
        if faults.0.is_empty() { Ok(checked) } else { Err(ConfigError { faults: faults.0 }) }
    }

    /// Where the tables are, and the folder beside them.
    fn storage(&self, brokers: &Brokers, faults: &mut Faults) -> (Storage, PathBuf) {
        let is_shared = match self.log.as_str() {
            "disk" => false,
            "kafka" => true,
            other => {
                faults.add(format!("--log is {other:?}; it is disk or kafka"));
                false
            }
        };
        let state = self.state.clone().filter(|state| !state.as_os_str().is_empty());
        if !is_shared {
            let folder = parse_storage(&self.storage, &mut faults.0);
            let state = state.unwrap_or_else(|| folder.clone());
            return (Storage::Folder(folder), state);
        }
        if brokers.kafka.is_none() {
            faults.add("--log kafka needs --kafka-brokers".to_owned());
        }
        if !SCHEMES.iter().any(|scheme| self.storage.starts_with(scheme)) {
            faults.add(format!(
                "--storage is {:?}; with --log kafka it is where servers share the tables: s3://BUCKET/PATH, gs://BUCKET/PATH or az://CONTAINER/PATH",
                self.storage
            ));
        }
        let partitions = faults.number("--kafka-partitions", &self.brokers.kafka.kafka_partitions, 1..=10_000);
        (Storage::Shared(self.storage.clone(), SharedLog { partitions }), state.unwrap_or_else(|| PathBuf::from("./scouter_state")))
    }

    /// The user of the configuration, or guest where no one else can come.
    fn user(&self, state: &Path, open: Option<SocketAddr>, faults: &mut Faults) -> Option<(String, Secret)> {
        let name = self.default_username.clone().filter(|name| !name.is_empty());
        let password = self.default_password.clone().filter(|password| !password.expose().is_empty());
        match (name, password) {
            (Some(name), Some(password)) => {
                if let Some(open) = open.filter(|_| (name.as_str(), password.expose()) == ("guest", "guest")) {
                    faults.add(format!(
                        "{open} can be reached from other machines, and everybody knows the password of guest; choose another one"
                    ));
                }
                return Some((name, password));
            }
            (Some(_), None) => faults.add("SCOUTER_DEFAULT_USERNAME is set and SCOUTER_DEFAULT_PASSWORD is not".to_owned()),
            (None, Some(_)) => faults.add("SCOUTER_DEFAULT_PASSWORD is set and SCOUTER_DEFAULT_USERNAME is not".to_owned()),
            (None, None) => {
                let rows = match Accounts::open(&key_folder(state)) {
                    Ok(accounts) => accounts.rows(),
                    Err(error) => {
                        faults.add(error.to_string());
                        return None;
                    }
                };
                match open {
                    _ if rows.users.iter().any(|user| user.active) => {}
                    None if rows.users.is_empty() => return Some(("guest".to_owned(), Secret::from("guest"))),
                    // All are inactive: who can write to the folder can activate one.
                    None => {}
                    Some(open) => faults.add(format!(
                        "{open} can be reached from other machines, where the default user guest is not allowed; add a user with `scouter-server user add`, set SCOUTER_DEFAULT_USERNAME and SCOUTER_DEFAULT_PASSWORD, or listen on 127.0.0.1"
                    )),
                }
            }
        }
        None
    }

    fn is_insecure(&self, faults: &mut Faults) -> bool {
        match self.insecure.as_str() {
            "true" => true,
            "false" => false,
            other => {
                faults.add(format!("--insecure is {other:?}; it is true or false"));
                true
            }
        }
    }

    /// `open` is an address that must not go without.
    fn tls(&self, open: Option<SocketAddr>, faults: &mut Faults) -> Option<TlsFiles> {
        let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        let client_ca = given(&self.tls_client_ca);
        match (given(&self.tls_cert), given(&self.tls_key)) {
            (Some(certificate), Some(key)) => {
                let files = TlsFiles { certificate, key, client_ca };
                if let Err(error) = files.load() {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                    faults.add(format!("{error}{cause}"));
                }
                return Some(files);
            }
            (Some(_), None) => faults.add("--tls-cert is given and --tls-key is not".to_owned()),
            (None, Some(_)) => faults.add("--tls-key is given and --tls-cert is not".to_owned()),
            (None, None) if client_ca.is_some() => {
                faults.add("--tls-client-ca is given, and --tls-cert and --tls-key are not".to_owned());
            }
            (None, None) => {
                if let Some(open) = open {
                    faults.add(format!(
                        "{open} can be reached from other machines, and passwords and tokens would cross the network in clear text; give --tls-cert and --tls-key, or say --insecure if a proxy before the server does TLS"
                    ));
                }
            }
        }
        None
    }
}

/// Where users, sessions and the signing key are.
pub fn key_folder(state: &Path) -> PathBuf {
    state.join("keys")
}

/// What the addresses of object stores begin with.
pub const SCHEMES: [&str; 3] = ["s3://", "gs://", "az://"];

/// The folder meant by `--storage`: a path, or a `file://` URI.
pub fn parse_storage(text: &str, faults: &mut Vec<String>) -> PathBuf {
    match text.split_once("://") {
        None if text.is_empty() => faults.push("--storage is empty; name a folder".to_owned()),
        None => {}
        Some(("file", path)) if path.starts_with('/') => return PathBuf::from(path),
        Some(_) if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) => faults.push(format!(
            "--storage is {text:?}; tables in an object store are filled from a log that servers share: say --log kafka and --kafka-brokers"
        )),
        Some(_) => faults.push(format!("--storage is {text:?}; it is a folder, named by its path or by file:///path")),
    }
    PathBuf::from(text)
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, fault: String) {
        self.0.push(fault);
    }

    fn address(&mut self, flag: &str, text: &str) -> SocketAddr {
        let localhost = text.trim().strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        localhost.as_deref().unwrap_or(text.trim()).parse().unwrap_or_else(|_| {
            self.add(format!("{flag} is {text:?}; it is an IP address and a port, such as 127.0.0.1:50051"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn optional_address(&mut self, flag: &str, text: &str) -> Option<SocketAddr> {
        (!text.trim().is_empty()).then(|| self.address(flag, text))
    }

    fn number<T>(&mut self, flag: &str, text: &str, range: RangeInclusive<T>) -> T
    where
        T: std::str::FromStr + PartialOrd + Copy + fmt::Display,
    {
        text.trim().parse().ok().filter(|number| range.contains(number)).unwrap_or_else(|| {
            self.add(format!("{flag} is {text:?}; it is a number from {} to {}", range.start(), range.end()));
            *range.start()
        })
    }

    fn seconds(&mut self, flag: &str, text: &str, least: u64) -> Duration {
        Duration::from_secs(self.number(flag, text, least..=24 * 3600))
    }

    fn base_path(&mut self, flag: &str, text: &str) -> String {
        let path = text.trim().trim_end_matches('/');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        if !path.is_empty() && (!path.starts_with('/') || path.contains("//") || !path.chars().all(is_plain)) {
            self.add(format!("{flag} is {text:?}; it is a path such as /otlp"));
            return String::new();
        }
        path.to_owned()
    }
}

#[cfg(test)]
mod tests;
