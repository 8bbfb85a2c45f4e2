//! OTLP over HTTP.

use std::{error::Error as _, time::Duration};

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::{Client, StatusCode, Url, header, redirect};

use super::{Compression, Packed, SendError, grpc::REQUEST_TIMEOUT, login::NOBODY, with_causes};

/// A pool of HTTP connections to one address.
#[derive(Debug, Clone)]
pub struct HttpConnection {
    client: Client,
    traces: Url,
    pub(super) compression: Compression,
}

impl HttpConnection {
    pub(super) fn new(endpoint: &str, compression: Compression) -> anyhow::Result<Self> {
        let endpoint = Url::parse(endpoint).with_context(|| format!("{endpoint:?} is not an address such as http://127.0.0.1:4318"))?;
        let traces = endpoint.join("/v1/traces").context("the endpoint takes no path")?;
        // A redirected POST may arrive as a GET without its spans, and be answered with 200.
        let client = Client::builder().timeout(REQUEST_TIMEOUT).tcp_nodelay(true).redirect(redirect::Policy::none());
        let client = client.build().context("the HTTP client cannot be set up")?;
        Ok(Self { client, traces, compression })
    }

    pub(super) async fn send(&self, body: &Packed, token: &str) -> Result<u64, SendError> {
        let mut request = self.client.post(self.traces.clone()).header(header::CONTENT_TYPE, "application/x-protobuf");
        if self.compression != Compression::Plain {
            request = request.header(header::CONTENT_ENCODING, self.compression.name());
        }
        let answer = request
            .bearer_auth(token)
            .body(body.0.clone())
            .send()
            .await
            .map_err(|error| SendError::Retry(with_causes(error.to_string(), error.source()), None))?;
        let status = answer.status();
        let after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok().map(Duration::from_secs));
        // A program of others that nobody logs in to may answer protobuf with JSON of its own, which says nothing of rejected spans.
        let is_a_peers = token == NOBODY
            && answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        let content = answer.bytes().await.map_err(|error| SendError::Retry(with_causes(error.to_string(), error.source()), None))?;
        if status == StatusCode::OK && is_a_peers {
            return Ok(0);
        }
        if status == StatusCode::OK {
            let answer = ExportTraceServiceResponse::decode(content)
                .map_err(|error| SendError::Refused(format!("the answer is not OTLP's: {error}")))?;
            return Ok(answer.partial_success.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0)));
        }
        let text = format!("HTTP {status}: {}", String::from_utf8_lossy(&content).trim());
        Err(match status {
            StatusCode::UNAUTHORIZED => SendError::Unauthenticated(text),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                SendError::Retry(text, after)
            }
            _ => SendError::Refused(text),
        })
    }
}
