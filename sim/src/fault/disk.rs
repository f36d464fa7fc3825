//! Faults of disks: slow, stalled, full, an fsync that fails, an engine that does not open, a part of the data that is lost.
//!
//! A store that cannot write must stop rather than go on without what it promised; the supervisor starts it again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::behavior::{Active, Behavior, Hit, Shape, half};
use super::context::Context;
use super::draw::{Class, Draft};
use super::force::{Force, Machines};
use crate::cluster::{Death, Part};

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
    /// The engine makes writers wait, as one does that has too much to compact.
    StallEngine {},
    /// The process dies, and at its next start the engine does not open, once.
    FailOpen {},
    /// The machine loses its power and the engine's data; the log is still there. The store must refuse to start.
    LoseEngine {},
    /// The machine loses its power and the raft log; the engine's data is still there. The store must refuse to start.
    LoseLog {},
}

/// The words for `kind`.
pub const NAMES: &[&str] =
    &["slow-disk", "stall-disk", "fail-sync", "full-disk", "stall-engine", "fail-open", "lose-engine", "lose-log"];

/// What the swarm draws. The loss of a part is drawn by the swarm itself, once a run at most.
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
        name: "stall-engine",
        per_minute: (0.6, 6.0),
        make: |d| Draft::at(d.target(), d.log(200, 15_000), Kind::StallEngine {}),
    },
    Class {
        name: "bad-disk",
        per_minute: (0.6, 5.0),
        make: |d| match d.rng.below(4) {
            0 => Draft::at(d.target(), d.log(500, 10_000), Kind::FullDisk {}),
            1 => Draft::at(d.target(), d.log(100, 5_000), Kind::FailOpen {}),
            _ => Draft::at(d.target(), 0, Kind::FailSync {}),
        },
    },
];

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        Shape { target: true, lasts: !matches!(self, Kind::FailSync {}) }
    }

    fn strike(&self, hit: &mut Hit, context: &mut Context) -> bool {
        let cluster = context.cluster.clone();
        match self {
            Kind::FailSync {} => {
                if !cluster.is_up(hit.node) || cluster.with(hit.node, |machine| machine.is_armed()) {
                    return false;
                }
                if hit.rng.chance(0.75) {
                    cluster.fail_next_sync(hit.node);
                } else {
                    cluster.fail_next_flush(hit.node);
                }
            }
            Kind::FailOpen {} => {
                if !cluster.is_up(hit.node) || cluster.with(hit.node, |machine| machine.is_armed()) {
                    return false;
                }
                context.kill(hit.node, Death::Killed, &mut hit.rng);
                cluster.fail_next_open(hit.node);
            }
            Kind::LoseEngine {} | Kind::LoseLog {} => {
                context.cut_power(hit.node, &mut hit.rng);
                cluster.lose(hit.node, if *self == (Kind::LoseEngine {}) { Part::Engine } else { Part::Log });
                // Its replicas are gone for good: once it has refused, it is replaced by a new store.
                context.wiped = Some(hit.node);
            }
            Kind::FullDisk {} => cluster.excuse(hit.node),
            Kind::StallDisk {} => {
                let for_ms = Duration::from_millis(hit.for_ms);
                cluster.with(hit.node, |machine| machine.handle.disk().stall(for_ms));
            }
            Kind::SlowDisk { .. } | Kind::StallEngine {} => {}
        }
        true
    }

    fn impose(&self, Active { node, .. }: Active, _machines: &Machines, force: &mut Force) {
        match self {
            Kind::FailOpen {} | Kind::LoseEngine {} | Kind::LoseLog {} => {
                force.down.insert(node);
                force.dead.insert(node);
                return;
            }
            Kind::SlowDisk { factor } => Force::raise(&mut force.slow_disk, node, *factor),
            Kind::FullDisk {} => drop(force.full.insert(node)),
            Kind::StallEngine {} => drop(force.stalled.insert(node)),
            // The disk itself knows how long it is stalled.
            Kind::StallDisk {} => drop(force.hung.insert(node)),
            Kind::FailSync {} => {}
        }
        force.plain = false;
    }

    fn end(&self, node: u64, context: &mut Context) -> Vec<u64> {
        match self {
            Kind::FullDisk {} => {
                // Whether or not the store noticed: its process starts again, and trusts nothing that was not synced.
                let mut rng = context.fork("end");
                context.kill(node, Death::PowerLoss, &mut rng);
                vec![node]
            }
            Kind::FailOpen {} | Kind::LoseEngine {} | Kind::LoseLog {} => vec![node],
            Kind::SlowDisk { .. } | Kind::StallDisk {} | Kind::StallEngine {} | Kind::FailSync {} => Vec::new(),
        }
    }

    fn milder(&self) -> Option<Kind> {
        match self {
            Kind::SlowDisk { factor } => half(u64::from(*factor), 2).map(|half| Kind::SlowDisk { factor: half as u32 }),
            _ => None,
        }
    }
}
