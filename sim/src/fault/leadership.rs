//! Requests to transfer leadership, as an operator or a balancer makes them. They are not faults, but the store must
//! handle them at any time.

use armilla::types::GroupId;
use serde::{Deserialize, Serialize};

use super::behavior::{Behavior, Hit, Shape};
use super::context::Context;
use super::draw::{Class, Draft};

/// A requested transfer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// The region's leader is asked to hand over its leadership.
    Transfer {
        /// The region's number, from 0.
        region: u32,
        /// The node that is to lead, from 1.
        to: u32,
    },
    /// The placement driver's leader is asked to hand over its leadership.
    TransferPd {
        /// The node that is to lead, from 1.
        to: u32,
    },
    /// A replica of the region is moved to another node.
    MovePeer {
        /// The region's number, from 0.
        region: u32,
        /// Which of its peers, counted from 0.
        peer: u32,
        /// The node that is to have it, from 1.
        to: u32,
    },
    /// A member of the placement driver is moved to another node.
    MovePd {
        /// Which of its members, counted from 0.
        peer: u32,
        /// The node that is to have it, from 1.
        to: u32,
    },
}

/// The values of `kind`.
pub const NAMES: &[&str] = &["transfer", "transfer-pd", "move-peer", "move-pd"];

/// The classes from which the swarm draws.
pub const CLASSES: &[Class<Kind>] = &[
    Class {
        name: "transfer",
        per_minute: (1.0, 20.0),
        make: |d| {
            let kind = match d.rng.below(5) {
                0 => Kind::TransferPd { to: d.node() },
                _ => Kind::Transfer { region: d.region(), to: d.node() },
            };
            Draft::everywhere(0, kind)
        },
    },
    Class {
        // Has an effect only where there are more nodes than replicas.
        name: "move-peer",
        per_minute: (3.0, 40.0),
        make: |d| {
            let (region, peer, to) = (d.region(), d.rng.below(3) as u32, d.node());
            Draft::everywhere(0, Kind::MovePeer { region, peer, to })
        },
    },
    Class {
        name: "move-pd",
        per_minute: (2.0, 20.0),
        make: |d| Draft::everywhere(0, Kind::MovePd { peer: d.rng.below(3) as u32, to: d.node() }),
    },
];

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        Shape { target: false, lasts: false }
    }

    fn strike(&self, _hit: &mut Hit, context: &mut Context) -> bool {
        match *self {
            Kind::Transfer { region, to } => {
                context.group(region).into_iter().for_each(|group| context.transfer(group, to));
            }
            Kind::TransferPd { to } => context.transfer(GroupId::PD.0, to),
            Kind::MovePd { peer, to } => context.move_peer(GroupId::PD.0, peer, to),
            Kind::MovePeer { region, peer, to } => {
                context.group(region).into_iter().for_each(|group| context.move_peer(group, peer, to));
            }
        }
        true
    }

    fn disturbs(&self) -> bool {
        // A transfer causes no long pause, so the sums continue and are judged.
        false
    }

    fn names_node_above(&self, highest: u32) -> bool {
        let (Kind::Transfer { to, .. } | Kind::TransferPd { to } | Kind::MovePeer { to, .. } | Kind::MovePd { to, .. }) =
            self;
        *to > highest
    }
}
