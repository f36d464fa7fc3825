//! What faults act on.

use std::time::Duration;

use armilla::client::PdClient;
use armilla::rt::rng::Rng;
use armilla::rt::sim::{LinkConfig, NodeHandle, World};
use armilla::types::GroupId;

use super::force::Machines;
use super::target::Target;
use crate::cluster::Cluster;
use crate::cluster::monitor::Monitor;
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
}

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

    /// Ends a node's process. With `power`, unsynced data is kept, lost or torn.
    pub fn kill(&self, node: u64, power: bool, rng: &mut Rng) {
        if self.cluster.is_up(node) {
            self.cluster.crash(node, power, rng);
        }
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
