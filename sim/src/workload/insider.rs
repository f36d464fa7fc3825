//! What a client knows that looks behind the scenes: it judges answers at once, by what the simulator knows.

use std::sync::Arc;

use armilla::rt::Env;
use armilla::rt::sim::World;
use armilla::types::Region;

use crate::cluster::Cluster;
use crate::cluster::monitor::Monitor;
use crate::plan::Plan;

/// Everything that such a client needs.
#[derive(Clone)]
pub struct Insider {
    /// Its machine's surroundings.
    pub env: Env,
    /// The simulated world.
    pub world: World,
    /// Who leads what.
    pub monitor: Monitor,
    /// The stores.
    pub cluster: Cluster,
    /// The plan.
    pub plan: Arc<Plan>,
    /// The regions.
    pub regions: Vec<Region>,
}

impl Insider {
    /// The node that leads a region, as the simulator knows it, and its store: anybody else refuses for that reason alone.
    pub fn leader(&self, region: u64) -> Option<(u64, u64)> {
        self.monitor.with(|observed| {
            let (_, node) = *observed.leaders.get(&region)?;
            let mut on = observed.node_of.iter().filter(|(_, n)| **n == node).map(|(store, _)| *store);
            Some((node, on.next_back()?))
        })
    }
}
