//! The server end: listeners, and the handler of each stream.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use super::super::draw;
use super::super::node::Node;
use super::{
    Item, MS, NetEvent, Network, OVERHEAD, Packet, Side, Stream, WINDOW, deliver, forget, hang_up, host, send,
};

/// How long calls in flight may take to end after their listener has stopped.
const GRACE_NS: u64 = 500 * MS;

/// A bound address.
pub(super) struct Socket {
    pub(super) node: u64,
    pub(super) epoch: u64,
    addr: String,
    routes: Routes,
}

/// A served port. Dropping it stops accepting and closes its connections.
pub struct Listener {
    network: Arc<Network>,
    socket: Arc<Socket>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({})", self.socket.addr)
    }
}

impl Listener {
    pub(super) fn bind(
        network: &Arc<Network>,
        node: &Arc<Node>,
        epoch: u64,
        addr: &str,
        routes: Routes,
    ) -> io::Result<Listener> {
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{addr}` is not host:port"));
        let wanted = host(addr).ok_or_else(bad)?;
        let own = host(&node.addr).expect("it was checked when the node was made");
        if node.epoch() != epoch {
            return Err(io::Error::other("the node was killed; this handle is of an earlier incarnation"));
        }
        if wanted != own && wanted != "0.0.0.0" && wanted != "[::]" {
            let why = format!("{wanted} is not an address of {}", node.name);
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, why));
        }
        let mut state = network.state.lock().unwrap();
        let mut port: u16 = addr.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).ok_or_else(bad)?;
        while port == 0 || (addr.ends_with(":0") && state.listeners.contains_key(&format!("{own}:{port}"))) {
            state.next_port += 1;
            port = state.next_port;
        }
        let addr = format!("{own}:{port}");
        if state.listeners.contains_key(&addr) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{addr} is in use")));
        }
        let socket = Arc::new(Socket { node: node.id, epoch, addr: addr.clone(), routes: routes.prepare() });
        state.listeners.insert(addr, socket.clone());
        drop(state);
        Ok(Listener { network: network.clone(), socket })
    }

    /// Returns the served address, `host:port`, with the actual port if 0 was requested.
    pub fn addr(&self) -> &str {
        &self.socket.addr
    }

    /// Stops accepting connections. Calls in flight get a moment to end.
    pub fn stop(&self) {
        let (gone, conns) = {
            let mut state = self.network.state.lock().unwrap();
            let ours = state.listeners.get(&self.socket.addr).is_some_and(|socket| Arc::ptr_eq(socket, &self.socket));
            if !ours {
                return;
            }
            let gone = state.listeners.remove(&self.socket.addr);
            (gone, of_socket(&state, &self.socket))
        };
        drop(gone);
        let now_ns = self.network.now_ns();
        for (id, client) in conns {
            let bits = draw::at(self.network.context.seed, "go-away", id, 0, 0);
            let at_ns = {
                let mut state = self.network.state.lock().unwrap();
                state.link(self.socket.node, client).arrival_ns(now_ns, bits, OVERHEAD)
            };
            self.network.schedule(at_ns, NetEvent::GoAway { conn: id });
        }
        let event = NetEvent::CloseListener { socket: self.socket.clone() };
        self.network.schedule(now_ns + GRACE_NS, event);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the connections that a listener accepted, with their clients.
fn of_socket(state: &super::NetState, socket: &Arc<Socket>) -> Vec<(u64, u64)> {
    let ours = state.conns.iter().filter(|(_, conn)| Arc::ptr_eq(&conn.listener, socket));
    ours.map(|(id, conn)| (*id, conn.client)).collect()
}

/// Closes the connections that a stopped listener still has open.
pub(super) fn close(network: &Arc<Network>, socket: &Arc<Socket>) {
    let conns = of_socket(&network.state.lock().unwrap(), socket);
    for (id, _) in conns {
        hang_up(network, id, Side::Server, "connection closed by the server");
    }
}

/// A new stream reaches its server: starts its handler there.
pub(super) fn open(network: &Arc<Network>, stream: Arc<Stream>, head: Box<http::request::Parts>, packet: Packet) {
    let socket = {
        let state = network.state.lock().unwrap();
        let Some(conn) = state.conns.get(&stream.conn) else { return };
        if !conn.server_open || !conn.streams.contains_key(&stream.id) {
            return;
        }
        conn.listener.clone()
    };
    let Some(node) = network.nodes.get(stream.server) else { return };
    if !node.is_alive() || node.epoch() != socket.epoch {
        return;
    }
    deliver(network, &stream, Side::Server, packet);
    let handler = handle(network.clone(), stream.clone(), socket.routes.clone(), head);
    node.spawn(Cancellable { stream, network: network.clone(), inner: Some(Box::pin(handler)) });
}

/// A handler that ends when its stream is cancelled.
struct Cancellable {
    network: Arc<Network>,
    stream: Arc<Stream>,
    inner: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Future for Cancellable {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut cancel = self.stream.cancelled.lock().unwrap();
            if cancel.yes {
                drop(cancel);
                self.inner = None;
                return Poll::Ready(());
            }
            match &cancel.handler {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => cancel.handler = Some(cx.waker().clone()),
            }
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(()) };
        match inner.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.inner = None;
                // Data that the client still sends is not read any more.
                let writer = {
                    let mut up = self.stream.up.lock().unwrap();
                    up.unwanted = true;
                    up.writer.take()
                };
                if let Some(writer) = writer {
                    writer.wake();
                }
                self.stream.cancelled.lock().unwrap().handler = None;
                forget(&self.network, &self.stream);
                Poll::Ready(())
            }
        }
    }
}

/// Serves one stream: calls the service and sends its response as it is produced.
async fn handle(network: Arc<Network>, stream: Arc<Stream>, mut routes: Routes, head: Box<http::request::Parts>) {
    let request = http::Request::from_parts(
        *head,
        Body::new(Incoming { stream: stream.clone(), side: Side::Server, ended: false }),
    );
    let response = match routes.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (head, body) = response.into_parts();
    let mut packet = Packet::new();
    packet.push(Item::Head(Box::new(head)));
    pump(&network, &stream, Side::Client, body, packet).await;
}

/// Sends a body to the `to` end of a stream; frames that are ready together go in one packet. Returns when the body
/// ends or the reader no longer wants it.
pub(super) async fn pump(network: &Arc<Network>, stream: &Arc<Stream>, to: Side, body: Body, first: Packet) {
    let mut body = std::pin::pin!(body);
    let mut packet = first;
    std::future::poll_fn(|cx| {
        loop {
            {
                let mut pipe = stream.inbox(to).lock().unwrap();
                if pipe.unwanted {
                    return Poll::Ready(());
                }
                if !pipe.writer.as_ref().is_some_and(|writer| writer.will_wake(cx.waker())) {
                    pipe.writer = Some(cx.waker().clone());
                }
                pipe.full = pipe.unread + packet.len > WINDOW && pipe.unread > 0;
                if pipe.full {
                    return Poll::Pending;
                }
            }
            match body.as_mut().poll_frame(cx) {
                Poll::Pending => {
                    if !packet.items.is_empty() {
                        send(network, stream, to, std::mem::replace(&mut packet, Packet::new()));
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    packet.push(Item::Frame(frame));
                    if packet.len >= WINDOW / 4 {
                        send(network, stream, to, std::mem::replace(&mut packet, Packet::new()));
                    }
                }
                // A request body that fails simply ends; a response body turns its errors into trailers and never
                // fails.
                Poll::Ready(Some(Err(_)) | None) => {
                    packet.push(Item::End);
                    send(network, stream, to, std::mem::replace(&mut packet, Packet::new()));
                    return Poll::Ready(());
                }
            }
        }
    })
    .await;
}

/// A body that arrives over the network.
pub(super) struct Incoming {
    pub(super) stream: Arc<Stream>,
    pub(super) side: Side,
    pub(super) ended: bool,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let (answer, writer) = {
            let mut pipe = self.stream.inbox(self.side).lock().unwrap();
            match pipe.queue.pop_front() {
                Some(Item::Frame(frame)) => {
                    pipe.unread -= frame.data_ref().map_or(OVERHEAD, Bytes::len).min(pipe.unread);
                    // A writer that is not waiting for window space need not be woken.
                    let waits = std::mem::take(&mut pipe.full);
                    (Some(Ok(frame)), if waits { pipe.writer.take() } else { None })
                }
                Some(Item::Head(_)) => unreachable!("headers come first and are taken by the call"),
                Some(Item::End) => (None, None),
                None => match pipe.broken.clone() {
                    Some(why) => (Some(Err(why)), None),
                    None => {
                        pipe.reader = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                },
            }
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        self.ended = !matches!(answer, Some(Ok(_)));
        Poll::Ready(answer)
    }
}
