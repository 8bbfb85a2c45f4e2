//! OTLP's other signals. A client that sends them is told so once and finally, and not left with a method that does not exist.

use std::{
    convert::Infallible,
    marker::PhantomData,
    task::{Context, Poll},
};

use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};

use super::{GrpcDoors, raw};
use crate::{auth::Permission, error::IngestError, listener::Peer};

/// A service that is OTLP's and not ours.
pub(super) trait Signal: Send + Sync + 'static {
    const SERVICE: &'static str;
    const NAME: &'static str;
}

pub(super) struct Logs;

impl Signal for Logs {
    const SERVICE: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
    const NAME: &'static str = "logs";
}

pub(super) struct MetricPoints;

impl Signal for MetricPoints {
    const SERVICE: &'static str = "opentelemetry.proto.collector.metrics.v1.MetricsService";
    const NAME: &'static str = "metrics";
}

pub(super) struct Profiles;

impl Signal for Profiles {
    const SERVICE: &'static str = "opentelemetry.proto.collector.profiles.v1development.ProfilesService";
    const NAME: &'static str = "profiles";
}

/// Answers every call with `UNIMPLEMENTED` and words.
pub(super) struct NotServed<S> {
    doors: GrpcDoors,
    signal: PhantomData<S>,
}

impl<S> NotServed<S> {
    pub(super) fn new(doors: &GrpcDoors) -> Self {
        Self { doors: doors.clone(), signal: PhantomData }
    }
}

impl<S> Clone for NotServed<S> {
    fn clone(&self) -> Self {
        Self { doors: self.doors.clone(), signal: PhantomData }
    }
}

impl<S: Signal> NamedService for NotServed<S> {
    const NAME: &'static str = S::SERVICE;
}

impl<S: Signal> Service<http::Request<Body>> for NotServed<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let doors = self.doors.clone();
        Box::pin(async move {
            let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
            let error = match doors.admit(header, Peer::address(request.extensions()), Permission::Write).await {
                Ok(_) => IngestError::NotServed { signal: S::NAME },
                Err(error) => error,
            };
            Ok(raw::refusal(error))
        })
    }
}
