//! Faults of processes and machines: they die, stand still, are told to end, come back with an empty disk, or are slow.
//!
//! All but the slow processor are *plain*: who is dead or paused is known, so the oracle of pauses judges how soon the others
//! take over.

use serde::{Deserialize, Serialize};

use super::behavior::{Active, Behavior, Hit, Shape, half};
use super::context::Context;
use super::draw::{Class, Draft};
use super::force::{Force, Machines};
use crate::cluster::Death;

/// What happens to a process. Durations are how long it stays so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// The process dies; in three of four cases the machine loses its power, and unsynced writes are lost, kept or torn. Half of
    /// the power losses are silent: peers' connections hang until keepalive gives them up.
    Crash {},
    /// All machines lose their power at once.
    CrashAll {},
    /// The process is stopped and goes on later, knowing nothing of it.
    Pause {},
    /// The process is told to end, as by SIGTERM: it hands over, stops, and starts again at the end.
    Stop {},
    /// The machine loses its power and its disk is replaced by an empty one. A run has at most one of these.
    Wipe {},
    /// Work takes `factor` times as long.
    SlowCpu {
        /// From 2.
        factor: u32,
    },
}

/// The words for `kind`.
pub const NAMES: &[&str] = &["crash", "crash-all", "pause", "stop", "wipe", "slow-cpu"];

/// What the swarm draws. A wipe is drawn by the swarm itself, once a run at most.
pub const CLASSES: &[Class<Kind>] = &[
    Class {
        name: "crash",
        per_minute: (1.0, 12.0),
        make: |d| Draft::at(d.target(), d.log(100, 15_000), Kind::Crash {}),
    },
    Class {
        name: "crash-all",
        per_minute: (0.6, 3.0),
        make: |d| Draft::everywhere(d.log(100, 5_000), Kind::CrashAll {}),
    },
    Class { name: "stop", per_minute: (0.6, 4.0), make: |d| Draft::at(d.target(), d.log(3000, 10_000), Kind::Stop {}) },
    Class {
        name: "pause",
        per_minute: (1.0, 12.0),
        make: |d| Draft::at(d.target(), d.log(100, 20_000), Kind::Pause {}),
    },
    Class {
        name: "cpu",
        per_minute: (0.6, 4.0),
        make: |d| {
            let (target, factor) = (d.target(), d.log(2, 50) as u32);
            Draft::at(target, d.log(1000, 20_000), Kind::SlowCpu { factor })
        },
    },
];

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        Shape { target: !matches!(self, Kind::CrashAll {}), lasts: true }
    }

    fn strike(&self, hit: &mut Hit, context: &mut Context) -> bool {
        match self {
            Kind::Crash {} => {
                if hit.rng.chance(0.75) {
                    context.cut_power(hit.node, &mut hit.rng);
                } else {
                    context.kill(hit.node, Death::Killed, &mut hit.rng);
                }
            }
            Kind::CrashAll {} => {
                for id in context.cluster.ids() {
                    context.cut_power(id, &mut hit.rng);
                }
            }
            Kind::Wipe {} => {
                context.cut_power(hit.node, &mut hit.rng);
                context.cluster.wipe(hit.node);
                context.wiped = Some(hit.node);
            }
            Kind::Stop {} => {
                if !context.cluster.is_up(hit.node) {
                    return false;
                }
                context.cluster.stop(hit.node);
            }
            Kind::Pause {} | Kind::SlowCpu { .. } => {}
        }
        true
    }

    fn impose(&self, Active { node, .. }: Active, machines: &Machines, force: &mut Force) {
        match self {
            Kind::Crash {} | Kind::Wipe {} => {
                force.down.insert(node);
                force.dead.insert(node);
            }
            Kind::CrashAll {} => {
                force.down.extend(&machines.stores);
                force.dead.extend(&machines.stores);
            }
            Kind::Pause {} => {
                force.paused.insert(node);
                force.dead.insert(node);
            }
            // Its process may be up still, and hands over: it is not dead.
            Kind::Stop {} => drop(force.down.insert(node)),
            Kind::SlowCpu { factor } => {
                Force::raise(&mut force.slow_cpu, node, *factor);
                force.plain = false;
            }
        }
    }

    fn end(&self, node: u64, context: &mut Context) -> Vec<u64> {
        match self {
            Kind::Crash {} | Kind::Wipe {} => vec![node],
            Kind::CrashAll {} => context.cluster.ids(),
            Kind::Stop {} => {
                // What is left of the process once its node has stopped, or of a node that could not stop.
                let mut rng = context.fork("end");
                context.kill(node, Death::Killed, &mut rng);
                vec![node]
            }
            Kind::Pause {} | Kind::SlowCpu { .. } => Vec::new(),
        }
    }

    fn disturbs(&self) -> bool {
        // The oracle is told of a stop by the cluster.
        !matches!(self, Kind::Stop {})
    }

    fn milder(&self) -> Option<Kind> {
        match self {
            Kind::SlowCpu { factor } => half(u64::from(*factor), 2).map(|half| Kind::SlowCpu { factor: half as u32 }),
            _ => None,
        }
    }
}
