//! The HTTP door from the first moment: before the store is open it says that it lives and is not ready.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use axum::{
    Json, Router,
    body::Body,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;
use tower::{Service, ServiceExt};

use super::{Life, Stage, error_response};

/// Serves the routes once there are any.
#[derive(Debug, Clone)]
pub struct Front {
    life: Arc<Life>,
    routes: Arc<OnceLock<Router>>,
}

impl Front {
    /// Nothing but health, until [`Front::open`].
    pub fn new(life: Arc<Life>) -> Self {
        Self { life, routes: Arc::default() }
    }

    /// From now on `routes` answer. A second call changes nothing.
    pub fn open(&self, routes: Router) {
        let _ = self.routes.set(routes);
    }
}

impl<B> Service<Request<B>> for Front
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.routes.get() {
            Some(routes) => Box::pin(routes.clone().oneshot(request.map(Body::new))),
            None => {
                let response = match request.uri().path() {
                    "/healthz" => alive(),
                    _ => readiness(self.life.stage()),
                };
                Box::pin(async { Ok(response) })
            }
        }
    }
}

pub(super) fn alive() -> Response {
    Json(serde_json::json!({ "alive": true, "version": env!("CARGO_PKG_VERSION") })).into_response()
}

pub(super) fn readiness(stage: Stage) -> Response {
    let words = match stage {
        Stage::Ready => return Json(serde_json::json!({ "ready": true })).into_response(),
        Stage::Starting => "the server is starting: its log is being read",
        Stage::Stopping => "the server is stopping",
    };
    error_response(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", words)
}

#[cfg(test)]
mod tests;
