//! Getting a token.

use std::{error::Error as _, time::Duration};

use reqwest::{StatusCode, Url, redirect};
use scouter_tonic::grpc::{LoginRequest, auth_service_client::AuthServiceClient};
use serde::Deserialize;
use tonic::Request;

use super::{
    SendError,
    grpc::{channel, classify},
    with_causes,
};

const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The token of [`Login::Nobody`].
pub(super) const NOBODY: &str = "none";

/// Where a token comes from.
#[derive(Debug, Clone)]
pub enum Login {
    /// `AuthService/Login` at this gRPC address.
    Grpc(String),
    /// `GET /scouter/auth/login` at this HTTP address.
    Http(String),
    /// A server that asks nobody who he is.
    Nobody,
}

#[derive(Deserialize)]
struct Answer {
    token: String,
}

impl Login {
    /// Asks for a token.
    ///
    /// # Errors
    /// [`SendError::Refused`] when user or password are wrong, [`SendError::Retry`] when the server cannot be reached.
    pub async fn token(&self, username: &str, password: &str) -> Result<String, SendError> {
        match self {
            Self::Grpc(endpoint) => by_grpc(endpoint, username, password).await,
            Self::Http(endpoint) => by_http(endpoint, username, password).await,
            Self::Nobody => Ok(NOBODY.to_owned()),
        }
    }
}

async fn by_grpc(endpoint: &str, username: &str, password: &str) -> Result<String, SendError> {
    let channel = channel(endpoint).map_err(|error| SendError::Refused(format!("{error:#}")))?;
    let mut request = Request::new(LoginRequest { username: username.to_owned(), password: password.to_owned() });
    request.set_timeout(LOGIN_TIMEOUT);
    match AuthServiceClient::new(channel).login(request).await {
        Ok(answer) => Ok(answer.into_inner().token),
        Err(status) => Err(match classify(&status) {
            SendError::Unauthenticated(text) => SendError::Refused(format!("the login as {username:?} was refused: {text}")),
            SendError::Refused(text) => SendError::Refused(format!("the login as {username:?} failed: {text}")),
            retry => retry,
        }),
    }
}

async fn by_http(endpoint: &str, username: &str, password: &str) -> Result<String, SendError> {
    let url = Url::parse(endpoint)
        .and_then(|url| url.join("/scouter/auth/login"))
        .map_err(|error| SendError::Refused(format!("{endpoint:?} is not an address: {error}")))?;
    let client = reqwest::Client::builder()
        .timeout(LOGIN_TIMEOUT)
        // The password is for this address and no other.
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|error| SendError::Refused(format!("the HTTP client cannot be set up: {error}")))?;
    let answer = client
        .get(url)
        .header("Username", username)
        .header("Password", password)
        .send()
        .await
        .map_err(|error| SendError::Retry(with_causes(error.to_string(), error.source()), None))?;
    let status = answer.status();
    if status == StatusCode::OK {
        let answer: Answer =
            answer.json().await.map_err(|error| SendError::Refused(format!("the login's answer has no token: {error}")))?;
        return Ok(answer.token);
    }
    let text = format!("the login as {username:?} was refused: HTTP {status}: {}", answer.text().await.unwrap_or_default().trim());
    Err(if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        SendError::Retry(text, None)
    } else {
        SendError::Refused(text)
    })
}
