//! The gRPC doors.
//!
//! [`routes`] makes what the Scouter port serves and what the OTLP port serves. The two RPCs that carry data take their bytes
//! through [`raw`], which builds no messages.

use std::{net::IpAddr, sync::Arc};

use scouter_storage::log::Door;
use scouter_tonic::{DESCRIPTOR_SET, grpc::auth_service_server::AuthServiceServer};
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    auth::{Auth, Caller, Permission},
    error::IngestError,
    ingest::Ingest,
    receive::Intake,
    telemetry::Metrics,
};

mod auth_service;
mod insert;
mod not_served;
mod raw;
mod threshold;

use auth_service::AuthDoor;
use insert::{InsertMessage, OtlpExport};
pub(crate) use insert::{insert_response, otlp_response};
use not_served::{Logs, MetricPoints, NotServed, Profiles};
use raw::{MessageServicePath, RawUnary, TraceServicePath};
pub use threshold::Threshold;

/// Of calls and their answers.
const CONTENT_TYPE: &str = "application/grpc";

/// What answers when a health check names it.
const SERVICES: [&str; 4] =
    ["", "scouter.grpc.v1.MessageService", "scouter.grpc.v1.AuthService", "opentelemetry.proto.collector.trace.v1.TraceService"];

/// What the gRPC doors need.
#[derive(Clone)]
pub struct GrpcDoors {
    /// Where submissions go.
    pub ingest: Arc<Ingest>,
    /// Who may come in.
    pub auth: Arc<Auth>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// How bodies are taken in.
    pub intake: Intake,
}

impl GrpcDoors {
    /// Who is calling, if he may in some space; a stranger is counted.
    async fn admit(&self, header: Option<&str>, from: IpAddr, needs: Permission) -> Result<Caller, IngestError> {
        let admitted = self.auth.caller(header, from).await.and_then(|caller| caller.require_somewhere(needs));
        Ok(admitted.inspect_err(|denied| self.metrics.count_denied(denied))?)
    }
}

/// What gRPC's health service says; one for all listeners.
#[derive(Clone)]
pub struct Health(HealthReporter);

impl Health {
    /// Says of every service whether it serves.
    pub async fn set_serving(&self, is_serving: bool) {
        let status = if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in SERVICES {
            self.0.set_service_status(name, status).await;
        }
    }
}

/// For the Scouter port: Scouter's services, OTLP's trace service, health and reflection. For the OTLP port: OTLP and health. Both
/// go behind a [`Threshold`]. And the hand that turns their health.
///
/// # Errors
/// The committed descriptors cannot be read, which only a damaged build can cause.
pub async fn routes(doors: &GrpcDoors) -> Result<(Routes, Routes, Health), tonic_reflection::server::Error> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health = Health(reporter);
    health.set_serving(true).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let otlp = || {
        Routes::new(RawUnary::<_, TraceServicePath>::new(OtlpExport { ingest: Arc::clone(&doors.ingest) }, doors))
            .add_service(NotServed::<Logs>::new(doors))
            .add_service(NotServed::<MetricPoints>::new(doors))
            .add_service(NotServed::<Profiles>::new(doors))
            .add_service(health_service.clone())
    };
    let insert = InsertMessage { ingest: Arc::clone(&doors.ingest), auth: Arc::clone(&doors.auth), door: Door::ScouterGrpc };
    let scouter = otlp()
        .add_service(RawUnary::<_, MessageServicePath>::new(insert, doors))
        .add_service(AuthServiceServer::new(AuthDoor::new(doors)).max_decoding_message_size(auth_service::MAX_LOGIN_BYTES))
        .add_service(reflection);
    Ok((scouter, otlp(), health))
}
