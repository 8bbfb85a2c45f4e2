//! Scouter's server over HTTP: spans and records as one protobuf message, `POST /scouter/message`, behind the login of its other routes.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use prost::Message;
use scouter_tonic::{
    client::{CallError, CallErrorKind, Granted, Login, Token, Tokens, shown_address},
    grpc::InsertMessageResponse,
};
use serde::Deserialize;
use tokio::time::Instant;
use tonic::Code;

use super::{HttpConfig, Limits, Sent, Transport, TransportFuture, check_length, count, http_client::HttpClient, json::JsonForm};
use crate::{ConfigError, ConfigFault, Payload};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) struct HttpTransport {
    config: HttpConfig,
    message: Uri,
    login: Uri,
    refresh: Uri,
    client: HttpClient,
    tokens: Tokens,
    json: JsonForm,
}

/// The answer of the login and of the renewal.
#[derive(Deserialize)]
struct TokenAnswer {
    token: String,
    #[serde(default)]
    expires_in_seconds: u64,
}

impl HttpTransport {
    pub(crate) fn new(config: HttpConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let settings = config.as_grpc();
        let base = settings.address()?;
        let under = |path: &str| {
            let uri = format!("{}{path}", base.trim_end_matches('/'));
            uri.parse::<Uri>().map_err(|_| ConfigFault::ServerUri { uri: shown_address(&base), reason: "it is not a URI".to_owned() })
        };
        Ok(Self {
            message: under("/scouter/message")?,
            login: under("/scouter/auth/login")?,
            refresh: under("/scouter/auth/refresh")?,
            client: HttpClient::new(&settings)?,
            tokens: Tokens::default(),
            json: JsonForm::default(),
            config,
        })
    }

    async fn send_once(&self, request: Bytes, deadline: Instant) -> Result<Sent, CallError> {
        check_length(&request, self.config.max_request_bytes)?;
        if self.config.payload == Payload::Json {
            return self.json.send(&request, |json| async move { self.post(json.into(), Some(JSON), deadline).await.map(drop) }).await;
        }
        let bytes = request.len() as u64;
        let answer = self.post(request, None, deadline).await?;
        let answer = InsertMessageResponse::decode(answer).map_err(|error| {
            // An older server takes protobuf for JSON and refuses it; one that answers otherwise is another one's.
            let message = format!("the answer is not a Scouter server's: {error}");
            CallError::new(CallErrorKind::Refused, Code::Internal, message)
        })?;
        Ok(Sent {
            rejected_spans: count(answer.rejected_spans),
            rejected_records: count(answer.rejected_records),
            message: answer.message,
            bytes,
        })
    }

    /// Posts with a token, and once more with another one if that is refused.
    async fn post(&self, body: Bytes, content_type: Option<HeaderValue>, deadline: Instant) -> Result<Bytes, CallError> {
        let HttpConfig { username, auth_token, .. } = &self.config;
        let fixed = (!auth_token.is_empty()).then(|| bearer(auth_token.reveal())).transpose()?;
        if fixed.is_some() || username.is_empty() {
            return self.post_with(fixed, body, content_type, deadline).await;
        }
        let token = self.tokens.current(self, deadline).await?;
        match self.post_with(Some(bearer(token.text().reveal())?), body.clone(), content_type.clone(), deadline).await {
            Err(error) if error.kind() == CallErrorKind::Unauthenticated => {
                let token = self.tokens.replace(self, Some(&token), deadline).await?;
                self.post_with(Some(bearer(token.text().reveal())?), body, content_type, deadline).await
            }
            result => result,
        }
    }

    async fn post_with(
        &self,
        authorization: Option<HeaderValue>,
        body: Bytes,
        content_type: Option<HeaderValue>,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let may_renew = authorization.is_some() && self.config.auth_token.is_empty();
        let mut headers = HeaderMap::new();
        headers.extend(authorization.map(|value| (header::AUTHORIZATION, value)));
        headers.extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
        let (headers, body) = self.client.post(&self.message, headers, body, deadline).await?;
        let renewed = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if let Some(renewed) = renewed.filter(|token| may_renew && !token.is_empty()) {
            self.tokens.accept_unasked(renewed.to_owned())?;
        }
        Ok(body)
    }

    fn granted(&self, what: &str, body: &[u8]) -> Result<Granted, CallError> {
        let answer: TokenAnswer = serde_json::from_slice(body)
            .map_err(|_| CallError::new(CallErrorKind::Refused, Code::Internal, format!("the {what} gave no token")))?;
        let life = (answer.expires_in_seconds > 0).then(|| Duration::from_secs(answer.expires_in_seconds));
        Ok(Granted { token: answer.token, life, accepts_typed_messages: None })
    }
}

impl Login for HttpTransport {
    async fn log_in(&self, _refused: Option<&Token>, deadline: Instant) -> Result<Granted, CallError> {
        let mut headers = HeaderMap::new();
        for (name, value) in [("username", self.config.username.as_str()), ("password", self.config.password.reveal())] {
            let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
                CallError::new(CallErrorKind::Credentials, Code::InvalidArgument, format!("the {name} is no header's value"))
            })?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        let body = self.client.get(&self.login, headers, deadline).await.map_err(|error| match error.code() {
            Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument if !error.is_retryable() => {
                CallError::new(CallErrorKind::Credentials, error.code(), error.message())
            }
            _ => error,
        })?;
        self.granted("login", &body)
    }

    async fn renew(&self, token: &Token, deadline: Instant) -> Result<Granted, CallError> {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer(token.text().reveal())?)]);
        let body = self.client.get(&self.refresh, headers, deadline).await?;
        self.granted("token renewal", &body)
    }

    fn tell_refused(&self, error: &CallError) {
        let HttpConfig { server_uri, username, .. } = &self.config;
        let message = error.message();
        let server = shown_address(server_uri);
        tracing::error!(server, username = %username, message, "the server refuses user and password; nothing is sent until it accepts them");
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: Bytes, deadline: Instant) -> TransportFuture<'_, Result<Sent, CallError>> {
        Box::pin(self.send_once(request, deadline))
    }

    fn limits(&self) -> Limits {
        let HttpConfig { timeout, max_request_bytes, .. } = self.config;
        Limits { timeout, flush_timeout: timeout, max_request_bytes }
    }

    fn credentials_pause(&self) -> Option<(Duration, CallError)> {
        self.tokens.pause()
    }

    fn with_new_connection(&self) -> Arc<dyn Transport> {
        Arc::new(Self {
            config: self.config.clone(),
            message: self.message.clone(),
            login: self.login.clone(),
            refresh: self.refresh.clone(),
            client: self.client.with_new_connection(),
            tokens: Tokens::default(),
            json: self.json.clone(),
        })
    }

    fn component(&self) -> (&'static str, String) {
        ("otlp_http_span_exporter", shown_address(&self.config.server_uri))
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Http").field(&self.config).finish()
    }
}

fn bearer(token: &str) -> Result<HeaderValue, CallError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| CallError::new(CallErrorKind::Refused, Code::Internal, "the token cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}
