//! Counters of what happens before a request reaches a door.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Why a connection is not taken, or ended by the server. All are there from the start, so that a rate of one begins at zero.
const REASONS: [&str; 8] = ["accept_failed", "too_many", "too_many_of_address", "tls", "tls_timeout", "silent", "idle", "farewell"];

/// Counters of connections, of all listeners.
#[derive(Debug, Default)]
pub struct ConnectionMetrics {
    accepted: Counter,
    open: Gauge,
    ended: Family<ReasonLabels, Counter>,
    panics: Counter,
    deadlines: Counter,
}

impl ConnectionMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        for reason in REASONS {
            drop(self.ended.get_or_create(&ReasonLabels { reason }));
        }
        registry.register("connections", "Connections accepted", self.accepted.clone());
        registry.register("connections_open", "Connections open now", self.open.clone());
        registry.register("connections_ended_by_server", "Connections the server did not take or ended, by reason", self.ended.clone());
        registry.register("request_panics", "Requests that failed inside the server", self.panics.clone());
        let help = "gRPC calls that were not answered in the time their client gave them";
        registry.register("request_deadlines_passed", help, self.deadlines.clone());
    }

    /// A connection is open until what is returned is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> OpenConnection {
        self.accepted.inc();
        self.open.inc();
        OpenConnection(Arc::clone(self))
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.ended.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    pub(crate) fn deadline_passed(&self) {
        self.deadlines.inc();
    }
}

/// A connection that counts as open.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<ConnectionMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}
