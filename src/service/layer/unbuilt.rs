//! Methods of a known service that are not implemented: UNIMPLEMENTED, with an explanation.
//!
//! gRPC's generated servers refuse an unknown method without a message, and clients show just that, after a few
//! retries. Here the status names the method and says what to do.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use crate::service::calls::{Instead, UNBUILT};

/// A service that explains which of its methods are not implemented.
#[derive(Clone, Debug)]
pub struct Spoken<S>(pub S);

impl<S: NamedService> NamedService for Spoken<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Spoken<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Speaking<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().cloned();
        Speaking { inner: self.0.call(request), path }
    }
}

/// A call in progress.
#[derive(Debug)]
pub struct Speaking<F> {
    inner: F,
    path: Option<PathAndQuery>,
}

impl<F> Future for Speaking<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.inner).poll(cx));
        let unknown = HeaderValue::from_static("12");
        let headers = response.headers();
        if headers.get("grpc-status") != Some(&unknown) || headers.contains_key("grpc-message") {
            return Poll::Ready(Ok(response));
        }
        let path = self.path.as_ref().map_or("", PathAndQuery::path);
        Poll::Ready(Ok(Status::new(Code::Unimplemented, sentence(path)).into_http()))
    }
}

/// Returns the explanation for a method that is not implemented.
fn sentence(path: &str) -> String {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    let what = format!("{method} of {service} is not implemented in this version of Armilla");
    let known = UNBUILT.iter().find(|(name, _)| service == "tikvpb.Tikv" && *name == method);
    match known.map_or(Instead::Protocol, |(_, instead)| *instead) {
        Instead::Transactions => {
            format!("{what}: transactional clients do without it; docs/protocol.md names the implemented methods")
        }
        Instead::Protocol => format!("{what}: do without it, or see docs/protocol.md for the implemented methods"),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an UNIMPLEMENTED without a message gets one, and every other response is unchanged. Method: services that
    //! answer at once.

    use futures::FutureExt as _;

    use super::*;

    fn asked(path: &str, status: Status) -> Status {
        let answer = status.into_http::<Body>();
        let mut service = Spoken(tower::service_fn(move |_: Request<Body>| {
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = answer.headers().clone();
            std::future::ready(Ok::<_, Infallible>(response))
        }));
        let request = Request::post(format!("http://n1{path}")).body(Body::empty()).unwrap();
        let response = service.call(request).now_or_never().unwrap().unwrap();
        Status::from_header_map(response.headers()).unwrap()
    }

    #[test]
    fn who_is_not_built_says_so_and_what_to_do() {
        let says = |path: &str, wants: [&str; 2]| {
            let status = asked(path, Status::new(Code::Unimplemented, ""));
            assert_eq!(status.code(), Code::Unimplemented);
            assert!(wants.iter().all(|want| status.message().contains(want)), "{path}: {}", status.message());
        };
        for (method, instead) in UNBUILT {
            let what = match instead {
                Instead::Transactions => "transactional clients do without it",
                Instead::Protocol => "docs/protocol.md",
            };
            says(&format!("/tikvpb.Tikv/{method}"), [&format!("{method} of tikvpb.Tikv"), what]);
        }
        says("/pdpb.PD/AskSplit", ["AskSplit of pdpb.PD", "docs/protocol.md"]);
        assert_eq!(asked("/a.B/C", Status::unimplemented("compressed")).message(), "compressed");
        assert_eq!(asked("/a.B/C", Status::not_found("")).code(), Code::NotFound);
    }
}
