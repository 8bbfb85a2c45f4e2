//! `POST /scouter/message` and `/scouter/drift`: the JSON of a Scouter client, or an `InsertMessageRequest` as protobuf, into the log.
//! Protobuf is answered with an `InsertMessageResponse`.

use std::time::Instant;

use axum::{
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use prost::Message;
use scouter_storage::log::Door;
use scouter_tonic::grpc::InsertMessageResponse;

use super::{super::otlp, HttpDoors, refusal, success};
use crate::{
    admission::Share,
    auth::Caller,
    error::IngestError,
    grpc::insert_response,
    ingest::{Accepted, Limited, request},
    telemetry::RequestStage,
};

const PROTOBUF: &str = "application/x-protobuf";

pub(super) async fn message(State(doors): State<HttpDoors>, mut request: Request) -> Response {
    let limited = request.extensions_mut().remove::<Caller>().as_ref().and_then(Limited::of);
    // Whatever else a client says of it is JSON, as Scouter's server has it.
    let is_protobuf = otlp::Encoding::of(request.headers()) == Some(otlp::Encoding::Protobuf);
    match store(&doors, limited, is_protobuf, request).await {
        Ok(accepted) if is_protobuf => {
            let answer: InsertMessageResponse = insert_response(accepted);
            ([(header::CONTENT_TYPE, PROTOBUF)], answer.encode_to_vec()).into_response()
        }
        Ok(accepted) if accepted.refusal.is_empty() => success("stored"),
        Ok(accepted) => success(&accepted.refusal),
        Err(error) => refusal(&error),
    }
}

async fn store(doors: &HttpDoors, limited: Option<Limited>, is_protobuf: bool, body: Request) -> Result<Accepted, IngestError> {
    let begun = Instant::now();
    let share = Share::of(body.extensions());
    let received = otlp::receive(&doors.intake, &share, body).await.inspect_err(|error| {
        share.rest(error);
        doors.metrics.count_refused(Door::ScouterHttp, error);
    })?;
    doors.metrics.time_stage(RequestStage::Receive, begun.elapsed());
    let submission = {
        let _turn = doors.intake.turns.take(received.payload.len()).await;
        if is_protobuf {
            request::insert_message(received, Door::ScouterHttp)
        } else {
            request::message_record(received, Door::ScouterHttp)
        }
    };
    let submission = submission.inspect_err(|error| doors.metrics.count_refused(Door::ScouterHttp, error))?;
    doors.ingest.submit(submission.limited_to(limited)).await
}
