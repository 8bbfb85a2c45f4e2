//! What comes before every gRPC service: a request that is no call gets an answer in HTTP, and only who is known may ask what there is.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use tonic::codegen::{BoxFuture, Service};

use super::{CONTENT_TYPE, GrpcDoors, raw};
use crate::listener::Peer;

/// The descriptions of all services.
const REFLECTION: &str = "/grpc.reflection.";

/// The services behind the threshold.
#[derive(Clone)]
pub struct Threshold<S> {
    services: S,
    doors: GrpcDoors,
}

impl<S> Threshold<S> {
    /// Goes before `services`.
    pub fn before(services: S, doors: &GrpcDoors) -> Self {
        Self { services, doors: doors.clone() }
    }
}

impl<S, B, A> Service<Request<B>> for Threshold<S>
where
    S: Service<Request<B>, Response = Response<A>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<Either<A, Full<Bytes>>>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !is_call(&request) {
            let answer = no_call(&request);
            return Box::pin(async { Ok(answer.map(Either::Right)) });
        }
        if !request.uri().path().starts_with(REFLECTION) {
            let answer = self.services.call(request);
            return Box::pin(async { Ok(answer.await?.map(Either::Left)) });
        }
        // The one that was asked whether it is ready is called.
        let next = self.services.clone();
        let (mut services, doors) = (std::mem::replace(&mut self.services, next), self.doors.clone());
        Box::pin(async move {
            let credential = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            if let Err(denied) = doors.auth.caller(credential, Peer::address(request.extensions())).await {
                doors.metrics.count_denied(&denied);
                return Ok(raw::refusal(denied.into()).map(Either::Right));
            }
            Ok(services.call(request).await?.map(Either::Left))
        })
    }
}

/// gRPC with messages of protobuf, which is all that is spoken here.
fn is_call<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    content_type
        .strip_prefix(CONTENT_TYPE.as_bytes())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+proto") || rest.starts_with(b";"))
}

/// As the protocol asks, and for whoever took the wrong port.
fn no_call<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    let text = format!(
        "this port speaks gRPC, and {} {} is no call of it; HTTP is served at --http-addr and --otlp-http-addr\n",
        request.method(),
        request.uri().path()
    );
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
