//! Faults of disks: slow writes or reads, stalled or full disks, a failing fsync or write, an engine that does not
//! open, lost data, swapped disks.
//!
//! A store that cannot write must stop rather than break its promises; the supervisor starts it again.

use std::time::Duration;

use armilla::engine::StagingFault;
use armilla::rt::sim::DiskCall;
use serde::{Deserialize, Serialize};

use super::behavior::{Active, Behavior, Hit, Shape, half};
use super::context::Context;
use super::draw::{Class, Draft};
use super::force::{Force, Machines};
use super::target::Target;
use crate::cluster::{Death, Part};

/// A fault of a disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// Operations take `factor` times as long.
    SlowDisk {
        /// At least 2.
        factor: u32,
    },
    /// Operations do not return while the fault lasts.
    StallDisk {},
    /// The next fsync (or flush of the engine) fails, once. The store must stop, and is started again.
    FailSync {},
    /// Writes that grow a file fail. The process is restarted at the end.
    FullDisk {},
    /// A file system call fails, once, and has no effect.
    FailCall {
        /// The kind of call.
        call: Call,
        /// The number of the call of this kind that fails, from 1.
        nth: u32,
        /// The error that the operating system returns.
        error: CallError,
    },
    /// A write stores only a part of its bytes, once, and fails. Without `error`, the rest is written some time later,
    /// as by a program that got a short count.
    ShortWrite {
        /// The number of the write that is short, from 1.
        nth: u32,
        /// The part that is written, thousandths.
        permille: u32,
        /// The error that the operating system returns.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<CallError>,
    },
    /// Other data fills the disk until `left_permille` of the store's reserve is left. Has no effect without a reserve.
    LowDisk {
        /// The free space that is left, in thousandths of the reserve.
        left_permille: u64,
    },
    /// Bits of the raft log flip, or sectors of it become unreadable; at the end the machine loses power. The store
    /// must tolerate the damage, or report it and stop or refuse to start.
    Rot {},
    /// A staged snapshot file cannot be written or, with `damage`, is damaged when the engine ingests it. Happens once,
    /// if a file is staged while the fault lasts.
    BadStaging {
        /// The number of calls that succeed before one fails.
        nth: u32,
        /// The file is damaged instead of not being written.
        damage: bool,
    },
    /// The engine makes writers wait, like an engine with too much to compact.
    StallEngine {},
    /// The engine's reads from the disk are slow.
    SlowReads {
        /// How long each read takes, ms.
        read_ms: u32,
    },
    /// The process dies, and its engine fails to open at the next start, once.
    FailOpen {},
    /// The machine loses power and the engine's data; the raft log survives. The store must refuse to start.
    LoseEngine {},
    /// The machine loses power and the raft log; the engine's data survives. The store must refuse to start.
    LoseLog {},
    /// Two machines lose power and start with each other's disks. Both stores must refuse to start until each has its
    /// own disk again at the end.
    SwapDisks {
        /// The other node, from 1.
        with: u32,
    },
}

/// A kind of file system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each names a call
pub enum Call {
    Open,
    Create,
    List,
    Rename,
    Remove,
    SyncDir,
    Read,
    Write,
    SetLen,
}

impl Call {
    /// All kinds of calls.
    const ALL: [Call; 9] = [
        Call::Open,
        Call::Create,
        Call::List,
        Call::Rename,
        Call::Remove,
        Call::SyncDir,
        Call::Read,
        Call::Write,
        Call::SetLen,
    ];

    /// Returns the simulated disk's name for the call.
    fn of_disk(self) -> DiskCall {
        match self {
            Call::Open => DiskCall::Open,
            Call::Create => DiskCall::Create,
            Call::List => DiskCall::List,
            Call::Rename => DiskCall::Rename,
            Call::Remove => DiskCall::Remove,
            Call::SyncDir => DiskCall::SyncDir,
            Call::Read => DiskCall::Read,
            Call::Write => DiskCall::Write,
            Call::SetLen => DiskCall::SetLen,
        }
    }
}

/// The error of a failed file system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallError {
    /// EIO.
    Io,
    /// EMFILE.
    Files,
    /// ENOSPC.
    Space,
}

impl CallError {
    fn number(self) -> i32 {
        match self {
            CallError::Io => libc::EIO,
            CallError::Files => libc::EMFILE,
            CallError::Space => libc::ENOSPC,
        }
    }
}

/// The values of `kind`.
pub const NAMES: &[&str] = &[
    "slow-disk",
    "stall-disk",
    "fail-sync",
    "fail-call",
    "short-write",
    "full-disk",
    "low-disk",
    "rot",
    "bad-staging",
    "stall-engine",
    "slow-reads",
    "fail-open",
    "lose-engine",
    "lose-log",
    "swap-disks",
];

/// The classes from which the swarm draws. The swarm itself draws the loss of the engine or the log, at most once per
/// run.
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
        name: "slow-reads",
        per_minute: (1.0, 8.0),
        make: |d| {
            let (target, read_ms) = (d.target(), d.log(50, 6_000) as u32);
            Draft::at(target, d.log(3000, 20_000), Kind::SlowReads { read_ms })
        },
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
    Class {
        name: "failing-calls",
        per_minute: (1.0, 10.0),
        make: |d| {
            let (target, call) = (d.target(), *d.rng.pick(&Call::ALL));
            let error = *d.rng.pick(&[CallError::Io, CallError::Files, CallError::Space]);
            Draft::at(target, 0, Kind::FailCall { call, nth: d.log(1, 30) as u32, error })
        },
    },
    Class {
        name: "short-writes",
        per_minute: (1.0, 10.0),
        make: |d| {
            let (target, permille) = (d.target(), d.rng.below(1000) as u32);
            let error = *d.rng.pick(&[None, Some(CallError::Io), Some(CallError::Space)]);
            Draft::at(target, 0, Kind::ShortWrite { nth: d.log(1, 100) as u32, permille, error })
        },
    },
    Class {
        name: "swapped-disks",
        per_minute: (0.5, 2.0),
        make: |d| {
            let (target, with) = (d.target(), d.node());
            Draft::at(target, d.log(1000, 10_000), Kind::SwapDisks { with })
        },
    },
    Class {
        name: "bad-staging",
        per_minute: (2.0, 12.0),
        make: |d| {
            let (target, damage) = (d.target(), d.rng.chance(0.5));
            let nth = if damage { 0 } else { d.log(1, 40) as u32 - 1 };
            Draft::at(target, d.log(3000, 20_000), Kind::BadStaging { nth, damage })
        },
    },
    Class {
        name: "low-disk",
        per_minute: (0.6, 6.0),
        make: |d| {
            let (target, left_permille) = (d.target(), d.rng.between(600, 1900));
            Draft::at(target, d.log(3000, 10_000), Kind::LowDisk { left_permille })
        },
    },
];

/// Returns the node with this number, from 1.
fn other(machines: &Machines, number: u32) -> u64 {
    machines.stores[(number as usize - 1) % machines.stores.len()]
}

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        let once = matches!(self, Kind::FailSync {} | Kind::FailCall { .. } | Kind::ShortWrite { .. });
        Shape { target: true, lasts: !once }
    }

    fn strike(&self, hit: &mut Hit, context: &mut Context) -> bool {
        let cluster = context.cluster.clone();
        let takes_a_failure = cluster.with(hit.node, |machine| machine.takes_a_failure());
        let is_swapped = cluster.with(hit.node, |machine| machine.is_swapped());
        match self {
            Kind::FailSync {} => {
                if !takes_a_failure {
                    return false;
                }
                if hit.rng.chance(0.75) {
                    cluster.fail_next_sync(hit.node);
                } else {
                    cluster.fail_next_flush(hit.node);
                }
            }
            Kind::FailCall { call, nth, error } => {
                if !takes_a_failure {
                    return false;
                }
                cluster.fail_call(hit.node, (call.of_disk(), *nth), error.number());
            }
            Kind::ShortWrite { nth, permille, error } => {
                if !takes_a_failure {
                    return false;
                }
                cluster.shorten_write(hit.node, *nth, *permille, error.map(CallError::number));
            }
            Kind::BadStaging { nth, damage } => {
                if !takes_a_failure {
                    return false;
                }
                cluster.set_staging_fault(
                    hit.node,
                    if *damage { StagingFault::Damages } else { StagingFault::Fails(*nth) },
                );
            }
            Kind::LowDisk { .. } => {
                // Without this, two such faults could also take the reserve, without which a store may not even start.
                let reserve = context.machines.reserve_kib << 10;
                let available = cluster.with(hit.node, |machine| machine.handle.disk().available());
                return reserve > 0 && available >= 4 * reserve;
            }
            Kind::Rot {} => {
                if is_swapped || !context.may_lose(hit.node) || !cluster.damage_log(hit.node, &mut hit.rng) {
                    return false;
                }
                // If the store reports the damage, it is replaced by a new one.
                context.wiped = Some(hit.node);
            }
            Kind::FailOpen {} => {
                if !takes_a_failure {
                    return false;
                }
                context.kill(hit.node, Death::Killed, &mut hit.rng);
                cluster.fail_next_open(hit.node);
            }
            Kind::LoseEngine {} | Kind::LoseLog {} => {
                if is_swapped || !context.may_lose(hit.node) {
                    return false;
                }
                context.cut_power(hit.node, &mut hit.rng);
                cluster.lose(hit.node, if *self == (Kind::LoseEngine {}) { Part::Engine } else { Part::Log });
                // The store's replicas are permanently lost: once it has refused to start, it is replaced by a new one.
                context.wiped = Some(hit.node);
            }
            Kind::SwapDisks { with } => {
                let other = context.resolve(Target::Node(*with));
                // A machine that is down has another fault, which may depend on its disk.
                if context.wiped.is_some() || !cluster.is_up(hit.node) || !cluster.is_up(other) || other == hit.node {
                    return false;
                }
                for node in [hit.node, other] {
                    context.cut_power(node, &mut hit.rng);
                }
                let swapped = cluster.swap_disks(hit.node, other);
                for node in [hit.node, other] {
                    cluster.start(node);
                }
                return swapped;
            }
            Kind::FullDisk {} => cluster.excuse(hit.node),
            Kind::StallDisk {} => {
                let for_ms = Duration::from_millis(hit.for_ms);
                cluster.with(hit.node, |machine| machine.handle.disk().stall(for_ms));
            }
            Kind::SlowDisk { .. } | Kind::StallEngine {} | Kind::SlowReads { .. } => {}
        }
        true
    }

    fn impose(&self, Active { node, .. }: Active, machines: &Machines, force: &mut Force) {
        match self {
            Kind::FailOpen {} | Kind::LoseEngine {} | Kind::LoseLog {} => {
                force.down.insert(node);
                force.dead.insert(node);
                return;
            }
            Kind::SwapDisks { with } => {
                // The machines are up, but their stores refuse to start.
                force.dead.extend([node, other(machines, *with)]);
                return;
            }
            Kind::LowDisk { left_permille } => {
                let left_kib = machines.reserve_kib * left_permille / 1000;
                let least = force.left_kib.entry(node).or_insert(left_kib);
                *least = left_kib.min(*least);
            }
            Kind::SlowDisk { factor } => Force::raise(&mut force.slow_disk, node, *factor),
            Kind::FullDisk {} => drop(force.full.insert(node)),
            Kind::StallEngine {} => drop(force.stalled.insert(node)),
            Kind::SlowReads { read_ms } => Force::raise(&mut force.read_ms, node, *read_ms),
            // The disk itself ends its stall.
            Kind::StallDisk {} => drop(force.hung.insert(node)),
            Kind::Rot {}
            | Kind::FailSync {}
            | Kind::FailCall { .. }
            | Kind::ShortWrite { .. }
            | Kind::BadStaging { .. } => {}
        }
        force.plain = false;
    }

    fn end(&self, node: u64, context: &mut Context) -> Vec<u64> {
        match self {
            Kind::Rot {} => {
                let mut rng = context.fork("end");
                context.cut_power(node, &mut rng);
                vec![node]
            }
            Kind::FullDisk {} => {
                // Whether or not the store detected it: its process is restarted, without any data that was not synced.
                let mut rng = context.fork("end");
                context.kill(node, Death::PowerLoss, &mut rng);
                vec![node]
            }
            Kind::SwapDisks { with } => {
                let both = vec![node, context.resolve(Target::Node(*with))];
                let mut rng = context.fork("end");
                both.iter().for_each(|id| context.kill(*id, Death::PowerLoss, &mut rng));
                context.cluster.swap_disks(both[0], both[1]);
                both
            }
            Kind::FailOpen {} | Kind::LoseEngine {} | Kind::LoseLog {} => vec![node],
            Kind::SlowDisk { .. }
            | Kind::StallDisk {}
            | Kind::StallEngine {}
            | Kind::SlowReads { .. }
            | Kind::LowDisk { .. }
            | Kind::FailSync {}
            | Kind::FailCall { .. }
            | Kind::ShortWrite { .. } => Vec::new(),
            Kind::BadStaging { .. } => {
                context.cluster.end_staging_fault(node);
                Vec::new()
            }
        }
    }

    fn milder(&self) -> Option<Kind> {
        match self {
            Kind::SlowDisk { factor } => half(u64::from(*factor), 2).map(|half| Kind::SlowDisk { factor: half as u32 }),
            Kind::SlowReads { read_ms } => {
                half(u64::from(*read_ms), 50).map(|half| Kind::SlowReads { read_ms: half as u32 })
            }
            _ => None,
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Kind::ShortWrite { permille: 1000.., .. } => Err("`permille` must be below 1000".into()),
            Kind::SwapDisks { with: 0 } => Err("`with` names a node, from 1".into()),
            _ => Ok(()),
        }
    }

    fn names_node_above(&self, highest: u32) -> bool {
        matches!(self, Kind::SwapDisks { with } if *with > highest)
    }
}
