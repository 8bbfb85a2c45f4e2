//! The two methods that carry data.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use scouter_storage::{log::Door, otlp::Envelope};
use scouter_tonic::{grpc::InsertMessageResponse, path::REFRESHED_TOKEN};
use tonic::{Request, Response, Status};

use super::raw::Handle;
use crate::{
    auth::{Auth, Caller},
    ingest::{Accepted, Ingest, Submission, request},
};

/// `MessageService.InsertMessage`.
pub(super) struct InsertMessage {
    pub(super) ingest: Arc<Ingest>,
    pub(super) auth: Arc<Auth>,
    pub(super) door: Door,
}

impl Handle for InsertMessage {
    type Answer = InsertMessageResponse;

    async fn handle(&self, request: Request<Bytes>) -> Result<Response<InsertMessageResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let submission = request::insert_message(request.into_inner(), self.door)?;
        let Accepted { receipt, refusal } = self.ingest.submit(submission).await?;
        let message = if refusal.is_empty() { "stored".to_owned() } else { refusal };
        let mut response = Response::new(InsertMessageResponse {
            status: "success".to_owned(),
            message,
            rejected_spans: receipt.rejected_spans.into(),
            rejected_records: receipt.rejected_records.into(),
        });
        if let Some(issued) = caller.and_then(|caller| self.auth.rotated(&caller)) {
            let value = issued.token.parse().map_err(|_| Status::internal("a token is not ASCII"))?;
            response.metadata_mut().insert(REFRESHED_TOKEN, value);
        }
        Ok(response)
    }
}

/// OTLP's `TraceService.Export`.
pub(super) struct OtlpExport {
    pub(super) ingest: Arc<Ingest>,
}

impl Handle for OtlpExport {
    type Answer = ExportTraceServiceResponse;

    async fn handle(&self, request: Request<Bytes>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let submission = Submission { door: Door::OtlpGrpc, envelope: Envelope::Otlp, payload: request.into_inner(), batch_id: None };
        let accepted = self.ingest.submit(submission).await?;
        Ok(Response::new(otlp_response(&accepted)))
    }
}

/// Partial success is set only when something was refused, as OTLP asks.
pub(crate) fn otlp_response(accepted: &Accepted) -> ExportTraceServiceResponse {
    let rejected_spans = i64::from(accepted.receipt.rejected_spans);
    ExportTraceServiceResponse {
        partial_success: (rejected_spans > 0)
            .then(|| ExportTracePartialSuccess { rejected_spans, error_message: accepted.refusal.clone() }),
    }
}
