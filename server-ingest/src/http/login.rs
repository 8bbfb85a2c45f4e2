//! Scouter's login routes.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};

use super::{HttpDoors, authorization, error_response, refusal};
use crate::{
    auth::{Denied, Issued},
    error::IngestError,
    listener::Peer,
};

/// `GET /scouter/auth/login` with the headers `Username` and `Password`.
pub(super) async fn login(State(doors): State<HttpDoors>, request: Request) -> Response {
    let from = Peer::address(request.extensions());
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let (Some(username), Some(password)) = (text("username"), text("password")) else {
        return error_response(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "send the headers Username and Password");
    };
    if let Err(error) = doors.check_host(headers) {
        return refuse(&doors, error);
    }
    match doors.auth.login(username, password, from).await {
        Ok(issued) => token(&issued),
        Err(error) => refuse(&doors, error),
    }
}

/// `GET /scouter/auth/refresh` with a valid bearer token.
pub(super) async fn refresh(State(doors): State<HttpDoors>, headers: HeaderMap) -> Response {
    match doors.check_host(&headers).and_then(|()| Ok(doors.auth.refresh(bearer(&headers))?)) {
        Ok(issued) => token(&issued),
        Err(error) => refuse(&doors, error),
    }
}

/// `GET /scouter/auth/validate` with a bearer token.
pub(super) async fn validate(State(doors): State<HttpDoors>, headers: HeaderMap) -> Response {
    match doors.check_host(&headers).and_then(|()| Ok(doors.auth.bearer(bearer(&headers))?)) {
        Ok(_) => Json(serde_json::json!({ "is_authenticated": true })).into_response(),
        Err(error) => refuse(&doors, error),
    }
}

/// `POST /scouter/auth/logout` with a bearer token: its session ends, and no other.
pub(super) async fn logout(State(doors): State<HttpDoors>, headers: HeaderMap) -> Response {
    match doors.check_host(&headers).and_then(|()| Ok(doors.auth.logout(bearer(&headers))?)) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refuse(&doors, error),
    }
}

fn bearer(headers: &HeaderMap) -> &str {
    authorization(headers).and_then(|header| header.split_once(' ')).map_or("", |(_, token)| token.trim())
}

fn token(issued: &Issued) -> Response {
    Json(serde_json::json!({ "token": issued.token, "expires_in_seconds": issued.expires_in.as_secs() })).into_response()
}

fn refuse(doors: &HttpDoors, denied: impl Into<Denied>) -> Response {
    let denied = denied.into();
    doors.metrics.count_denied(&denied);
    refusal(&IngestError::Denied(denied))
}
