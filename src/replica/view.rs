//! What this store's peer of a group shows to request tasks. The driver alone writes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use armilla_arch::sync::{Budget, Lease, Share};

use crate::rt::clock::Instant;
use crate::rt::sync::watch;
use crate::types::limits::{
    PROPOSAL_BYTES_PENDING_MAX, PROPOSALS_PENDING_MAX, READS_PENDING_MAX, STORE_PROPOSAL_BYTES_MAX,
    STORE_READS_PENDING_MAX,
};
use crate::types::region::{self, Peer};
use crate::types::{Error, GroupId, Region, Result};

/// Who leads a group, as this store knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader's peer id; 0 when unknown.
    pub leader: u64,
    /// Whether this store's peer leads AND has applied an entry of its own term, so that its state is complete.
    pub ready: bool,
}

/// What all groups of a store share.
#[derive(Clone, Debug)]
pub struct StoreBudgets {
    /// Bytes of proposals that wait for their commit.
    pub proposal_bytes: Budget,
    /// Reads that wait for a quorum.
    pub reads: Budget,
}

impl Default for StoreBudgets {
    fn default() -> StoreBudgets {
        StoreBudgets {
            proposal_bytes: Budget::new(STORE_PROPOSAL_BYTES_MAX),
            reads: Budget::new(STORE_READS_PENDING_MAX),
        }
    }
}

/// The place of a read among those that wait for a quorum; given back when dropped.
#[derive(Debug)]
pub(super) struct ReadPlace {
    _group: Share,
    _store: Share,
}

/// What this store's peer of a group shows.
#[derive(Debug)]
pub struct PeerView {
    /// The group.
    pub group: GroupId,
    /// This store's peer id.
    pub peer: u64,
    /// This store's id.
    pub store: u64,
    /// The descriptor as applied.
    region: RwLock<Arc<Region>>,
    /// Who leads; subscribe to follow changes.
    leadership: watch::Sender<Leadership>,
    /// In which term and until when (node clock, ns) reads may be served from here without asking a quorum.
    lease: Lease,
    /// Up to where the engine holds the group.
    applied: Mutex<u64>,
    /// Proposals on their way, and their bytes; the bytes of all groups of the store.
    pending: Budget,
    pending_bytes: Budget,
    store_bytes: Budget,
    /// Reads that wait for a quorum; those of all groups of the store.
    pending_reads: Budget,
    store_reads: Budget,
    /// Reads that went through this peer under its lease, and after asking a quorum; writes.
    lease_reads: AtomicU64,
    index_reads: AtomicU64,
    writes: AtomicU64,
    /// New leaders that this peer has heard of.
    leader_changes: AtomicU64,
}

impl PeerView {
    pub(super) fn new(store: u64, peer: u64, region: Region, budgets: &StoreBudgets) -> PeerView {
        PeerView {
            group: GroupId(region.id),
            peer,
            store,
            region: RwLock::new(Arc::new(region)),
            leadership: watch::Sender::new(Leadership::default()),
            lease: Lease::none(),
            applied: Mutex::new(0),
            pending: Budget::new(PROPOSALS_PENDING_MAX),
            pending_bytes: Budget::new(PROPOSAL_BYTES_PENDING_MAX),
            store_bytes: budgets.proposal_bytes.clone(),
            pending_reads: Budget::new(READS_PENDING_MAX),
            store_reads: budgets.reads.clone(),
            lease_reads: AtomicU64::new(0),
            index_reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
        }
    }

    /// The descriptor as applied.
    pub fn region(&self) -> Arc<Region> {
        self.region.read().expect("no writer panics").clone()
    }
    /// Shows another descriptor. Before the engine holds what came with it: a read takes its view of the engine first and looks at
    /// the descriptor afterwards.
    pub(super) fn set_region(&self, region: Region) {
        assert_eq!(region.id, self.group.0, "a group shows its own descriptor");
        *self.region.write().expect("no writer panics") = Arc::new(region);
    }
    /// Who leads, now.
    pub fn leadership(&self) -> Leadership {
        self.leadership.borrow().clone()
    }
    /// Who leads, from now on.
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
    }
    /// Reads that went through this peer since the start: under its lease, and after asking a quorum.
    pub fn reads(&self) -> (u64, u64) {
        (self.lease_reads.load(Ordering::Relaxed), self.index_reads.load(Ordering::Relaxed))
    }
    pub(super) fn count_lease_read(&self) {
        self.lease_reads.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn count_index_read(&self) {
        self.index_reads.fetch_add(1, Ordering::Relaxed);
    }
    /// Writes that were proposed through this peer since the start.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
    pub(super) fn count_write(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }
    /// Writes that are under way through this peer, and their bytes.
    pub fn pending(&self) -> (usize, usize) {
        (self.pending.taken(), self.pending_bytes.taken())
    }
    /// What a write takes a share of: places in the group, bytes in the group, bytes on the store.
    pub(super) fn budgets(&self) -> (&Budget, &Budget, &Budget) {
        (&self.pending, &self.pending_bytes, &self.store_bytes)
    }
    /// Reads that wait for a quorum.
    #[cfg(test)]
    pub(super) fn reads_waiting(&self) -> usize {
        self.pending_reads.taken()
    }
    /// A place for a read that waits for a quorum.
    pub(super) fn place_read(&self) -> Result<ReadPlace> {
        let busy = |whose: String, reads: usize| Error::Busy(format!("{whose}: {reads} reads wait for a quorum"));
        let group = self.pending_reads.take(1).map_err(|reads| busy(format!("group {}", self.group), reads))?;
        let store = self.store_reads.take(1).map_err(|reads| busy("this store".into(), reads))?;
        Ok(ReadPlace { _group: group, _store: store })
    }
    /// New leaders, or new terms of the old one, that this peer has heard of since the start.
    pub fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }
    /// Whether this store's peer leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.leadership.borrow().leader == self.peer
    }
    /// The leader's peer, if known.
    pub fn leader_peer(&self) -> Option<Peer> {
        let leader = self.leadership.borrow().leader;
        region::peer_by_id(&self.region(), leader).cloned()
    }
    /// The applied index.
    pub fn applied(&self) -> u64 {
        *self.applied.lock().expect("no holder panics")
    }
    pub(super) fn set_applied(&self, index: u64) {
        let mut applied = self.applied.lock().expect("no holder panics");
        assert!(index >= *applied, "group {}: the applied index went back from {} to {index}", self.group, *applied);
        *applied = index;
    }
    pub(super) fn set_lease(&self, term: u64, until: Instant) {
        self.lease.set(term, until.0);
    }
    pub(super) fn drop_lease(&self) {
        self.lease.revoke();
    }
    /// The term of a lease that is valid at `now` (on this node's clock), if there is one.
    pub fn lease(&self, now: Instant) -> Option<u64> {
        self.lease.valid(now.0)
    }
    /// The error of a request that must go to the leader.
    pub fn not_leader(&self) -> Error {
        let leader = self.leader_peer().filter(|peer| peer.id != self.peer);
        Error::NotLeader { group: self.group, leader }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is counted is counted once. Method: by hand.

    use super::*;

    #[test]
    fn leader_changes_are_counted_once() {
        let view = PeerView::new(1, 8, Region { id: 7, ..Region::default() }, &StoreBudgets::default());
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
        let view = |id| PeerView::new(1, 8, Region { id, ..Region::default() }, &budgets);
        let (one, other) = (view(7), view(9));
        let places: Vec<ReadPlace> = [&one, &other, &one].iter().map(|view| view.place_read().unwrap()).collect();
        assert_eq!(
            other.place_read().unwrap_err().to_string(),
            Error::Busy("this store: 3 reads wait for a quorum".into()).to_string()
        );
        drop(places);
        assert!(other.place_read().is_ok());
    }
}
