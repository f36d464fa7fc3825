//! Faults of processes and machines: they crash, are paused, are told to stop, come back with an empty or an old disk,
//! or are slow.
//!
//! Most of them are *plain*: the nemesis knows which nodes are dead or paused, so the oracle of pauses judges how soon
//! the others take over.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::behavior::{Active, Behavior, Hit, Shape, half};
use super::context::Context;
use super::draw::{Class, Draft};
use super::force::{Force, Machines};
use crate::cluster::Death;

/// A fault of a process or machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// The process dies. In three of four cases the machine loses power, and unsynced writes are lost, kept or torn.
    /// Half of the power losses are silent: peers' connections hang until keepalive closes them.
    Crash {},
    /// All machines lose power at once.
    CrashAll {},
    /// The process is suspended and resumed later, without being notified.
    Pause {},
    /// The process is told to stop, as by SIGTERM: it hands over its leaders, stops, and is started again at the end.
    Stop {},
    /// The machine loses power and its disk is replaced by an empty one. Happens at most once per run.
    Wipe {},
    /// The process dies and starts again with other settings, which it keeps.
    Reconfigure {
        /// The changed settings, as in a node's configuration file.
        config: Table,
    },
    /// The machine loses power and restarts. At the end it loses power again and comes back with the disk contents from
    /// the begin of the fault, as if restored from a backup. The store must stop: it lacks everything that it has
    /// acknowledged since.
    OldCopy {
        /// Whether the store's identity file is restored as well, not only the engine and the log.
        identity: bool,
    },
    /// The machine is saved and restored later: its process and clocks stop and then continue as if no time had
    /// passed. While leases are in use, only a node without leaders is frozen: a leader's lease relies on its clock.
    Freeze {},
    /// Long operations (a flush of the engine, the install of a snapshot) take longer, both before and after their
    /// effect.
    SlowWork {
        /// The time added before the effect and again after it, ms.
        by_ms: u32,
    },
    /// Computation takes `factor` times as long.
    SlowCpu {
        /// At least 2.
        factor: u32,
    },
}

/// The values of `kind`.
pub const NAMES: &[&str] =
    &["crash", "crash-all", "pause", "stop", "wipe", "reconfigure", "old-copy", "freeze", "slow-work", "slow-cpu"];

/// The classes from which the swarm draws. The swarm itself draws a wipe, at most once per run.
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
        name: "settings",
        per_minute: (0.6, 4.0),
        make: |d| {
            let tick_ms = i64::from(*d.rng.pick(&[25_i32, 50, 100, 200]));
            let mut raft = Table::from_iter([("tick_ms".to_owned(), Value::Integer(tick_ms))]);
            raft.insert("lanes".to_owned(), Value::Integer(i64::from(*d.rng.pick(&[1_i32, 2, 3]))));
            let config = Table::from_iter([("raft".to_owned(), Value::Table(raft))]);
            Draft::at(d.target(), d.log(50, 5_000), Kind::Reconfigure { config })
        },
    },
    Class {
        name: "upgrade",
        per_minute: (0.6, 4.0),
        make: |d| {
            let pd = Table::from_iter([("protocol_max".to_owned(), Value::Integer(0))]);
            let config = Table::from_iter([("pd".to_owned(), Value::Table(pd))]);
            Draft::at(d.target(), d.log(50, 5_000), Kind::Reconfigure { config })
        },
    },
    Class {
        name: "pause",
        per_minute: (1.0, 12.0),
        make: |d| Draft::at(d.target(), d.log(100, 20_000), Kind::Pause {}),
    },
    Class {
        name: "freeze",
        per_minute: (1.0, 8.0),
        make: |d| Draft::at(d.target(), d.log(100, 30_000), Kind::Freeze {}),
    },
    Class {
        name: "slow-work",
        per_minute: (0.6, 4.0),
        make: |d| {
            let (target, by_ms) = (d.target(), d.log(20, 5_000) as u32);
            Draft::at(target, d.log(1000, 20_000), Kind::SlowWork { by_ms })
        },
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
            Kind::Reconfigure { config } => {
                context.kill(hit.node, Death::Killed, &mut hit.rng);
                context.cluster.reconfigure(hit.node, config);
                context.settings_differ |= config.contains_key("raft");
            }
            Kind::OldCopy { .. } => {
                let swapped = context.cluster.with(hit.node, |machine| machine.is_swapped());
                if !context.cluster.is_up(hit.node) || swapped || !context.may_lose(hit.node) {
                    return false;
                }
                context.kill(hit.node, Death::PowerLoss, &mut hit.rng);
                context.cluster.keep_copy(hit.node);
                context.cluster.start(hit.node);
            }
            Kind::Wipe {} => {
                let swapped = context.cluster.with(hit.node, |machine| machine.is_swapped());
                if swapped || !context.may_lose(hit.node) {
                    return false;
                }
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
            Kind::Freeze {} => {
                let leads =
                    context.monitor.with(|observed| observed.leaders.values().any(|(_, node)| *node == hit.node));
                return (!leads || !context.lease_reads) && context.cluster.is_up(hit.node);
            }
            Kind::Pause {} | Kind::SlowWork { .. } | Kind::SlowCpu { .. } => {}
        }
        true
    }

    fn impose(&self, Active { node, .. }: Active, machines: &Machines, force: &mut Force) {
        match self {
            Kind::OldCopy { .. } => force.plain = false,
            Kind::Crash {} | Kind::Wipe {} | Kind::Reconfigure { .. } => {
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
            Kind::Freeze {} => {
                force.paused.insert(node);
                force.frozen.insert(node);
                force.dead.insert(node);
            }
            Kind::SlowWork { by_ms } => {
                Force::raise(&mut force.long_work_ms, node, *by_ms);
                force.plain = false;
            }
            // The process may still be running and hand over its leaders, so it does not count as dead.
            Kind::Stop {} => drop(force.down.insert(node)),
            Kind::SlowCpu { factor } => {
                Force::raise(&mut force.slow_cpu, node, *factor);
                force.plain = false;
            }
        }
    }

    fn end(&self, node: u64, context: &mut Context) -> Vec<u64> {
        match self {
            Kind::Crash {} | Kind::Wipe {} | Kind::Reconfigure { .. } => vec![node],
            Kind::OldCopy { identity } => {
                let mut rng = context.fork("end");
                context.kill(node, Death::PowerLoss, &mut rng);
                context.cluster.bring_copy_back(node, *identity);
                context.monitor.with(|observed| {
                    let stores = observed.node_of.iter().filter(|(_, on)| **on == node).map(|(store, _)| *store);
                    stores.collect::<Vec<_>>().into_iter().for_each(|store| observed.raft.roll_back(store));
                });
                // The store's replicas are permanently lost: once it has stopped, it is replaced by a new one.
                context.wiped = Some(node);
                vec![node]
            }
            Kind::CrashAll {} => context.cluster.ids(),
            Kind::Stop {} => {
                // Kills the process, whether or not its node has stopped by then.
                let mut rng = context.fork("end");
                context.kill(node, Death::Killed, &mut rng);
                vec![node]
            }
            Kind::Freeze {} => {
                // By its own clock, the node's promise lasts longer than others can know.
                context.unsettle(node);
                Vec::new()
            }
            Kind::Pause {} | Kind::SlowWork { .. } | Kind::SlowCpu { .. } => Vec::new(),
        }
    }

    fn disturbs(&self) -> bool {
        // The cluster reports a stop to the oracle.
        !matches!(self, Kind::Stop {})
    }

    fn milder(&self) -> Option<Kind> {
        match self {
            Kind::SlowWork { by_ms } => half(u64::from(*by_ms), 10).map(|by_ms| Kind::SlowWork { by_ms: by_ms as u32 }),
            Kind::SlowCpu { factor } => half(u64::from(*factor), 2).map(|half| Kind::SlowCpu { factor: half as u32 }),
            _ => None,
        }
    }
}
