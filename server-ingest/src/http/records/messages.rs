//! `POST /scouter/message` and `/scouter/drift`: the JSON of a Scouter client, into the log.

use std::time::Instant;

use axum::{
    extract::{Request, State},
    response::Response,
};
use scouter_storage::log::Door;

use super::{super::otlp, HttpDoors, refusal, success};
use crate::{
    admission::Share,
    auth::Caller,
    error::IngestError,
    ingest::{Accepted, Limited, request},
    telemetry::RequestStage,
};

pub(super) async fn message(State(doors): State<HttpDoors>, mut request: Request) -> Response {
    let limited = request.extensions_mut().remove::<Caller>().as_ref().and_then(Limited::of);
    match store(&doors, limited, request).await {
        Ok(accepted) if accepted.refusal.is_empty() => success("stored"),
        Ok(accepted) => success(&accepted.refusal),
        Err(error) => refusal(&error),
    }
}

async fn store(doors: &HttpDoors, limited: Option<Limited>, body: Request) -> Result<Accepted, IngestError> {
    let begun = Instant::now();
    let share = Share::of(body.extensions());
    let received = otlp::receive(&doors.intake, &share, body).await.inspect_err(|error| {
        share.rest();
        doors.metrics.count_refused(Door::ScouterHttp, error);
    })?;
    doors.metrics.time_stage(RequestStage::Receive, begun.elapsed());
    let submission = {
        let _turn = doors.intake.turns.take(received.payload.len()).await;
        request::message_record(received, Door::ScouterHttp)
    };
    let submission = submission.inspect_err(|error| doors.metrics.count_refused(Door::ScouterHttp, error))?;
    doors.ingest.submit(submission.limited_to(limited)).await
}
