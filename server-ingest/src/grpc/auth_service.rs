//! `AuthService`: open to strangers, since this is where they become callers.

use std::sync::Arc;

use scouter_tonic::grpc::{
    LoginRequest, LoginResponse, RefreshTokenRequest, RefreshTokenResponse, ValidateTokenRequest, ValidateTokenResponse,
    auth_service_server::AuthService,
};
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    auth::{Auth, Issued, LoginError},
    error::RETRY_AFTER,
};

pub(super) struct AuthDoor(Arc<Auth>);

impl AuthDoor {
    pub(super) fn new(auth: Arc<Auth>) -> Self {
        Self(auth)
    }
}

#[tonic::async_trait]
impl AuthService for AuthDoor {
    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        let LoginRequest { username, password } = request.into_inner();
        let issued = self.0.login(&username, &password).await.map_err(|error| match error {
            LoginError::Refused => Status::unauthenticated(error.to_string()),
            LoginError::Busy => {
                Status::with_error_details(tonic::Code::Unavailable, error.to_string(), ErrorDetails::with_retry_info(Some(RETRY_AFTER)))
            }
        })?;
        Ok(Response::new(LoginResponse {
            expires_in_seconds: seconds(&issued),
            token: issued.token,
            status: "success".to_owned(),
            message: String::new(),
            accepts_typed_messages: true,
        }))
    }

    async fn refresh_token(&self, request: Request<RefreshTokenRequest>) -> Result<Response<RefreshTokenResponse>, Status> {
        let issued = self.0.refresh(&request.into_inner().access_token).map_err(|error| Status::unauthenticated(error.to_string()))?;
        Ok(Response::new(RefreshTokenResponse {
            expires_in_seconds: seconds(&issued),
            token: issued.token,
            status: "success".to_owned(),
            message: String::new(),
        }))
    }

    async fn validate_token(&self, request: Request<ValidateTokenRequest>) -> Result<Response<ValidateTokenResponse>, Status> {
        let outcome = self.0.caller(Some(&format!("Bearer {}", request.into_inner().token)));
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
