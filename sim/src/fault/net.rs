//! Faults of the network: several forms of partitions, connections that break or hang, and links that are slow, have a
//! low bandwidth, or lose packets.
//!
//! Packets sent over a cut link are delivered later, as TCP retransmits them, unless keepalive closes the connection
//! first.

use serde::{Deserialize, Serialize};

use super::behavior::{Active, Behavior, Hit, Shape, half};
use super::context::Context;
use super::draw::{Class, Draft, Draw};
use super::force::{Force, Machines};

/// A fault of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// The node is cut off from all other stores.
    Isolate {},
    /// One direction between the node and all other stores is cut.
    OneWay {
        /// Whether the direction to the node is cut; otherwise the direction from it.
        deaf: bool,
    },
    /// Two sides are cut off from each other.
    Split {
        /// The nodes of one side; all other stores are on the other.
        side: Vec<u32>,
    },
    /// Two sides are connected only through the node.
    Bridge {},
    /// Each node reaches only its two neighbors.
    Ring {},
    /// A rack is cut off: the node and every second client are on one side, all other machines on the other.
    Rack {},
    /// The node is cut off from all clients.
    CutClients {},
    /// All links lose packets and connections and have a higher latency.
    LossyLinks {
        /// The fraction of lost packets, thousandths.
        loss_permille: u32,
        /// The mean latency added, ms.
        delay_ms: u64,
    },
    /// One direction between the node and the other stores has a higher latency.
    SlowLink {
        /// Whether it is the direction to the node; otherwise the direction from it.
        inbound: bool,
        /// The latency added, ms.
        delay_ms: u64,
    },
    /// The links between the node and the other stores have a low bandwidth.
    ThinLink {
        /// KiB per second in each direction.
        kib_per_s: u64,
    },
    /// The links between the node and the other stores repeatedly fail and recover.
    Flapping {
        /// How long they work each time, ms.
        up_ms: u64,
        /// How long they fail each time, ms.
        down_ms: u64,
    },
    /// The existing connections between the node and all other machines break.
    Reset {},
    /// The existing connections between the node and all other machines become half open: everything sent over them is
    /// silently lost until keepalive closes them. New connections work.
    BlackHole {},
}

/// How long after the end of a partition retransmitted packets may still arrive: half of the outage, which counts for
/// at most four seconds, with some reserve.
const RETRANSMISSION_NS: u64 = 2_100_000_000;

/// The values of `kind`.
pub const NAMES: &[&str] = &[
    "isolate",
    "one-way",
    "split",
    "bridge",
    "ring",
    "rack",
    "cut-clients",
    "lossy-links",
    "slow-link",
    "thin-link",
    "flapping",
    "reset",
    "black-hole",
];

/// The classes from which the swarm draws.
pub const CLASSES: &[Class<Kind>] = &[
    Class { name: "partition", per_minute: (1.0, 10.0), make: partition },
    Class {
        name: "clients",
        per_minute: (0.6, 6.0),
        make: |d| Draft::at(d.target(), d.log(500, 10_000), Kind::CutClients {}),
    },
    Class {
        name: "links",
        per_minute: (0.6, 6.0),
        make: |d| match d.rng.below(4) {
            0 => Draft::at(d.target(), 0, Kind::Reset {}),
            1 => Draft::at(d.target(), 0, Kind::BlackHole {}),
            _ => {
                let (loss_permille, delay_ms) = (d.log(1, 60) as u32, d.log(1, 300));
                Draft::everywhere(d.log(500, 15_000), Kind::LossyLinks { loss_permille, delay_ms })
            }
        },
    },
    Class { name: "rack", per_minute: (0.6, 6.0), make: |d| Draft::at(d.target(), d.log(300, 15_000), Kind::Rack {}) },
    Class {
        name: "slow-link",
        per_minute: (0.6, 6.0),
        make: |d| {
            let (target, inbound, delay_ms) = (d.target(), d.rng.chance(0.5), d.log(5, 1500));
            Draft::at(target, d.log(500, 15_000), Kind::SlowLink { inbound, delay_ms })
        },
    },
    Class {
        name: "thin-link",
        per_minute: (0.6, 4.0),
        make: |d| {
            let (target, kib_per_s) = (d.target(), d.log(32, 2000));
            Draft::at(target, d.log(1000, 15_000), Kind::ThinLink { kib_per_s })
        },
    },
    Class {
        name: "flapping",
        per_minute: (0.6, 4.0),
        make: |d| {
            let (target, up_ms, down_ms) = (d.target(), d.log(20, 3000), d.log(20, 3000));
            Draft::at(target, d.log(1000, 20_000), Kind::Flapping { up_ms, down_ms })
        },
    },
];

fn partition(d: &mut Draw<'_>) -> Draft<Kind> {
    let for_ms = d.log(300, 20_000);
    match d.rng.below(8) {
        0..=2 => Draft::at(d.target(), for_ms, Kind::Isolate {}),
        3 | 4 => {
            let target = d.target();
            Draft::at(target, for_ms, Kind::OneWay { deaf: d.rng.chance(0.5) })
        }
        5 => {
            let side = (1..=d.stores).filter(|_| d.rng.chance(0.5)).collect();
            Draft::everywhere(for_ms, Kind::Split { side })
        }
        6 => Draft::at(d.target(), for_ms, Kind::Bridge {}),
        _ => Draft::everywhere(for_ms, Kind::Ring {}),
    }
}

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        Shape {
            target: !matches!(self, Kind::Split { .. } | Kind::Ring {} | Kind::LossyLinks { .. }),
            lasts: !matches!(self, Kind::Reset {} | Kind::BlackHole {}),
        }
    }

    fn strike(&self, hit: &mut Hit, context: &mut Context) -> bool {
        let net = context.world.net().clone();
        for other in context.machines.all().into_iter().filter(|other| *other != hit.node) {
            match self {
                Kind::Reset {} => net.reset_connections(hit.node, other),
                Kind::BlackHole {} => net.black_hole(hit.node, other),
                _ => {}
            }
        }
        if *self == (Kind::BlackHole {}) {
            context.unsettle(hit.node);
        }
        true
    }

    fn changes_at_ms(&self, elapsed_ms: u64) -> Option<u64> {
        let Kind::Flapping { up_ms, down_ms } = *self else { return None };
        let round_ms = up_ms + down_ms;
        let begin_ms = elapsed_ms - elapsed_ms % round_ms;
        Some(begin_ms + if elapsed_ms % round_ms < down_ms { down_ms } else { round_ms })
    }

    fn end(&self, node: u64, context: &mut Context) -> Vec<u64> {
        match self {
            // Queued packets are still in flight.
            Kind::ThinLink { .. } => context.unsettle(node),
            // Packets that the node sent during the fault are retransmitted.
            Kind::Isolate {} | Kind::Rack {} => {
                let until_ns = context.world.now_ns() + RETRANSMISSION_NS;
                context.monitor.with(|observed| observed.pauses.may_arrive(node, until_ns));
            }
            _ => {}
        }
        Vec::new()
    }

    fn impose(&self, Active { node, elapsed_ms }: Active, machines: &Machines, force: &mut Force) {
        match self {
            Kind::Isolate {} => {
                machines.others(node).for_each(|other| force.cut(node, other));
                force.dead.insert(node);
            }
            Kind::Rack {} => {
                let inside = |id: u64| id == node || (machines.clients.contains(&id) && id.is_multiple_of(2));
                force.cut_between(&machines.all(), inside);
                force.dead.insert(node);
            }
            // The links between stores are not affected.
            Kind::CutClients {} => machines.clients.iter().for_each(|&client| force.cut(node, client)),
            Kind::Flapping { up_ms, down_ms } => {
                force.plain = false;
                // Each round begins with the failure.
                if elapsed_ms % (up_ms + down_ms) < *down_ms {
                    machines.others(node).for_each(|other| force.cut(node, other));
                }
            }
            _ => {
                force.plain = false;
                self.impose_unjudged(node, machines, force);
            }
        }
    }

    fn milder(&self) -> Option<Kind> {
        match *self {
            Kind::LossyLinks { loss_permille, delay_ms } => {
                let halves = (half(u64::from(loss_permille), 1), half(delay_ms, 1));
                (halves != (None, None)).then(|| Kind::LossyLinks {
                    loss_permille: halves.0.map_or(loss_permille, |half| half as u32),
                    delay_ms: halves.1.unwrap_or(delay_ms),
                })
            }
            Kind::ThinLink { kib_per_s } if kib_per_s < 1_000_000 => Some(Kind::ThinLink { kib_per_s: kib_per_s * 2 }),
            Kind::SlowLink { inbound, delay_ms } => {
                half(delay_ms, 1).map(|delay_ms| Kind::SlowLink { inbound, delay_ms })
            }
            _ => None,
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Kind::Flapping { up_ms, down_ms } if *up_ms == 0 || *down_ms == 0 => {
                Err("`up_ms` and `down_ms` must be 1 or more".into())
            }
            Kind::ThinLink { kib_per_s: 0 } => Err("`kib_per_s` must be 1 or more".into()),
            _ => Ok(()),
        }
    }

    fn names_node_above(&self, highest: u32) -> bool {
        matches!(self, Kind::Split { side } if side.iter().any(|&node| node > highest))
    }
}

impl Kind {
    /// Adds the effects of faults that are not plain.
    fn impose_unjudged(&self, node: u64, machines: &Machines, force: &mut Force) {
        let stores = &machines.stores;
        match self {
            Kind::OneWay { deaf } => {
                for other in machines.others(node) {
                    let (from, to) = if *deaf { (other, node) } else { (node, other) };
                    force.cut_one_way(from, to);
                }
            }
            Kind::Split { side } => force.cut_between(stores, |id| side.contains(&(id as u32))),
            Kind::Bridge {} => {
                let rest: Vec<u64> = machines.others(node).collect();
                let left = &rest[..rest.len() / 2];
                force.cut_between(&rest, |id| left.contains(&id));
            }
            Kind::Ring {} => {
                for (i, &a) in stores.iter().enumerate() {
                    for (j, &b) in stores.iter().enumerate() {
                        let apart = i.abs_diff(j);
                        if apart > 1 && apart != stores.len() - 1 {
                            force.cut(a, b);
                        }
                    }
                }
            }
            Kind::LossyLinks { loss_permille, delay_ms } => {
                force.link.loss = (force.link.loss + f64::from(*loss_permille) / 1000.0).min(0.3);
                force.link.reset = force.link.loss / 50.0;
                force.link.latency_us_mean += delay_ms * 1000;
            }
            Kind::SlowLink { inbound, delay_ms } => {
                for other in machines.others(node) {
                    let link = if *inbound { (other, node) } else { (node, other) };
                    force.links.entry(link).or_default().delay_ms += delay_ms;
                }
            }
            Kind::ThinLink { kib_per_s } => {
                for other in machines.others(node) {
                    for link in [(other, node), (node, other)] {
                        force.links.entry(link).or_default().narrow(kib_per_s << 10);
                    }
                }
            }
            Kind::Isolate {}
            | Kind::Rack {}
            | Kind::CutClients {}
            | Kind::Flapping { .. }
            | Kind::Reset {}
            | Kind::BlackHole {} => {}
        }
    }
}
