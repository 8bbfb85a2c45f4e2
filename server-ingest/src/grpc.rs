//! The gRPC doors.
//!
//! [`scouter_routes`] is what the Scouter port serves, [`otlp_routes`] what the OTLP port serves. The two RPCs that carry
//! data take their bytes through [`raw`], which builds no messages.

use std::{sync::Arc, time::Duration};

use scouter_storage::log::Door;
use scouter_tonic::{DESCRIPTOR_SET, grpc::auth_service_server::AuthServiceServer, server::AuthInterceptor};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::{Routes, interceptor::InterceptedService},
    transport::{Server, server::TcpIncoming},
};

use crate::{auth::Auth, ingest::Ingest, telemetry::Metrics};

mod auth_service;
mod insert;
mod raw;

use auth_service::AuthDoor;
pub(crate) use insert::otlp_response;
use insert::{InsertMessage, OtlpExport};
use raw::{MessageServicePath, RawUnary, TraceServicePath};

/// One stream may have this much unread data under way; the default of 64 KiB would stall large batches.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const FRAME_BYTES: u32 = 1024 * 1024;
const STREAMS_PER_CONNECTION: u32 = 256;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What the gRPC doors need.
#[derive(Clone)]
pub struct GrpcDoors {
    /// Where submissions go.
    pub ingest: Arc<Ingest>,
    /// Who may come in.
    pub auth: Arc<Auth>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Scouter's services, OTLP's trace service, health and reflection.
///
/// # Errors
/// The committed descriptors cannot be read, which only a damaged build can cause.
pub async fn scouter_routes(doors: &GrpcDoors) -> Result<Routes, tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    for name in ["scouter.grpc.v1.MessageService", "scouter.grpc.v1.AuthService", "opentelemetry.proto.collector.trace.v1.TraceService"] {
        reporter.set_service_status(name, tonic_health::ServingStatus::Serving).await;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(Routes::new(message_service(doors))
        .add_service(trace_service(doors))
        .add_service(AuthServiceServer::new(AuthDoor::new(Arc::clone(&doors.auth))))
        .add_service(health)
        .add_service(reflection))
}

/// OTLP's trace service and health.
pub async fn otlp_routes(doors: &GrpcDoors) -> Routes {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("opentelemetry.proto.collector.trace.v1.TraceService", tonic_health::ServingStatus::Serving).await;
    Routes::new(trace_service(doors)).add_service(health)
}

/// Serves `routes` on `listener` until `stop`, then lets what is under way finish.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, routes: Routes, stop: CancellationToken) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop.cancelled_owned())
        .await
}

fn message_service(doors: &GrpcDoors) -> Guarded<RawUnary<InsertMessage, MessageServicePath>> {
    let handler = InsertMessage { ingest: Arc::clone(&doors.ingest), auth: Arc::clone(&doors.auth), door: Door::ScouterGrpc };
    guard(RawUnary::new(handler), doors)
}

fn trace_service(doors: &GrpcDoors) -> Guarded<RawUnary<OtlpExport, TraceServicePath>> {
    guard(RawUnary::new(OtlpExport { ingest: Arc::clone(&doors.ingest) }), doors)
}

type Guarded<S> = InterceptedService<S, AuthInterceptor<CountedAuth>>;

fn guard<S>(service: S, doors: &GrpcDoors) -> Guarded<S> {
    let authenticate = CountedAuth { auth: Arc::clone(&doors.auth), metrics: Arc::clone(&doors.metrics) };
    InterceptedService::new(service, AuthInterceptor::new(Arc::new(authenticate)))
}

/// [`Auth`], with the refusals counted.
struct CountedAuth {
    auth: Arc<Auth>,
    metrics: Arc<Metrics>,
}

impl scouter_tonic::server::Authenticate for CountedAuth {
    type Caller = crate::auth::Caller;

    fn authenticate(&self, header: Option<&str>) -> Result<Self::Caller, tonic::Status> {
        self.auth.authenticate(header).inspect_err(|_| self.metrics.count_unauthenticated())
    }
}
