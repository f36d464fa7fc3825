//! The placement driver's replicated state and the commands that change it. The new state is a function of the old
//! state and the command, and of nothing else.

mod keyspaces;
mod labels;
mod safe_points;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{
    Bootstrap, PdCommand, PdReply, PutStore, SafePoints, SetStoreState, Settings, StoreInfo, StoreRecord, StoreStarted,
};
use crate::proto::armilla::raft::Incarnation;
use crate::proto::keyspacepb::KeyspaceMeta;
use crate::proto::metapb::{Store, StoreLabel, StoreState};
use crate::types::run::{self, History};
use crate::types::{GroupId, Region, region, version};

use super::map::RegionMap;
pub use keyspaces::{KEYSPACE_EXISTS, NO_KEYSPACE};
pub use safe_points::{holds, lowest as lowest_barrier};
pub use settings::{is_of_stores, name as scheduler_name, shuffles, stores_of};

/// The label of a store without an address: the ID of the store that took over its address.
pub const LABEL_REPLACED_BY: &str = "replaced-by";

/// The replicated state: stores, regions, and numbers that only increase.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PdState {
    bootstrapped: bool,
    next_id: u64,
    tso_bound_ms: u64,
    gc_safe_point: u64,
    safe_points: SafePoints,
    cluster_version: u32,
    stores: BTreeMap<u64, StoreRecord>,
    regions: RegionMap,
    first_regions: BTreeMap<u64, Region>,
    /// The newest incarnation of each store's process.
    runs: BTreeMap<u64, Incarnation>,
    settings: Arc<Settings>,
    /// By ID. They have a use only in clusters with API V2.
    keyspaces: BTreeMap<u32, KeyspaceMeta>,
    /// Derived: store IDs by UUID.
    by_uuid: BTreeMap<String, u64>,
}

/// An object that a command changed. Each object has its own key in the engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changed {
    /// The bootstrapped flag.
    Bootstrapped,
    /// The next free ID.
    NextId,
    /// The timestamp bound.
    TsoBound,
    /// The safe point that clients have asked for.
    GcSafePoint,
    /// The safe points and their barriers.
    SafePoints,
    /// The cluster's protocol version.
    ClusterVersion,
    /// The newest incarnation of that store.
    Run(u64),
    /// The record of that store.
    Store(u64),
    /// The descriptor that starts at this key, which may have been removed.
    Region(Bytes),
    /// One of the regions that the cluster was bootstrapped with.
    FirstRegion(u64),
    /// The settings.
    Settings,
    /// The keyspace with this ID.
    Keyspace(u32),
}

impl PdState {
    /// Creates a state without stores and regions.
    pub fn new() -> PdState {
        PdState {
            next_id: GroupId::PD.0 + 1,
            cluster_version: 1,
            keyspaces: keyspaces::first_keyspaces(),
            ..PdState::default()
        }
    }

    /// Restores the state from the engine's content, and builds the derived maps.
    ///
    /// # Errors
    /// A sentence, if the parts contradict each other.
    pub fn restore(
        numbers: Numbers,
        stores: Vec<StoreRecord>,
        regions: Regions,
        runs: BTreeMap<u64, Incarnation>,
        Others { settings, safe_points, keyspaces }: Others,
    ) -> Result<PdState, String> {
        let Numbers { bootstrapped, next_id, tso_bound_ms, gc_safe_point, cluster_version } = numbers;
        let mut state =
            PdState { bootstrapped, next_id, tso_bound_ms, gc_safe_point, cluster_version, runs, ..PdState::new() };
        state.settings = Arc::new(settings);
        state.safe_points = safe_points;
        state.restore_keyspaces(keyspaces);
        for record in stores {
            state.put_store_record(record);
        }
        state.regions = RegionMap::new(regions.now)?;
        state.first_regions = regions.first.into_iter().map(|region| (region.id, region)).collect();
        Ok(state)
    }

    /// Returns whether the cluster's first stores and regions exist.
    pub fn bootstrapped(&self) -> bool {
        self.bootstrapped
    }
    /// Returns the ID that the allocator returns next.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }
    /// Returns the bound (ms) below which the physical parts of all timestamps handed out so far are.
    pub fn tso_bound_ms(&self) -> u64 {
        self.tso_bound_ms
    }
    /// Returns the largest safe point that a client has asked for, or up to which versions were removed.
    pub fn gc_safe_point(&self) -> u64 {
        self.gc_safe_point
    }
    /// Returns the cluster's protocol version, which every node supports (see [`crate::types::version::PROTOCOL`]).
    pub fn cluster_version(&self) -> u32 {
        self.cluster_version
    }
    /// Returns the newest known incarnation of a store's process.
    pub fn run(&self, store: u64) -> Option<Incarnation> {
        self.runs.get(&store).copied()
    }
    /// Returns all stores in the order of their IDs, including those that are gone.
    pub fn stores(&self) -> impl Iterator<Item = &StoreRecord> {
        self.stores.values()
    }
    /// Returns the store with this ID.
    pub fn store(&self, id: u64) -> Option<&StoreRecord> {
        self.stores.get(&id)
    }
    /// Returns the store with this UUID.
    pub fn store_by_uuid(&self, uuid: &str) -> Option<&StoreRecord> {
        self.by_uuid.get(uuid).and_then(|id| self.stores.get(id))
    }
    /// Returns the store that has this address now.
    pub fn store_by_addr(&self, addr: &str) -> Option<&StoreRecord> {
        self.stores.values().find(|record| address(record) == addr && !addr.is_empty())
    }
    /// Returns the region with this ID.
    pub fn region(&self, id: u64) -> Option<&Region> {
        self.regions.get(id)
    }
    /// Returns the region that starts at `start`, or what newer ones left of it.
    pub fn region_at(&self, start: &[u8]) -> Option<&Region> {
        self.regions.starting_at(start)
    }
    /// Returns the region that holds `key`. There is always one once the cluster is bootstrapped.
    pub fn region_of(&self, key: &[u8]) -> Option<&Region> {
        self.regions.of(key)
    }
    /// Returns the region directly before the one that holds `key`: it ends where that one starts.
    pub fn region_before(&self, key: &[u8]) -> Option<&Region> {
        self.regions.before(key)
    }
    /// Returns the regions with which the cluster was bootstrapped, as they were then.
    pub fn first_regions(&self) -> impl Iterator<Item = &Region> {
        self.first_regions.values()
    }
    /// Returns one of the regions with which the cluster was bootstrapped, as it was then.
    pub fn first_region(&self, id: u64) -> Option<&Region> {
        self.first_regions.get(&id)
    }
    /// Returns how many regions have a replica on a store whose address `store` took over: those replicas were lost
    /// with a disk.
    pub fn lost_replicas(&self, store: u64) -> u64 {
        let replaced_by = |record: &StoreRecord| {
            let labels = &record.store.as_ref()?.labels;
            labels.iter().find(|label| label.key == LABEL_REPLACED_BY)?.value.parse::<u64>().ok()
        };
        // A replaced store may have replaced another one before.
        let mut lost = BTreeSet::new();
        let mut gone = vec![store];
        while let Some(by) = gone.pop() {
            let replaced = self.stores.values().filter(|record| replaced_by(record) == Some(by)).map(store_id);
            gone.extend(replaced.filter(|id| *id != store && lost.insert(*id)));
        }
        if lost.is_empty() {
            return 0;
        }
        let counts = |region: &&Region| region.peers.iter().any(|peer| lost.contains(&peer.store_id));
        self.regions.iter().filter(counts).count() as u64
    }
    /// Returns the regions that overlap `[start, end)` (an empty `end` means infinity), in key order, at most `limit`.
    pub fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Vec<&Region> {
        self.regions.scan(start, end).take(limit).collect()
    }
    /// Returns the number of regions.
    pub fn region_count(&self) -> usize {
        self.regions.len()
    }
    /// Returns how many regions have a replica on a store.
    pub fn replicas_on(&self, store: u64) -> u64 {
        self.regions.replicas_on(store)
    }
    /// Returns all regions in key order.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter()
    }

    /// Applies one command. Returns the reply for its proposer, and the objects that it changed. A command that this
    /// version does not know is rejected, on every member alike, because all have the same bytes.
    ///
    /// # Panics
    /// If a number decreased or the derived maps are inconsistent: the state would be unusable on every member.
    pub fn apply(&mut self, command: PdCommand) -> (PdReply, Vec<Changed>) {
        let before = self.counters();
        let outcome = match command.op {
            None => Err("the command has an operation that this version does not know".into()),
            Some(Op::Bootstrap(bootstrap)) => self.bootstrap(bootstrap),
            Some(Op::PutStore(put)) => self.put_store(put),
            Some(Op::TsoBoundMs(to)) => {
                let changed = raise(&mut self.tso_bound_ms, to);
                Ok((self.tso_bound_ms, if changed { vec![Changed::TsoBound] } else { vec![] }))
            }
            Some(Op::GcSafePoint(to)) => {
                let changed = raise(&mut self.gc_safe_point, to);
                Ok((self.gc_safe_point, if changed { vec![Changed::GcSafePoint] } else { vec![] }))
            }
            Some(Op::ClusterVersion(to)) => {
                let changed = to > self.cluster_version;
                self.cluster_version = self.cluster_version.max(to);
                Ok((u64::from(self.cluster_version), if changed { vec![Changed::ClusterVersion] } else { vec![] }))
            }
            Some(Op::StoreStarted(started)) => self.store_started(started),
            Some(Op::SetStoreState(set)) => self.set_store_state(set),
            Some(Op::SetStoreLabels(set)) => self.set_store_labels(set),
            Some(Op::ChangeSettings(change)) => self.change_settings(change),
            Some(Op::ChangeSafePoints(change)) => self.change_safe_points(change),
            Some(Op::ChangeKeyspace(change)) => self.change_keyspace(change),
            Some(Op::ReplaceStore(replace)) => self.replace_store(replace),
            Some(Op::AllocIds(alloc)) => self.alloc_ids(alloc.count),
            Some(Op::PutRegion(put)) => self.put_region(put.region.unwrap_or_default()),
            Some(Op::ChangeMembers(_)) => Err("the members are not part of this state".into()),
        };
        let grown = self.counters().iter().zip(before).all(|(now, before)| *now >= before);
        assert!(grown, "an id, timestamp, safe point or version decreased: {:?} after {before:?}", self.counters());
        assert_eq!(self.by_uuid.len(), self.stores.len(), "two stores have the same uuid");
        match outcome {
            Ok((value, changed)) => (PdReply { value, refused: String::new() }, changed),
            Err(refused) => (PdReply { value: 0, refused }, vec![]),
        }
    }

    /// Returns the numbers that must never decrease.
    fn counters(&self) -> [u64; 6] {
        let SafePoints { txn, collect, .. } = self.safe_points;
        [self.next_id, self.tso_bound_ms, self.gc_safe_point, u64::from(self.cluster_version), txn, collect]
    }

    fn bootstrap(&mut self, command: Bootstrap) -> Outcome {
        if self.bootstrapped {
            return Err("the cluster is already bootstrapped".into());
        }
        check_bootstrap(&command)?;
        let mut changed = vec![Changed::Bootstrapped, Changed::NextId];
        for ((store, uuid), name) in command.stores.into_iter().zip(command.uuids).zip(command.names) {
            changed.push(Changed::Store(store.id));
            self.put_store_record(StoreRecord { store: Some(store), uuid, name });
        }
        for region in command.regions {
            changed.push(Changed::FirstRegion(region.id));
            changed.push(Changed::Region(region.start_key.clone()));
            self.first_regions.insert(region.id, region.clone());
            self.regions.put(region)?;
        }
        self.bootstrapped = true;
        self.next_id = command.next_id;
        Ok((0, changed))
    }

    /// Registers a store. A known UUID keeps its ID; a new one gets a fresh ID whatever its address, because an empty
    /// disk is a new store. A store that had the address before loses it, since two stores cannot both listen there; it
    /// gets an address again when it registers again.
    fn put_store(&mut self, put: PutStore) -> Outcome {
        self.must_be_bootstrapped()?;
        if put.uuid.is_empty() || put.addr.is_empty() {
            return Err("a store needs a uuid and an address".into());
        }
        let mut changed = Vec::new();
        let known = self.by_uuid.get(&put.uuid).copied();
        if let Some(id) = known
            && self.stores[&id].store.as_ref().is_some_and(|store| store.state() == StoreState::Tombstone)
        {
            return Err(format!("store {id} is a tombstone: start the node with an empty data directory"));
        }
        let id = match known {
            Some(id) => id,
            None => {
                changed.push(Changed::NextId);
                self.take_ids(1)?
            }
        };
        if let Some(holder) = self.store_by_addr(&put.addr).map(store_id)
            && holder != id
        {
            let mut record = self.stores[&holder].clone();
            replace(&mut record, id);
            self.put_store_record(record);
            changed.push(Changed::Store(holder));
        }
        let mut record = self.stores.get(&id).cloned().unwrap_or_default();
        record.uuid = put.uuid;
        record.name = put.name;
        let store = record.store.get_or_insert_default();
        store.id = id;
        store.peer_address.clone_from(&put.addr);
        store.status_address.clone_from(&put.addr);
        store.address = put.addr;
        if let Some(info) = put.info {
            store.version = info.version;
            store.git_hash = info.git_hash;
            store.start_timestamp = info.start_timestamp_s;
            store.deploy_path = info.deploy_path;
        }
        // A store that is being removed remains so when it starts again.
        let replaced = store.labels.iter().any(|label| label.key == LABEL_REPLACED_BY);
        if known.is_none() || replaced {
            store.set_state(StoreState::Up);
        }
        store.labels.retain(|label| label.key != LABEL_REPLACED_BY);
        if self.stores.get(&id) != Some(&record) {
            self.put_store_record(record);
            changed.push(Changed::Store(id));
        }
        Ok((id, changed))
    }

    /// Records a store's start. An incarnation whose history does not contain the recorded one belongs to a copied data
    /// directory and is rejected.
    fn store_started(&mut self, StoreStarted { store_id, incarnation, earlier }: StoreStarted) -> Outcome {
        self.must_be_bootstrapped()?;
        if !self.stores.contains_key(&store_id) {
            return Err(format!("store {store_id} is not registered"));
        }
        let new = History { run: incarnation.unwrap_or_default(), earlier };
        let known = self.run(store_id);
        if let Some(why) = known.and_then(|known| run::not_later(store_id, &known, &new)) {
            return Err(why);
        }
        if known == Some(new.run) {
            return Ok((store_id, vec![]));
        }
        self.runs.insert(store_id, new.run);
        Ok((store_id, vec![Changed::Run(store_id)]))
    }

    /// Makes a store one that has to become empty, or need not any more, or a tombstone once it is empty.
    fn set_store_state(&mut self, SetStoreState { store_id, state }: SetStoreState) -> Outcome {
        self.must_be_bootstrapped()?;
        let state = StoreState::try_from(state).map_err(|_| "an unknown state of a store".to_owned())?;
        let Some(mut record) = self.stores.get(&store_id).cloned() else {
            return Err(format!("there is no store {store_id}"));
        };
        let store = record.store.get_or_insert_default();
        match (store.state(), state) {
            (StoreState::Up, StoreState::Offline) => {}
            // A store that lost its address comes back by registering.
            (StoreState::Offline, StoreState::Up) if !store.address.is_empty() => {}
            (StoreState::Offline, StoreState::Tombstone) => {
                if let Some(region) = self.regions.iter().find(|region| region::peer_on(region, store_id).is_some()) {
                    return Err(format!("region {} has a replica on store {store_id}", region.id));
                }
                store.address.clear();
                store.peer_address.clear();
                store.status_address.clear();
            }
            (now, then) if now == then => return Ok((store_id, vec![])),
            (now, then) => return Err(format!("store {store_id} is {now:?}, which does not become {then:?}")),
        }
        store.set_state(state);
        self.put_store_record(record);
        let mut changed = vec![Changed::Store(store_id)];
        if state == StoreState::Tombstone && self.forget_settings_of(store_id) {
            changed.push(Changed::Settings);
        }
        Ok((store_id, changed))
    }

    fn alloc_ids(&mut self, count: u32) -> Outcome {
        self.must_be_bootstrapped()?;
        if count == 0 {
            return Err("the request asks for no ids".into());
        }
        Ok((self.take_ids(u64::from(count))?, vec![Changed::NextId]))
    }

    /// Stores a region's descriptor. A newer descriptor takes its range from the older ones that it overlaps; an
    /// older one is rejected.
    fn put_region(&mut self, new: Region) -> Outcome {
        self.must_be_bootstrapped()?;
        check_region(&new, |store| self.stores.contains_key(&store))?;
        let id = new.id;
        if id >= self.next_id {
            return Err(format!("region {id} has an id that was never allocated"));
        }
        let changed = self.regions.put(new)?;
        Ok((id, changed.into_iter().map(Changed::Region).collect()))
    }

    fn take_ids(&mut self, count: u64) -> Result<u64, String> {
        let first = self.next_id;
        self.next_id = first.checked_add(count).ok_or("ids have run out")?;
        assert!(first < self.next_id, "an id must be allocated only once");
        Ok(first)
    }

    fn must_be_bootstrapped(&self) -> Result<(), String> {
        if self.bootstrapped { Ok(()) } else { Err("the cluster is not bootstrapped".into()) }
    }

    fn put_store_record(&mut self, record: StoreRecord) {
        let id = store_id(&record);
        self.by_uuid.insert(record.uuid.clone(), id);
        self.stores.insert(id, record);
    }
}

/// The single values of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Whether the first stores and regions exist.
    pub bootstrapped: bool,
    /// The next free ID.
    pub next_id: u64,
    /// Timestamps below this (physical ms) may have been handed out.
    pub tso_bound_ms: u64,
    /// Versions below this timestamp may be collected.
    pub gc_safe_point: u64,
    /// The cluster's protocol version.
    pub cluster_version: u32,
}

/// The regions of the state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Regions {
    /// The current regions, trimmed where newer ones took part of their range.
    pub now: Vec<Region>,
    /// The regions that the cluster was bootstrapped with.
    pub first: Vec<Region>,
}

/// What people and clients have set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Others {
    /// The settings.
    pub settings: Settings,
    /// The safe points and their barriers.
    pub safe_points: SafePoints,
    /// The keyspaces.
    pub keyspaces: Vec<KeyspaceMeta>,
}

/// Creates a bootstrapped state with these regions and without stores, for tests.
#[cfg(test)]
pub fn restore(next_id: u64, regions: Vec<Region>) -> Result<PdState, String> {
    let numbers = Numbers { bootstrapped: true, next_id, tso_bound_ms: 0, gc_safe_point: 0, cluster_version: 1 };
    let regions = Regions { now: regions, first: vec![] };
    PdState::restore(numbers, vec![], regions, BTreeMap::new(), Default::default())
}

/// Returns the protocol version that introduced an operation.
pub fn since(op: &Op) -> u32 {
    match op {
        Op::SetStoreState(set) if set.state() == StoreState::Up => version::TAKEN_BACK,
        Op::ChangeSettings(change) if change.schedulers.iter().any(|one| shuffles(one.kind())) => version::TAKEN_BACK,
        Op::SetStoreState(_) => version::MEMBERS,
        Op::SetStoreLabels(_) => version::LABELS,
        Op::ChangeMembers(_) => version::PD_MEMBERS,
        Op::ChangeSettings(_) | Op::ReplaceStore(_) => version::SETTINGS,
        Op::ChangeSafePoints(_) => version::SAFE_POINTS,
        Op::ChangeKeyspace(_) => version::KEYSPACES,
        Op::StoreStarted(_) => 2,
        Op::Bootstrap(_)
        | Op::PutStore(_)
        | Op::TsoBoundMs(_)
        | Op::AllocIds(_)
        | Op::PutRegion(_)
        | Op::GcSafePoint(_)
        | Op::ClusterVersion(_) => 1,
    }
}

/// The value for the proposer and the changed objects, or the reason for rejecting the command.
type Outcome = Result<(u64, Vec<Changed>), String>;

fn raise(value: &mut u64, to: u64) -> bool {
    let grows = to > *value;
    if grows {
        *value = to;
    }
    grows
}

/// Returns whether a store's record already contains `info`.
pub fn says(record: &StoreRecord, info: Option<&StoreInfo>) -> bool {
    let Some(info) = info else { return true };
    record.store.as_ref().is_some_and(|store| {
        store.version == info.version
            && store.git_hash == info.git_hash
            && store.start_timestamp == info.start_timestamp_s
            && store.deploy_path == info.deploy_path
    })
}

/// Returns the ID in a store's record.
pub fn store_id(record: &StoreRecord) -> u64 {
    record.store.as_ref().map_or(0, |store| store.id)
}

/// Returns the address in a store's record; empty if the store no longer has one.
pub fn address(record: &StoreRecord) -> &str {
    record.store.as_ref().map_or("", |store| &store.address)
}

/// Marks a store as one whose place store `by` has taken: it has no address any more, and gives its replicas away.
fn replace(record: &mut StoreRecord, by: u64) {
    let store = record.store.get_or_insert_default();
    store.address.clear();
    store.peer_address.clear();
    store.status_address.clear();
    store.set_state(StoreState::Offline);
    store.labels.retain(|label| label.key != LABEL_REPLACED_BY);
    store.labels.push(StoreLabel { key: LABEL_REPLACED_BY.into(), value: by.to_string() });
}

/// Returns whether a store's record says that it is in service.
pub fn is_up(record: &StoreRecord) -> bool {
    record.store.as_ref().is_some_and(|store| store.state() == StoreState::Up && !store.address.is_empty())
}

/// Returns whether a store has to become empty: it is being removed, or another store took its place.
pub fn is_offline(record: &StoreRecord) -> bool {
    record.store.as_ref().is_some_and(|store| store.state() == StoreState::Offline)
}

/// Returns whether a store was removed from the cluster.
pub fn is_tombstone(record: &StoreRecord) -> bool {
    record.store.as_ref().is_some_and(|store| store.state() == StoreState::Tombstone)
}

fn check_region(region: &Region, store_known: impl Fn(u64) -> bool) -> Result<(), String> {
    let id = region.id;
    if id <= GroupId::PD.0 {
        return Err(format!("{id} cannot be a region's id"));
    }
    if !region.end_key.is_empty() && region.start_key >= region.end_key {
        return Err(format!("region {id} has an empty range"));
    }
    let epoch = region::epoch(region);
    if epoch.conf_ver == 0 || epoch.version == 0 {
        return Err(format!("region {id} has no epoch"));
    }
    if region.peers.is_empty() {
        return Err(format!("region {id} has no peers"));
    }
    let mut on = BTreeSet::new();
    for peer in &region.peers {
        if !store_known(peer.store_id) {
            return Err(format!("region {id} has a peer on the unknown store {}", peer.store_id));
        }
        if peer.id == 0 || !on.insert(peer.store_id) {
            return Err(format!("region {id} has two peers on store {}, or one without an id", peer.store_id));
        }
    }
    Ok(())
}

fn check_bootstrap(command: &Bootstrap) -> Result<(), String> {
    let count = command.stores.len();
    if count == 0 || command.uuids.len() != count || command.names.len() != count {
        return Err(format!("{count} stores with {} uuids and {} names", command.uuids.len(), command.names.len()));
    }
    let mut ids = BTreeSet::from([0]);
    let mut claim = |id: u64| {
        if id >= command.next_id {
            return Err(format!("id {id} is not below the next free id {}", command.next_id));
        }
        if ids.insert(id) { Ok(()) } else { Err(format!("id {id} is used twice")) }
    };
    let (mut uuids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for (Store { id, address, .. }, uuid) in command.stores.iter().zip(&command.uuids) {
        claim(*id)?;
        if uuid.is_empty() || !uuids.insert(uuid) {
            return Err(format!("store {id}: its uuid '{uuid}' is empty or used twice"));
        }
        if address.is_empty() || !addresses.insert(address) {
            return Err(format!("store {id}: its address '{address}' is empty or used twice"));
        }
    }
    for region in &command.regions {
        claim(region.id)?;
        check_region(region, |id| command.stores.iter().any(|store| store.id == id))?;
        for peer in &region.peers {
            claim(peer.id)?;
        }
    }
    check_cover(&command.regions)
}

/// Checks whether the regions, in any order, cover all keys without a hole or an overlap.
fn check_cover(regions: &[Region]) -> Result<(), String> {
    let mut sorted: Vec<&Region> = regions.iter().collect();
    sorted.sort_by(|left, right| left.start_key.cmp(&right.start_key));
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
        return Err("no regions: the keys are not covered".into());
    };
    if !first.start_key.is_empty() || !last.end_key.is_empty() {
        return Err("the regions do not reach from minus to plus infinity".into());
    }
    for pair in sorted.windows(2) {
        if pair[0].end_key != pair[1].start_key || pair[0].end_key.is_empty() {
            return Err(format!("regions {} and {} overlap or leave a hole between them", pair[0].id, pair[1].id));
        }
    }
    Ok(())
}
