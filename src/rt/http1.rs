//! Plain HTTP responses (metrics, status, the status page, PD's interface): functions from a request to a response.
//! Only the binary serves them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

/// A plain HTTP request: the parts that handlers need.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest {
    /// The method: `GET`, `HEAD`, …
    pub method: String,
    /// The path, without the query, percent-encoded as it was received.
    pub path: String,
    /// The query without its question mark, percent-encoded as it was received; empty if there is none.
    pub query: String,
    /// The body, whose length the server limits.
    pub body: Bytes,
}

/// A plain HTTP response.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// The status code, e.g. 200.
    pub status: u16,
    /// The value of `Content-Type`; empty: the header is absent.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// Handles every HTTP/1 request of a port.
pub type HttpHandler = Arc<dyn Fn(HttpRequest) -> Pin<Box<dyn Future<Output = HttpResponse> + Send>> + Send + Sync>;
