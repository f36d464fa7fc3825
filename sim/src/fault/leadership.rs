//! Orders to hand leadership over, as an operator or a balancer gives them. They are no faults, but what they start must bear them.

use armilla::types::GroupId;
use serde::{Deserialize, Serialize};

use super::behavior::{Behavior, Hit, Shape};
use super::context::Context;
use super::draw::{Class, Draft};

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// The region's leader is asked to hand over.
    Transfer {
        /// The region's number, from 0.
        region: u32,
        /// The node that is to lead, from 1.
        to: u32,
    },
    /// The placement driver's leader is asked to hand over.
    TransferPd {
        /// The node that is to lead, from 1.
        to: u32,
    },
}

/// The words for `kind`.
pub const NAMES: &[&str] = &["transfer", "transfer-pd"];

/// What the swarm draws.
pub const CLASSES: &[Class<Kind>] = &[Class {
    name: "transfer",
    per_minute: (1.0, 20.0),
    make: |d| {
        let kind = match d.rng.below(5) {
            0 => Kind::TransferPd { to: d.node() },
            _ => Kind::Transfer { region: d.region(), to: d.node() },
        };
        Draft::everywhere(0, kind)
    },
}];

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
        }
        true
    }

    fn disturbs(&self) -> bool {
        // A transfer pauses nothing for long, and is judged.
        false
    }

    fn names_node_above(&self, highest: u32) -> bool {
        let (Kind::Transfer { to, .. } | Kind::TransferPd { to }) = self;
        *to > highest
    }
}
