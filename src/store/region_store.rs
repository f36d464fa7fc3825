//! Routing: from a request's context to a group of this store.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use crate::codec::txn_key;
use crate::engine::{Cf, Engine, KvEngine};
use crate::proto::armilla::raft::{CasReply, Change, CommandHeader, ReadAt, region_command};
use crate::proto::kvrpcpb::{Context, LockInfo};
use crate::region::command;
use crate::replica::{FollowerReads, Handle, PeerView, Room};
use crate::rt::clock::{Clock, Instant};
use crate::rt::probe::{self, Event as Probe};
use crate::rt::task;
use crate::types::limits::{ENTRY_BYTES_MAX, SAFE_TIME_AGE_MAX, SIBLINGS_MAX};
use crate::types::{Error, GroupId, Region, Result, Timestamp, region};

use super::Splits;
use super::kv::{Access, Fence, Kv, RegionRead, Route};
use super::split::split_keys;

/// How often a request that needs a newer version of the cluster's protocol looks for it.
const VERSION_LOOK: Duration = Duration::from_millis(50);

/// The regions of one store. Clones share them.
#[derive(Clone, Debug)]
pub struct RegionStore(Arc<Store>);

#[derive(Debug)]
struct Store {
    id: u64,
    handle: Handle,
    clock: Clock,
    timeout: Duration,
    splits: Splits,
    follower_reads: FollowerReads,
    /// Numbers the reads, for the simulator's oracles.
    reads: AtomicU64,
}

impl RegionStore {
    /// Creates the regions of `store`, which `handle` drives. A read or write that takes longer than `timeout` fails.
    pub fn new(
        store: u64,
        handle: Handle,
        timeout: Duration,
        splits: Splits,
        follower_reads: FollowerReads,
    ) -> RegionStore {
        let (clock, reads) = (handle.clock().clone(), AtomicU64::new(0));
        RegionStore(Arc::new(Store { id: store, handle, clock, timeout, splits, follower_reads, reads }))
    }

    /// Returns the route to a region for this store's own use, if it leads the region.
    pub(super) fn own_route(&self, group: GroupId) -> Option<RegionRoute> {
        let view = self.0.handle.view(group).filter(|view| view.leads() && group != GroupId::PD)?;
        let region = view.region();
        let version = region::epoch(&region).version;
        Some(RegionRoute { store: self.clone(), view, region, version, limit: self.0.timeout, by_replica: false })
    }

    /// Adds to the current descriptor of a region, which a request knows in an older version, those of the regions that
    /// were split off since: they have the keys that the request may be about.
    fn epoch_not_match(&self, asked: u64, region: &Region) -> Error {
        let mut by_end: BTreeMap<Bytes, Arc<Region>> = BTreeMap::new();
        for view in self.0.handle.views().iter().filter(|view| view.group != GroupId::PD) {
            let other = view.region();
            // A piece that was split off since has a version above that of the request.
            if region::epoch(&other).version > asked && other.id != region.id {
                by_end.insert(other.end_key.clone(), other);
            }
        }
        let mut current = vec![region.clone()];
        let mut start = region.start_key.clone();
        while let Some(left) = by_end.remove(&start).filter(|_| !start.is_empty() && current.len() < SIBLINGS_MAX) {
            start = left.start_key.clone();
            current.push(Region::clone(&left));
        }
        Error::EpochNotMatch(current)
    }

    /// Checks the request's version. The membership does not matter to a read or write.
    fn check_version(&self, asked: u64, region: &Arc<Region>) -> Result<()> {
        if asked != region::epoch(region).version && !crate::mutant!("store.epoch-not-checked") {
            return Err(self.epoch_not_match(asked, region));
        }
        Ok(())
    }

    /// Completes an error with what this store knows about the regions that a request of this version may be about.
    fn with_siblings(&self, asked: u64, error: Error) -> Error {
        match error {
            Error::EpochNotMatch(current) if current.len() == 1 => self.epoch_not_match(asked, &current[0]),
            other => other,
        }
    }

    /// Returns the handle of the store's replicas.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Checks a request in the protocol's order.
    fn check(&self, context: &Context, access: Access) -> Result<(Arc<PeerView>, Arc<Region>)> {
        if let Some(why) = self.0.handle.poisoned() {
            return Err(Error::Stopped(why));
        }
        let view = match access {
            Access::Read | Access::Stale => {
                self.check_store(context)?;
                let view = self.view(context)?;
                check_peer(context, &view)?;
                check_term(context, &view)?;
                if access == Access::Read && !context.replica_read {
                    check_leader(&view)?;
                }
                view
            }
            Access::Write => {
                let view = self.view(context)?;
                self.check_store(context)?;
                check_peer(context, &view)?;
                check_leader(&view)?;
                check_term(context, &view)?;
                view
            }
        };
        let region = view.region();
        self.check_version(context.region_epoch.unwrap_or_default().version, &region)?;
        if view.is_merging() {
            return Err(match access {
                Access::Read | Access::Stale => Error::NotReadable(view.group),
                Access::Write => Error::Merging(view.group),
            });
        }
        Ok((view, region))
    }

    /// Checks the request's store. A request without a peer matches no store.
    fn check_store(&self, context: &Context) -> Result<()> {
        let asked = context.peer.as_ref().map_or(0, |peer| peer.store_id);
        if asked == self.0.id { Ok(()) } else { Err(Error::StoreNotMatch { asked, actual: self.0.id }) }
    }

    fn view(&self, context: &Context) -> Result<Arc<PeerView>> {
        let group = GroupId(context.region_id);
        self.0.handle.view(group).filter(|_| group != GroupId::PD).ok_or(Error::RegionNotFound(group))
    }

    /// Returns how long a request may take: until this store's timeout or the client's, whichever comes first.
    fn limit(&self, context: &Context) -> Duration {
        match context.max_execution_duration_ms {
            0 => self.0.timeout,
            ms => self.0.timeout.min(Duration::from_millis(ms)),
        }
    }
}

/// Checks the request's peer. If another peer is here, the client's descriptor of the region is outdated.
fn check_peer(context: &Context, view: &PeerView) -> Result<()> {
    let asked = context.peer.as_ref().map_or(0, |peer| peer.id);
    if asked == view.peer { Ok(()) } else { Err(Error::PeerNotMatch { asked, actual: view.peer }) }
}

/// Checks the request's term. As in TiKV, it may be one behind, because the same leader may have been elected again.
fn check_term(context: &Context, view: &PeerView) -> Result<()> {
    let asked = context.term;
    if asked == 0 || view.leadership().term <= asked.saturating_add(1) { Ok(()) } else { Err(Error::StaleCommand) }
}

/// Returns where a change is, as far as regions are concerned: a lock and the versions of a transactional key are in
/// one place.
fn place(change: &Change) -> &[u8] {
    let is_version = [Cf::TxnDefault, Cf::TxnWrite].iter().any(|cf| *cf as u32 == change.cf);
    match txn_key::version_of(&change.key) {
        Ok((key, _)) if is_version && !crate::mutant!("store.load-split-between-versions") => key,
        _ => &change.key,
    }
}

fn check_leader(view: &PeerView) -> Result<()> {
    if view.leads() { Ok(()) } else { Err(view.not_leader()) }
}

/// A request's route to a region: found once, then used for everything that the request does.
#[derive(Clone, Debug)]
pub struct RegionRoute {
    store: RegionStore,
    view: Arc<PeerView>,
    region: Arc<Region>,
    /// The version of the region that the request knows.
    version: u64,
    limit: Duration,
    /// The client lets any peer serve the read.
    by_replica: bool,
}

impl RegionRoute {
    /// Counts the keys of a write.
    fn count_keys(&self, op: &region_command::Op, bytes: usize) {
        let load = self.view.load();
        let (store, group) = (self.store.0.id, self.view.group.0);
        let written = |key: &Bytes| {
            let data = || key.clone();
            probe::emit(|| Probe::Note { store, what: "load-key", a: group, b: 1, data: data() });
        };
        match op {
            region_command::Op::Write(write) => {
                let changes = &write.changes;
                load.count_written_keys(changes.len(), bytes, |at| {
                    (place(&changes[at]), changes[at].range_end.as_deref())
                });
                changes.iter().for_each(|change| written(&change.key.slice_ref(place(change))));
            }
            region_command::Op::Cas(cas) => {
                load.count_written_keys(1, bytes, |_| (&cas.key[..], None));
                written(&cas.key);
            }
            _ => {}
        }
    }
}

impl RegionRoute {
    /// Returns a linearizable view of the region, or the lock that a transaction's read has to wait for.
    async fn read_as(
        &self,
        reads: Option<ReadAt>,
    ) -> Result<std::result::Result<RegionRead<<Engine as KvEngine>::Snapshot>, LockInfo>> {
        let Store { id, handle, clock, timeout, reads: numbers, follower_reads, .. } = &*self.store.0;
        let (store, group) = (*id, self.view.group.0);
        let read = if probe::LISTENING { numbers.fetch_add(1, Ordering::Relaxed) } else { 0 };
        probe::emit(|| Probe::ReadAsked { store, group, read });
        let term = self.view.leadership().term;
        if !crate::mutant!("store.read-without-barrier") {
            let barrier = pin!(async {
                if self.by_replica && !self.view.leads() {
                    return follower_reads.confirm(handle, &self.view, reads).await;
                }
                let lock = match reads {
                    Some(reads) => handle.admit_reads(&[reads])?.pop().flatten(),
                    None => None,
                };
                handle.confirm(&self.view).await.map(|()| lock)
            });
            let lock = clock.timeout(self.limit, barrier).await.map_err(|_| {
                let why = "no quorum confirmed the leader".to_owned();
                if self.limit < *timeout { Error::Deadline(why) } else { Error::Timeout(why) }
            })??;
            if let Some(lock) = lock {
                return Ok(Err(lock));
            }
        }
        if crate::buggify!("store.wait-before-view") {
            task::yield_now().await;
        }
        let seen = self.look(term)?;
        probe::emit(|| Probe::ReadServed { store, group, read, applied: self.view.applied() });
        Ok(Ok(seen))
    }

    /// Returns what this store has of the region, if that is the version that the request knows.
    fn look(&self, term: u64) -> Result<RegionRead<<Engine as KvEngine>::Snapshot>> {
        let snapshot = self.store.0.handle.engine().snapshot();
        // The region may have changed while the quorum was asked. The view must be of the epoch that the request asked
        // for, and of a peer that is still a member.
        let region = self.view.region();
        if region.peers.is_empty() {
            return Err(Error::RegionNotFound(self.view.group));
        }
        assert_eq!(region.id, self.region.id, "a request must read the region that it was routed to");
        self.store.check_version(self.version, &region)?;
        let fence = Fence { term, version: region::epoch(&region).version, oldest_ts: 0 };
        let marks = self.view.marks();
        Ok(RegionRead { region, snapshot, now_s: self.store.now_s(), fence, marks })
    }

    /// Waits until every node of the cluster knows an operation: in a new cluster, they all do within a moment.
    ///
    /// # Errors
    /// [`Error::Busy`] after the request's time.
    async fn until_known(&self, op: &region_command::Op) -> Result<()> {
        let Store { clock, splits, .. } = &*self.store.0;
        let until = clock.now().plus(self.limit);
        while let Err(unknown) = splits.check_known(op) {
            if clock.now() >= until {
                return Err(unknown);
            }
            clock.sleep(VERSION_LOOK).await;
        }
        Ok(())
    }
}

impl Route for RegionRoute {
    type Snapshot = <Engine as KvEngine>::Snapshot;

    fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn place(&self) -> Option<(u64, u64)> {
        let same = region::epoch(&self.view.region()).version == self.version;
        (self.view.leads() && same).then(|| (self.view.leadership().term, self.view.applied()))
    }

    fn count_read(&self, from: &[u8], to: Option<&[u8]>, keys: usize, bytes: usize) {
        self.view.load().count_read(from, to, keys as u64, bytes as u64);
        let (store, group) = (self.store.0.id, self.view.group.0);
        let key = || Bytes::copy_from_slice(from);
        probe::emit(|| Probe::Note { store, what: "load-read", a: group, b: keys as u64, data: key() });
    }

    fn is_by_replica(&self) -> bool {
        self.by_replica
    }

    async fn read(&self) -> Result<RegionRead<Self::Snapshot>> {
        match self.read_as(None).await? {
            Ok(seen) => Ok(seen),
            Err(_) => unreachable!("only a transaction's read waits for a lock"),
        }
    }

    async fn read_at(&self, read: ReadAt) -> Result<std::result::Result<RegionRead<Self::Snapshot>, LockInfo>> {
        self.read_as(Some(read)).await
    }

    async fn read_stale(&self, at: Timestamp) -> Result<RegionRead<Self::Snapshot>> {
        let Store { handle, clock, follower_reads, .. } = &*self.store.0;
        let late = |_| Error::Deadline("this peer has not applied what the read is about".into());
        let safe = follower_reads.is_safe(handle, &self.view, self.version, at.0);
        if !clock.timeout(self.limit, safe).await.map_err(late)?? {
            let safe_ts = self.view.safe_time().map_or(0, |(safe, _)| safe.at);
            return Err(Error::DataNotReady { group: self.view.group, peer: self.view.peer, safe_ts });
        }
        self.look(0)
    }
    async fn write(&self, op: region_command::Op, fence: Option<Fence>) -> Result<Option<CasReply>> {
        let reply = self.store.0.clock.timeout(self.limit, self.settle(op, fence)).await;
        reply.map_err(|_| Error::Unknown("no quorum answered in time".into()))?
    }

    fn limit(&self) -> Duration {
        self.limit
    }

    async fn settle(&self, op: region_command::Op, fence: Option<Fence>) -> Result<Option<CasReply>> {
        let any = Fence { term: 0, version: region::epoch(&self.region).version, oldest_ts: 0 };
        let Fence { term, version, oldest_ts } = fence.unwrap_or(any);
        let header = CommandHeader { version, term, oldest_ts, ..CommandHeader::default() };
        self.until_known(&op).await?;
        let bytes = command::encoded_len(header, &op);
        if bytes > ENTRY_BYTES_MAX {
            // Check before the command is copied once more.
            return Err(Error::EntryTooLarge { group: self.view.group, bytes: bytes as u64 });
        }
        if self.store.0.handle.room() != Room::Enough && command::adds_data(&op) {
            let reason = "its disk is nearly full: only deletes are accepted until there is more free space".to_owned();
            crate::reach!("store.write-refused-for-room");
            return Err(Error::DiskFull { store: self.store.0.id, reason });
        }
        if command::adds_data(&op) {
            let (store, group) = (self.store.0.id, self.view.group.0);
            probe::emit(|| Probe::Note { store, what: "adds-data", a: group, b: 0, data: Default::default() });
        }
        self.count_keys(&op, bytes);
        let encoded = command::encode(header, op);
        assert!(
            encoded.bytes.len() <= bytes,
            "region {}: the encoded command is longer than the length that was checked",
            self.region.id
        );
        let reply = self.store.0.handle.propose_to(&self.view, term, encoded).await?;
        command::outcome(reply).map_err(|error| self.store.with_siblings(version, error))
    }

    async fn split(&self, keys: Vec<Bytes>) -> Result<Vec<Region>> {
        let Store { handle, clock, splits, .. } = &*self.store.0;
        let keys = split_keys(&self.region, keys)?;
        splits.check_version()?;
        let (mut rest, mut pieces) = (&keys[..], Vec::new());
        let mut region = Region::clone(&self.region);
        while !rest.is_empty() {
            let next = clock.timeout(self.limit, splits.next(&region, rest)).await;
            let late = |_| Error::Timeout("the placement driver gave out no IDs in time".into());
            let (split, used) = next.map_err(late)??;
            let epoch = region::epoch(&region);
            let header = CommandHeader { version: epoch.version, conf_ver: epoch.conf_ver, ..CommandHeader::default() };
            let command = command::encode(header, region_command::Op::Split(split));
            let reply = clock.timeout(self.limit, handle.propose_to(&self.view, 0, command)).await;
            let reply = reply.map_err(|_| Error::Unknown("no quorum answered in time".into()))??;
            let new = command::pieces(reply).map_err(|error| self.store.with_siblings(epoch.version, error))?;
            pieces.extend(new);
            region = pieces.pop().expect("a split has pieces");
            rest = &rest[used..];
        }
        pieces.push(region);
        Ok(pieces)
    }
}

impl Kv for RegionStore {
    type Route = RegionRoute;

    fn route(&self, context: &Context, access: Access) -> Result<RegionRoute> {
        let (view, region) = self.check(context, access)?;
        let version = context.region_epoch.unwrap_or_default().version;
        assert_eq!(region.id, context.region_id, "a request was routed to another region");
        Ok(RegionRoute {
            store: self.clone(),
            view,
            region,
            version,
            limit: self.limit(context),
            by_replica: context.replica_read,
        })
    }

    fn led(&self) -> Vec<RegionRoute> {
        let groups = self.0.handle.views().into_iter().map(|view| view.group);
        groups.filter_map(|group| self.own_route(group)).collect()
    }

    fn own(&self, region: u64) -> Option<RegionRoute> {
        self.own_route(GroupId(region))
    }

    async fn safe_ts(&self, start: &[u8], end: &[u8]) -> u64 {
        let Store { handle, clock, follower_reads, .. } = &*self.0;
        let mut views = handle.views();
        views.retain(|view| view.group != GroupId::PD && region::touches(&view.region(), start, end));
        let (since, now) = (SAFE_TIME_AGE_MAX, clock.now());
        let is_fresh = |view: &PeerView| {
            let version = region::epoch(&view.region()).version;
            view.safe_time().is_some_and(|(safe, at)| safe.version == version && now.since(at) < since)
        };
        let mut old: BTreeMap<u64, Vec<GroupId>> = BTreeMap::new();
        // What sleeps is not woken: a read there asks its leader.
        for view in views.iter().filter(|view| !view.is_asleep() && !is_fresh(view)) {
            if let Some(leader) = view.leader_peer() {
                old.entry(leader.store_id).or_default().push(view.group);
            }
        }
        join_all(old.into_iter().map(|(leader, groups)| follower_reads.learn_times(handle, leader, groups))).await;
        let known = views.iter().filter(|view| !view.is_asleep()).filter_map(|view| view.safe_time());
        known.map(|(safe, _)| safe.at).min().unwrap_or_default()
    }

    fn now_s(&self) -> u64 {
        self.0.clock.wall_ms() / 1000
    }

    fn now(&self) -> Instant {
        self.0.clock.now()
    }

    fn store(&self) -> u64 {
        self.0.id
    }

    async fn timestamp(&self) -> Result<Timestamp> {
        let Store { clock, timeout, splits, .. } = &*self.0;
        let late = |_| Error::Timeout("the placement driver gave out no timestamp in time".into());
        clock.timeout(*timeout, splits.pd.timestamp()).await.map_err(late)?
    }

    async fn sleep(&self, duration: Duration) {
        self.0.clock.sleep(duration).await;
    }
}
