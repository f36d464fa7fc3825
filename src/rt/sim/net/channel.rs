//! The client end: connections, which are dialed on demand, and the calls over them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::super::clock::Clock;
use super::super::draw;
use super::super::node::Node;
use super::server::{Incoming, pump};
use super::{
    CONNECT_TIMEOUT_NS, Cancel, Conn, Item, NetEvent, Network, OVERHEAD, Packet, Pipe, SYN_RETRY_NS, Side, Stream,
    arrival, check_later, hang_up, host,
};

/// A gRPC connection to one address. Dials at the first call, and again after the connection was lost. Clones share it.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

struct Shared {
    network: Arc<Network>,
    node: Arc<Node>,
    clock: Clock,
    epoch: u64,
    addr: String,
    dial: Mutex<Dial>,
}

enum Dial {
    Idle,
    Dialing(Arc<Attempt>),
    Open(u64),
}

/// A connection attempt in progress.
pub(super) struct Attempt {
    client: u64,
    epoch: u64,
    addr: String,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    result: Option<Result<u64, Status>>,
    waiters: Vec<Waker>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channel(node {} to {})", self.shared.node.id, self.shared.addr)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let conn = match &*self.dial.lock().unwrap() {
            Dial::Open(conn) => Some(*conn),
            Dial::Dialing(attempt) => attempt.done.lock().unwrap().result.clone().and_then(Result::ok),
            Dial::Idle => None,
        };
        if let Some(conn) = conn {
            hang_up(&self.network, conn, Side::Client, "connection closed by the client");
        }
    }
}

impl Channel {
    pub(super) fn new(network: Arc<Network>, node: Arc<Node>, epoch: u64, addr: &str) -> Channel {
        let clock = Clock::new(network.context.queue.clone(), node.id, node.clock.clone());
        let shared = Shared { network, node, clock, epoch, addr: addr.to_owned(), dial: Mutex::new(Dial::Idle) };
        Channel { shared: Arc::new(shared) }
    }
}

impl Shared {
    /// Returns a connection that accepts new streams, or the attempt to make one.
    fn dial(&self) -> Result<u64, Arc<Attempt>> {
        let mut dial = self.dial.lock().unwrap();
        let mut state = self.network.state.lock().unwrap();
        let usable = |id: &u64, state: &super::NetState| {
            state.conns.get(id).is_some_and(|conn| conn.client_open && !conn.going_away)
        };
        match &*dial {
            Dial::Open(conn) if usable(conn, &state) => return Ok(*conn),
            Dial::Dialing(attempt) => {
                let result = attempt.done.lock().unwrap().result.clone();
                match result {
                    None => return Err(attempt.clone()),
                    Some(Ok(conn)) if usable(&conn, &state) => {
                        *dial = Dial::Open(conn);
                        return Ok(conn);
                    }
                    Some(_) => {}
                }
            }
            Dial::Open(_) | Dial::Idle => {}
        }
        let number = state.next_conn;
        state.next_conn += 1;
        let attempt = Arc::new(Attempt {
            client: self.node.id,
            epoch: self.epoch,
            addr: self.addr.clone(),
            done: Mutex::new(Done::default()),
        });
        *dial = Dial::Dialing(attempt.clone());
        let bits = draw::at(self.network.context.seed, "dial", self.node.id, number, 0);
        let target = host(&self.addr).and_then(|host| state.hosts.get(host).copied()).unwrap_or(0);
        let now_ns = self.network.now_ns();
        // The handshake's round trip.
        let there_ns = state.link(self.node.id, target).arrival_ns(now_ns, bits, OVERHEAD) - now_ns;
        let event = NetEvent::Connect { attempt: attempt.clone(), began_ns: now_ns };
        self.network.schedule(now_ns + 2 * there_ns, event);
        Err(attempt)
    }

    /// Waits for a connection.
    async fn connect(&self) -> Result<u64, Status> {
        match self.dial() {
            Ok(conn) => Ok(conn),
            Err(attempt) => {
                std::future::poll_fn(|cx| {
                    let mut done = attempt.done.lock().unwrap();
                    match &done.result {
                        Some(result) => Poll::Ready(result.clone()),
                        None => {
                            done.waiters.push(cx.waker().clone());
                            Poll::Pending
                        }
                    }
                })
                .await
            }
        }
    }

    /// Makes one call, up to the response's headers.
    async fn exchange(self: Arc<Self>, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let conn = self.connect().await?;
        let (head, mut body) = request.into_parts();
        let stream = self.open(conn, head.uri.path()).ok_or_else(|| Status::unavailable("connection reset by peer"))?;
        let mut call = Call { shared: self.clone(), stream: stream.clone(), over: false };

        // The part of the body that is ready is sent with the headers; the rest needs a task of its own, as in HTTP/2.
        let mut packet = Packet::new();
        let ended = std::future::poll_fn(|cx| {
            loop {
                match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => packet.push(Item::Frame(frame)),
                    Poll::Ready(Some(Err(why))) => return Poll::Ready(Err(why)),
                    Poll::Ready(None) => return Poll::Ready(Ok(true)),
                    Poll::Pending => return Poll::Ready(Ok(false)),
                }
            }
        })
        .await?;
        if ended {
            packet.push(Item::End);
        }
        let at_ns = arrival(&self.network, &mut self.network.state.lock().unwrap(), &stream, Side::Server, packet.len);
        stream.up.lock().unwrap().unread += packet.len;
        let event = NetEvent::Open { stream: stream.clone(), head: Box::new(head), packet };
        self.network.schedule(at_ns, event);
        if !ended {
            let (network, stream) = (self.network.clone(), stream.clone());
            self.node.spawn(async move { pump(&network, &stream, Side::Server, body, Packet::new()).await });
        }

        let head = std::future::poll_fn(|cx| {
            let mut pipe = stream.down.lock().unwrap();
            match pipe.queue.pop_front() {
                Some(Item::Head(head)) => {
                    pipe.unread -= OVERHEAD.min(pipe.unread);
                    Poll::Ready(Ok(head))
                }
                Some(_) => unreachable!("headers come first"),
                None => match pipe.broken.clone() {
                    Some(why) => Poll::Ready(Err(why)),
                    None => {
                        pipe.reader = Some(cx.waker().clone());
                        Poll::Pending
                    }
                },
            }
        })
        .await;
        let head = match head {
            Ok(head) => head,
            Err(why) => {
                call.over = true;
                return Err(why);
            }
        };
        let incoming = Incoming { stream, side: Side::Client, ended: false };
        Ok(http::Response::from_parts(*head, Body::new(Answer { incoming, call })))
    }

    /// Opens a new stream on a connection, if the connection is still open.
    fn open(&self, id: u64, path: &str) -> Option<Arc<Stream>> {
        let mut state = self.network.state.lock().unwrap();
        let number = state.next_stream;
        let recorded = state.record.as_deref() == Some(path);
        let conn = state.conns.get_mut(&id)?;
        if !conn.client_open {
            return None;
        }
        let stream = Arc::new(Stream {
            id: number,
            conn: id,
            client: conn.client,
            server: conn.server,
            up: Mutex::new(Pipe::default()),
            down: Mutex::new(Pipe::default()),
            cancelled: Mutex::new(Cancel::default()),
            recorded,
        });
        conn.streams.insert(number, stream.clone());
        state.next_stream += 1;
        Some(stream)
    }
}

/// A call whose result the client still wants; dropping it cancels the call at the server.
struct Call {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
    over: bool,
}

impl Drop for Call {
    fn drop(&mut self) {
        let writer = {
            let mut up = self.stream.up.lock().unwrap();
            up.unwanted = true;
            up.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        if self.over {
            return;
        }
        let network = &self.shared.network;
        let at_ns = arrival(network, &mut network.state.lock().unwrap(), &self.stream, Side::Server, 0);
        network.schedule(at_ns, NetEvent::Cancel { stream: self.stream.clone() });
    }
}

/// A response's body at the client.
struct Answer {
    incoming: Incoming,
    call: Call,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let answer = Pin::new(&mut self.incoming).poll_frame(cx);
        if self.incoming.ended {
            self.call.over = true;
        }
        answer
    }
}

/// Completes a connection attempt: opens the connection or fails; while the link is cut, tries again until the timeout.
pub(super) fn connect(network: &Arc<Network>, attempt: Arc<Attempt>, began_ns: u64, at_ns: u64) {
    let result = {
        let mut state = network.state.lock().unwrap();
        let client_lives =
            network.nodes.get(attempt.client).is_some_and(|node| node.is_alive() && node.epoch() == attempt.epoch);
        let target = host(&attempt.addr).and_then(|host| state.hosts.get(host).copied());
        match target {
            _ if !client_lives => Err("the node was killed"),
            None => Err("tcp connect error: no route to host"),
            Some(target) if state.cut_since(attempt.client, target).is_some() => {
                let deadline_ns = began_ns + CONNECT_TIMEOUT_NS;
                if at_ns < deadline_ns {
                    let again_ns = (at_ns + SYN_RETRY_NS).min(deadline_ns);
                    network.schedule(again_ns, NetEvent::Connect { attempt, began_ns });
                    return;
                }
                Err("tcp connect error: timed out")
            }
            Some(target) => match state.listeners.get(&attempt.addr).cloned() {
                None => Err("tcp connect error: connection refused"),
                Some(listener) => {
                    let id = state.next_conn;
                    state.next_conn += 1;
                    let conn = Conn {
                        client: attempt.client,
                        server: target,
                        listener,
                        client_open: true,
                        server_open: true,
                        going_away: false,
                        black_hole_since: None,
                        streams: Default::default(),
                    };
                    state.conns.insert(id, conn);
                    Ok(id)
                }
            },
        }
    };
    if let Ok(id) = result {
        // The kernel of a paused process still completes the handshake, but the process does not answer keepalive
        // pings.
        let paused = host(&attempt.addr)
            .and_then(|host| network.state.lock().unwrap().hosts.get(host).copied())
            .and_then(|target| network.nodes.get(target))
            .is_some_and(|node| node.paused_since().is_some());
        if paused {
            check_later(network, id, Side::Client);
        }
    }
    let waiters = {
        let mut done = attempt.done.lock().unwrap();
        done.result = Some(result.map_err(Status::unavailable));
        std::mem::take(&mut done.waiters)
    };
    for waiter in waiters {
        waiter.wake();
    }
}

/// A call in progress.
pub struct ResponseFuture {
    inner: Pin<Box<dyn Future<Output = Result<http::Response<Body>, Status>> + Send>>,
}

impl std::fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture")
    }
}

impl Future for ResponseFuture {
    type Output = Result<http::Response<Body>, Status>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> ResponseFuture {
        let shared = self.shared.clone();
        let inner = Box::pin(async move {
            if shared.node.epoch() != shared.epoch {
                return Err(Status::unavailable("the node was killed; this channel is of an earlier incarnation"));
            }
            match timeout_of(request.headers()) {
                None => shared.exchange(request).await,
                Some(limit) => {
                    let clock = shared.clock.clone();
                    match clock.timeout(limit, shared.exchange(request)).await {
                        Ok(answer) => answer,
                        // tonic's transport reports a timeout with this code and text.
                        Err(_) => Err(Status::cancelled("Timeout expired")),
                    }
                }
            }
        });
        ResponseFuture { inner }
    }
}

/// Returns the timeout that a call's headers request: at most eight digits and a unit.
fn timeout_of(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_with_their_unit() {
        let parse = |text: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout_of(&headers)
        };
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse("7"), None);
        assert_eq!(parse("123456789n"), None);
        assert_eq!(parse(""), None);
    }
}
