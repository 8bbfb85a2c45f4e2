//! Routes without a broker: to a server of the test's own, and none.

use std::{net::SocketAddr, time::Duration};

use scouter_exporter::{GrpcConfig, HttpConfig, InMemoryTransport, Secret, TransportConfig};
use tempfile::TempDir;

use super::{RECEIVERS_LIMIT, Route};
use crate::{
    brokers::processes,
    server::{Addresses, Server},
};

/// A server that can be killed and started again at its addresses.
pub(crate) struct Receiver {
    folder: TempDir,
    pub(crate) addresses: Addresses,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    server: Option<Server>,
}

impl Receiver {
    /// With these flags beside those for its folder and free ports.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_in(flags.iter().map(|flag| (*flag).to_owned()).collect(), Vec::new()).await
    }

    /// The same, with variables too.
    pub(crate) async fn start_in(flags: Vec<String>, variables: Vec<(String, String)>) -> Self {
        let folder = TempDir::new().expect("a folder for the test");
        let server = Server::start_in(&folder, &Addresses::free(), &flags, &variables).await;
        Self { folder, addresses: server.addresses.clone(), flags, variables, server: Some(server) }
    }

    pub(crate) async fn stop(&mut self) {
        assert!(self.server.take().expect("it is running").stop().await.success(), "it stops in good order");
    }

    pub(crate) async fn kill(&mut self) {
        self.server.take().expect("it is running").kill().await;
    }

    pub(crate) async fn revive(&mut self) {
        self.server = Some(Server::start_in(&self.folder, &self.addresses, &self.flags, &self.variables).await);
    }

    /// CPU time of its process so far.
    pub(crate) fn cpu(&self) -> Duration {
        let id = self.server().id();
        processes().filter(|process| Some(process.id) == id).map(|process| process.cpu).sum()
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("it is running")
    }

    /// What it and those before it said on stderr.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).expect("it is there")
    }

    /// A figure of `/metrics`, by its name and labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let answer = reqwest::get(format!("http://{}/metrics", self.addresses.http)).await.expect("the server answers");
        let text = answer.text().await.expect("it is text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("there is no {name} in\n{text}")).parse().expect("it is a number")
    }

    pub(crate) async fn count(&self, table: &str) -> u64 {
        let server = self.server();
        server.count(&format!("SELECT count(*) FROM {table}")).await
    }
}

/// This process.
pub(super) struct Memory(InMemoryTransport);

impl Route for Memory {
    async fn open() -> Self {
        Self(InMemoryTransport::default())
    }

    fn config(&self) -> TransportConfig {
        self.0.clone().into()
    }

    fn config_with_wrong_password(&self) -> Option<TransportConfig> {
        None
    }

    async fn spans(&self) -> u64 {
        let requests = self.0.requests().expect("they are requests");
        let scopes = requests.iter().flat_map(|request| &request.resource_spans).flat_map(|spans| &spans.scope_spans);
        scopes.map(|scope| scope.spans.len() as u64).sum()
    }

    async fn records(&self) -> u64 {
        self.0.requests().expect("they are requests").iter().map(|request| request.records.len() as u64).sum()
    }

    async fn kill(&mut self) -> bool {
        false
    }

    async fn revive(&mut self) {}
}

macro_rules! to_a_server {
    ($name:ident, $config:ident, $address:ident) => {
        impl $name {
            fn settings(&self) -> $config {
                self.settings_at(&self.0.addresses.$address)
            }

            fn settings_at(&self, address: &str) -> $config {
                $config { server_uri: format!("http://{address}"), ..$config::default() }
            }
        }

        impl Route for $name {
            async fn open() -> Self {
                Self(Receiver::start(&[]).await)
            }

            fn config(&self) -> TransportConfig {
                self.settings().into()
            }

            async fn open_small() -> Option<Self> {
                let mib = (RECEIVERS_LIMIT >> 20).to_string();
                Some(Self(Receiver::start(&["--max-request-mib", &mib]).await))
            }

            fn address(&self) -> Option<SocketAddr> {
                Some(self.0.addresses.$address.parse().expect("an address"))
            }

            fn config_at(&self, address: SocketAddr) -> TransportConfig {
                self.settings_at(&address.to_string()).into()
            }

            fn cpu(&self) -> [Duration; 2] {
                [Duration::ZERO, self.0.cpu()]
            }

            fn config_with_wrong_password(&self) -> Option<TransportConfig> {
                Some($config { password: Secret::new("wrong-password"), ..self.settings() }.into())
            }

            async fn spans(&self) -> u64 {
                self.0.count("spans").await
            }

            async fn records(&self) -> u64 {
                self.0.count("custom_drift").await
            }

            async fn kill(&mut self) -> bool {
                self.0.kill().await;
                true
            }

            async fn revive(&mut self) {
                self.0.revive().await;
            }
        }
    };
}

/// Scouter's gRPC.
pub(super) struct Grpc(Receiver);
to_a_server!(Grpc, GrpcConfig, grpc);

/// Scouter's HTTP.
pub(super) struct Http(Receiver);
to_a_server!(Http, HttpConfig, http);
