//! TCP, with HTTP/2 for gRPC and HTTP/1 for browsers and scrapers, on one port.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tonic::service::Routes;
use tonic::transport::Endpoint;

use super::in_line::{InLine, Served};
use crate::rt::http1::{HttpHandler, HttpRequest};

/// A gRPC connection to one address. Dials at the first call, and again after the connection was lost. Clones share it.
pub type Channel = tonic::transport::Channel;

/// The machine's network.
#[derive(Clone, Debug)]
pub struct Net {
    _private: (),
}

/// A served port. Dropping it stops accepting connections and, a moment later, closes the open ones.
#[derive(Debug)]
pub struct Listener {
    addr: String,
    stop: watch::Sender<bool>,
}

impl Listener {
    /// Returns the served address, `host:port`, with the actual port if 0 was requested.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Stops accepting connections. Calls in flight get a moment to end.
    pub fn stop(&self) {
        let _ = self.stop.send(true);
    }
}

/// Flow-control windows. They are large because a store has few links, and fast ones.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Maximum number of open streams per connection.
const CONCURRENT_STREAMS: u32 = 4096;
/// Maximum number of streams per connection that a client has reset before they were processed. Clients give up
/// hundreds of calls at once (a cancelled task, a deadline of a few milliseconds), and with the HTTP/2 library's
/// default of 20 this would close their connection and every other call on it. Such a stream costs a few hundred bytes,
/// so memory stays bounded; a flood of resets still closes its connection.
const RESET_STREAMS_PENDING: usize = 2 * CONCURRENT_STREAMS as usize;
/// Maximum number of streams per connection that this side has reset because of the client's errors; beyond this, the
/// client is treated as an attacker.
const RESET_STREAMS_LOCAL: usize = 1024;
/// Maximum number of connections of a port; further ones are closed as soon as they are accepted.
const CONNECTIONS_MAX: usize = 4096;
/// How long a new connection may take to show which protocol it speaks.
const OPENING: Duration = Duration::from_secs(10);
/// How long calls in flight may take to end after a port has stopped.
const ENDING: Duration = Duration::from_millis(500);
/// The length in bytes of the body of a plain HTTP request. A longer one is refused with 413.
const HTTP_BODY_BYTES_MAX: usize = 1 << 20;
/// How many plain HTTP requests with a body a port reads or answers at a time. Further ones are refused with 503.
const HTTP_BODIES_MAX: usize = 64;
/// How long the body of a plain HTTP request may take to arrive.
const HTTP_BODY: Duration = Duration::from_secs(10);
/// Bytes needed to tell HTTP/2 from HTTP/1.
const PREFACE_BYTES: usize = 24;

impl Net {
    /// Returns the machine's network.
    pub fn real() -> Net {
        Net { _private: () }
    }

    /// Creates a connection to `addr` (`host:port`). Nothing is dialed before the first call.
    ///
    /// # Errors
    /// If `addr` is not an address.
    pub fn channel(&self, addr: &str) -> io::Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("`{addr}` is not host:port: {e}")))?
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        // The connection's task starts here, and a lane's own runtime has no sockets.
        let outer = super::thread::outer();
        let _entered = outer.as_ref().map(tokio::runtime::Handle::enter);
        Ok(endpoint.connect_lazy())
    }

    /// Serves gRPC (HTTP/2) and plain HTTP/1 on `addr` until the listener is dropped.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn serve(&self, addr: &str, routes: Routes, http: HttpHandler) -> io::Result<Listener> {
        let socket = TcpListener::bind(addr).await?;
        let local = socket.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let bodies = Arc::new(Semaphore::new(HTTP_BODIES_MAX));
        let router = routes.prepare().into_axum_router().fallback(move |request: axum::extract::Request| {
            let (http, bodies) = (http.clone(), bodies.clone());
            async move { fallback(http, &bodies, request).await }
        });
        tokio::spawn(accept(socket, router, stopped));
        Ok(Listener { addr: local.to_string(), stop })
    }
}

/// Handles everything that is not a known gRPC method: a browser, a scraper, or a client of another version.
async fn fallback(http: HttpHandler, bodies: &Semaphore, request: axum::extract::Request) -> axum::response::Response {
    let grpc = request
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        let status = tonic::Status::unimplemented(format!("no such method: {}", request.uri().path()));
        return status.into_http::<Body>();
    }
    let (head, body) = request.into_parts();
    // Held until the response is there, so that the bodies in memory are bounded.
    let (body, _place) = if body.is_end_stream() {
        (Bytes::new(), None)
    } else {
        let Ok(place) = bodies.try_acquire() else { return problem(503, "too many requests with a body: try again") };
        match read_body(body, HTTP_BODY_BYTES_MAX, HTTP_BODY).await {
            Ok(body) => (body, Some(place)),
            Err((status, why)) => return problem(status, &why),
        }
    };
    let answer = http(HttpRequest {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body,
    })
    .await;
    let mut response = http::Response::builder().status(answer.status);
    if !answer.content_type.is_empty() {
        response = response.header(http::header::CONTENT_TYPE, answer.content_type);
    }
    response.body(Body::from(answer.body)).expect("a status and a content type make a response")
}

/// Reads a body of at most `bytes_max` bytes, for at most `limit`. Returns the status and the reason if that fails.
async fn read_body(body: Body, bytes_max: usize, limit: Duration) -> Result<Bytes, (u16, String)> {
    match tokio::time::timeout(limit, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err((413, format!("the body is longer than {bytes_max} bytes")))
        }
        Ok(Err(error)) => Err((400, format!("cannot read the body: {error}"))),
        Err(_) => Err((408, format!("the body did not arrive within {limit:?}"))),
    }
}

/// Returns the response that reports a problem of the transport.
fn problem(status: u16, why: &str) -> axum::response::Response {
    http::Response::builder()
        .status(status)
        .header(http::header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(Body::from(format!("{why}\n")))
        .expect("a status and a content type make a response")
}

async fn accept(socket: TcpListener, router: axum::Router, mut stopped: watch::Receiver<bool>) {
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped when this function returns, which closes every connection that is still open.
    let (_open, closed) = watch::channel(());
    let mut full = false;
    loop {
        let (stream, _peer): (_, SocketAddr) = tokio::select! {
            biased;
            _ = stopped.changed() => break,
            accepted = socket.accept() => match accepted {
                Ok(pair) => pair,
                Err(error) => {
                    // Out of file descriptors, or a connection that died in the accept queue: neither may end the
                    // server.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            if !std::mem::replace(&mut full, true) {
                tracing::warn!(max = CONNECTIONS_MAX, "too many connections: closing new ones until others end");
            }
            continue;
        };
        full = false;
        let _ = stream.set_nodelay(true);
        let requests = InLine::default();
        let mut builder = auto::Builder::new(requests.clone());
        builder.http1().timer(TokioTimer::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(CONCURRENT_STREAMS)
            .max_pending_accept_reset_streams(RESET_STREAMS_PENDING)
            .max_local_error_reset_streams(RESET_STREAMS_LOCAL)
            .max_frame_size(1 << 20)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let service = TowerToHyperService::new(router.clone());
        let io = TokioIo::new(Opening::new(stream, OPENING));
        let connection = graceful.watch(builder.serve_connection(io, service).into_owned());
        let connection = Served::new(Box::pin(connection), requests);
        let mut closed = closed.clone();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                biased;
                _ = connection => {}
                // The channel only ever reports that its sender was dropped.
                _ = closed.changed() => {}
            }
        });
    }
    drop(socket);
    let _ = tokio::time::timeout(ENDING, graceful.shutdown()).await;
}

/// A connection that must send its first bytes within a time limit. Until then its protocol is unknown and no keepalive
/// applies, so a silent connection would be kept forever.
struct Opening {
    inner: TcpStream,
    /// Bytes read so far, and the deadline by which the first [`PREFACE_BYTES`] must have arrived.
    read: usize,
    until: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Opening {
    fn new(inner: TcpStream, patience: Duration) -> Opening {
        Opening { inner, read: 0, until: Some(Box::pin(tokio::time::sleep(patience))) }
    }
}

impl AsyncRead for Opening {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = into.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, into);
        let Some(until) = &mut this.until else { return result };
        this.read += into.filled().len() - before;
        if this.read >= PREFACE_BYTES {
            this.until = None;
        } else if result.is_pending() && until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request within the time limit")));
        }
        result
    }
}

impl AsyncWrite for Opening {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a connection that sends nothing is closed, one that sends data is left alone; a body has a limit. Method:
    //! local sockets, a timeout that expires at once, and bodies made by hand.

    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn bodies_are_read_up_to_their_limit() {
        let limit = Duration::from_secs(5);
        assert_eq!(read_body(Body::from("12345"), 5, limit).await.unwrap(), "12345");
        let (status, why) = read_body(Body::from("123456"), 5, limit).await.unwrap_err();
        assert_eq!((status, &why[..]), (413, "the body is longer than 5 bytes"));
        let never = Body::from_stream(futures::stream::pending::<io::Result<Bytes>>());
        assert_eq!(read_body(never, 5, Duration::from_millis(1)).await.unwrap_err().0, 408);
        let broken = Body::from_stream(futures::stream::iter([Err::<Bytes, _>(io::Error::other("reset"))]));
        assert_eq!(read_body(broken, 5, limit).await.unwrap_err().0, 400);
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_ends() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let pair = || async {
            let client = TcpStream::connect(addr).await.unwrap();
            (client, Opening::new(socket.accept().await.unwrap().0, Duration::from_millis(1)))
        };
        let (_silent, mut served) = pair().await;
        let (mut speaking, mut heard) = pair().await;
        speaking.write_all(&[b'x'; PREFACE_BYTES]).await.unwrap();
        let mut bytes = [0; PREFACE_BYTES];
        heard.read_exact(&mut bytes).await.unwrap();
        let error = served.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(futures::FutureExt::now_or_never(heard.read_u8()).is_none(), "it may be silent afterwards");
    }
}
