//! The connection: endpoint, TLS, and a guard between tonic and what a peer sends.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tonic::{
    body::Body,
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tower::Service;

use super::{
    address::shown_address,
    config::{ConfigError, ConfigFault, GrpcConfig, Target},
    retry_info::{RetryInfo, STATUS_DETAILS},
    tls::TlsFiles,
    whole::WholeMessage,
};

const USER_AGENT: &str = concat!("scouter-rust/", env!("CARGO_PKG_VERSION"));
const GRPC_STATUS: &str = "grpc-status";

/// Without pings nothing would ever replace a connection that died without a word. The two together stay below the default deadline, so
/// that a request which met such a connection gets another attempt.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(4);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Builds the endpoint. Reads certificate files and the system's roots, touches no network.
pub(super) fn endpoint(config: &GrpcConfig) -> Result<Endpoint, ConfigError> {
    let target = Target::parse(&config.server_uri, config.insecure)?;
    let unusable =
        |error: &dyn std::fmt::Display| ConfigFault::ServerUri { uri: shown_address(&target.endpoint), reason: error.to_string() };
    let connect_timeout = config.connect_timeout.unwrap_or(config.timeout).min(config.timeout);
    let endpoint = Endpoint::from_shared(target.endpoint.clone())
        .and_then(|endpoint| endpoint.user_agent(user_agent(config.user_agent_prefix.as_deref())))
        .map_err(|error| unusable(&error))?
        .connect_timeout(connect_timeout)
        .keep_alive_while_idle(config.keep_alive_while_idle)
        .http2_keep_alive_interval(config.keep_alive_interval.unwrap_or(KEEP_ALIVE_INTERVAL))
        .keep_alive_timeout(config.keep_alive_timeout.unwrap_or(KEEP_ALIVE_TIMEOUT));
    let TlsFiles { ca_pem, identity_pem } = TlsFiles::read(config)?;
    if !target.is_encrypted {
        return Ok(endpoint);
    }
    let tls = |tls: ClientTlsConfig| {
        let tls = tls.timeout(connect_timeout).with_webpki_roots();
        let tls = ca_pem.iter().fold(tls, |tls, pem| tls.ca_certificate(Certificate::from_pem(pem)));
        let tls = identity_pem.iter().fold(tls, |tls, (certificate, key)| tls.identity(Identity::from_pem(certificate, key)));
        endpoint.clone().tls_config(tls)
    };
    // A container without a certificate store has no native roots at all, which tonic takes for an error: the bundled ones do then.
    tls(ClientTlsConfig::new().with_native_roots())
        .or_else(|_| tls(ClientTlsConfig::new()))
        .map_err(|error| ConfigFault::Tls { reason: describe(&error) }.into())
}

/// What a client calls itself, after a product token of its user's.
pub fn user_agent(prefix: Option<&str>) -> String {
    prefix.map_or_else(|| USER_AGENT.to_owned(), |prefix| format!("{prefix} {USER_AGENT}"))
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What is known of a call's answer beside tonic's status. Travels in the request's extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer(Arc<Mutex<AnswerState>>);

#[derive(Clone, Copy, Debug, Default)]
struct AnswerState {
    http_status: Option<u16>,
    has_grpc_status: bool,
    retry_info: Option<RetryInfo>,
}

impl Answer {
    /// True when the server itself sent a status, so that what tonic reports is the server's word.
    pub(super) fn has_grpc_status(&self) -> bool {
        self.state().has_grpc_status
    }

    pub(super) fn http_status(&self) -> Option<u16> {
        self.state().http_status
    }

    pub(super) fn retry_info(&self) -> Option<RetryInfo> {
        self.state().retry_info
    }

    fn state(&self) -> AnswerState {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a status out of headers or trailers, and takes out of them what tonic would panic on: it expects valid base64 in
    /// `grpc-status-details-bin`, whoever sent it.
    fn read(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(GRPC_STATUS) {
            return;
        }
        let retry_info = RetryInfo::from_metadata(&MetadataMap::from_headers(headers.clone()));
        headers.remove(STATUS_DETAILS);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.has_grpc_status = true;
        state.retry_info = retry_info;
    }
}

/// A channel that sends a [`WholeMessage`] as it is, and whose answers are read by [`Answer`] before tonic sees them.
#[derive(Clone, Debug)]
pub(super) struct GuardedChannel(Channel);

impl GuardedChannel {
    /// Must be called inside a tokio runtime; connects at the first call.
    pub(super) fn connect_lazy(endpoint: &Endpoint) -> Self {
        Self(endpoint.connect_lazy())
    }
}

impl Service<Request<Body>> for GuardedChannel {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let answer = request.extensions_mut().remove::<Answer>().unwrap_or_default();
        if let Some(whole) = request.extensions_mut().remove::<WholeMessage>() {
            *request.body_mut() = Body::new(whole);
        }
        let response = self.0.call(request);
        Box::pin(async move {
            let (mut parts, body) = response.await?.into_parts();
            answer.0.lock().unwrap_or_else(PoisonError::into_inner).http_status = Some(parts.status.as_u16());
            answer.read(&mut parts.headers);
            let body = body.map_frame(move |frame| match frame.into_trailers() {
                Ok(mut trailers) => {
                    answer.read(&mut trailers);
                    http_body::Frame::trailers(trailers)
                }
                Err(data) => data,
            });
            Ok(Response::from_parts(parts, Body::new(body)))
        })
    }
}
