//! Users and keys over HTTP, for administrators.

use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{HttpDoors, error_response};
use crate::auth::{AccountError, Auth, Key, Permissions, User};

/// The body of `POST /api/v1/users`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    name: String,
    password: String,
    permissions: Option<Permissions>,
}

/// The body of `PATCH /api/v1/users/{name}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserChange {
    password: Option<String>,
    permissions: Option<Permissions>,
    active: Option<bool>,
}

/// The body of `POST /api/v1/keys`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    name: String,
    permissions: Option<Permissions>,
    expires_in_days: Option<u32>,
}

type Body<T> = Result<Json<T>, JsonRejection>;

pub(super) async fn users(State(doors): State<HttpDoors>) -> Response {
    let rows = doors.auth.accounts().rows();
    Json(json!({ "users": rows.users.iter().map(user_json).collect::<Vec<_>>() })).into_response()
}

pub(super) async fn add_user(State(doors): State<HttpDoors>, body: Body<NewUser>) -> Response {
    let NewUser { name, password, permissions } = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return bad_body(&rejection, "{\"name\": ..., \"password\": ..., \"permissions\": \"write,read\"}"),
    };
    let permissions = permissions.unwrap_or_else(default_permissions);
    let shown = json!({ "name": name, "permissions": permissions, "active": true });
    blocking(doors, move |auth| auth.accounts().add_user(&name, &password, permissions))
        .await
        .map_or_else(|error| account_error(&error), |()| (StatusCode::CREATED, Json(shown)).into_response())
}

pub(super) async fn change_user(State(doors): State<HttpDoors>, Path(name): Path<String>, body: Body<UserChange>) -> Response {
    let change = match body {
        Ok(Json(body)) => body,
        Err(rejection) => {
            return bad_body(&rejection, "{\"password\": ..., \"permissions\": ..., \"active\": true}, each of them if it changes");
        }
    };
    let outcome = blocking(doors, move |auth| {
        let accounts = auth.accounts();
        if let Some(password) = &change.password {
            accounts.set_password(&name, password)?;
        }
        if let Some(permissions) = change.permissions {
            accounts.set_permissions(&name, permissions)?;
        }
        if let Some(active) = change.active {
            accounts.set_active(&name, active)?;
        }
        accounts.rows().user(&name).map(user_json).ok_or(AccountError::NoUser { name })
    });
    outcome.await.map_or_else(|error| account_error(&error), |user| Json(user).into_response())
}

pub(super) async fn keys(State(doors): State<HttpDoors>) -> Response {
    let rows = doors.auth.accounts().rows();
    Json(json!({ "keys": rows.keys.iter().map(key_json).collect::<Vec<_>>() })).into_response()
}

pub(super) async fn create_key(State(doors): State<HttpDoors>, body: Body<NewKey>) -> Response {
    let NewKey { name, permissions, expires_in_days } = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return bad_body(&rejection, "{\"name\": ..., \"permissions\": \"write\", \"expires_in_days\": 90}"),
    };
    let permissions = permissions.unwrap_or_else(|| std::iter::once(crate::auth::Permission::Write).collect());
    let outcome = blocking(doors, move |auth| auth.accounts().create_key(auth.signing_key(), &name, permissions, expires_in_days)).await;
    outcome.map_or_else(
        |error| account_error(&error),
        |key| {
            let mut shown = key_json(&key.row);
            shown["key"] = key.text.into();
            (StatusCode::CREATED, Json(shown)).into_response()
        },
    )
}

pub(super) async fn revoke_key(State(doors): State<HttpDoors>, Path(id): Path<String>) -> Response {
    let outcome = blocking(doors, move |auth| auth.accounts().revoke_key(&id)).await;
    outcome.map_or_else(|error| account_error(&error), |_| StatusCode::NO_CONTENT.into_response())
}

fn default_permissions() -> Permissions {
    [crate::auth::Permission::Write, crate::auth::Permission::Read].into_iter().collect()
}

fn user_json(user: &User) -> serde_json::Value {
    json!({ "name": user.name, "permissions": user.permissions, "active": user.active })
}

fn key_json(key: &Key) -> serde_json::Value {
    json!({
        "id": key.id, "name": key.name, "permissions": key.permissions, "created": key.created, "expires": key.expires,
        "revoked": key.revoked,
    })
}

/// Hashing and syncing take their time elsewhere.
async fn blocking<T: Send + 'static>(
    doors: HttpDoors,
    work: impl FnOnce(&Auth) -> Result<T, AccountError> + Send + 'static,
) -> Result<T, AccountError> {
    let done = tokio::task::spawn_blocking(move || work(&doors.auth)).await;
    done.unwrap_or_else(|error| {
        Err(AccountError::File { path: "accounts".into(), action: "changed", source: std::io::Error::other(error) })
    })
}

fn bad_body(rejection: &JsonRejection, expected: &str) -> Response {
    error_response(rejection.status(), "INVALID_ARGUMENT", &format!("send JSON such as {expected}: {}", rejection.body_text()))
}

fn account_error(error: &AccountError) -> Response {
    let (status, code) = match error {
        AccountError::NoUser { .. } | AccountError::NoKey { .. } => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        AccountError::UserExists { .. } => (StatusCode::CONFLICT, "ALREADY_EXISTS"),
        AccountError::Name { .. } | AccountError::Password { .. } => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
        AccountError::File { .. } | AccountError::Format { .. } => {
            tracing::error!(%error, "users and keys cannot be changed");
            (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL")
        }
    };
    error_response(status, code, &error.to_string())
}
