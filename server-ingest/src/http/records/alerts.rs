//! `POST /scouter/alerts`, as Scouter's clients ask it.
//!
//! This server judges nothing, so it has no alerts: the answer is an empty page. Scouter's jobs, which do judge, write theirs to PostgreSQL
//! (`scouter.drift_alert`), where its own server reads them.

use axum::{Extension, Json, extract::State, extract::rejection::JsonRejection, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};

use super::{Who, json_response, refused_space, space_of};
use crate::{
    auth::Permission,
    http::{HttpDoors, error_response},
};

/// What is asked; the filters of time and the cursors change nothing.
#[derive(Debug, Deserialize)]
pub(super) struct AlertsRequest {
    uid: String,
}

#[derive(Debug, Default, Serialize)]
struct AlertsPage {
    items: [(); 0],
    has_next: bool,
    next_cursor: Option<()>,
    has_previous: bool,
    previous_cursor: Option<()>,
}

pub(super) async fn of_entity(
    State(doors): State<HttpDoors>,
    Extension(caller): Who,
    request: Result<Json<AlertsRequest>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return error_response(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &rejection.body_text()),
    };
    match refused_space(&doors, &caller, Permission::Read, space_of(&doors, &request.uid).as_deref()) {
        Some(refused) => refused,
        None => json_response(&AlertsPage::default()),
    }
}
