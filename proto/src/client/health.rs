//! `grpc.health.v1`, the two messages a client needs.

use prost::Message;

pub(super) const CHECK: &str = "/grpc.health.v1.Health/Check";

/// What a server says about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthStatus {
    /// It takes requests.
    Serving,
    /// It is up and takes none.
    NotServing,
    /// It does not know that service, or does not say.
    Unknown,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

impl HealthCheckResponse {
    pub(super) fn status(&self) -> HealthStatus {
        match self.status {
            1 => HealthStatus::Serving,
            2 => HealthStatus::NotServing,
            _ => HealthStatus::Unknown,
        }
    }
}
