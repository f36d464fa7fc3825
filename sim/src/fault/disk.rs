//! Faults of disks: slow, stalled, full, or an fsync that fails.
//!
//! A store that cannot write must stop rather than go on without what it promised; the supervisor starts it again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::behavior::{Behavior, Hit, Shape, half};
use super::context::Context;
use super::draw::{Class, Draft};
use super::force::{Force, Machines};

/// What happens to a disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// Operations take `factor` times as long.
    SlowDisk {
        /// From 2.
        factor: u32,
    },
    /// Operations do not return.
    StallDisk {},
    /// The next fsync (or flush of the engine) fails, once; the store must stop, and is started again.
    FailSync {},
    /// Writes that grow a file fail; the process starts again at the end.
    FullDisk {},
}

/// The words for `kind`.
pub const NAMES: &[&str] = &["slow-disk", "stall-disk", "fail-sync", "full-disk"];

/// What the swarm draws.
pub const CLASSES: &[Class<Kind>] = &[
    Class {
        name: "slow-disk",
        per_minute: (0.6, 6.0),
        make: |d| match d.rng.below(2) {
            0 => {
                let (target, factor) = (d.target(), d.log(4, 200) as u32);
                Draft::at(target, d.log(500, 20_000), Kind::SlowDisk { factor })
            }
            _ => Draft::at(d.target(), d.log(200, 15_000), Kind::StallDisk {}),
        },
    },
    Class {
        name: "bad-disk",
        per_minute: (0.6, 5.0),
        make: |d| match d.rng.below(3) {
            0 => Draft::at(d.target(), d.log(500, 10_000), Kind::FullDisk {}),
            _ => Draft::at(d.target(), 0, Kind::FailSync {}),
        },
    },
];

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        Shape { target: true, lasts: !matches!(self, Kind::FailSync {}) }
    }

    fn strike(&self, hit: &mut Hit, context: &mut Context) -> bool {
        let cluster = &context.cluster;
        match self {
            Kind::FailSync {} => {
                if !cluster.is_up(hit.node) || cluster.with(hit.node, |machine| machine.is_armed()) {
                    return false;
                }
                cluster.arm(hit.node);
                cluster.with(hit.node, |machine| {
                    if hit.rng.chance(0.75) {
                        machine.handle.disk().fail_next_sync();
                    } else {
                        machine.home.fail_next_flush();
                    }
                });
            }
            Kind::FullDisk {} => cluster.excuse(hit.node),
            Kind::StallDisk {} => {
                let for_ms = Duration::from_millis(hit.for_ms);
                cluster.with(hit.node, |machine| machine.handle.disk().stall(for_ms));
            }
            Kind::SlowDisk { .. } => {}
        }
        true
    }

    fn impose(&self, node: u64, _machines: &Machines, force: &mut Force) {
        force.plain = false;
        match self {
            Kind::SlowDisk { factor } => Force::raise(&mut force.slow_disk, node, *factor),
            Kind::FullDisk {} => drop(force.full.insert(node)),
            // The disk itself knows how long it is stalled.
            Kind::StallDisk {} | Kind::FailSync {} => {}
        }
    }

    fn end(&self, node: u64, context: &mut Context) -> Vec<u64> {
        if *self != (Kind::FullDisk {}) {
            return Vec::new();
        }
        // Whether or not the store noticed: its process starts again, and trusts nothing that was not synced.
        let mut rng = context.fork("end");
        context.kill(node, true, &mut rng);
        vec![node]
    }

    fn milder(&self) -> Option<Kind> {
        match self {
            Kind::SlowDisk { factor } => half(u64::from(*factor), 2).map(|half| Kind::SlowDisk { factor: half as u32 }),
            _ => None,
        }
    }
}
