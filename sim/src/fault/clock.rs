//! Faults of clocks: steps of the wall clock, and clocks that run too fast or too slow. They are instantaneous; a drift
//! stays until the next drift of the clock or until all faults end.

use serde::{Deserialize, Serialize};

use super::behavior::{Behavior, Hit, Shape};
use super::context::Context;
use super::draw::{Class, Draft};

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
pub const NAMES: &[&str] = &["clock-step", "clock-drift", "clock-apart"];

/// The classes from which the swarm draws.
pub const CLASSES: &[Class<Kind>] = &[Class {
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
}];

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        Shape { target: true, lasts: false }
    }

    fn strike(&self, hit: &mut Hit, context: &mut Context) -> bool {
        let drift = |node: u64, ppm: i64| {
            let ppm = ppm.clamp(-DRIFT_PPM_MAX, DRIFT_PPM_MAX);
            context.cluster.with(node, |machine| machine.handle.clock().set_drift_ppm(ppm));
        };
        match *self {
            Kind::ClockStep { by_ms } => {
                context.wall_clocks.look(&context.world);
                context.cluster.with(hit.node, |machine| machine.handle.clock().step_ms(by_ms));
                context.wall_clocks.look(&context.world);
            }
            Kind::ClockDrift { ppm } => drift(hit.node, ppm),
            Kind::ClockApart { ppm } => {
                for id in context.cluster.ids() {
                    drift(id, if id == hit.node { -ppm } else { ppm });
                }
            }
        }
        true
    }

    fn disturbs(&self) -> bool {
        // The bounds of the oracle of pauses allow for drifting clocks.
        false
    }

    fn milder(&self) -> Option<Kind> {
        let half = |number: i64, least: i64| Some(number / 2).filter(|half| half.abs() >= least);
        match *self {
            Kind::ClockStep { by_ms } => half(by_ms, 10).map(|by_ms| Kind::ClockStep { by_ms }),
            Kind::ClockDrift { ppm } => half(ppm, 1000).map(|ppm| Kind::ClockDrift { ppm }),
            Kind::ClockApart { ppm } => half(ppm, 1000).map(|ppm| Kind::ClockApart { ppm }),
        }
    }
}
