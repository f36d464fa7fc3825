//! What request tasks see of this store's peer of a group. Only the driver writes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use armilla_arch::sync::{Budget, Lease, Share};

use crate::proto::armilla::raft::{Marks, Merges, SafeTime};
use crate::rt::clock::Instant;
use crate::rt::sync::{oneshot, watch};
use crate::types::limits::{
    PROPOSAL_BYTES_PENDING_MAX, PROPOSALS_PENDING_MAX, READS_PENDING_MAX, STORE_PROPOSAL_BYTES_MAX,
    STORE_READS_PENDING_MAX,
};
use crate::types::region::{self, Peer};
use crate::types::{Error, GroupId, Region, Result};

use super::load::PeerLoad;

/// The leader of a group, as far as this store knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader's peer ID; 0 if unknown.
    pub leader: u64,
    /// Whether this store's peer is leader AND has applied an entry of its own term, so that its state is complete.
    pub ready: bool,
}

/// What all groups of a store share.
#[derive(Clone, Debug)]
pub struct StoreBudgets {
    /// Bytes of pending proposals.
    pub proposal_bytes: Budget,
    /// Reads that wait for a quorum.
    pub reads: Budget,
    /// Counts the groups that begin and end here, and their changes of leadership and descriptor.
    pub changes: Arc<Mutex<u64>>,
}

impl Default for StoreBudgets {
    fn default() -> StoreBudgets {
        StoreBudgets {
            proposal_bytes: Budget::new(STORE_PROPOSAL_BYTES_MAX),
            reads: Budget::new(STORE_READS_PENDING_MAX),
            changes: Arc::default(),
        }
    }
}

/// The slot of a read that waits for a quorum, released when dropped.
#[derive(Debug)]
pub(super) struct ReadSlot {
    _group: Share,
    _store: Share,
}

/// How far a group is applied.
#[derive(Debug, Default)]
struct Applied {
    index: u64,
    /// Those who wait until a higher index is applied.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

/// The visible state of this store's peer of a group.
#[derive(Debug)]
pub struct PeerView {
    /// The group's ID.
    pub group: GroupId,
    /// This store's peer ID.
    pub peer: u64,
    /// This store's ID.
    pub store: u64,
    /// The applied region descriptor, and what merges have made of the region.
    state: RwLock<(Arc<Region>, Arc<Merges>)>,
    /// The region's marks: at least those of the engine's content.
    marks: RwLock<Marks>,
    /// Up to which timestamp this peer may serve reads without asking, and when it learnt that.
    safe: Mutex<Option<(SafeTime, Instant)>>,
    /// The leader, with a subscription to its changes.
    leadership: watch::Sender<Leadership>,
    /// The term and end (node clock, ns) of the lease under which this peer serves reads without asking a quorum.
    lease: Lease,
    /// The index up to which the engine holds the group, and those who wait for more.
    applied: Mutex<Applied>,
    /// Quotas of pending proposals: their number and bytes in the group, and their bytes in all groups of the store.
    pending: Budget,
    pending_bytes: Budget,
    store_bytes: Budget,
    /// Quotas of reads that wait for a quorum: in the group, and in all groups of the store.
    pending_reads: Budget,
    store_reads: Budget,
    /// Counts changes of all groups of the store.
    changes: Arc<Mutex<u64>>,
    /// Counters of reads served under the lease, and of reads after asking a quorum.
    lease_reads: AtomicU64,
    index_reads: AtomicU64,
    load: PeerLoad,
    /// The number of new leaders that this peer has heard of.
    leader_changes: AtomicU64,
    /// Whether this peer has heard no leader for long.
    alone: AtomicBool,
    /// Whether this peer sleeps.
    asleep: AtomicBool,
}

impl PeerView {
    pub(super) fn new(store: u64, peer: u64, region: Region, merges: Merges, budgets: &StoreBudgets) -> PeerView {
        let marks = merges.marks.unwrap_or_default();
        PeerView {
            group: GroupId(region.id),
            peer,
            store,
            marks: RwLock::new(marks),
            state: RwLock::new((Arc::new(region), Arc::new(merges))),
            safe: Mutex::default(),
            leadership: watch::Sender::new(Leadership::default()),
            lease: Lease::none(),
            applied: Mutex::default(),
            pending: Budget::new(PROPOSALS_PENDING_MAX),
            pending_bytes: Budget::new(PROPOSAL_BYTES_PENDING_MAX),
            store_bytes: budgets.proposal_bytes.clone(),
            pending_reads: Budget::new(READS_PENDING_MAX),
            store_reads: budgets.reads.clone(),
            changes: budgets.changes.clone(),
            lease_reads: AtomicU64::new(0),
            index_reads: AtomicU64::new(0),
            load: PeerLoad::default(),
            leader_changes: AtomicU64::new(0),
            alone: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
        }
    }

    /// Returns the applied region descriptor.
    pub fn region(&self) -> Arc<Region> {
        self.state.read().expect("no writer panics").0.clone()
    }
    /// Returns what merges have made of the region.
    pub fn merges(&self) -> Arc<Merges> {
        self.state.read().expect("no writer panics").1.clone()
    }
    /// Returns the descriptor and what merges have made of the region, as of one moment.
    pub fn state(&self) -> (Arc<Region>, Arc<Merges>) {
        self.state.read().expect("no writer panics").clone()
    }
    /// Returns whether the region is frozen: it may become part of another one.
    pub fn is_merging(&self) -> bool {
        self.state.read().expect("no writer panics").1.merging.is_some()
    }
    /// Shows another descriptor. This must happen before the engine holds the change that came with it: a read takes
    /// its view of the engine first and looks at the descriptor afterwards.
    pub(super) fn set_state(&self, region: Region, merges: Merges) {
        assert_eq!(region.id, self.group.0, "a group shows its own descriptor");
        self.raise_marks(merges.marks.unwrap_or_default());
        *self.state.write().expect("no writer panics") = (Arc::new(region), Arc::new(merges));
        self.note_change();
    }
    /// Shows the region's marks. This must happen before the engine holds what was removed under them: a read takes its
    /// view of the engine first and looks at the marks afterwards.
    pub(super) fn raise_marks(&self, marks: Marks) {
        let mut own = self.marks.write().expect("no writer panics");
        own.floor = own.floor.max(marks.floor);
        own.collected = own.collected.max(marks.collected);
    }
    /// Returns the region's marks: at least those under which a view of the engine was made that was taken before.
    pub fn marks(&self) -> Marks {
        *self.marks.read().expect("no writer panics")
    }
    /// Returns the latest safe time that this peer has learnt, and when.
    pub fn safe_time(&self) -> Option<(SafeTime, Instant)> {
        *self.safe.lock().expect("no holder panics")
    }
    /// Records a safe time of this group. One of an older version of the region or at an earlier timestamp says nothing
    /// new.
    pub(super) fn learn_safe_time(&self, time: SafeTime, now: Instant) {
        assert_eq!(time.group_id, self.group.0, "a group learns its own safe time");
        let mut safe = self.safe.lock().expect("no holder panics");
        if safe.is_none_or(|(known, _)| (known.version, known.at) <= (time.version, time.at)) {
            *safe = Some((time, now));
        }
    }
    /// Returns the current leadership.
    pub fn leadership(&self) -> Leadership {
        self.leadership.borrow().clone()
    }
    /// Subscribes to changes of the leadership.
    pub fn subscribe(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
    pub(super) fn set_leadership(&self, leadership: Leadership) {
        self.leadership.send_if_modified(|old| {
            let changed = *old != leadership;
            if leadership.leader != 0 && (old.leader, old.term) != (leadership.leader, leadership.term) {
                self.leader_changes.fetch_add(1, Ordering::Relaxed);
            }
            *old = leadership;
            changed
        });
        self.note_change();
    }
    fn note_change(&self) {
        *self.changes.lock().expect("no holder panics") += 1;
    }
    /// Returns the number of reads through this peer since the start: under its lease, and after asking a quorum.
    pub fn reads(&self) -> (u64, u64) {
        (self.lease_reads.load(Ordering::Relaxed), self.index_reads.load(Ordering::Relaxed))
    }
    pub(super) fn count_lease_read(&self) {
        self.lease_reads.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn count_index_read(&self) {
        self.index_reads.fetch_add(1, Ordering::Relaxed);
    }
    /// Returns the number of writes that were proposed through this peer since the start.
    pub fn writes(&self) -> u64 {
        self.load.sums().writes
    }
    /// Returns what requests read and wrote through this peer.
    pub fn load(&self) -> &PeerLoad {
        &self.load
    }
    /// Returns the number of pending writes of this peer, and their bytes.
    pub fn pending(&self) -> (usize, usize) {
        (self.pending.taken(), self.pending_bytes.taken())
    }
    /// Returns the quotas that a write takes from: slots in the group, bytes in the group, bytes on the store.
    pub(super) fn budgets(&self) -> (&Budget, &Budget, &Budget) {
        (&self.pending, &self.pending_bytes, &self.store_bytes)
    }
    /// Returns the number of reads that wait for a quorum.
    #[cfg(test)]
    pub(super) fn reads_waiting(&self) -> usize {
        self.pending_reads.taken()
    }
    /// Takes a slot for a read that waits for a quorum.
    pub(super) fn take_read_slot(&self) -> Result<ReadSlot> {
        let busy = |whose: String, reads: usize| Error::Busy(format!("{whose}: {reads} reads wait for a quorum"));
        let group = self.pending_reads.take(1).map_err(|reads| busy(format!("group {}", self.group), reads))?;
        let store = self.store_reads.take(1).map_err(|reads| busy("this store".into(), reads))?;
        Ok(ReadSlot { _group: group, _store: store })
    }
    /// Returns how many new leaders, or new terms of the same leader, this peer has heard of since the start.
    pub fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }
    /// Returns whether this peer has heard no leader for long: it may have been removed without hearing of it.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }
    /// Returns whether this peer sleeps: nothing happens in the group.
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }
    pub(super) fn show_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::Relaxed);
    }
    pub(super) fn show_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Relaxed);
    }
    /// Returns whether this store's peer is leader, as far as it knows.
    pub fn leads(&self) -> bool {
        self.leadership.borrow().leader == self.peer
    }
    /// Returns the leader's peer, if it is known.
    pub fn leader_peer(&self) -> Option<Peer> {
        let leader = self.leadership.borrow().leader;
        region::peer_by_id(&self.region(), leader).cloned()
    }
    /// Returns the applied index.
    pub fn applied(&self) -> u64 {
        self.applied.lock().expect("no holder panics").index
    }
    pub(super) fn set_applied(&self, index: u64) {
        let mut applied = self.applied.lock().expect("no holder panics");
        let before = std::mem::replace(&mut applied.index, index);
        assert!(index >= before, "group {}: the applied index went back from {before} to {index}", self.group);
        if !applied.waiting.is_empty() {
            let (reached, waiting) = std::mem::take(&mut applied.waiting).into_iter().partition(|(to, _)| *to <= index);
            applied.waiting = waiting;
            for (_, waiter) in reached {
                // It may have given up.
                let _ = waiter.send(());
            }
        }
    }
    /// Completes when the engine holds the group up to `index`, or when this peer is gone.
    pub(super) async fn wait_applied(&self, index: u64) {
        let reached = {
            let mut applied = self.applied.lock().expect("no holder panics");
            if applied.index >= index {
                return;
            }
            applied.waiting.retain(|(_, waiter)| !waiter.is_closed());
            let (waiter, reached) = oneshot::channel();
            applied.waiting.push((index, waiter));
            reached
        };
        let _ = reached.await;
    }
    /// Shows that this peer is no member any more. Must come before the engine loses the group's data: a read takes its
    /// view of the engine first and looks at the descriptor afterwards.
    pub(super) fn end(&self) {
        let region = Region { peers: Vec::new(), ..Region::clone(&self.region()) };
        self.state.write().expect("no writer panics").0 = Arc::new(region);
        self.note_change();
        self.applied.lock().expect("no holder panics").waiting.clear();
    }
    pub(super) fn set_lease(&self, term: u64, until: Instant) {
        self.lease.set(term, until.0);
    }
    pub(super) fn drop_lease(&self) {
        self.lease.revoke();
    }
    /// Returns the term of the lease if it is valid at `now` (on this node's clock).
    pub fn lease(&self, now: Instant) -> Option<u64> {
        self.lease.valid(now.0)
    }
    /// Returns the error for a request that must go to the leader.
    pub fn not_leader(&self) -> Error {
        let leader = self.leader_peer().filter(|peer| peer.id != self.peer);
        Error::NotLeader { group: self.group, leader }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: everything is counted once. Method: by hand.

    use super::*;

    #[test]
    fn leader_changes_are_counted_once() {
        let view =
            PeerView::new(1, 8, Region { id: 7, ..Region::default() }, Merges::default(), &StoreBudgets::default());
        for (term, leader, ready) in
            [(1, 8, false), (1, 8, true), (2, 0, false), (2, 9, false), (3, 9, false), (3, 9, false)]
        {
            view.set_leadership(Leadership { term, leader, ready });
        }
        assert_eq!(view.leader_changes(), 3);
    }

    #[test]
    fn the_groups_of_a_store_share_its_reads() {
        let budgets = StoreBudgets { reads: Budget::new(3), ..StoreBudgets::default() };
        let view = |id| PeerView::new(1, 8, Region { id, ..Region::default() }, Merges::default(), &budgets);
        let (one, other) = (view(7), view(9));
        let slots: Vec<ReadSlot> = [&one, &other, &one].iter().map(|view| view.take_read_slot().unwrap()).collect();
        assert_eq!(
            other.take_read_slot().unwrap_err().to_string(),
            Error::Busy("this store: 3 reads wait for a quorum".into()).to_string()
        );
        drop(slots);
        assert!(other.take_read_slot().is_ok());
    }
}
