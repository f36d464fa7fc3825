//! Views of a cluster for the tests of its parts.

use super::{Cluster, ClusterOptions};
use crate::pd::state::PdState;
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{Bootstrap, PdCommand, RegionHeartbeat, StoreHeartbeatRequest};
use crate::proto::metapb::Store;
use crate::types::Region;
use crate::types::region::{Peer, RegionEpoch};

/// When the leaders of a view are known for long enough.
pub const SETTLED_MS: u64 = 60_000;

/// Creates a region with a voter on each of these stores.
pub fn region(id: u64, start: &str, end: &str, stores: &[u64]) -> Region {
    let peer = |store: &u64| Peer { id: id * 10 + store, store_id: *store, ..Peer::default() };
    Region {
        id,
        start_key: start.to_owned().into(),
        end_key: end.to_owned().into(),
        region_epoch: Some(RegionEpoch { conf_ver: 1, version: 1 }),
        peers: stores.iter().map(peer).collect(),
        ..Region::default()
    }
}

/// Creates the state of a cluster of four stores.
pub fn state(regions: Vec<Region>, version: u32) -> PdState {
    let store = |id| Store { id, address: format!("n{id}:1"), ..Store::default() };
    let mut state = PdState::new();
    let bootstrap = Bootstrap {
        stores: (1..=4).map(store).collect(),
        uuids: (1..=4).map(|id| format!("u{id}")).collect(),
        names: (1..=4).map(|id| format!("n{id}")).collect(),
        regions,
        next_id: 1000,
    };
    for op in [Op::Bootstrap(bootstrap), Op::ClusterVersion(version)] {
        let (reply, _) = state.apply(PdCommand { op: Some(op) });
        assert_eq!(reply.refused, "");
    }
    state
}

/// All stores report, each with the regions that it leads: those whose first peer it has.
pub fn report(cluster: &mut Cluster, state: &PdState, silent: u64, bytes: u64, now_ms: u64) {
    for store in (1..=4).filter(|store| *store != silent) {
        let leads = |region: &&Region| region.peers[0].store_id == store;
        let report = |region: &Region| RegionHeartbeat {
            region: Some(region.clone()),
            leader: Some(region.peers[0]),
            term: 6,
            approximate_bytes: bytes,
            ..RegionHeartbeat::default()
        };
        let regions = state.regions().filter(leads).map(report).collect();
        let request = StoreHeartbeatRequest { store_id: store, regions, ..StoreHeartbeatRequest::default() };
        assert_eq!(cluster.heartbeat(request, state, now_ms), []);
    }
}

/// Creates a view that all stores have reported to for a while.
pub fn heard(state: &PdState, options: ClusterOptions) -> Cluster {
    let mut cluster = Cluster::new(options, 0);
    report(&mut cluster, state, 0, 5, 1);
    report(&mut cluster, state, 0, 5, SETTLED_MS);
    cluster
}
