//! Routes without a broker: to a server of the test's own, and none.

use scouter_exporter::{GrpcConfig, HttpConfig, InMemoryTransport, Secret, TransportConfig};
use tempfile::TempDir;

use super::Route;
use crate::server::{Addresses, Server};

/// A server that can be killed and started again at its addresses.
pub(crate) struct Receiver {
    folder: TempDir,
    pub(super) addresses: Addresses,
    flags: Vec<String>,
    server: Option<Server>,
}

impl Receiver {
    /// With these flags beside those for its folder and free ports.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder for the test");
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let server = Server::start_with(&folder, &Addresses::free(), &flags).await;
        Self { folder, addresses: server.addresses.clone(), flags, server: Some(server) }
    }

    pub(crate) async fn stop(&mut self) {
        assert!(self.server.take().expect("it is running").stop().await.success(), "it stops in good order");
    }

    pub(crate) async fn kill(&mut self) {
        self.server.take().expect("it is running").kill().await;
    }

    pub(crate) async fn revive(&mut self) {
        self.server = Some(Server::start_with(&self.folder, &self.addresses, &self.flags).await);
    }

    pub(crate) async fn count(&self, table: &str) -> u64 {
        let server = self.server.as_ref().expect("it is running");
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
                $config { server_uri: format!("http://{}", self.0.addresses.$address), ..$config::default() }
            }
        }

        impl Route for $name {
            async fn open() -> Self {
                Self(Receiver::start(&[]).await)
            }

            fn config(&self) -> TransportConfig {
                self.settings().into()
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
