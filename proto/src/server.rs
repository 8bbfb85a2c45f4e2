//! Server-side authentication of gRPC calls by `authorization: Bearer <token>`.

use std::sync::Arc;

use tonic::{Request, Status, service::Interceptor};

use crate::path::AUTHORIZATION;

/// Decides whether the value of an `authorization` header is good, and for whom.
pub trait Authenticate: Send + Sync + 'static {
    /// What is known of a caller; put into the request's extensions.
    type Caller: Clone + Send + Sync + 'static;

    /// `header` is the whole header value, scheme included, or `None` when it is missing or not ASCII.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` with a message that says what the caller should do.
    fn authenticate(&self, header: Option<&str>) -> Result<Self::Caller, Status>;
}

/// A tonic interceptor that lets a call pass only with a caller that `A` knows.
#[derive(Debug)]
pub struct AuthInterceptor<A>(Arc<A>);

impl<A> AuthInterceptor<A> {
    /// Guards a service with `authenticate`.
    pub fn new(authenticate: Arc<A>) -> Self {
        Self(authenticate)
    }
}

impl<A> Clone for AuthInterceptor<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Authenticate> Interceptor for AuthInterceptor<A> {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let caller = self.0.authenticate(header)?;
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}
