//! HTTP/1.1: one POST a request, answers told apart by OTLP's table.
//!
//! Nothing is followed, cached or negotiated: a redirect is a refusal, and answers come uncompressed.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use prost::Message;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use scouter_tonic::client::{CallError, CallErrorKind, TlsFiles, user_agent};
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use crate::{Compression, ConfigError, ConfigFault, GrpcConfig};

const PROTOBUF: &str = "application/x-protobuf";
/// Most of a refusal's body that is read for its words.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 1;

/// Posts requests. Clones share connections. Needs a tokio runtime only when it sends.
#[derive(Clone)]
pub(super) struct HttpClient {
    headers: HeaderMap,
    compression: Compression,
    max_response_bytes: usize,
    connector: HttpsConnector<HttpConnector>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    /// Builds a client of the settings that both protocols have. Reads certificate files; touches no network.
    ///
    /// # Errors
    /// Every fault found.
    pub(super) fn new(config: &GrpcConfig) -> Result<Self, ConfigError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let unusable = |reason| ConfigFault::Header { name: name.clone(), reason };
            let key =
                HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| unusable("its name is not a header name"))?;
            let mut value = HeaderValue::from_str(value).map_err(|_| unusable("its value is not printable ASCII"))?;
            value.set_sensitive(true);
            headers.append(key, value);
        }
        let user_agent = HeaderValue::from_str(&user_agent(config.user_agent_prefix.as_deref()))
            .map_err(|_| ConfigFault::Setting { name: "user_agent_prefix", expected: "printable ASCII" })?;
        headers.insert(header::USER_AGENT, user_agent);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.connect_timeout.unwrap_or(config.timeout).min(config.timeout)));
        let files = TlsFiles::read(config)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls(&files)?).https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self {
            headers,
            compression: config.compression,
            max_response_bytes: config.max_response_bytes,
            client: pool(&connector),
            connector,
        })
    }

    /// The same client with connections of its own, for a process that forked.
    pub(super) fn with_new_connection(&self) -> Self {
        Self { client: pool(&self.connector), ..self.clone() }
    }

    /// Posts a body once, as protobuf unless `headers` say otherwise, and gives the headers and the body of an answer that is not a refusal.
    ///
    /// # Errors
    /// See [`CallErrorKind`].
    pub(super) async fn post(
        &self,
        uri: &Uri,
        mut headers: HeaderMap,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(HeaderMap, Bytes), CallError> {
        if Instant::now() >= deadline {
            return Err(CallError::deadline("POST"));
        }
        let body = compress(body, self.compression)
            .map_err(|error| CallError::new(CallErrorKind::Refused, Code::Internal, format!("cannot compress: {error}")))?;
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(PROTOBUF));
        match self.compression {
            Compression::None => {}
            Compression::Gzip => drop(headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))),
            Compression::Zstd => drop(headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"))),
        }
        self.exchange("POST", http::Method::POST, uri, headers, body, deadline).await
    }

    /// Asks once.
    ///
    /// # Errors
    /// As [`HttpClient::post`].
    pub(super) async fn get(&self, uri: &Uri, headers: HeaderMap, deadline: Instant) -> Result<Bytes, CallError> {
        self.exchange("GET", http::Method::GET, uri, headers, Bytes::new(), deadline).await.map(|(_, body)| body)
    }

    async fn exchange(
        &self,
        what: &str,
        method: http::Method,
        uri: &Uri,
        headers: HeaderMap,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(HeaderMap, Bytes), CallError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().extend(headers);
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| lost(&error))?;
            self.read(response).await
        };
        timeout_at(deadline, exchange).await.unwrap_or_else(|_| Err(CallError::deadline(what)))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<(HeaderMap, Bytes), CallError> {
        let (parts, body) = response.into_parts();
        if !parts.status.is_success() {
            let body = Limited::new(body, MAX_REFUSAL_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(refusal(parts.status, &parts.headers, &body, SystemTime::now()));
        }
        match Limited::new(body, self.max_response_bytes).collect().await {
            Ok(body) => Ok((parts.headers, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                let message = format!("the answer has more than {} bytes", self.max_response_bytes);
                Err(CallError::new(CallErrorKind::AnswerTooLarge, Code::OutOfRange, message))
            }
            Err(error) => Err(lost(&*error)),
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Header values are marked sensitive and show nothing.
        f.debug_struct("HttpClient").field("headers", &self.headers).field("compression", &self.compression).finish_non_exhaustive()
    }
}

fn pool(connector: &HttpsConnector<HttpConnector>) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector.clone())
}

/// Trusts the system's, the bundled and the configured authorities, as the gRPC client does.
pub(super) fn tls(files: &TlsFiles) -> Result<ClientConfig, ConfigFault> {
    let fault = |what: &str, error: &dyn fmt::Display| ConfigFault::Tls { reason: format!("{what}: {error}") };
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // A container without a certificate store has none, and one bad certificate in a store is no reason to do without the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in files.ca_pem.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)) {
        let certificate = certificate.map_err(|error| fault("ca_file", &error))?;
        roots.add(certificate).map_err(|error| fault("ca_file", &error))?;
    }
    let builder = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| fault("protocol versions", &error))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &files.identity_pem else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fault("client_certificate_file", &error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| fault("client_key_file", &error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| fault("client certificate and key", &error))
}

fn compress(body: Bytes, compression: Compression) -> io::Result<Bytes> {
    match compression {
        Compression::None => Ok(body),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(&body)?;
            encoder.finish().map(Bytes::from)
        }
        Compression::Zstd => zstd::bulk::compress(&body, ZSTD_LEVEL).map(Bytes::from),
    }
}

/// No answer, or only a part of one: nothing the request could be blamed for.
fn lost(error: &(dyn Error + 'static)) -> CallError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    CallError::new(CallErrorKind::Retryable, Code::Unavailable, text)
}

/// What an answer other than 2xx means, with the server's words and its wish for a pause.
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8], now: SystemTime) -> CallError {
    let (kind, code) = meaning(status);
    let is_protobuf = headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(PROTOBUF.as_bytes()));
    let words = if is_protobuf {
        RpcStatus::decode(body).map(|status| status.message).unwrap_or_default()
    } else {
        String::from_utf8_lossy(body).trim().to_owned()
    };
    let separator = if words.is_empty() { "" } else { ": " };
    let error = CallError::new(kind, code, format!("HTTP {status}{separator}{words}"));
    match retry_after(headers, now) {
        Some(delay) if kind == CallErrorKind::Retryable => error.with_retry_after(delay),
        _ => error,
    }
}

/// OTLP's table: 429, 502, 503 and 504 are worth another attempt.
fn meaning(status: StatusCode) -> (CallErrorKind, Code) {
    match status.as_u16() {
        429 | 502 | 503 | 504 => (CallErrorKind::Retryable, Code::Unavailable),
        401 => (CallErrorKind::Unauthenticated, Code::Unauthenticated),
        400 => (CallErrorKind::Refused, Code::InvalidArgument),
        403 => (CallErrorKind::Refused, Code::PermissionDenied),
        404 => (CallErrorKind::Refused, Code::NotFound),
        413 => (CallErrorKind::Refused, Code::ResourceExhausted),
        _ => (CallErrorKind::Refused, Code::Unknown),
    }
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
    }
}

/// `google.rpc.Status`, the body of a refusal.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}
