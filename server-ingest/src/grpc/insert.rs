//! The two methods that carry data.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use scouter_storage::{log::Door, otlp::Envelope};
use scouter_tonic::{grpc::InsertMessageResponse, path::REFRESHED_TOKEN};

use super::raw::{Answered, Handle};
use crate::{
    auth::{Auth, Caller},
    error::IngestError,
    ingest::{Accepted, Ingest, Limited, Submission, request},
    receive::Received,
};

/// `MessageService.InsertMessage`.
pub(super) struct InsertMessage {
    pub(super) ingest: Arc<Ingest>,
    pub(super) auth: Arc<Auth>,
    pub(super) door: Door,
}

impl Handle for InsertMessage {
    type Answer = InsertMessageResponse;

    async fn handle(&self, caller: Caller, request: Received) -> Result<Answered<InsertMessageResponse>, IngestError> {
        let submission = {
            let _turn = self.ingest.turn(request.payload.len()).await;
            request::insert_message(request, self.door)?.limited_to(Limited::of(&caller))
        };
        let message = insert_response(self.ingest.submit(submission).await?);
        let token = self.auth.rotated(&caller).map(|issued| (REFRESHED_TOKEN, issued.token));
        Ok(Answered { message, token })
    }
}

/// The answer of either protocol to what was taken.
pub(crate) fn insert_response(Accepted { receipt, refusal }: Accepted) -> InsertMessageResponse {
    InsertMessageResponse {
        status: "success".to_owned(),
        message: if refusal.is_empty() { "stored".to_owned() } else { refusal },
        rejected_spans: receipt.rejected_spans.into(),
        rejected_records: receipt.rejected_records.into(),
    }
}

/// OTLP's `TraceService.Export`.
pub(super) struct OtlpExport {
    pub(super) ingest: Arc<Ingest>,
}

impl Handle for OtlpExport {
    type Answer = ExportTraceServiceResponse;

    async fn handle(&self, caller: Caller, request: Received) -> Result<Answered<ExportTraceServiceResponse>, IngestError> {
        let submission = Submission::new(Door::OtlpGrpc, Envelope::Otlp, request);
        let accepted = self.ingest.submit(submission).await?;
        Ok(Answered { message: otlp_response(&accepted, caller.warning), token: None })
    }
}

/// Partial success is set only when something was refused, or when there is something to warn of, as OTLP asks.
pub(crate) fn otlp_response(accepted: &Accepted, warning: Option<String>) -> ExportTraceServiceResponse {
    let rejected_spans = i64::from(accepted.receipt.rejected_spans);
    let refusal = (rejected_spans > 0).then(|| accepted.refusal.clone());
    let words: Vec<String> = [refusal, warning].into_iter().flatten().collect();
    ExportTraceServiceResponse {
        partial_success: (!words.is_empty()).then(|| ExportTracePartialSuccess { rejected_spans, error_message: words.join("; ") }),
    }
}
