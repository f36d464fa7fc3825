//! TCP, HTTP/2 for gRPC and HTTP/1 for people, on one port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Endpoint;

use crate::rt::http1::{HttpHandler, HttpRequest};

/// A gRPC connection to one address; dials at the first call and again after a loss. Clones share it.
pub type Channel = tonic::transport::Channel;

/// The machine's network.
#[derive(Clone, Debug)]
pub struct Net {
    _private: (),
}

/// A served port. Dropping it stops accepting and closes its connections.
#[derive(Debug)]
pub struct Listener {
    addr: String,
    stop: watch::Sender<bool>,
}

impl Listener {
    /// The address that is served, `host:port`, with the real port where 0 was asked for.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Stops accepting; calls in flight get a moment to end.
    pub fn stop(&self) {
        let _ = self.stop.send(true);
    }
}

/// Flow-control windows: large, because a store's links are few and fat.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Streams that one connection may have open.
const CONCURRENT_STREAMS: u32 = 4096;

impl Net {
    /// The machine's network.
    pub fn real() -> Net {
        Net { _private: () }
    }

    /// A connection to `addr` (`host:port`). Nothing is dialed before the first call.
    ///
    /// # Errors
    /// When `addr` is not an address.
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
        let outer = super::lane::outer();
        let _entered = outer.as_ref().map(tokio::runtime::Handle::enter);
        Ok(endpoint.connect_lazy())
    }

    /// Serves gRPC (HTTP/2) and plain HTTP/1 on `addr` until the listener is dropped.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn serve(&self, addr: &str, routes: Routes, http: HttpHandler) -> io::Result<Listener> {
        let socket = TcpListener::bind(addr).await?;
        let local = socket.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let router = routes.prepare().into_axum_router().fallback(move |request: axum::extract::Request| {
            let http = http.clone();
            async move { fallback(http, request).await }
        });
        tokio::spawn(accept(socket, router, stopped));
        Ok(Listener { addr: local.to_string(), stop })
    }
}

/// What is not a known gRPC method: a person's browser, a scraper, or a client of another version.
async fn fallback(http: HttpHandler, request: axum::extract::Request) -> axum::response::Response {
    let grpc = request
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        let status = tonic::Status::unimplemented(format!("no such method: {}", request.uri().path()));
        return status.into_http::<Body>();
    }
    let answer = http(HttpRequest {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or("").to_owned(),
    })
    .await;
    http::Response::builder()
        .status(answer.status)
        .header(http::header::CONTENT_TYPE, answer.content_type)
        .body(Body::from(answer.body))
        .expect("a status and a content type make a response")
}

async fn accept(socket: TcpListener, router: axum::Router, mut stopped: watch::Receiver<bool>) {
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    loop {
        let (stream, _peer): (_, SocketAddr) = tokio::select! {
            biased;
            _ = stopped.changed() => break,
            accepted = socket.accept() => match accepted {
                Ok(pair) => pair,
                Err(error) => {
                    // Out of file descriptors, or a connection that died in the queue: neither may end the server.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(CONCURRENT_STREAMS)
            .max_frame_size(1 << 20)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
    drop(socket);
    let _ = tokio::time::timeout(Duration::from_millis(500), graceful.shutdown()).await;
}
