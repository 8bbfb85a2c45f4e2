//! Scouter's login routes.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{HttpDoors, authorization, error_response};
use crate::{auth::LoginError, error::RETRY_AFTER};

/// `GET /scouter/auth/login` with the headers `Username` and `Password`.
pub(super) async fn login(State(doors): State<HttpDoors>, headers: HeaderMap) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let (Some(username), Some(password)) = (text("username"), text("password")) else {
        return error_response(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "send the headers Username and Password");
    };
    match doors.auth.login(username, password).await {
        Ok(issued) => Json(serde_json::json!({ "token": issued.token, "expires_in_seconds": issued.expires_in.as_secs() })).into_response(),
        Err(error @ LoginError::Refused) => error_response(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", &error.to_string()),
        Err(error @ LoginError::Busy) => {
            let mut response = error_response(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", &error.to_string());
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER.as_secs().into());
            response
        }
    }
}

/// `GET /scouter/auth/refresh` with a valid bearer token.
pub(super) async fn refresh(State(doors): State<HttpDoors>, headers: HeaderMap) -> Response {
    let token = authorization(&headers).and_then(|header| header.split_once(' ')).map_or("", |(_, token)| token.trim());
    match doors.auth.refresh(token) {
        Ok(issued) => Json(serde_json::json!({ "token": issued.token, "expires_in_seconds": issued.expires_in.as_secs() })).into_response(),
        Err(error) => error_response(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", &error.to_string()),
    }
}

/// `GET /scouter/auth/validate` with a bearer token.
pub(super) async fn validate(State(doors): State<HttpDoors>, headers: HeaderMap) -> Response {
    match doors.auth.caller(authorization(&headers)) {
        Ok(_) => Json(serde_json::json!({ "is_authenticated": true })).into_response(),
        Err(error) => error_response(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", &error.to_string()),
    }
}
