//! Services that are in the router before they can answer.
//!
//! A node opens its port first, because nodes that found a cluster ask each other who they are. Services that need the
//! cluster are behind a gate until then: their calls are UNAVAILABLE, which clients retry.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// A service that may be set later. Clones share it.
#[derive(Debug)]
pub struct Gate<S> {
    inner: Arc<OnceLock<S>>,
}

impl<S> Clone for Gate<S> {
    fn clone(&self) -> Self {
        Gate { inner: self.inner.clone() }
    }
}

impl<S> Default for Gate<S> {
    fn default() -> Self {
        Gate { inner: Arc::new(OnceLock::new()) }
    }
}

impl<S> Gate<S> {
    /// Passes requests to `service` from now on.
    ///
    /// # Panics
    /// Panics if the gate is open already.
    pub fn open(&self, service: S) {
        assert!(self.inner.set(service).is_ok(), "a gate opens only once");
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.inner.get() {
            Some(service) => Either::Left(service.clone().call(request)),
            None => {
                let status = Status::unavailable("this node is starting");
                Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
}
