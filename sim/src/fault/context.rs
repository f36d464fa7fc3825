//! The world that faults act on.

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

/// Everything that a fault may act on or must report to.
pub struct Context {
    /// The simulated world.
    pub world: World,
    /// The monitor, which knows each group's leader.
    pub monitor: Monitor,
    /// The stores.
    pub cluster: Cluster,
    /// The numbers of all machines.
    pub machines: Machines,
    /// The configuration of links without faults.
    pub link: LinkConfig,
    /// The regions' groups in the order of their keys, without the last one, which has no keys of the workload.
    pub groups: Vec<u64>,
    /// The client that requests leadership transfers.
    pub pd: PdClient,
    /// The machine on which that client runs.
    pub admin: NodeHandle,
    /// Records the wall clocks before and after a step.
    pub wall_clocks: WallClocks,
    /// The run's stream of random numbers; each fault has its own one.
    pub rng: Rng,
    /// The node whose disk was lost, damaged or replaced: its replicas may be permanently lost, and a new store then
    /// replaces its store.
    pub wiped: Option<u64>,
    /// By node: messages sent to it that will be delivered again, the oldest first.
    pub held: BTreeMap<u64, Vec<Vec<RaftBatch>>>,
    /// Whether some nodes have other timeouts than the plan's, so that the length of a pause has no known bound.
    pub settings_differ: bool,
    /// Whether leaders serve reads under leases, so that no leader's clock may stop.
    pub lease_reads: bool,
    /// Whether logs are large enough to keep the entries that a follower needs after a snapshot.
    pub keeps_log: bool,
    /// By node: until when (true ns) connections to it may hang or lag although it is up.
    pub unsettled: BTreeMap<u64, u64>,
}

/// The longest time after which keepalive closes a broken connection on the calling side.
const KEEPALIVE_NS: u64 = 16_000_000_000;

impl Context {
    /// Creates a new stream of random numbers.
    pub fn fork(&mut self, label: &str) -> Rng {
        Rng::fork(self.rng.next_u64(), label)
    }

    /// Returns the node that a target names now.
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

    /// Returns the group of the region with this number.
    pub fn group(&self, region: u32) -> Option<u64> {
        self.groups.get(region as usize % self.groups.len().max(1)).copied()
    }

    /// Ends a node's process, if it is up.
    pub fn kill(&mut self, node: u64, death: Death, rng: &mut Rng) {
        if self.cluster.is_up(node) {
            self.cluster.crash(node, death, rng);
            self.monitor.with(|observed| observed.moved.died(node));
            if death == Death::PowerOff {
                self.unsettle(node);
            }
        }
    }

    /// Cuts the power of a machine. In half of the cases its peers' connections are not closed.
    pub fn cut_power(&mut self, node: u64, rng: &mut Rng) {
        let death = if rng.chance(0.5) { Death::PowerOff } else { Death::PowerLoss };
        self.kill(node, death, rng);
    }

    /// Records that connections to a node may hang or lag from now on, until keepalive closes them.
    pub fn unsettle(&mut self, node: u64) {
        self.unsettled.insert(node, self.world.now_ns() + KEEPALIVE_NS);
    }

    /// Returns whether connections to a node that is up may hang or lag.
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
            // A refusal (the leader just moved) is ignored.
            let _ = pd.transfer_leader(group, store).await;
        });
    }
}
