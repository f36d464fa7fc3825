//! Telling PD what this store has, and doing what it answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::engine::{Cf, KvEngine};
use crate::proto::armilla::pd::{
    LeaderOrder, RefusedOrder, RegionHeartbeat, StoreHeartbeatReply, StoreHeartbeatRequest,
};
use crate::proto::armilla::raft::Incarnation;
use crate::replica::transport::Addresses;
use crate::replica::{Handle, PeerView, Room};
use crate::rt::clock::Clock;
use crate::rt::cpu;
use crate::rt::disk::Disk;
use crate::rt::sync::watch;
use crate::types::{Error, GroupId, Region, Result, region};

use super::pd_time::PdTime;

/// The way to PD: a call to its leader, wherever that is.
pub trait PdLink: Send + Sync + 'static {
    /// Delivers a heartbeat.
    fn store_heartbeat(&self, request: StoreHeartbeatRequest) -> BoxFuture<'_, Result<StoreHeartbeatReply>>;
}

/// What the heartbeat loop works with.
pub struct Heartbeat {
    /// The cluster.
    pub cluster: u64,
    /// This store.
    pub store: u64,
    /// The driver's front.
    pub handle: Handle,
    /// The node's clock.
    pub clock: Clock,
    /// For the space that is left.
    pub disk: Disk,
    /// Where the data lies.
    pub data_dir: PathBuf,
    /// To PD.
    pub pd: Arc<dyn PdLink>,
    /// Told the stores' addresses as PD knows them.
    pub addresses: watch::Sender<Addresses>,
    /// Between two heartbeats; a change of leadership here, another leader of the placement driver, or the store's stopping sends
    /// one sooner, within a tenth of a second.
    pub interval: Duration,
    /// The newest version of the cluster's protocol that this node knows.
    pub protocol: u32,
    /// This run of the process.
    pub incarnation: Incarnation,
    /// Told what time it is at the placement driver.
    pub pd_time: PdTime,
    /// Whether the store hands its leaders over and ends.
    pub stopping: watch::Receiver<bool>,
    /// Told how many regions count on a replica that was lost with the disk that this store replaces, once PD has said it.
    pub lost_replicas: watch::Sender<Option<u64>>,
}

/// About how much a region holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    bytes: u64,
    keys: u64,
}

impl Size {
    /// Of a region's raw data. What the engine cannot estimate counts as nothing.
    fn of(engine: &impl KvEngine, region: &Region) -> Size {
        let (start, end) = (&region.start_key, &region.end_key);
        Cf::all_of_regions().fold(Size::default(), |sum, cf| Size {
            bytes: sum.bytes + engine.approximate_bytes(cf, start, end).unwrap_or(0),
            keys: sum.keys + engine.approximate_keys(cf, start, end).unwrap_or(0),
        })
    }
}

/// What the last look at the sizes found.
#[derive(Clone, Debug, Default)]
struct Sizes {
    /// Of the regions led here.
    regions: BTreeMap<GroupId, Size>,
    /// What the store's data takes on its disk: the engine, of all groups and whoever leads them, and the raft log.
    used_bytes: u64,
}

/// Of everything in the engine. What it cannot estimate counts as nothing.
fn engine_bytes(engine: &impl KvEngine) -> u64 {
    Cf::ALL.into_iter().map(|cf| engine.approximate_bytes(cf, b"", b"").unwrap_or(0)).sum()
}

/// Between two looks at what sends a heartbeat sooner, and until a heartbeat that failed is sent again.
const LOOK: Duration = Duration::from_millis(100);

/// What sends a heartbeat at once when it changes: the groups led here with their terms, the leader of the placement driver (where
/// it has a member here) with its term, and whether the store stops.
type Urgent = (Vec<(GroupId, u64)>, Option<(u64, u64)>, bool);

impl Heartbeat {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut last_counts = (0, 0, self.clock.now());
        let mut sizes = Sizes::default();
        let mut refused = Vec::new();
        let mut round = 0u64;
        loop {
            let again = round.is_multiple_of(10) || crate::buggify!("store.sizes-anew");
            if round == 0 || (again && !crate::mutant!("store.sizes-never-again")) {
                sizes = self.sizes(&Sizes::default()).await;
            } else if self.leaders().iter().any(|view| !sizes.regions.contains_key(&view.group))
                && !crate::mutant!("store.sizes-never-again")
            {
                // It came to be led here, and would be told as empty until the next look.
                let more = self.sizes(&sizes).await;
                sizes.regions.extend(more.regions);
            }
            round += 1;
            let urgent = self.urgent();
            let request = self.request(&mut last_counts, &sizes, &refused).await;
            let wait = match self.clock.timeout(self.interval * 2, self.pd.store_heartbeat(request)).await {
                Ok(Ok(reply)) => {
                    refused = self.obey(reply).await;
                    self.interval
                }
                Ok(Err(error)) => {
                    tracing::debug!(store = self.store, %error, "PD did not take the heartbeat");
                    LOOK.min(self.interval)
                }
                Err(_) => {
                    tracing::debug!(store = self.store, "PD did not answer the heartbeat");
                    LOOK.min(self.interval)
                }
            };
            let wait = if crate::buggify!("store.heartbeat-early") { LOOK.min(wait) } else { wait };
            let until = self.clock.now().plus(wait);
            while self.clock.now() < until {
                self.clock.sleep(LOOK.min(wait)).await;
                if self.urgent() != urgent {
                    break;
                }
            }
        }
    }

    fn urgent(&self) -> Urgent {
        let pd = self.handle.view(GroupId::PD).map(|view| view.leadership());
        (self.led(), pd.map(|pd| (pd.term, pd.leader)), *self.stopping.borrow())
    }

    /// The groups led here, with their terms.
    fn led(&self) -> Vec<(GroupId, u64)> {
        self.leaders().iter().map(|view| (view.group, view.leadership().term)).collect()
    }

    fn leaders(&self) -> Vec<Arc<PeerView>> {
        let mut views = self.handle.views();
        views.retain(|view| view.group != GroupId::PD && view.leads());
        views
    }

    /// How large the regions are that are led here and not among `known`. The engine may have to read the indexes of its files.
    async fn sizes(&self, known: &Sizes) -> Sizes {
        let engine = self.handle.engine().clone();
        let leaders = self.leaders();
        let unknown = leaders.iter().filter(|view| !known.regions.contains_key(&view.group));
        let regions: Vec<_> = unknown.map(|view| (view.group, view.region())).collect();
        let log = self.handle.log_figures();
        let log_bytes: u64 = ["live_bytes", "dead_bytes"].iter().filter_map(|name| log.get(name)).sum();
        cpu::run(move || Sizes {
            regions: regions.iter().map(|(group, region)| (*group, Size::of(&engine, region))).collect(),
            used_bytes: engine_bytes(&engine) + log_bytes,
        })
        .await
    }

    async fn request(
        &self,
        last: &mut (u64, u64, crate::rt::clock::Instant),
        sizes: &Sizes,
        refused: &[RefusedOrder],
    ) -> StoreHeartbeatRequest {
        let (capacity, available) = self.disk.space(&self.data_dir).await.unwrap_or_default();
        let (mut reads, mut writes) = (0, 0);
        // The placement driver's own group is no client's load.
        for view in self.handle.views().iter().filter(|view| view.group != GroupId::PD) {
            let (by_lease, by_quorum) = view.reads();
            reads += by_lease + by_quorum;
            writes += view.writes();
        }
        let now = self.clock.now();
        let elapsed_ms = (now.since(last.2).as_millis() as u64).max(1);
        let rate = |new: u64, old: u64| new.saturating_sub(old) * 1000 / elapsed_ms;
        let (reads_per_s, writes_per_s) = (rate(reads, last.0), rate(writes, last.1));
        *last = (reads, writes, now);
        let regions = self
            .leaders()
            .iter()
            .map(|view| {
                let descriptor = view.region();
                let size = sizes.regions.get(&view.group).copied().unwrap_or_default();
                RegionHeartbeat {
                    leader: region::peer_by_id(&descriptor, view.peer).cloned(),
                    region: Some(descriptor.as_ref().clone()),
                    term: view.leadership().term,
                    approximate_bytes: size.bytes,
                    approximate_keys: size.keys,
                }
            })
            .collect();
        StoreHeartbeatRequest {
            cluster_id: self.cluster,
            store_id: self.store,
            capacity_bytes: capacity,
            available_bytes: available,
            used_bytes: sizes.used_bytes,
            reads_per_s,
            writes_per_s,
            regions,
            // A store with little room, or an engine that makes writes wait, is given no leaders.
            stopping: *self.stopping.borrow() || self.handle.room() != Room::Enough || self.handle.is_stalled(),
            refused_orders: refused.to_vec(),
            protocol: self.protocol,
            incarnation: Some(self.incarnation),
        }
    }

    /// Does what PD answers; gives the orders that could not be carried out.
    async fn obey(&self, reply: StoreHeartbeatReply) -> Vec<RefusedOrder> {
        if !reply.must_stop.is_empty() {
            self.handle.stop_serving(reply.must_stop);
            return Vec::new();
        }
        if reply.cluster_version > self.protocol {
            self.handle.stop_serving(format!(
                "the cluster uses version {} of its protocol, this node knows versions up to {}: start it with a newer version of \
                 Armilla",
                reply.cluster_version, self.protocol
            ));
            return Vec::new();
        }
        self.pd_time.heard(reply.wall_ms, self.clock.now());
        self.lost_replicas.send_if_modified(|old| old.replace(reply.lost_replicas) != Some(reply.lost_replicas));
        if !reply.stores.is_empty() {
            let addresses: Addresses = reply.stores.into_iter().map(|store| (store.id, store.address)).collect();
            self.addresses.send_if_modified(|old| {
                let changed = *old != addresses;
                *old = addresses;
                changed
            });
        }
        let mut refused = Vec::new();
        for LeaderOrder { region_id, to_store } in reply.transfer_leaders {
            if let Err(error) = self.transfer(GroupId(region_id), to_store).await {
                refused.push(RefusedOrder { region_id, to_store, reason: error.to_string() });
            }
        }
        refused
    }

    async fn transfer(&self, group: GroupId, to_store: u64) -> Result<()> {
        let view = self.handle.view(group).ok_or(Error::RegionNotFound(group))?;
        let to = region::peer_on(&view.region(), to_store).map(|to| to.id);
        let to = to.ok_or_else(|| Error::Invalid(format!("region {group} has no peer on store {to_store}")))?;
        self.handle.transfer_leader(group, to).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{SimEngine, SimStorage, WriteBatch};

    #[test]
    fn a_regions_size_is_of_its_keys_in_all_raw_families() {
        let engine = SimEngine::open(&SimStorage::new()).unwrap();
        let mut batch = WriteBatch::new();
        for (cf, key) in [(Cf::RawDefault, "a"), (Cf::RawDefault, "b"), (Cf::RawLock, "b"), (Cf::RawDefault, "c")] {
            batch.put(cf, key, "12345");
        }
        batch.put(Cf::Meta, "b", "not data");
        engine.write(&batch).unwrap();
        let region = |start: &'static str, end: &'static str| Region {
            start_key: start.into(),
            end_key: end.into(),
            ..Region::default()
        };
        assert_eq!(Size::of(&engine, &region("b", "c")), Size { bytes: 12, keys: 2 });
        assert_eq!(Size::of(&engine, &region("", "")), Size { bytes: 24, keys: 4 });
        assert_eq!(engine_bytes(&engine), 24 + 9, "the node's own data takes room, too");
        assert_eq!(Size::of(&engine, &region("x", "")), Size::default());
    }
}
