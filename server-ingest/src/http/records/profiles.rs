//! `/scouter/profile` and what belongs to it.

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::JsonRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{HttpDoors, Who, refused_space, success};
use crate::{
    auth::Permission,
    http::error_response,
    profiles::{DriftType, NewProfile, Profile, ProfileError, ProfileKey, Profiles},
};

/// The body of `POST` and `PUT /scouter/profile`. A version of its own choice is not something this server makes up for a client:
/// `version_request` is passed over, and the version is the profile's.
#[derive(Deserialize)]
pub(super) struct ProfileRequest {
    drift_type: DriftType,
    profile: String,
    #[serde(default)]
    active: bool,
    #[serde(default)]
    deactivate_others: bool,
}

/// The body of `PUT /scouter/profile/status`.
#[derive(Deserialize)]
pub(super) struct StatusRequest {
    space: String,
    name: String,
    version: String,
    active: bool,
    drift_type: Option<DriftType>,
    #[serde(default)]
    deactivate_others: bool,
}

/// The query of `GET /scouter/profile`. The kind is text: it is said again in the answer as it was asked for.
#[derive(Deserialize)]
pub(super) struct GetRequest {
    space: String,
    name: String,
    version: String,
    drift_type: String,
}

/// The body of `POST /scouter/profiles`.
#[derive(Deserialize)]
pub(super) struct ListRequest {
    space: String,
    name: String,
    version: String,
}

type Body<T> = Result<Json<T>, JsonRejection>;

pub(super) async fn register(State(doors): State<HttpDoors>, caller: Who, body: Body<ProfileRequest>) -> Response {
    store(doors, caller, body, false).await
}

pub(super) async fn update(State(doors): State<HttpDoors>, caller: Who, body: Body<ProfileRequest>) -> Response {
    store(doors, caller, body, true).await
}

async fn store(doors: HttpDoors, Extension(caller): Who, body: Body<ProfileRequest>, must_be_known: bool) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return bad_body(&rejection),
    };
    let key = match Profiles::identify(request.drift_type, &request.profile) {
        Ok((key, _)) => key,
        Err(error) => return failure(&error),
    };
    // The profile's own space, not the one beside it.
    if let Some(refused) = refused_space(&doors, &caller, Permission::Write, Some(&key.space)) {
        return refused;
    }
    let known = doors.profiles.find(&key);
    if must_be_known && known.is_none() {
        return failure(&ProfileError::Unknown);
    }
    // An update of what a profile says leaves it as active as it was.
    let active = if must_be_known { known.is_some_and(|known| known.active) } else { request.active };
    let stored = blocking(doors, move |profiles| {
        let ProfileRequest { drift_type, profile, deactivate_others, .. } = &request;
        profiles.register(&NewProfile { drift_type: *drift_type, profile, active, deactivate_others: *deactivate_others })
    });
    match stored.await {
        Ok(_) if must_be_known => success("Drift profile updated successfully"),
        Ok(profile) => Json(json!({
            "space": profile.key.space, "name": profile.key.name, "version": profile.key.version, "uid": profile.uid,
            "status": "success", "active": profile.active,
        }))
        .into_response(),
        Err(error) => failure(&error),
    }
}

pub(super) async fn set_status(State(doors): State<HttpDoors>, Extension(caller): Who, body: Body<StatusRequest>) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return bad_body(&rejection),
    };
    if let Some(refused) = refused_space(&doors, &caller, Permission::Write, Some(&request.space)) {
        return refused;
    }
    let StatusRequest { space, name, version, active, drift_type, deactivate_others } = request;
    let words = format!("Monitor profile status updated to {active} for {name} {space} {version}");
    let changed = blocking(doors, move |profiles| {
        // Without a kind: every profile of that name and version.
        let wanted: Vec<ProfileKey> = profiles
            .all()
            .iter()
            .map(|profile| &profile.key)
            .filter(|key| key.space == space && key.name == name && key.version == version)
            .filter(|key| drift_type.is_none_or(|kind| kind == key.drift_type))
            .cloned()
            .collect();
        if wanted.is_empty() {
            return Err(ProfileError::Unknown);
        }
        wanted.iter().try_for_each(|key| profiles.set_active(key, active, deactivate_others).map(|_| ()))
    });
    match changed.await {
        Ok(()) => success(&words),
        Err(error) => failure(&error),
    }
}

pub(super) async fn get(State(doors): State<HttpDoors>, Extension(caller): Who, Query(request): Query<GetRequest>) -> Response {
    if let Some(refused) = refused_space(&doors, &caller, Permission::Read, Some(&request.space)) {
        return refused;
    }
    let GetRequest { space, name, version, drift_type: kind } = request;
    let Ok(drift_type) = serde_json::from_value(json!(kind)) else {
        return error_response(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "drift_type is Spc, Psi, Custom, Agent or GenAI");
    };
    match doors.profiles.find(&ProfileKey { space, name, version, drift_type }) {
        Some(profile) => ([(header::CONTENT_TYPE, "application/json")], tagged(&kind, &profile)).into_response(),
        None => failure(&ProfileError::Unknown),
    }
}

pub(super) async fn list(State(doors): State<HttpDoors>, Extension(caller): Who, body: Body<ListRequest>) -> Response {
    let ListRequest { space, name, version } = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return bad_body(&rejection),
    };
    if let Some(refused) = refused_space(&doors, &caller, Permission::Read, Some(&space)) {
        return refused;
    }
    let all = doors.profiles.all();
    let found = all.iter().filter(|profile| profile.key.space == space && profile.key.name == name && profile.key.version == version);
    let listed =
        found.map(|profile| format!("{{\"profile\":{},\"active\":{}}}", tagged(profile.key.drift_type.name(), profile), profile.active));
    let body = format!("[{}]", listed.collect::<Vec<_>>().join(","));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `kind` is one of the names of kinds, and the profile is JSON.
fn tagged(kind: &str, profile: &Profile) -> String {
    format!("{{\"{kind}\":{}}}", profile.profile)
}

async fn blocking<T: Send + 'static>(
    doors: HttpDoors,
    work: impl FnOnce(&Profiles) -> Result<T, ProfileError> + Send + 'static,
) -> Result<T, ProfileError> {
    let done = tokio::task::spawn_blocking(move || work(&doors.profiles)).await;
    done.unwrap_or_else(|error| {
        Err(ProfileError::File { path: "profiles".into(), action: "changed", source: std::io::Error::other(error) })
    })
}

fn bad_body(rejection: &JsonRejection) -> Response {
    error_response(rejection.status(), "INVALID_ARGUMENT", &rejection.body_text())
}

fn failure(error: &ProfileError) -> Response {
    let (status, code) = match error {
        ProfileError::Invalid { .. } => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
        ProfileError::UidTaken { .. } => (StatusCode::CONFLICT, "ALREADY_EXISTS"),
        ProfileError::Unknown => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        ProfileError::TooMany => (StatusCode::UNPROCESSABLE_ENTITY, "RESOURCE_EXHAUSTED"),
        ProfileError::File { .. } => {
            tracing::error!(error = error as &dyn std::error::Error, "profiles cannot be changed");
            (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL")
        }
    };
    error_response(status, code, &error.to_string())
}
