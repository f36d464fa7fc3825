//! The simulated network: gRPC calls as packets of encoded body frames between nodes.
//!
//! A [`Channel`] holds one connection to one address, as tonic's does. A connection carries streams; a stream is two
//! pipes of packets (headers, data frames, trailers), each in order, while streams may overtake each other. Between two
//! nodes there is a pair of directed links: a packet takes its link's latency (and a share of its bandwidth), waits
//! while the link is cut, and is lost when its connection is a black hole. Connections end by a reset, by the death of
//! a process, or by keepalive after 10-15 s (client) or 20-30 s (server) without any data from the other end.

mod channel;
mod link;
mod server;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use bytes::Bytes;
use http_body::Frame;
use tonic::Status;
use tonic::service::Routes;

pub use self::channel::Channel;
use self::link::Link;
pub use self::link::{LinkConfig, SimNet};
pub use self::server::Listener;
use super::context::Context;
use super::draw;
use super::node::{Node, Nodes};
use super::probe::{Mixer, What};
use crate::rt::http1::HttpHandler;

const MS: u64 = 1_000_000;
/// How long a connection attempt may take, and how long after a lost SYN it is sent again.
const CONNECT_TIMEOUT_NS: u64 = 2_000 * MS;
const SYN_RETRY_NS: u64 = 1_000 * MS;
/// Keepalive of the two ends: earliest and latest time after which a silent connection is checked, as with the settings
/// of the real world.
const CLIENT_KEEPALIVE_NS: (u64, u64) = (10_000 * MS, 15_000 * MS);
const SERVER_KEEPALIVE_NS: (u64, u64) = (20_000 * MS, 30_000 * MS);
/// How long after a pause a ping counts as unanswered.
const PING_NS: (u64, u64) = (500 * MS, 5_000 * MS);
/// Bytes of a stream that may be in flight or unread.
const WINDOW: usize = 4 << 20;
/// Bytes that headers and framing add to a packet.
const OVERHEAD: usize = 64;

/// The node's network.
#[derive(Clone)]
pub struct Net {
    network: Arc<Network>,
    node: Arc<Node>,
    epoch: u64,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Net(node {})", self.node.id)
    }
}

impl Net {
    pub(super) fn new(network: Arc<Network>, node: Arc<Node>, epoch: u64) -> Net {
        Net { network, node, epoch }
    }

    /// Creates a connection to `addr` (`host:port`). Nothing is dialed before the first call.
    ///
    /// # Errors
    /// If `addr` is not an address.
    pub fn channel(&self, addr: &str) -> io::Result<Channel> {
        if host(addr).is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{addr}` is not host:port")));
        }
        Ok(Channel::new(self.network.clone(), self.node.clone(), self.epoch, addr))
    }

    /// Serves gRPC on `addr` until the listener is dropped. `_http` is never called in the simulator.
    ///
    /// # Errors
    /// `AddrInUse`; `AddrNotAvailable` if the host is not this node's.
    pub async fn serve(&self, addr: &str, routes: Routes, _http: HttpHandler) -> io::Result<Listener> {
        Listener::bind(&self.network, &self.node, self.epoch, addr, routes)
    }
}

/// Returns the host of `host:port`.
fn host(addr: &str) -> Option<&str> {
    let (host, port) = addr.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(host)
}

/// One item of a stream.
enum Item {
    /// The response's headers.
    Head(Box<http::response::Parts>),
    /// Data or trailers.
    Frame(Frame<Bytes>),
    /// The end of the stream.
    End,
}

/// Items of a stream that were ready together and travel together.
struct Packet {
    items: Vec<Item>,
    len: usize,
}

impl Packet {
    fn new() -> Packet {
        Packet { items: Vec::new(), len: 0 }
    }

    fn push(&mut self, item: Item) {
        self.len += match &item {
            Item::Head(_) => OVERHEAD,
            Item::Frame(frame) => frame.data_ref().map_or(OVERHEAD, Bytes::len),
            Item::End => 0,
        };
        self.items.push(item);
    }

    /// Returns a hash of the packet's contents.
    fn hash(&self) -> u64 {
        use std::hash::Hasher;
        let mut mixer = Mixer(self.items.len() as u64);
        for item in &self.items {
            match item {
                Item::Head(head) => mixer.write_u64(u64::from(head.status.as_u16())),
                Item::Frame(frame) => match frame.data_ref() {
                    Some(data) => mixer.write(data),
                    None => mixer.write_u64(0x7472),
                },
                Item::End => mixer.write_u64(0x656e),
            }
        }
        mixer.finish()
    }
}

/// One end of a connection or stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// One direction of a stream, from its reader's view.
#[derive(Default)]
struct Pipe {
    queue: VecDeque<Item>,
    /// Bytes sent and not yet read.
    unread: usize,
    /// When the last packet arrives; no packet may overtake it.
    last_at_ns: u64,
    packets: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The writer waits until the reader has read some of the data.
    full: bool,
    /// Why no more data will arrive.
    broken: Option<Status>,
    /// The reader does not want more data.
    unwanted: bool,
}

/// A call: its two pipes, and the state of its cancellation.
struct Stream {
    id: u64,
    conn: u64,
    client: u64,
    server: u64,
    /// Client to server.
    up: Mutex<Pipe>,
    /// Server to client.
    down: Mutex<Pipe>,
    /// Whether the server's end was cancelled, so that its handler must end.
    cancelled: Mutex<Cancel>,
    /// Whether the client's requests are recorded for the simulator.
    recorded: bool,
}

#[derive(Default)]
struct Cancel {
    yes: bool,
    handler: Option<Waker>,
}

impl Stream {
    /// Returns the pipe that `side` reads.
    fn inbox(&self, side: Side) -> &Mutex<Pipe> {
        match side {
            Side::Client => &self.down,
            Side::Server => &self.up,
        }
    }

    fn node(&self, side: Side) -> u64 {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }

    /// Ends the server's handler.
    fn cancel(&self) {
        let waker = {
            let mut cancel = self.cancelled.lock().unwrap();
            cancel.yes = true;
            cancel.handler.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends both directions at `side`: no more data arrives there, and data that it sends is not wanted.
    fn break_side(&self, side: Side, why: &Status) {
        let (reader, writer) = {
            let mut inbox = self.inbox(side).lock().unwrap();
            if inbox.broken.is_none() {
                inbox.broken = Some(why.clone());
            }
            let reader = inbox.reader.take();
            drop(inbox);
            let mut outbox = self.inbox(side.other()).lock().unwrap();
            outbox.unwanted = true;
            (reader, outbox.writer.take())
        };
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
        if side == Side::Server {
            self.cancel();
        }
    }
}

/// A connection that at least one end considers open.
struct Conn {
    client: u64,
    server: u64,
    listener: Arc<server::Socket>,
    client_open: bool,
    server_open: bool,
    /// Whether the server accepts no new streams.
    going_away: bool,
    /// Since when everything sent over the connection is lost silently.
    black_hole_since: Option<u64>,
    streams: BTreeMap<u64, Arc<Stream>>,
}

impl Conn {
    fn is_open(&self, side: Side) -> bool {
        match side {
            Side::Client => self.client_open,
            Side::Server => self.server_open,
        }
    }

    fn node(&self, side: Side) -> u64 {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }
}

/// The network of a world: the parts of the world that it uses, and its state.
pub(super) struct Network {
    context: Arc<Context>,
    nodes: Arc<Nodes>,
    state: Mutex<NetState>,
}

impl Network {
    pub(super) fn new(context: Arc<Context>, nodes: Arc<Nodes>) -> Network {
        Network { context, nodes, state: Mutex::new(NetState::new()) }
    }

    fn now_ns(&self) -> u64 {
        self.context.now_ns()
    }

    /// Schedules `event` at `at_ns`, after everything that is already due then.
    fn schedule(self: &Arc<Self>, at_ns: u64, event: NetEvent) {
        let network = self.clone();
        self.context.queue.push(at_ns, move |at_ns| fire(&network, at_ns, event));
    }

    /// Assigns a host name to a node.
    pub(super) fn add_host(&self, addr: &str, node: u64) {
        let host = host(addr).unwrap_or_else(|| panic!("`{addr}` is not host:port"));
        let before = self.state.lock().unwrap().hosts.insert(host.to_owned(), node);
        assert!(before.is_none(), "host {host} exists");
    }
}

/// The changing state of the network.
struct NetState {
    hosts: BTreeMap<String, u64>,
    listeners: BTreeMap<String, Arc<server::Socket>>,
    links: BTreeMap<(u64, u64), Link>,
    default_link: LinkConfig,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    next_stream: u64,
    next_port: u16,
    delivered: u64,
    /// The path of the calls whose requests are recorded.
    record: Option<String>,
    /// The last data sent by such calls, by (from, to), whether or not it arrived.
    records: BTreeMap<(u64, u64), VecDeque<Bytes>>,
}

impl NetState {
    fn new() -> NetState {
        NetState {
            hosts: BTreeMap::new(),
            listeners: BTreeMap::new(),
            links: BTreeMap::new(),
            default_link: LinkConfig::default(),
            conns: BTreeMap::new(),
            next_conn: 1,
            next_stream: 1,
            next_port: 40_000,
            delivered: 0,
            record: None,
            records: BTreeMap::new(),
        }
    }

    fn link(&mut self, from: u64, to: u64) -> &mut Link {
        let config = &self.default_link;
        self.links.entry((from, to)).or_insert_with(|| Link::new(config.clone()))
    }

    /// Returns whether a link is cut.
    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.cut_since.is_some())
    }

    /// Returns since when nothing gets through between two nodes in at least one direction.
    fn cut_since(&self, a: u64, b: u64) -> Option<u64> {
        let one = self.links.get(&(a, b)).and_then(|link| link.cut_since);
        let two = self.links.get(&(b, a)).and_then(|link| link.cut_since);
        [one, two].into_iter().flatten().min()
    }
}

/// How many data frames are recorded for each pair of nodes.
const RECORDS_MAX: usize = 64;

/// Records the data that a call's client sent, if the simulator asked for it.
fn keep(state: &mut NetState, stream: &Stream, packet: &Packet) {
    if !stream.recorded {
        return;
    }
    let kept = state.records.entry((stream.client, stream.server)).or_default();
    for item in &packet.items {
        if let Item::Frame(frame) = item
            && let Some(data) = frame.data_ref()
        {
            kept.push_back(data.clone());
        }
    }
    while kept.len() > RECORDS_MAX {
        kept.pop_front();
    }
}

/// An event on the network.
enum NetEvent {
    /// A packet reaches the other end of its stream.
    Packet { stream: Arc<Stream>, to: Side, packet: Packet },
    /// A new stream reaches the server.
    Open { stream: Arc<Stream>, head: Box<http::request::Parts>, packet: Packet },
    /// The client dropped a call.
    Cancel { stream: Arc<Stream> },
    /// A connection attempt arrives, or is retried.
    Connect { attempt: Arc<channel::Attempt>, began_ns: u64 },
    /// One end learns that its connection is gone.
    Broken { conn: u64, side: Side, why: &'static str },
    /// One end checks whether the other is still there.
    Keepalive { conn: u64, side: Side },
    /// The grace period of a stopped listener has passed.
    CloseListener { socket: Arc<server::Socket> },
    /// The server announces that a connection accepts no new streams.
    GoAway { conn: u64 },
}

impl NetEvent {
    /// Returns the link that the event travels on, if it travels.
    fn link(&self, state: &NetState) -> Option<(u64, u64)> {
        match self {
            NetEvent::Packet { stream, to, .. } => Some((stream.node(to.other()), stream.node(*to))),
            NetEvent::Open { stream, .. } | NetEvent::Cancel { stream } => Some((stream.client, stream.server)),
            NetEvent::Broken { conn, side, .. } => {
                let conn = state.conns.get(conn)?;
                Some((conn.node(side.other()), conn.node(*side)))
            }
            NetEvent::GoAway { conn } => {
                let conn = state.conns.get(conn)?;
                Some((conn.server, conn.client))
            }
            NetEvent::Connect { .. } | NetEvent::Keepalive { .. } | NetEvent::CloseListener { .. } => None,
        }
    }

    fn conn(&self) -> Option<u64> {
        match self {
            NetEvent::Packet { stream, .. } | NetEvent::Open { stream, .. } | NetEvent::Cancel { stream } => {
                Some(stream.conn)
            }
            NetEvent::Broken { conn, .. } | NetEvent::GoAway { conn } => Some(*conn),
            NetEvent::Connect { .. } | NetEvent::Keepalive { .. } | NetEvent::CloseListener { .. } => None,
        }
    }
}

/// Sends a packet to the `to` end of a stream.
fn send(network: &Arc<Network>, stream: &Arc<Stream>, to: Side, packet: Packet) {
    let at_ns = {
        let mut state = network.state.lock().unwrap();
        arrival(network, &mut state, stream, to, packet.len)
    };
    stream.inbox(to).lock().unwrap().unread += packet.len;
    network.schedule(at_ns, NetEvent::Packet { stream: stream.clone(), to, packet });
}

/// Returns when data sent now reaches the `to` end of a stream. May schedule a reset of the connection for that time.
fn arrival(network: &Arc<Network>, state: &mut NetState, stream: &Stream, to: Side, len: usize) -> u64 {
    let now_ns = network.now_ns();
    let (from, target) = (stream.node(to.other()), stream.node(to));
    let mut pipe = stream.inbox(to).lock().unwrap();
    pipe.packets += 1;
    let bits = draw::at(
        network.context.seed,
        "net",
        from << 32 | target,
        stream.id,
        pipe.packets << 1 | u64::from(to == Side::Client),
    );
    let link = state.link(from, target);
    let at_ns = link.arrival_ns(now_ns, bits, len + OVERHEAD).max(pipe.last_at_ns + 1);
    pipe.last_at_ns = at_ns;
    if draw::hits(bits.rotate_left(17), link.config.reset) {
        for side in [Side::Client, Side::Server] {
            let event = NetEvent::Broken { conn: stream.conn, side, why: "connection reset by peer" };
            network.schedule(at_ns, event);
        }
    }
    at_ns
}

/// Executes a network event, unless its connection is a black hole or its link is cut.
fn fire(network: &Arc<Network>, at_ns: u64, event: NetEvent) {
    let event = {
        let mut state = network.state.lock().unwrap();
        match &event {
            NetEvent::Packet { stream, to: Side::Server, packet } | NetEvent::Open { stream, packet, .. } => {
                keep(&mut state, stream, packet);
            }
            _ => {}
        }
        if let Some(conn) = event.conn()
            && state.conns.get(&conn).is_some_and(|conn| conn.black_hole_since.is_some())
        {
            drop(state);
            drop(event);
            return;
        }
        if let Some((from, to)) = event.link(&state)
            && state.is_cut(from, to)
        {
            state.link(from, to).held.push_back(event);
            return;
        }
        event
    };
    match event {
        NetEvent::Packet { stream, to, packet } => deliver(network, &stream, to, packet),
        NetEvent::Open { stream, head, packet } => server::open(network, stream, head, packet),
        NetEvent::Cancel { stream } => {
            forget(network, &stream);
            stream.break_side(Side::Server, &Status::cancelled("the client cancelled the call"));
        }
        NetEvent::Connect { attempt, began_ns } => channel::connect(network, attempt, began_ns, at_ns),
        NetEvent::Broken { conn, side, why } => break_side(network, conn, side, why),
        NetEvent::Keepalive { conn, side } => keepalive(network, conn, side, at_ns),
        NetEvent::CloseListener { socket } => server::close(network, &socket),
        NetEvent::GoAway { conn } => {
            if let Some(conn) = network.state.lock().unwrap().conns.get_mut(&conn) {
                conn.going_away = true;
            }
        }
    }
}

fn deliver(network: &Arc<Network>, stream: &Arc<Stream>, to: Side, packet: Packet) {
    {
        let mut state = network.state.lock().unwrap();
        let open = state.conns.get(&stream.conn).is_some_and(|conn| conn.is_open(to));
        if !open {
            drop(state);
            drop(packet);
            return;
        }
        state.delivered += 1;
    }
    let what = What::Deliver { from: stream.node(to.other()), stream: stream.id, len: packet.len, hash: packet.hash() };
    network.context.record(stream.node(to), what);
    let waker = {
        let mut pipe = stream.inbox(to).lock().unwrap();
        pipe.queue.extend(packet.items);
        pipe.reader.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Removes a stream that has ended from its connection.
fn forget(network: &Arc<Network>, stream: &Stream) {
    let gone = {
        let mut state = network.state.lock().unwrap();
        state.conns.get_mut(&stream.conn).and_then(|conn| conn.streams.remove(&stream.id))
    };
    drop(gone);
}

/// Closes one end of a connection: its streams break there, now.
fn break_side(network: &Arc<Network>, id: u64, side: Side, why: &'static str) {
    let (streams, gone) = {
        let mut state = network.state.lock().unwrap();
        let Some(conn) = state.conns.get_mut(&id) else { return };
        if !conn.is_open(side) {
            return;
        }
        match side {
            Side::Client => conn.client_open = false,
            Side::Server => conn.server_open = false,
        }
        let streams: Vec<Arc<Stream>> = conn.streams.values().cloned().collect();
        let over = !conn.client_open && !conn.server_open;
        (streams, if over { state.conns.remove(&id) } else { None })
    };
    drop(gone);
    let status = Status::unavailable(why);
    for stream in streams {
        stream.break_side(side, &status);
    }
}

/// Closes one end of a connection and notifies the other end, if the link allows.
fn hang_up(network: &Arc<Network>, id: u64, side: Side, why: &'static str) {
    let at_ns = {
        let mut state = network.state.lock().unwrap();
        let Some(conn) = state.conns.get(&id) else { return };
        let (from, to) = (conn.node(side), conn.node(side.other()));
        // After everything that is already in flight.
        let inboxes = conn.streams.values().map(|stream| stream.inbox(side.other()).lock().unwrap().last_at_ns);
        let last_ns = inboxes.max().unwrap_or(0);
        let bits = draw::at(network.context.seed, "hang-up", from << 32 | to, id, 0);
        let now_ns = network.now_ns();
        state.link(from, to).arrival_ns(now_ns, bits, OVERHEAD).max(last_ns + 1)
    };
    network.schedule(at_ns, NetEvent::Broken { conn: id, side: side.other(), why });
    break_side(network, id, side, why);
}

/// Closes a dead process's listeners and breaks its connections: at its own end at once, at the peers' ends when the
/// notification arrives.
pub(super) fn node_down(network: &Arc<Network>, node: &Node) {
    let (sockets, ends) = {
        let mut state = network.state.lock().unwrap();
        let addrs: Vec<String> =
            state.listeners.iter().filter(|(_, socket)| socket.node == node.id).map(|(addr, _)| addr.clone()).collect();
        let sockets: Vec<_> = addrs.iter().filter_map(|addr| state.listeners.remove(addr)).collect();
        let mut ends = Vec::new();
        for (id, conn) in &state.conns {
            for side in [Side::Client, Side::Server] {
                if conn.node(side) == node.id && conn.is_open(side) {
                    ends.push((*id, side));
                }
            }
        }
        (sockets, ends)
    };
    drop(sockets);
    for (id, side) in ends {
        hang_up(network, id, side, "connection reset by peer");
    }
}

/// Schedules a keepalive check at both ends of connections that something may have cut off.
fn suspect(network: &Arc<Network>, mut which: impl FnMut(&Conn) -> bool) {
    let ids: Vec<u64> = {
        let state = network.state.lock().unwrap();
        state.conns.iter().filter(|(_, conn)| which(conn)).map(|(id, _)| *id).collect()
    };
    for id in ids {
        for side in [Side::Client, Side::Server] {
            check_later(network, id, side);
        }
    }
}

/// Schedules a keepalive check at one end of a connection, at the time when its next ping would have gone unanswered.
fn check_later(network: &Arc<Network>, id: u64, side: Side) {
    let times = match side {
        Side::Client => CLIENT_KEEPALIVE_NS,
        Side::Server => SERVER_KEEPALIVE_NS,
    };
    check_within(network, id, side, times);
}

/// Schedules a keepalive check at one end of a connection after a time between these two, in nanoseconds.
fn check_within(network: &Arc<Network>, id: u64, side: Side, (least, most): (u64, u64)) {
    let now_ns = network.now_ns();
    let bits = draw::at(network.context.seed, "keepalive", id, now_ns, u64::from(side == Side::Server));
    let at_ns = now_ns + least + bits % (most - least);
    network.schedule(at_ns, NetEvent::Keepalive { conn: id, side });
}

/// A machine lost its power: its connections are not closed, so its peers notice only by keepalive.
pub(super) fn vanish(network: &Arc<Network>, node: u64) {
    let now_ns = network.now_ns();
    {
        let mut state = network.state.lock().unwrap();
        for conn in state.conns.values_mut().filter(|conn| conn.client == node || conn.server == node) {
            conn.black_hole_since.get_or_insert(now_ns);
        }
    }
    suspect_node(network, node);
}

/// A node was paused: schedules keepalive checks on its connections, so that its peers may notice.
pub(super) fn suspect_node(network: &Arc<Network>, node: u64) {
    suspect(network, |conn| conn.client == node || conn.server == node);
}

fn keepalive(network: &Arc<Network>, id: u64, side: Side, at_ns: u64) {
    let silent = {
        let state = network.state.lock().unwrap();
        let Some(conn) = state.conns.get(&id) else { return };
        if !conn.is_open(side) {
            return;
        }
        let peer_paused = network.nodes.get(conn.node(side.other())).and_then(|node| node.paused_since());
        let self_paused = network.nodes.get(conn.node(side)).is_some_and(|node| node.paused_since().is_some());
        let patience = match side {
            Side::Client => CLIENT_KEEPALIVE_NS.0,
            Side::Server => SERVER_KEEPALIVE_NS.0,
        };
        let causes = [state.cut_since(conn.client, conn.server), conn.black_hole_since, peer_paused];
        let cause = causes.into_iter().flatten().min();
        if cause.is_some() && self_paused {
            // A paused node cannot check now. Its ping is answered, or not, soon after it resumes.
            drop(state);
            check_within(network, id, side, PING_NS);
            return;
        }
        cause.is_some_and(|since| since + patience <= at_ns)
    };
    if silent {
        hang_up(network, id, side, "keep-alive timed out");
    }
}
