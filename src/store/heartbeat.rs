//! Heartbeats: reports to PD what this store has, and carries out what PD answers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::engine::{Cf, KvEngine};
use crate::proto::armilla::pd::{
    LeaderOrder, MergeOrder, PeersOrder, RefusedOrder, RegionHeartbeat, ReplicaLoad, StoreHeartbeatReply,
    StoreHeartbeatRequest,
};
use crate::proto::armilla::raft::region_command::Op;
use crate::proto::armilla::raft::{ChangePeers, CommandHeader, Incarnation, PrepareMerge};
use crate::proto::metapb::StoreLabel;
use crate::proto::pdpb::Member;
use crate::region::command;
use crate::replica::transport::Addresses;
use crate::replica::{Handle, PeerView, Room};
use crate::rt::clock::{Clock, Instant};
use crate::rt::cpu;
use crate::rt::disk::Disk;
use crate::rt::sync::watch;
use crate::rt::task;
use crate::types::limits::REPLICA_LOADS_MAX;
use crate::types::load::Load;
use crate::types::region::RegionEpoch;
use crate::types::{Error, GroupId, Region, Result, Timestamp, region};

use super::flows::Flows;
use super::old_versions::{Cleared, Reports, SafePoints};
use super::pd_time::PdTime;
use super::{ClusterVersion, Measured};

/// The connection to PD: calls its leader, wherever that is.
pub trait PdLink: Send + Sync + 'static {
    /// Delivers a heartbeat.
    fn store_heartbeat(&self, request: StoreHeartbeatRequest) -> BoxFuture<'_, Result<StoreHeartbeatReply>>;
    /// Returns the first of `count` consecutive IDs that were never given out before.
    fn alloc_ids(&self, cluster: u64, count: u32) -> BoxFuture<'_, Result<u64>>;
    /// Returns a new timestamp.
    fn timestamp(&self) -> BoxFuture<'_, Result<Timestamp>>;
    /// Returns the newest known descriptor of a region.
    fn region(&self, id: u64) -> BoxFuture<'_, Result<Option<Region>>>;
}

/// The loop that sends heartbeats.
pub struct Heartbeat {
    /// The cluster's id.
    pub cluster: u64,
    /// This store's id.
    pub store: u64,
    /// The handle of the store's replicas.
    pub handle: Handle,
    /// The node's clock.
    pub clock: Clock,
    /// Reports the free space.
    pub disk: Disk,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The connection to PD.
    pub pd: Arc<dyn PdLink>,
    /// Receives the stores' addresses, as PD knows them.
    pub addresses: watch::Sender<Addresses>,
    /// The time between two heartbeats. A heartbeat is sent sooner, within a tenth of a second, when leadership changes
    /// or a range changes here, when the placement driver has another leader, or when the store begins to stop.
    pub interval: Duration,
    /// A region without load is reported for this long, so that the placement driver's averages follow.
    pub load_rest: Duration,
    /// The newest version of the cluster's protocol that this node supports.
    pub protocol: u32,
    /// This run of the process.
    pub incarnation: Incarnation,
    /// Receives the placement driver's time.
    pub pd_time: PdTime,
    /// Receives the version of the cluster's protocol.
    pub version: ClusterVersion,
    /// Receives the sizes of the regions that are led here, whenever they were measured.
    pub sizes: watch::Sender<Measured>,
    /// Labels from the node's configuration.
    pub labels: Vec<StoreLabel>,
    /// Receives the placement driver's members, whenever PD reports others.
    pub pd_members: watch::Sender<Vec<Member>>,
    /// Receives how far back history goes in the whole cluster.
    pub safe_points: watch::Sender<SafePoints>,
    /// How far this store's regions are cleared of old locks.
    pub cleared: Reports,
    /// Whether the store is handing over its leaders in order to stop.
    pub stopping: watch::Receiver<bool>,
    /// Receives, once PD has reported it, how many regions have a replica that was lost with the disk that this store
    /// replaces.
    pub lost_replicas: watch::Sender<Option<u64>>,
}

/// The approximate size of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes, as the engine stores them.
    pub bytes: u64,
    /// Keys.
    pub keys: u64,
}

impl Size {
    /// Returns the size of a region's raw data. What the engine cannot estimate counts as zero.
    fn of(engine: &impl KvEngine, region: &Region) -> Size {
        let (start, end) = (&region.start_key, &region.end_key);
        Cf::all_of_regions().fold(Size::default(), |sum, cf| Size {
            bytes: sum.bytes + engine.approximate_bytes(cf, start, end).unwrap_or(0),
            keys: sum.keys + engine.approximate_keys(cf, start, end).unwrap_or(0),
        })
    }
}

/// When a size was measured: the region's version, and how far it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SizeAt {
    version: u64,
    applied: u64,
    size: Size,
}

/// The sizes that were measured last.
#[derive(Clone, Debug, Default)]
struct Sizes {
    /// Sizes of the regions that are led here.
    regions: BTreeMap<GroupId, SizeAt>,
    /// Bytes that the store's data takes on its disk: the engine (all groups, including those led elsewhere) and the
    /// raft log.
    used_bytes: u64,
}

/// What was reported of a region that sleeps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    term: u64,
    epoch: RegionEpoch,
    size: Size,
    cleared: Cleared,
    /// When it was reported last.
    at: Instant,
    /// When it was last awake, or had load.
    busy_at: Instant,
}

/// What the last heartbeat reported, for the rates of the next one.
#[derive(Debug)]
struct Reported {
    /// Reads and writes of all peers of the store since the start.
    totals: (u64, u64),
    at: Instant,
    /// The loads of the regions that are led here.
    leaders: Flows,
    /// The loads of the others.
    replicas: Flows,
    /// How many heartbeats there were.
    number: u64,
    /// The regions that are led here, as the placement driver's leader of this term knows them.
    told: BTreeMap<GroupId, Told>,
    pd_term: u64,
}

impl Reported {
    fn new(now: Instant) -> Reported {
        Reported {
            totals: (0, 0),
            at: now,
            leaders: Flows::default(),
            replicas: Flows::default(),
            number: 0,
            told: BTreeMap::new(),
            pd_term: 0,
        }
    }

    /// Returns whether a region may be left out of a heartbeat: it has slept for long, and the placement driver knows
    /// it as it is. Every region is told once in a while.
    fn may_leave_out(
        &mut self,
        view: &PeerView,
        (size, cleared): (Size, Cleared),
        load: &Load,
        (rest, now): (Duration, Instant),
    ) -> bool {
        let (term, epoch) = (view.leadership().term, region::epoch(&view.region()));
        let told = self.told.entry(view.group);
        let new = Told { term, epoch, size, cleared, at: now, busy_at: now };
        let known = match &told {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(_) => new,
        };
        let busy = !view.is_asleep() || *load != Load::default();
        let busy_at = if busy { now } else { known.busy_at };
        let same = (known.term, known.epoch, known.size, known.cleared) == (term, epoch, size, cleared);
        let leaves_out = same && now.since(busy_at) >= rest && now.since(known.at) < TELL_AGAIN;
        told.insert_entry(Told { at: if leaves_out { known.at } else { now }, busy_at, ..new });
        leaves_out && self.pd_term != 0
    }

    /// Handles that the placement driver's leader of this term has processed a heartbeat. Returns whether it must be
    /// told of every region: it is another one than before.
    fn heard_of(&mut self, pd_term: u64) -> bool {
        let other = std::mem::replace(&mut self.pd_term, pd_term) != pd_term;
        let again = other && !self.told.is_empty() && !crate::mutant!("store.sleeping-regions-not-told-again");
        if again {
            self.told.clear();
        }
        again
    }

    /// Returns the reads since the last heartbeat of peers that do not lead: the busiest, if there are many.
    fn replica_loads(&mut self, replicas: &[Arc<PeerView>]) -> Vec<ReplicaLoad> {
        let mut loads: Vec<_> = self.replicas.take(replicas).into_iter().filter(|(_, load)| load.reads > 0).collect();
        loads.sort_by_key(|(group, load)| (std::cmp::Reverse(load.reads), *group));
        loads.truncate(REPLICA_LOADS_MAX);
        let told = |(group, load): (GroupId, Load)| ReplicaLoad {
            region_id: group.0,
            reads: load.reads,
            read_keys: load.read_keys,
            read_bytes: load.read_bytes,
        };
        loads.into_iter().map(told).collect()
    }
}

/// Returns the approximate bytes of everything in the engine. What the engine cannot estimate counts as zero.
fn engine_bytes(engine: &impl KvEngine) -> u64 {
    Cf::ALL.into_iter().map(|cf| engine.approximate_bytes(cf, b"", b"").unwrap_or(0)).sum()
}

/// After how many rounds all sizes are measured, whether anything was written or not.
const ALL_SIZES: u64 = 60;

/// How often a region that sleeps is reported all the same.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// How often the conditions for an early heartbeat are checked, and how soon a failed heartbeat is sent again.
const LOOK: Duration = Duration::from_millis(100);

/// State whose change sends a heartbeat at once.
#[derive(Clone, Debug)]
struct Urgent {
    /// How many changes of regions there were before.
    changes: u64,
    /// The groups led here, with their terms and epochs.
    led: Arc<Vec<(GroupId, u64, RegionEpoch)>>,
    /// The term and leader of the placement driver, if this node has a member.
    pd: Option<(u64, u64)>,
    /// Whether the store is stopping.
    stopping: bool,
}

impl Urgent {
    fn is_same(&self, other: &Urgent) -> bool {
        (&self.led, self.pd, self.stopping) == (&other.led, other.pd, other.stopping)
    }
}

fn version_of(view: &PeerView) -> u64 {
    region::epoch(&view.region()).version
}

impl Sizes {
    /// Returns the size of a region, if it was measured with its present range.
    fn of(&self, view: &PeerView) -> Option<Size> {
        self.regions.get(&view.group).filter(|at| at.version == version_of(view)).map(|at| at.size)
    }

    /// Keeps the sizes of regions in which nothing was applied since.
    fn of_unchanged(mut self, views: &[Arc<PeerView>]) -> Sizes {
        let applied: BTreeMap<GroupId, u64> = views.iter().map(|view| (view.group, view.applied())).collect();
        self.regions.retain(|group, at| applied.get(group) == Some(&at.applied));
        self
    }

    fn to_measured(&self) -> Measured {
        Arc::new(self.regions.iter().map(|(group, at)| (*group, (at.version, at.size))).collect())
    }
}

impl Heartbeat {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut reported = Reported::new(self.clock.now());
        let mut sizes = Sizes::default();
        let mut refused = Vec::new();
        let mut round = 0u64;
        loop {
            let again = round.is_multiple_of(10) || crate::buggify!("store.sizes-anew");
            if round == 0 || (again && !crate::mutant!("store.sizes-never-again")) {
                // Compactions change what the engine estimates, even where nothing is written.
                let unchanged = !round.is_multiple_of(ALL_SIZES) && !crate::buggify!("store.sizes-anew");
                let mut known = if unchanged { sizes.of_unchanged(&self.leaders()) } else { Sizes::default() };
                sizes = self.measure(&known).await;
                known.regions.append(&mut sizes.regions);
                sizes.regions = known.regions;
                self.sizes.send_replace(sizes.to_measured());
            } else if self.leaders().iter().any(|view| sizes.of(view).is_none())
                && !crate::mutant!("store.sizes-never-again")
            {
                // This store now leads a region that was not measured, or not with its present range: it would be
                // reported as empty until the next measurement.
                let more = self.measure(&sizes).await;
                sizes.regions.extend(more.regions);
                self.sizes.send_replace(sizes.to_measured());
            }
            round += 1;
            let mut urgent = self.urgent(None);
            let request = self.request(&mut reported, &sizes, &refused).await;
            let wait = match self.clock.timeout(self.interval * 2, self.pd.store_heartbeat(request)).await {
                Ok(Ok(reply)) => {
                    let again = reported.heard_of(reply.pd_term);
                    refused = self.handle_reply(reply).await;
                    if again { LOOK.min(self.interval) } else { self.interval }
                }
                Ok(Err(error)) => {
                    reported.told.clear();
                    tracing::debug!(store = self.store, %error, "PD refused the heartbeat");
                    LOOK.min(self.interval)
                }
                Err(_) => {
                    reported.told.clear();
                    tracing::debug!(store = self.store, "PD did not answer the heartbeat");
                    LOOK.min(self.interval)
                }
            };
            let wait = if crate::buggify!("store.heartbeat-early") { LOOK.min(wait) } else { wait };
            let until = self.clock.now().plus(wait);
            while self.clock.now() < until {
                self.clock.sleep(LOOK.min(wait)).await;
                let now = self.urgent(Some(&urgent));
                if !now.is_same(&urgent) {
                    break;
                }
                urgent = now;
            }
        }
    }

    /// Returns the state whose change is urgent, looking at all regions only if one has changed since `before`.
    fn urgent(&self, before: Option<&Urgent>) -> Urgent {
        let changes = self.handle.changes();
        let led = before.filter(|before| before.changes == changes).map(|before| before.led.clone());
        let pd = self.handle.view(GroupId::PD).map(|view| view.leadership());
        let pd = pd.map(|pd| (pd.term, pd.leader));
        let led = led.unwrap_or_else(|| Arc::new(self.led()));
        Urgent { changes, led, pd, stopping: *self.stopping.borrow() }
    }

    /// Returns the groups led here, with their terms and epochs.
    fn led(&self) -> Vec<(GroupId, u64, RegionEpoch)> {
        let led = |view: &Arc<PeerView>| (view.group, view.leadership().term, region::epoch(&view.region()));
        self.leaders().iter().map(led).collect()
    }

    fn leaders(&self) -> Vec<Arc<PeerView>> {
        let mut views = self.handle.views();
        views.retain(|view| view.group != GroupId::PD && view.leads());
        views
    }

    /// Measures the regions that are led here and are not in `known`. The engine may have to read the indexes of its
    /// files.
    async fn measure(&self, known: &Sizes) -> Sizes {
        let engine = self.handle.engine().clone();
        let leaders = self.leaders();
        let unknown = leaders.iter().filter(|view| known.of(view).is_none());
        let regions: Vec<_> = unknown.map(|view| (view.group, view.applied(), view.region())).collect();
        let log = self.handle.log_figures();
        let log_bytes: u64 = ["live_bytes", "dead_bytes"].iter().filter_map(|name| log.get(name)).sum();
        cpu::run(move || Sizes {
            regions: regions
                .iter()
                .map(|(group, applied, region)| {
                    let size = Size::of(&engine, region);
                    (*group, SizeAt { version: region::epoch(region).version, applied: *applied, size })
                })
                .collect(),
            used_bytes: engine_bytes(&engine) + log_bytes,
        })
        .await
    }

    async fn request(&self, reported: &mut Reported, sizes: &Sizes, refused: &[RefusedOrder]) -> StoreHeartbeatRequest {
        let (capacity, available) = self.disk.space(&self.data_dir).await.unwrap_or_default();
        // The placement driver's own group is not load from clients.
        let (mut leaders, mut replicas) = (self.handle.views(), Vec::new());
        leaders.retain(|view| view.group != GroupId::PD);
        let total = leaders.iter().fold(Load::default(), |sum, view| sum.plus(view.load().sums()));
        leaders.retain(|view| {
            view.leads() || {
                replicas.push(view.clone());
                false
            }
        });
        let now = self.clock.now();
        let elapsed_ms = (now.since(reported.at).as_millis() as u64).max(1);
        let rate = |new: u64, old: u64| new.saturating_sub(old) * 1000 / elapsed_ms;
        let (reads_per_s, writes_per_s) = (rate(total.reads, reported.totals.0), rate(total.writes, reported.totals.1));
        (reported.totals, reported.at) = ((total.reads, total.writes), now);
        reported.number += 1;
        let flows = reported.leaders.take(&leaders);
        let replica_loads = reported.replica_loads(&replicas);
        reported.told.retain(|group, _| flows.contains_key(group));
        let regions = leaders
            .iter()
            .filter_map(|view| {
                let descriptor = view.region();
                let size = sizes.of(view).unwrap_or_default();
                let load = flows.get(&view.group).copied().unwrap_or_default();
                let cleared = self.cleared.of(view.group.0, region::epoch(&descriptor).version);
                if reported.may_leave_out(view, (size, cleared), &load, (self.load_rest, now)) {
                    return None;
                }
                Some(RegionHeartbeat {
                    leader: region::peer_by_id(&descriptor, view.peer).cloned(),
                    region: Some(descriptor.as_ref().clone()),
                    term: view.leadership().term,
                    approximate_bytes: size.bytes,
                    approximate_keys: size.keys,
                    is_merging: view.is_merging(),
                    written_bytes: load.written_bytes,
                    writes: load.writes,
                    reads: load.reads,
                    written_keys: load.written_keys,
                    read_keys: load.read_keys,
                    read_bytes: load.read_bytes,
                    cleared_below: cleared.below,
                    has_old_versions: cleared.has_old,
                })
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
            // A store whose disk is nearly full, or whose engine delays writes, must not get more leaders.
            stopping: *self.stopping.borrow() || self.handle.room() != Room::Enough || self.handle.is_stalled(),
            refused_orders: refused.to_vec(),
            protocol: self.protocol,
            incarnation: Some(self.incarnation),
            labels: self.labels.clone(),
            interval_ms: elapsed_ms,
            replica_loads,
            number: reported.number,
            oldest_transaction: self.cleared.oldest().unwrap_or_default(),
        }
    }

    /// Carries out what PD answers. Returns the orders that could not be carried out.
    async fn handle_reply(&self, reply: StoreHeartbeatReply) -> Vec<RefusedOrder> {
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
        self.version.set(reply.cluster_version);
        self.pd_time.heard(reply.wall_ms, self.clock.now());
        let points = SafePoints { txn: reply.txn_safe_point, collect: reply.collect_safe_point };
        self.safe_points.send_if_modified(|old| {
            // A former leader of the placement driver may answer late.
            let points = SafePoints { txn: points.txn.max(old.txn), collect: points.collect.max(old.collect) };
            std::mem::replace(old, points) != points
        });
        self.lost_replicas.send_if_modified(|old| old.replace(reply.lost_replicas) != Some(reply.lost_replicas));
        if !reply.stores.is_empty() {
            let addresses: Addresses = reply.stores.into_iter().map(|store| (store.id, store.address)).collect();
            self.addresses.send_if_modified(|old| {
                let changed = *old != addresses;
                *old = addresses;
                changed
            });
        }
        if !reply.pd_members.is_empty() {
            self.pd_members.send_if_modified(|old| {
                let changed = *old != reply.pd_members;
                *old = reply.pd_members;
                changed
            });
        }
        let is_named = |group: &Region| region::peer_on(group, self.store).is_some();
        if let Some(group) = reply.pd_group.filter(|group| !is_named(group))
            && self.handle.view(GroupId::PD).is_some()
            && !crate::mutant!("pd.former-member-not-told")
        {
            self.handle.end_by_proof(GroupId::PD, group);
        }
        for order in reply.change_peers {
            let PeersOrder { region_id, epoch, changes } = order;
            self.change_region(region_id, epoch, Op::ChangePeers(ChangePeers { changes }));
        }
        for MergeOrder { region_id, epoch, target } in reply.merges {
            self.change_region(region_id, epoch, Op::PrepareMerge(PrepareMerge { target }));
        }
        let mut refused = Vec::new();
        for LeaderOrder { region_id, to_store } in reply.transfer_leaders {
            if let Err(error) = self.transfer(GroupId(region_id), to_store).await {
                refused.push(RefusedOrder { region_id, to_store, reason: error.to_string() });
            }
        }
        refused
    }

    /// Carries out a change of a region, if it is led here and has the order's epoch. The placement driver orders it
    /// again until it sees its effect.
    fn change_region(&self, region_id: u64, epoch: Option<RegionEpoch>, op: Op) {
        let RegionEpoch { version, conf_ver } = epoch.unwrap_or_default();
        let header = CommandHeader { version, conf_ver, ..CommandHeader::default() };
        let command = command::encode(header, op);
        let (handle, clock, limit) = (self.handle.clone(), self.clock.clone(), self.interval * 2);
        task::spawn(async move {
            let proposed = clock.timeout(limit, handle.propose(GroupId(region_id), 0, command)).await;
            match proposed.map(|reply| reply.and_then(command::changed)) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(region_id, %error, "cannot change the region as ordered"),
                Err(_) => tracing::debug!(region_id, "the change of the region took too long"),
            }
        });
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
        assert_eq!(engine_bytes(&engine), 24 + 9, "the node's own data counts as well");
        assert_eq!(Size::of(&engine, &region("x", "")), Size::default());
    }
}
