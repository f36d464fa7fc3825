//! The interface for other modules: proposals to, reads from and inspection of the groups of this store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use armilla_arch::sync::Budget;
use bytes::Bytes;

use crate::engine::Engine;
use crate::proto::armilla::raft::{Absorbed, Merges, Merging, ReadAt, SafeTime};
use crate::proto::kvrpcpb::LockInfo;
use crate::raft::frame::Command;
use crate::rt::clock::Clock;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::{mpsc, oneshot, watch};
use crate::rt::task;
use crate::types::limits::{ENTRY_BYTES_MAX, INBOX_BYTES_MAX, WAKE_WAIT_MAX};
use crate::types::{Error, GroupId, Region, Result, region};

use super::claims::{self, Claim, Claims};
use super::group_state::Tombstone;
use super::message::{MergeMessage, Message, Waiting};
use super::read_checks::ReadChecks;
use super::signs::Signs;
use super::snapshot::Counts;
use super::view::{PeerView, StoreBudgets};

/// The interval between two checks of what is still to be handed over.
const HAND_OVER_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// How much room a store's disk has, in terms of what the store still accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// Everything.
    #[default]
    Enough,
    /// No new data.
    Low,
    /// No new data, and no leaders.
    Critical,
}

/// Proposes to, reads from and inspects the groups of one store. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    lanes: Arc<[Lane]>,
    views: Arc<RwLock<BTreeMap<GroupId, Arc<PeerView>>>>,
    /// Ranges of groups that are about to begin with a snapshot.
    claims: Claims,
    /// By group: what remains of the peers that were destroyed here.
    tombstones: Arc<RwLock<BTreeMap<GroupId, Tombstone>>>,
    clock: Clock,
    engine: Engine,
    poisoned: Arc<Poison>,
    log_stats: Arc<RwLock<BTreeMap<&'static str, u64>>>,
    /// Quotas that all groups share.
    budgets: StoreBudgets,
    inbox: Budget,
    /// Signs of life of other stores.
    signs: Signs,
    /// How often this node's clock stood still.
    clock_losses: Arc<AtomicU64>,
    room: Arc<AtomicU8>,
    snapshots: Arc<Counts>,
    /// How often a peer of the placement driver's group began or ended here.
    pd_changes: Arc<watch::Sender<u64>>,
    /// How many regions were split because of their load, and how often a load could not be divided.
    load_splits: Arc<(AtomicU64, AtomicU64)>,
    /// What the store's transactions say about reads by other stores.
    checks: Arc<OnceLock<Arc<dyn ReadChecks>>>,
}

/// The part of a lane that other tasks see.
#[derive(Debug)]
struct Lane {
    messages: mpsc::UnboundedSender<Message>,
    /// The number of messages that still waited after its last round.
    waiting: AtomicU64,
    /// Whether its engine or its log has stalled writes for too long.
    stalled: AtomicBool,
    /// Bytes of cached entries, and of entries that wait for the engine or the log, as of the last update.
    cached_bytes: AtomicU64,
    unapplied_bytes: AtomicU64,
}

/// Why the store stopped serving, if it has. The first reason stays.
#[derive(Debug, Default)]
pub struct Poison(OnceLock<String>);

impl Poison {
    /// Returns the reason, if the store has stopped serving.
    pub fn why(&self) -> Option<String> {
        self.0.get().cloned()
    }
    /// Sets the reason. Returns false if there is one already.
    fn set(&self, why: String) -> bool {
        self.0.set(why).is_ok()
    }
}

impl Handle {
    /// Creates a handle of lanes that have not started, and the receivers of their messages.
    pub(super) fn new(clock: Clock, engine: Engine, lanes: usize) -> (Handle, Vec<mpsc::UnboundedReceiver<Message>>) {
        let lane = |_| {
            let (messages, arriving) = mpsc::unbounded_channel();
            let (waiting, stalled) = (AtomicU64::new(0), AtomicBool::new(false));
            let (cached_bytes, unapplied_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
            (Lane { messages, waiting, stalled, cached_bytes, unapplied_bytes }, arriving)
        };
        let (lanes, messages): (Vec<_>, Vec<_>) = (0..lanes).map(lane).unzip();
        let handle = Handle {
            lanes: lanes.into(),
            views: Arc::default(),
            claims: Claims::default(),
            tombstones: Arc::default(),
            clock,
            engine,
            poisoned: Arc::default(),
            log_stats: Arc::default(),
            budgets: StoreBudgets::default(),
            inbox: Budget::new(INBOX_BYTES_MAX),
            signs: Signs::default(),
            clock_losses: Arc::default(),
            room: Arc::default(),
            snapshots: Arc::default(),
            pd_changes: Arc::new(watch::Sender::new(0)),
            load_splits: Arc::default(),
            checks: Arc::default(),
        };
        (handle, messages)
    }

    /// Counts a region that was split because of its load, or one whose load cannot be divided.
    pub fn count_load_split(&self, possible: bool) {
        let count = if possible { &self.load_splits.0 } else { &self.load_splits.1 };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many regions were split because of their load, and how often a load could not be divided.
    pub fn load_splits(&self) -> (u64, u64) {
        (self.load_splits.0.load(Ordering::Relaxed), self.load_splits.1.load(Ordering::Relaxed))
    }

    /// Returns the number of lanes.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Returns the lane that drives a group.
    pub(super) fn lane_of(&self, group: GroupId) -> usize {
        (group.0 % self.lanes.len() as u64) as usize
    }

    /// Sends a message to a group's lane. Returns false if the lane has ended.
    pub(super) fn send(&self, group: GroupId, message: Message) -> bool {
        self.send_to(self.lane_of(group), message)
    }

    /// Sends a message about a merge to a group's lane. A lane that has ended needs none.
    pub(super) fn send_of_merge(&self, group: GroupId, message: MergeMessage) {
        self.send(group, Message::Merge(message));
    }

    /// Sends a message to a lane. Returns false if the lane has ended.
    pub(super) fn send_to(&self, lane: usize, message: Message) -> bool {
        self.lanes[lane].messages.send(message).is_ok()
    }

    /// Sends a message to every lane.
    pub(super) fn send_all(&self, message: impl Fn() -> Message) {
        for lane in &*self.lanes {
            // Lanes that have ended need no message.
            let _ = lane.messages.send(message());
        }
    }

    fn deliver(&self, group: GroupId, message: Message) -> Result<()> {
        if self.send(group, message) { Ok(()) } else { Err(Error::Stopped("the store is shutting down".into())) }
    }

    /// Adds the view of a group that runs here from now on, and returns it.
    pub(super) fn add(&self, store: u64, peer: u64, region: Region, merges: Merges) -> Arc<PeerView> {
        let view = Arc::new(PeerView::new(store, peer, region, merges, &self.budgets));
        self.views.write().expect("no writer panics").insert(view.group, view.clone());
        *self.budgets.changes.lock().expect("no holder panics") += 1;
        self.note_peer_of(view.group);
        view
    }

    /// Tells the placement driver's server that a peer of a group began or ended here, if it is its own.
    fn note_peer_of(&self, group: GroupId) {
        if group == GroupId::PD {
            self.pd_changes.send_modify(|count| *count += 1);
        }
    }

    /// Returns a receiver that changes whenever a peer of the placement driver's group begins or ends here.
    pub fn pd_changes(&self) -> watch::Receiver<u64> {
        self.pd_changes.subscribe()
    }

    /// Removes the view of a group that does not run here after all.
    pub(super) fn remove(&self, group: GroupId) {
        self.views.write().expect("no writer panics").remove(&group);
        *self.budgets.changes.lock().expect("no holder panics") += 1;
        self.note_peer_of(group);
    }

    /// Remembers what remains of a peer that was destroyed.
    pub(super) fn bury(&self, group: GroupId, tombstone: Tombstone) {
        self.tombstones.write().expect("no reader panics").insert(group, tombstone);
    }

    /// Returns what remains of a group's peers that were destroyed here.
    pub(super) fn tombstone(&self, group: GroupId) -> Tombstone {
        self.tombstones.read().expect("no writer panics").get(&group).copied().unwrap_or_default()
    }

    /// Returns the lowest ID that a peer of a group may have here; 0 if none was ever destroyed here.
    pub(super) fn peer_id_min(&self, group: GroupId) -> u64 {
        self.tombstone(group).peer_id_min
    }

    /// Returns the groups of which peers were destroyed here.
    pub(super) fn buried(&self) -> Vec<GroupId> {
        self.tombstones.read().expect("no writer panics").keys().copied().collect()
    }

    /// Returns the other groups whose range overlaps that of `region` and that are here, or about to begin.
    pub(super) fn overlapping(&self, region: &Region) -> Vec<GroupId> {
        let other = |group: &GroupId| group.0 != region.id;
        let overlaps = |view: &&Arc<PeerView>| claims::contend(&view.region(), region);
        let mut groups: Vec<GroupId> = self.views().iter().filter(overlaps).map(|view| view.group).collect();
        groups.extend(self.claims.overlapping(region));
        groups.retain(other);
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Returns whether a group whose range overlaps that of `region` is here, or about to begin.
    pub(super) fn is_taken(&self, region: &Region) -> bool {
        let contends = |view: &Arc<PeerView>| claims::contend(&view.region(), region);
        self.views().iter().any(contends) || self.claims.overlap(region)
    }

    /// Reserves a range that belongs to a group here: that of a newborn, or one that a snapshot replaces.
    pub(super) fn reserve(&self, region: &Region) -> Claim {
        self.claims.reserve(region)
    }

    /// Reserves the range of a group that is to begin here with a snapshot. Returns `None` if it is taken.
    pub(super) fn claim(&self, region: &Region) -> Option<Claim> {
        if self.is_taken(region) { None } else { self.claims.claim(region) }
    }

    /// Records why the store stops serving. Returns false if it had stopped already.
    pub(super) fn poison(&self, why: String) -> bool {
        self.poisoned.set(why)
    }

    pub(super) fn show_log(&self, stats: BTreeMap<&'static str, u64>) {
        *self.log_stats.write().expect("no reader panics") = stats;
    }

    /// Returns whether the engine or the raft log has stalled writes for too long.
    pub fn is_stalled(&self) -> bool {
        self.lanes.iter().any(|lane| lane.stalled.load(Ordering::Relaxed))
    }

    pub(super) fn show_stall(&self, lane: usize, stalled: bool) {
        self.lanes[lane].stalled.store(stalled, Ordering::Relaxed);
    }

    /// Returns how much room the disk has, as last reported.
    pub fn room(&self) -> Room {
        match self.room.load(Ordering::Relaxed) {
            0 => Room::Enough,
            1 => Room::Low,
            _ => Room::Critical,
        }
    }

    /// Reports how much room the store's disk has.
    pub fn show_room(&self, room: Room) {
        self.room.store(room as u8, Ordering::Relaxed);
    }

    pub(super) fn show_memory(&self, lane: usize, cached_bytes: usize, unapplied_bytes: usize) {
        self.lanes[lane].cached_bytes.store(cached_bytes as u64, Ordering::Relaxed);
        self.lanes[lane].unapplied_bytes.store(unapplied_bytes as u64, Ordering::Relaxed);
    }

    /// Returns the quota, in bytes, for messages from other stores that wait for the lanes.
    pub(super) fn inbox(&self) -> &Budget {
        &self.inbox
    }

    /// Returns a count that rises whenever a group begins or ends here, or its leadership or descriptor changes.
    pub fn changes(&self) -> u64 {
        *self.budgets.changes.lock().expect("no holder panics")
    }

    /// Returns the signs of life of other stores.
    pub(super) fn signs(&self) -> &Signs {
        &self.signs
    }

    pub(super) fn show_waiting(&self, lane: usize, messages: usize) {
        self.lanes[lane].waiting.store(messages as u64, Ordering::Relaxed);
    }

    /// Returns the counters of snapshots.
    pub(super) fn snapshots(&self) -> &Arc<Counts> {
        &self.snapshots
    }

    /// Returns the engine, for reads after [`Handle::read_barrier`].
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the node's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns statistics of the raft log by name, as of the last tick.
    pub fn log_figures(&self) -> BTreeMap<&'static str, u64> {
        self.log_stats.read().expect("no writer panics").clone()
    }

    /// Returns statistics of the raft groups here by name. Counters start at 0 with the process.
    pub fn raft_figures(&self) -> BTreeMap<&'static str, u64> {
        let views = self.views();
        let sum = |of: &dyn Fn(&PeerView) -> u64| views.iter().map(|view| of(view)).sum::<u64>();
        let lanes =
            |of: &dyn Fn(&Lane) -> &AtomicU64| self.lanes.iter().map(|lane| of(lane).load(Ordering::Relaxed)).sum();
        [
            ("groups", views.len() as u64),
            ("leaders", sum(&|view| u64::from(view.leads()))),
            ("groups_asleep", sum(&|view| u64::from(view.is_asleep()))),
            ("groups_without_leader", sum(&|view| u64::from(view.leadership().leader == 0))),
            ("leader_changes", sum(&PeerView::leader_changes)),
            ("proposals", sum(&PeerView::writes)),
            ("proposals_pending", sum(&|view| view.pending().0 as u64)),
            ("proposal_bytes_pending", sum(&|view| view.pending().1 as u64)),
            ("reads_by_lease", sum(&|view| view.reads().0)),
            ("reads_by_quorum", sum(&|view| view.reads().1)),
            ("queued_messages", lanes(&|lane| &lane.waiting)),
            ("inbox_bytes", self.inbox.taken() as u64),
            ("entries_cached_bytes", lanes(&|lane| &lane.cached_bytes)),
            ("entries_unapplied_bytes", lanes(&|lane| &lane.unapplied_bytes)),
            ("lanes", self.lanes.len() as u64),
            ("clock_losses", self.clock_losses.load(Ordering::Relaxed)),
        ]
        .into_iter()
        .chain(self.snapshots.stats())
        .collect()
    }

    /// Handles that the node's clock stood still: leases that were measured with it end, and only messages that are
    /// sent from now on establish new ones.
    pub(super) fn clock_stood_still(&self) {
        self.clock_losses.fetch_add(1, Ordering::Relaxed);
        self.views().iter().for_each(|view| view.drop_lease());
        self.send_all(|| Message::ClockStoodStill);
    }

    /// Returns why the store stopped serving, if it has.
    pub fn poisoned(&self) -> Option<String> {
        self.poisoned.why()
    }

    /// Stops the store permanently, for a reason that its driver cannot know.
    pub fn stop_serving(&self, why: String) {
        // Lanes that have ended have stopped already.
        self.send_all(|| Message::Fail(why.clone()));
    }

    /// Returns the view of this store's peer of `group`.
    pub fn view(&self, group: GroupId) -> Option<Arc<PeerView>> {
        self.views.read().expect("no writer panics").get(&group).cloned()
    }

    /// Returns the views of all groups with a peer here, in the order of their IDs.
    pub fn views(&self) -> Vec<Arc<PeerView>> {
        self.views.read().expect("no writer panics").values().cloned().collect()
    }

    /// Replicates `command`, and returns the state machine's reply once the command is applied here. If `term` is not
    /// 0, it is the term in which the proposer decided, and nothing is proposed in another term.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::RegionNotFound`], [`Error::StaleCommand`] (another term),
    /// [`Error::EntryTooLarge`], [`Error::Busy`], [`Error::Stopped`]: the command was not proposed. [`Error::Unknown`]:
    /// it may still be applied.
    pub async fn propose(&self, group: GroupId, term: u64, command: Command) -> Result<Bytes> {
        let view = self.view(group).ok_or(Error::RegionNotFound(group))?;
        self.propose_to(&view, term, command).await
    }

    /// Like [`Handle::propose`], but to a peer that was looked up before.
    ///
    /// # Errors
    /// Like [`Handle::propose`].
    pub async fn propose_to(&self, view: &Arc<PeerView>, term: u64, command: Command) -> Result<Bytes> {
        if let Some(why) = self.poisoned() {
            return Err(Error::Stopped(why));
        }
        if !view.leads() {
            return Err(view.not_leader());
        }
        let bytes = command.bytes.len();
        if bytes > ENTRY_BYTES_MAX {
            return Err(Error::EntryTooLarge { group: view.group, bytes: bytes as u64 });
        }
        if self.is_stalled() || crate::buggify!("replica.refuse-proposal") {
            crate::reach!("replica.proposal-refused-by-a-stalled-store");
            return Err(Error::Busy(
                "the engine or the raft log stalls writes: the disk is slow, or there is too much to compact".into(),
            ));
        }
        if crate::buggify!("replica.propose-late") {
            task::yield_now().await;
        }
        let (reply, answer) = Waiting::new(view, bytes)?;
        self.deliver(view.group, Message::Propose { group: view.group, term, command, reply })?;
        view.load().count_write(bytes);
        let (store, group) = (view.store, view.group.0);
        probe::emit(|| Probe::Note { store, what: "load-write", a: group, b: 1, data: Default::default() });
        answer.await.unwrap_or_else(|_| Err(Error::Unknown("the store stopped".into())))
    }

    /// Returns when a snapshot of the engine that is taken afterwards is linearizable for `group`: at once under a
    /// valid lease, otherwise after a round trip to a quorum.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::RegionNotFound`], [`Error::Stopped`], [`Error::Timeout`].
    pub async fn read_barrier(&self, group: GroupId) -> Result<Arc<PeerView>> {
        let view = self.view(group).ok_or(Error::RegionNotFound(group))?;
        self.confirm(&view).await?;
        Ok(view)
    }

    /// Like [`Handle::read_barrier`], but for a peer that was looked up before.
    ///
    /// # Errors
    /// Like [`Handle::read_barrier`].
    pub async fn confirm(&self, view: &PeerView) -> Result<()> {
        if let Some(why) = self.poisoned() {
            return Err(Error::Stopped(why));
        }
        let lease = view.lease(self.clock.now());
        if let Some(term) = lease.filter(|_| !crate::buggify!("replica.read-without-lease")) {
            view.count_lease_read();
            let (store, group, peer) = (view.store, view.group.0, view.peer);
            probe::emit(|| Probe::LeaseRead { store, group, peer, term });
            return Ok(());
        }
        if !view.leads() {
            return Err(view.not_leader());
        }
        let slot = view.take_read_slot()?;
        view.count_index_read();
        let (reply, answer) = oneshot::channel();
        self.deliver(view.group, Message::Read { group: view.group, reply, slot })?;
        answer.await.unwrap_or_else(|_| Err(Error::Stopped("the store stopped".into())))
    }

    /// Connects the store's transactions, which other stores ask about reads. Only the first call counts.
    pub fn connect_checks(&self, checks: Arc<dyn ReadChecks>) {
        // A second call changes nothing.
        let _ = self.checks.set(checks);
    }

    /// Returns what the store's transactions say about reads ([`ReadChecks::admit`]).
    ///
    /// # Errors
    /// [`Error::Timeout`] before the transactions are connected.
    pub fn admit_reads(&self, reads: &[ReadAt]) -> Result<Vec<Option<LockInfo>>> {
        match self.checks.get() {
            Some(checks) => Ok(checks.admit(reads)),
            None if reads.is_empty() => Ok(Vec::new()),
            None => Err(Error::Timeout("the store is still starting".into())),
        }
    }

    /// Returns the safe times of those of these groups that this store leads.
    ///
    /// # Errors
    /// [`Error::Timeout`] before the transactions are connected, or if the placement driver gives out no timestamp.
    pub async fn safe_times(&self, groups: Vec<GroupId>) -> Result<Vec<SafeTime>> {
        match self.checks.get() {
            Some(checks) => checks.safe_times(groups).await,
            None => Err(Error::Timeout("the store is still starting".into())),
        }
    }

    /// Returns the commit index of a group, once it is certain that this store led the group when it was asked, and for
    /// each read the lock that it has to wait for.
    ///
    /// # Errors
    /// As [`Handle::read_barrier`] and [`Handle::admit_reads`].
    pub async fn index_for_follower(&self, group: GroupId, reads: &[ReadAt]) -> Result<(u64, Vec<Option<LockInfo>>)> {
        let view = self.view(group).ok_or(Error::RegionNotFound(group))?;
        if !view.leads() {
            return Err(view.not_leader());
        }
        // Before the commit index: what commits below these reads is part of it.
        let locks = self.admit_reads(reads)?;
        let (reply, answer) = oneshot::channel();
        self.deliver(group, Message::Asked { group, reply })?;
        let index = answer.await.unwrap_or_else(|_| Err(Error::Stopped("the store stopped".into())))?;
        self.confirm(&view).await?;
        Ok((index, locks))
    }

    /// Creates new groups, with this store's peers of `regions`. Groups that exist here already are left alone.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the store stops.
    pub async fn create(&self, regions: Vec<Region>) -> Result<()> {
        let mut by_lane: BTreeMap<usize, Vec<Region>> = BTreeMap::new();
        for region in regions {
            by_lane.entry(self.lane_of(GroupId(region.id))).or_default().push(region);
        }
        let mut answers = Vec::new();
        for (lane, regions) in by_lane {
            let (reply, answer) = oneshot::channel();
            self.send_to(lane, Message::Create { regions, reply });
            answers.push(answer);
        }
        for answer in answers {
            answer.await.unwrap_or_else(|_| Err(Error::Stopped("the store stopped".into())))?;
        }
        Ok(())
    }

    /// Tells the group's leader, if it is here, that the target has decided against its merge.
    pub(super) fn decided_against(&self, group: GroupId, merging: Merging) {
        // A store that has stopped keeps what it has.
        self.send_of_merge(group, MergeMessage::Against { group, merging });
    }

    /// Tells the group's leader, if it is here, that no store has a peer of `source` any more.
    pub(super) fn forget_absorbed(&self, group: GroupId, source: GroupId) {
        // A store that has stopped keeps what it has.
        self.send_of_merge(group, MergeMessage::Forget { group, source });
    }

    /// Ends this store's peer of a group that is part of `heir` now, unless another peer here is going to take over its
    /// range. Returns whether no peer of the group can ever run here again.
    pub(super) async fn was_merged(&self, absorbed: Absorbed, heir: GroupId, heir_is_current: bool) -> bool {
        let (reply, answer) = oneshot::channel();
        self.send_of_merge(
            GroupId(absorbed.source_id),
            MergeMessage::WasMerged { absorbed, heir, heir_is_current, reply },
        );
        answer.await.unwrap_or(false)
    }

    /// Returns what this store knows of a group's fate: the group that it became part of, and its descriptor.
    pub(super) fn fate(&self, group: GroupId) -> (Option<GroupId>, Option<Region>) {
        let region = self.view(group).map(|view| Region::clone(&view.region()));
        (self.tombstone(group).heir, region.filter(|region| !region.peers.is_empty()))
    }

    /// Returns whether the target of a merge of `source` has decided against it, as far as this store knows.
    pub(super) fn is_decided_against(&self, source: GroupId, merging: &Merging) -> bool {
        let target = GroupId(merging.target_id);
        let lacks = |merges: &Merges| {
            let listed = merges.absorbed.iter().any(|one| one.source_id == source.0);
            !listed || crate::mutant!("replica.proof-by-epoch-alone")
        };
        if let Some(view) = self.view(target) {
            let (region, merges) = view.state();
            let (now, then) = (region::epoch(&region), merging.target_epoch.unwrap_or_default());
            return (now.version > then.version || now.conf_ver > then.conf_ver) && lacks(&merges);
        }
        // The target became part of another group, which has inherited what it had taken over.
        let (mut group, mut heir) = (target, None);
        while let Some(next) = self.tombstone(group).heir.filter(|_| !crate::mutant!("replica.heir-not-asked")) {
            (group, heir) = (next, self.view(next));
        }
        heir.is_some_and(|view| lacks(&view.merges()))
    }

    /// Returns whether a peer of `target` is here that has not taken over `source` yet. One that has a later snapshot
    /// has given what was `source`'s to others: it takes nothing from a peer of `source` that is still here. Nor does
    /// one that has applied all that was committed after the merge (`is_current`), even if it has forgotten `source`.
    pub(super) fn is_going_to_take(&self, target: GroupId, source: GroupId, is_current: bool) -> bool {
        let Some(view) = self.view(target) else { return false };
        let lists = |merges: &Merges| merges.absorbed.iter().any(|one| one.source_id == source.0);
        // A snapshot shows itself before the engine holds it.
        let has_taken = (is_current || lists(&view.merges())) && !self.claims.is_of(target);
        !has_taken || crate::mutant!("replica.kept-beside-its-heir")
    }

    /// Passes on a newer descriptor of `group`. If it does not name this store's peer, the peer is removed.
    pub fn end_by_proof(&self, group: GroupId, proof: Region) {
        // A store that has stopped keeps what it has.
        self.send(group, Message::Gone { group, proof: Box::new(proof) });
    }

    /// Begins to transfer the leadership of `group`, which this store leads, to `to_peer`. Returns once the transfer
    /// has begun; [`PeerView::subscribe`] shows its outcome.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::RegionNotFound`]; [`Error::Invalid`] with the reason if that peer could not take
    /// over at once (it is silent, far behind or no voter); [`Error::Stopped`]. In all these cases, no transfer has
    /// begun.
    pub async fn transfer_leader(&self, group: GroupId, to_peer: u64) -> Result<()> {
        let view = self.view(group).ok_or(Error::RegionNotFound(group))?;
        // A group that sleeps has to hear of its peers first, which takes a round of heartbeats.
        let until = view.is_asleep().then(|| self.clock.now().plus(WAKE_WAIT_MAX));
        loop {
            if !view.leads() {
                return Err(view.not_leader());
            }
            let (reply, answer) = oneshot::channel();
            self.deliver(group, Message::TransferLeader { group, to_peer, reply })?;
            let begun = answer.await.unwrap_or_else(|_| Err(Error::Stopped("the store stopped".into())));
            match begun {
                Err(Error::Invalid(_)) if until.is_some_and(|until| self.clock.now() < until) => {
                    self.clock.sleep(HAND_OVER_CHECK_INTERVAL).await;
                }
                begun => return begun,
            }
        }
    }

    /// Transfers the leadership of every region that this store leads, and then of the placement driver's group, to
    /// peers that can take over at once. Returns when this store has led nothing for `rest` (a transfer to it may
    /// have been in flight), or after `limit`, and returns the groups that it still leads. Groups without another
    /// peer do not count; if `rest` is zero, neither do groups that came back: the other store may be in the same
    /// situation, and the two would pass them to and fro. The placement driver's group waits for regions that no peer
    /// takes over for at most half of `limit`.
    pub async fn hand_over(&self, rest: Duration, limit: Duration) -> Vec<GroupId> {
        let begun = self.clock.now();
        let until = begun.plus(limit);
        let mut free_since = None;
        let (mut before, mut gone): (BTreeSet<GroupId>, BTreeSet<GroupId>) = Default::default();
        loop {
            let mut views = self.views();
            views.retain(|view| view.leads() && view.region().peers.len() > 1);
            if rest.is_zero() && !crate::mutant!("store.passes-leaders-to-and-fro") {
                views.retain(|view| !gone.contains(&view.group));
            }
            let mut led: Vec<GroupId> = views.iter().map(|view| view.group).collect();
            gone.extend(before.iter().filter(|group| !led.contains(group)));
            before = led.iter().copied().collect();
            let now = self.clock.now();
            let rested = led.is_empty() && now.since(*free_since.get_or_insert(now)) >= rest;
            if rested || now >= until || self.poisoned().is_some() {
                return led;
            }
            if !led.is_empty() {
                free_since = None;
                led.retain(|group| *group != GroupId::PD);
                let pd = led.is_empty();
                self.send_all(|| Message::HandOver { pd });
                if !led.is_empty() && now.since(begun) >= limit / 2 {
                    self.send_all(|| Message::HandOver { pd: true });
                }
            }
            self.clock.sleep(HAND_OVER_CHECK_INTERVAL).await;
        }
    }
}
