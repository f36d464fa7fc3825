//! Telling PD what this store has, and doing what it answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::engine::{Cf, KvEngine};
use crate::proto::armilla::pd::{RegionHeartbeat, StoreHeartbeatReply, StoreHeartbeatRequest};
use crate::replica::transport::Addresses;
use crate::replica::{Handle, PeerView};
use crate::rt::clock::Clock;
use crate::rt::cpu;
use crate::rt::disk::Disk;
use crate::rt::sync::watch;
use crate::types::{GroupId, Region, Result, region};

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
    /// Between two heartbeats; a change of leadership here sends one sooner, within a tenth of a second.
    pub interval: Duration,
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
        Cf::RAW.into_iter().fold(Size::default(), |sum, cf| Size {
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

/// Between two looks at the leaderships.
const LOOK: Duration = Duration::from_millis(100);

impl Heartbeat {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut last_counts = (0, 0, self.clock.now());
        let mut sizes = Sizes::default();
        let mut round = 0u64;
        loop {
            if round.is_multiple_of(10) {
                sizes = self.sizes().await;
            }
            round += 1;
            let led = self.led();
            let request = self.request(&mut last_counts, &sizes).await;
            match self.clock.timeout(self.interval * 2, self.pd.store_heartbeat(request)).await {
                Ok(Ok(reply)) => self.obey(reply),
                Ok(Err(error)) => tracing::debug!(store = self.store, %error, "PD did not take the heartbeat"),
                Err(_) => tracing::debug!(store = self.store, "PD did not answer the heartbeat"),
            }
            let until = self.clock.now().plus(self.interval);
            while self.clock.now() < until {
                self.clock.sleep(LOOK).await;
                if self.led() != led {
                    break;
                }
            }
        }
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

    /// The engine may have to read the indexes of its files.
    async fn sizes(&self) -> Sizes {
        let engine = self.handle.engine().clone();
        let regions: Vec<_> = self.leaders().iter().map(|view| (view.group, view.region())).collect();
        let log = self.handle.log_figures();
        let log_bytes: u64 = ["live_bytes", "dead_bytes"].iter().filter_map(|name| log.get(name)).sum();
        cpu::run(move || Sizes {
            regions: regions.iter().map(|(group, region)| (*group, Size::of(&engine, region))).collect(),
            used_bytes: engine_bytes(&engine) + log_bytes,
        })
        .await
    }

    async fn request(&self, last: &mut (u64, u64, crate::rt::clock::Instant), sizes: &Sizes) -> StoreHeartbeatRequest {
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
        }
    }

    fn obey(&self, reply: StoreHeartbeatReply) {
        if !reply.stores.is_empty() {
            let addresses: Addresses = reply.stores.into_iter().map(|store| (store.id, store.address)).collect();
            self.addresses.send_if_modified(|old| {
                let changed = *old != addresses;
                *old = addresses;
                changed
            });
        }
        for order in reply.transfer_leaders {
            let group = GroupId(order.region_id);
            let Some(view) = self.handle.view(group) else { continue };
            if let Some(to) = region::peer_on(&view.region(), order.to_store) {
                let _ = self.handle.transfer_leader(group, to.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{SimEngine, SimHome, WriteBatch};

    #[test]
    fn a_regions_size_is_of_its_keys_in_all_raw_families() {
        let engine = SimEngine::open(&SimHome::new()).unwrap();
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
