//! The surroundings of a client that knows more than addresses: it judges answers at once, with the simulator's
//! knowledge.

use std::sync::Arc;

use armilla::rt::Env;
use armilla::rt::sim::World;
use armilla::types::Region;

use crate::cluster::Cluster;
use crate::cluster::monitor::Monitor;
use crate::plan::Plan;

/// The surroundings of such a client.
#[derive(Clone)]
pub struct Insider {
    /// The environment of its machine.
    pub env: Env,
    /// The simulated world.
    pub world: World,
    /// The observations, which contain each region's leader.
    pub monitor: Monitor,
    /// The stores.
    pub cluster: Cluster,
    /// The plan.
    pub plan: Arc<Plan>,
}

impl Insider {
    /// Returns the newest descriptors of all regions, in order of their keys.
    pub fn regions(&self) -> Vec<Region> {
        self.monitor.with(|observed| observed.ranges.regions())
    }

    /// Returns the node that leads a region, as the simulator knows it, and its store. All other stores refuse requests
    /// because they do not lead the region.
    pub fn leader(&self, region: u64) -> Option<(u64, u64)> {
        self.monitor.with(|observed| {
            let (_, node) = *observed.leaders.get(&region)?;
            let mut on = observed.node_of.iter().filter(|(_, n)| **n == node).map(|(store, _)| *store);
            Some((node, on.next_back()?))
        })
    }
}
