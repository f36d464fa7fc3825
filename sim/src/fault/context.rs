//! What faults act on.

use std::collections::BTreeMap;
use std::time::Duration;

use armilla::client::PdClient;
use armilla::proto::armilla::raft::RaftBatch;
use armilla::rt::rng::Rng;
use armilla::rt::sim::{LinkConfig, NodeHandle, World};
use armilla::types::GroupId;

use super::force::Machines;
use super::target::Target;
use crate::cluster::monitor::Monitor;
use crate::cluster::{Cluster, Death};
use crate::oracle::ttl::WallClocks;

/// Everything that a fault may strike, and what it must tell.
pub struct Context {
    /// The simulated world.
    pub world: World,
    /// Knows who leads what.
    pub monitor: Monitor,
    /// The stores.
    pub cluster: Cluster,
    /// The numbers of all machines.
    pub machines: Machines,
    /// How links are when nothing is wrong.
    pub link: LinkConfig,
    /// Region groups in order of their keys, without the last one, which has no keys of the workload.
    pub groups: Vec<u64>,
    /// Asks for transfers of leadership.
    pub pd: PdClient,
    /// The machine that asks.
    pub admin: NodeHandle,
    /// Is told before and after a clock is stepped.
    pub wall_clocks: WallClocks,
    /// The run's stream; what strikes has one of its own.
    pub rng: Rng,
    /// The node whose disk was replaced by an empty one: its replicas are gone for good.
    pub wiped: Option<u64>,
    /// By node: messages that others sent to it, which come again, oldest first.
    pub held: BTreeMap<u64, Vec<Vec<RaftBatch>>>,
    /// Some nodes have other timeouts than the plan's: nobody can say how long a pause may be.
    pub settings_differ: bool,
    /// Whether leaders read alone, so that no leader's clock may stand still.
    pub lease_reads: bool,
    /// Whether logs may keep what a follower needs after a snapshot: their bounds in bytes are not small ones.
    pub keeps_log: bool,
    /// By node: until when (true ns) connections to it may hang or lag though it is up.
    pub unsettled: BTreeMap<u64, u64>,
}

/// Keepalive gives up a connection after this time at the latest, on the side that called.
const KEEPALIVE_NS: u64 = 16_000_000_000;

impl Context {
    /// A new stream of random numbers.
    pub fn fork(&mut self, label: &str) -> Rng {
        Rng::fork(self.rng.next_u64(), label)
    }

    /// The node that a target means now.
    pub fn resolve(&self, target: Target) -> u64 {
        let ids = &self.machines.stores;
        let leader = |group: u64| {
            self.monitor.with(|observed| observed.leaders.get(&group).map(|(_, node)| *node)).unwrap_or(ids[0])
        };
        match target {
            Target::Node(n) => ids[(n as usize - 1) % ids.len()],
            Target::Leader(region) => leader(self.group(region).unwrap_or(0)),
            Target::Follower(region) => {
                let leads = self.resolve(Target::Leader(region));
                ids.iter().copied().find(|id| *id > leads).unwrap_or(ids[0])
            }
            Target::PdLeader => leader(GroupId::PD.0),
        }
    }

    /// The group of the region of that number.
    pub fn group(&self, region: u32) -> Option<u64> {
        self.groups.get(region as usize % self.groups.len().max(1)).copied()
    }

    /// Ends a node's process, if it is up.
    pub fn kill(&mut self, node: u64, death: Death, rng: &mut Rng) {
        if self.cluster.is_up(node) {
            self.cluster.crash(node, death, rng);
            if death == Death::PowerOff {
                self.unsettle(node);
            }
        }
    }

    /// A machine loses its power; in half of the cases its peers do not hear of it.
    pub fn cut_power(&mut self, node: u64, rng: &mut Rng) {
        let death = if rng.chance(0.5) { Death::PowerOff } else { Death::PowerLoss };
        self.kill(node, death, rng);
    }

    /// Connections to a node may hang or lag from now on, until keepalive gives them up.
    pub fn unsettle(&mut self, node: u64) {
        self.unsettled.insert(node, self.world.now_ns() + KEEPALIVE_NS);
    }

    /// Whether connections to a node that is up may hang or lag.
    pub fn is_unsettled(&self) -> bool {
        let now_ns = self.world.now_ns();
        self.unsettled.iter().any(|(node, until_ns)| *until_ns > now_ns && self.cluster.is_up(*node))
    }

    /// Asks the placement driver to make another store the leader of a group.
    pub fn transfer(&self, group: u64, to: u32) {
        let node = self.resolve(Target::Node(to));
        let store =
            self.monitor.with(|observed| observed.node_of.iter().find(|(_, n)| **n == node).map(|(store, _)| *store));
        let Some(store) = store else { return };
        let pd = self.pd.with_deadline(Duration::from_secs(2));
        self.admin.spawn(async move {
            // A refusal (the leader just moved) is as good as a transfer.
            let _ = pd.transfer_leader(group, store).await;
        });
    }
}
