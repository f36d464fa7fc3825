//! Faults of clocks: steps of the wall clock, leap seconds, and clocks that run too fast or too slow. Most are
//! instantaneous (a drift stays until the next drift of the clock or until all faults end); a skew is a step that is
//! undone at its end.

use serde::{Deserialize, Serialize};

use super::behavior::{Behavior, Hit, Shape};
use super::context::Context;
use super::draw::{Class, Draft};
use super::target::Target;

/// The maximum drift of each clock, parts per million.
///
/// A lease lasts 0.8 election timeouts by the leader's clock, a promise 1.0 by the voter's clock. With a leader that is
/// slow by `d` and voters that are fast by `d`, the lease ends in time while 0.8 / (1 - d) <= 1 / (1 + d), so up to
/// d = 0.2 / 1.8 = 0.1111. The slower clock then runs at 0.8 of the faster one's speed, the limit that
/// `CLOCK_DRIFT_PERMILLE` sets.
pub const DRIFT_PPM_MAX: i64 = 111_000;

/// A fault of a clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(clippy::enum_variant_names, reason = "the names stand alone in a plan's file")]
pub enum Kind {
    /// The wall clock jumps.
    ClockStep {
        /// Milliseconds, forward or (negative) back.
        by_ms: i64,
    },
    /// The wall clock is wrong for a while: it jumps at the begin and back at the end.
    ClockSkew {
        /// Milliseconds, forward or (negative) back.
        by_ms: i64,
    },
    /// A leap second that only some machines apply: their wall clocks repeat or skip a second.
    LeapSecond {
        /// Whether the second is repeated; otherwise it is skipped.
        inserted: bool,
        /// The machines that apply it, from 1.
        nodes: Vec<u32>,
    },
    /// The clock runs too fast or too slow.
    ClockDrift {
        /// Parts per million, at most [`DRIFT_PPM_MAX`] in either direction.
        ppm: i64,
    },
    /// The node's clock runs too slow (negative: too fast) and every other clock too fast, the worst case for a lease
    /// of that node.
    ClockApart {
        /// Parts per million, at most [`DRIFT_PPM_MAX`] in either direction.
        ppm: i64,
    },
}

/// The values of `kind`.
pub const NAMES: &[&str] = &["clock-step", "clock-skew", "leap-second", "clock-drift", "clock-apart"];

/// The classes from which the swarm draws.
pub const CLASSES: &[Class<Kind>] = &[
    Class {
        name: "clock",
        per_minute: (1.0, 8.0),
        make: |d| {
            let sign = if d.rng.chance(0.5) { 1 } else { -1 };
            let which = d.rng.below(5);
            let target = d.target();
            let kind = match which {
                0 | 1 => Kind::ClockStep { by_ms: sign * d.log(10, 600_000) as i64 },
                2 | 3 => Kind::ClockDrift { ppm: sign * d.log(100, DRIFT_PPM_MAX as u64) as i64 },
                _ => Kind::ClockApart { ppm: sign * DRIFT_PPM_MAX },
            };
            Draft::at(target, 0, kind)
        },
    },
    Class {
        name: "leap-second",
        per_minute: (0.5, 4.0),
        make: |d| {
            let inserted = d.rng.chance(0.7);
            let nodes = (1..=d.stores).filter(|_| d.rng.chance(0.5)).collect();
            Draft::everywhere(0, Kind::LeapSecond { inserted, nodes })
        },
    },
];

/// Steps a node's wall clock, and shows the clocks before and after to the oracle that must know them.
fn step(node: u64, by_ms: i64, context: &Context) {
    context.wall_clocks.look(&context.world);
    context.cluster.with(node, |machine| machine.handle.clock().step_ms(by_ms));
    context.wall_clocks.look(&context.world);
}

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        let target = !matches!(self, Kind::LeapSecond { .. });
        Shape { target, lasts: matches!(self, Kind::ClockSkew { .. }) }
    }

    fn strike(&self, hit: &mut Hit, context: &mut Context) -> bool {
        let drift = |node: u64, ppm: i64| {
            let ppm = ppm.clamp(-DRIFT_PPM_MAX, DRIFT_PPM_MAX);
            context.cluster.with(node, |machine| machine.handle.clock().set_drift_ppm(ppm));
        };
        match self {
            Kind::ClockStep { by_ms } | Kind::ClockSkew { by_ms } => step(hit.node, *by_ms, context),
            Kind::LeapSecond { inserted, nodes } => {
                context.wall_clocks.look(&context.world);
                for node in nodes.iter().map(|node| context.resolve(Target::Node(*node))) {
                    context.cluster.with(node, |machine| machine.handle.clock().leap(*inserted));
                }
                context.wall_clocks.look(&context.world);
            }
            Kind::ClockDrift { ppm } => drift(hit.node, *ppm),
            Kind::ClockApart { ppm } => {
                for id in context.cluster.ids() {
                    drift(id, if id == hit.node { -ppm } else { *ppm });
                }
            }
        }
        true
    }

    fn end(&self, node: u64, context: &mut Context) -> Vec<u64> {
        if let Kind::ClockSkew { by_ms } = self {
            step(node, -by_ms, context);
        }
        Vec::new()
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Kind::LeapSecond { nodes, .. } if nodes.contains(&0) => Err("`nodes` are numbered from 1".into()),
            _ => Ok(()),
        }
    }

    fn names_node_above(&self, highest: u32) -> bool {
        matches!(self, Kind::LeapSecond { nodes, .. } if nodes.iter().any(|node| *node > highest))
    }

    fn disturbs(&self) -> bool {
        // The bounds of the oracle of pauses allow for drifting clocks.
        false
    }

    fn milder(&self) -> Option<Kind> {
        let half = |number: i64, least: i64| Some(number / 2).filter(|half| half.abs() >= least);
        match *self {
            Kind::ClockStep { by_ms } => half(by_ms, 10).map(|by_ms| Kind::ClockStep { by_ms }),
            Kind::ClockSkew { by_ms } => half(by_ms, 10).map(|by_ms| Kind::ClockSkew { by_ms }),
            Kind::LeapSecond { .. } => None,
            Kind::ClockDrift { ppm } => half(ppm, 1000).map(|ppm| Kind::ClockDrift { ppm }),
            Kind::ClockApart { ppm } => half(ppm, 1000).map(|ppm| Kind::ClockApart { ppm }),
        }
    }
}
