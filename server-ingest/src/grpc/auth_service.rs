//! `AuthService`: open to strangers, since this is where they become callers.

use std::sync::Arc;

use scouter_tonic::grpc::{
    LoginRequest, LoginResponse, RefreshTokenRequest, RefreshTokenResponse, ValidateTokenRequest, ValidateTokenResponse,
    auth_service_server::AuthService,
};
use tonic::{Request, Response, Status};

use super::GrpcDoors;
use crate::{
    auth::{Auth, Denied, Issued},
    error::IngestError,
    listener::Peer,
    telemetry::Metrics,
};

/// Names, passwords and tokens are far shorter.
pub(super) const MAX_LOGIN_BYTES: usize = 64 * 1024;

pub(super) struct AuthDoor {
    auth: Arc<Auth>,
    metrics: Arc<Metrics>,
}

impl AuthDoor {
    pub(super) fn new(doors: &GrpcDoors) -> Self {
        Self { auth: Arc::clone(&doors.auth), metrics: Arc::clone(&doors.metrics) }
    }

    fn refuse(&self, denied: impl Into<Denied>) -> Status {
        let denied = denied.into();
        self.metrics.count_denied(&denied);
        IngestError::Denied(denied).into()
    }
}

#[tonic::async_trait]
impl AuthService for AuthDoor {
    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        let from = Peer::address(request.extensions());
        let LoginRequest { username, password } = request.into_inner();
        let issued = self.auth.login(&username, &password, from).await.map_err(|error| self.refuse(error))?;
        Ok(Response::new(LoginResponse {
            expires_in_seconds: seconds(&issued),
            token: issued.token,
            status: "success".to_owned(),
            message: String::new(),
            accepts_typed_messages: true,
        }))
    }

    async fn refresh_token(&self, request: Request<RefreshTokenRequest>) -> Result<Response<RefreshTokenResponse>, Status> {
        let issued = self.auth.refresh(&request.into_inner().access_token).map_err(|error| self.refuse(error))?;
        Ok(Response::new(RefreshTokenResponse {
            expires_in_seconds: seconds(&issued),
            token: issued.token,
            status: "success".to_owned(),
            message: String::new(),
        }))
    }

    async fn validate_token(&self, request: Request<ValidateTokenRequest>) -> Result<Response<ValidateTokenResponse>, Status> {
        let outcome = self.auth.bearer(&request.into_inner().token);
        Ok(Response::new(ValidateTokenResponse {
            is_authenticated: outcome.is_ok(),
            status: if outcome.is_ok() { "success" } else { "error" }.to_owned(),
            message: outcome.err().map(|error| error.to_string()).unwrap_or_default(),
        }))
    }
}

fn seconds(issued: &Issued) -> i64 {
    i64::try_from(issued.expires_in.as_secs()).unwrap_or(i64::MAX)
}
