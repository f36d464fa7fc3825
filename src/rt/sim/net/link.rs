//! Links between nodes, and the simulator's control over them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::super::draw;
use super::{NetEvent, Network, Side, hang_up, suspect};

/// How a directed link behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// The minimum latency of a packet, in microseconds.
    pub latency_us_min: u64,
    /// The mean of the additional latency, in microseconds; it has a long tail.
    pub latency_us_mean: u64,
    /// Bytes per second.
    pub bandwidth: u64,
    /// The probability that a transmission of a packet is lost. The packet is sent again after 200 ms, then after
    /// 400 ms and so on, at most five times.
    pub loss: f64,
    /// The probability that a packet resets its connection.
    pub reset: f64,
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig { latency_us_min: 80, latency_us_mean: 120, bandwidth: 1_000_000_000, loss: 0.0, reset: 0.0 }
    }
}

/// A directed link.
pub(super) struct Link {
    pub(super) config: LinkConfig,
    pub(super) cut_since: Option<u64>,
    /// Events that arrived while the link was cut, in order.
    pub(super) held: VecDeque<NetEvent>,
    busy_until_ns: u64,
}

impl Link {
    pub(super) fn new(config: LinkConfig) -> Link {
        Link { config, cut_since: None, held: VecDeque::new(), busy_until_ns: 0 }
    }

    /// Returns when a packet of `len` bytes that is sent now arrives.
    pub(super) fn arrival_ns(&mut self, now_ns: u64, bits: u64, len: usize) -> u64 {
        let config = &self.config;
        let transfer = (len as u128 * 1_000_000_000 / u128::from(config.bandwidth.max(1))) as u64;
        self.busy_until_ns = self.busy_until_ns.max(now_ns) + transfer;
        let mut latency = config.latency_us_min * 1_000 + draw::long_tail(bits, config.latency_us_mean * 1_000);
        let mut luck = bits;
        for round in 0..5 {
            luck = crate::rt::rng::mix(luck ^ 0x6c6f_7373);
            if !draw::hits(luck, config.loss) {
                break;
            }
            latency += 200_000_000 << round;
        }
        self.busy_until_ns + latency
    }
}

/// The simulator's control over the network. Clones share it.
#[derive(Clone)]
pub struct SimNet {
    network: Arc<Network>,
}

impl std::fmt::Debug for SimNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimNet")
    }
}

impl SimNet {
    pub(in super::super) fn new(network: Arc<Network>) -> SimNet {
        SimNet { network }
    }

    fn fault(&self, what: &str) {
        self.network.context.fault(0, what);
    }

    /// Cuts two nodes off from each other, in both directions, until healed. Data sent meanwhile waits (TCP retransmits
    /// it), unless keepalive breaks the connection first.
    pub fn partition(&self, a: u64, b: u64) {
        self.cut(a, b);
        self.cut(b, a);
        suspect(&self.network, |conn| (conn.client, conn.server) == (a, b) || (conn.client, conn.server) == (b, a));
        self.fault(&format!("partition {a} {b}"));
    }

    /// Cuts the link from one node to the other; the opposite direction works.
    pub fn partition_one_way(&self, from: u64, to: u64) {
        self.cut(from, to);
        suspect(&self.network, |conn| {
            (conn.client, conn.server) == (from, to) || (conn.client, conn.server) == (to, from)
        });
        self.fault(&format!("partition_one_way {from} {to}"));
    }

    /// Cuts a node off from all others.
    pub fn isolate(&self, node: u64) {
        let others: Vec<u64> = self.network.nodes.ids().into_iter().filter(|other| *other != node).collect();
        for other in others {
            self.partition(node, other);
        }
    }

    fn cut(&self, from: u64, to: u64) {
        let now_ns = self.network.now_ns();
        let mut state = self.network.state.lock().unwrap();
        let link = state.link(from, to);
        link.cut_since.get_or_insert(now_ns);
    }

    /// Ends the partition between two nodes, in both directions. Data that waited arrives after a delay that grows with
    /// the length of the partition.
    pub fn heal(&self, a: u64, b: u64) {
        self.mend(a, b);
        self.mend(b, a);
        self.fault(&format!("heal {a} {b}"));
    }

    /// Ends all partitions.
    pub fn heal_all(&self) {
        let cut: Vec<(u64, u64)> = {
            let state = self.network.state.lock().unwrap();
            state.links.iter().filter(|(_, link)| link.cut_since.is_some()).map(|(ends, _)| *ends).collect()
        };
        for (from, to) in cut {
            self.mend(from, to);
        }
        self.fault("heal_all");
    }

    fn mend(&self, from: u64, to: u64) {
        let now_ns = self.network.now_ns();
        let mut state = self.network.state.lock().unwrap();
        let link = state.link(from, to);
        let Some(since) = link.cut_since.take() else { return };
        // The sender's retransmission timer has backed off in the meantime.
        let outage = (now_ns - since).min(4_000_000_000);
        let bits = draw::at(self.network.context.seed, "mend", from << 32 | to, since, 0);
        let first_ns = now_ns + 1_000_000 + (bits >> 32) * (outage / 2 + 1) / (1 << 32);
        for (at_ns, event) in (first_ns..).zip(std::mem::take(&mut link.held)) {
            if let NetEvent::Packet { stream, to, .. } = &event {
                let mut pipe = stream.inbox(*to).lock().unwrap();
                pipe.last_at_ns = pipe.last_at_ns.max(at_ns);
            }
            self.network.schedule(at_ns, event);
        }
    }

    /// Sets how a directed link behaves.
    pub fn set_latency(&self, from: u64, to: u64, config: LinkConfig) {
        self.network.state.lock().unwrap().link(from, to).config = config;
        self.fault(&format!("set_latency {from} {to}"));
    }

    /// Sets how all links behave, including those that were configured individually.
    pub fn set_all(&self, config: LinkConfig) {
        {
            let mut state = self.network.state.lock().unwrap();
            state.default_link = config.clone();
            for link in state.links.values_mut() {
                link.config = config.clone();
            }
        }
        self.fault("set_all");
    }

    /// Resets all connections between two nodes; both ends are notified.
    pub fn reset_connections(&self, a: u64, b: u64) {
        self.fault(&format!("reset_connections {a} {b}"));
        for id in self.between(a, b) {
            hang_up(&self.network, id, Side::Server, "connection reset by peer");
        }
    }

    /// Makes all current connections between two nodes half open: data sent over them is lost silently, until keepalive
    /// closes them. New connections work.
    pub fn black_hole(&self, a: u64, b: u64) {
        let now_ns = self.network.now_ns();
        {
            let mut state = self.network.state.lock().unwrap();
            for conn in state.conns.values_mut() {
                if (conn.client, conn.server) == (a, b) || (conn.client, conn.server) == (b, a) {
                    conn.black_hole_since.get_or_insert(now_ns);
                }
            }
        }
        suspect(&self.network, |conn| conn.black_hole_since == Some(now_ns));
        self.fault(&format!("black_hole {a} {b}"));
    }

    fn between(&self, a: u64, b: u64) -> Vec<u64> {
        let state = self.network.state.lock().unwrap();
        let ours = |client: u64, server: u64| (client, server) == (a, b) || (client, server) == (b, a);
        state.conns.iter().filter(|(_, conn)| ours(conn.client, conn.server)).map(|(id, _)| *id).collect()
    }

    /// Records the requests of all calls to `path` from now on, up to a fixed number for each pair of nodes.
    pub fn record_calls(&self, path: &str) {
        self.network.state.lock().unwrap().record = Some(path.to_owned());
    }

    /// Returns the last data that one node sent to another in the recorded calls, oldest first, whether or not it
    /// arrived.
    pub fn recorded(&self, from: u64, to: u64) -> Vec<Bytes> {
        let state = self.network.state.lock().unwrap();
        state.records.get(&(from, to)).map(|kept| kept.iter().cloned().collect()).unwrap_or_default()
    }

    /// Returns whether the link from one node to the other is cut.
    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        self.network.state.lock().unwrap().is_cut(from, to)
    }

    /// Returns how many packets have been delivered so far.
    pub fn delivered(&self) -> u64 {
        self.network.state.lock().unwrap().delivered
    }

    /// Returns how many connections at least one end considers open.
    pub fn connections(&self) -> usize {
        self.network.state.lock().unwrap().conns.len()
    }
}
