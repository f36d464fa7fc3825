//! The driver's front: how other rooms propose, read and look at the groups of this store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use armilla_arch::sync::{Budget, Lease, Share};
use bytes::Bytes;

use crate::engine::Engine;
use crate::rt::clock::{Clock, Instant};
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::{mpsc, oneshot, watch};
use crate::types::limits::{ENTRY_BYTES_MAX, PROPOSAL_BYTES_PENDING_MAX, PROPOSALS_PENDING_MAX};
use crate::types::region::{self, Peer};
use crate::types::{Error, GroupId, Region, Result};

use super::mailbox::Mail;

/// Between two looks at what is still to be handed over.
const HAND_OVER_LOOK: Duration = Duration::from_millis(10);

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

/// What this store's peer of a group shows to request tasks. The driver alone writes it.
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
    /// Applied index: a figure to show, nothing relies on it.
    applied: AtomicU64,
    /// Proposals on their way, and their bytes.
    pending: Budget,
    pending_bytes: Budget,
    /// Reads that went through this peer under its lease, and after asking a quorum; writes.
    lease_reads: AtomicU64,
    index_reads: AtomicU64,
    writes: AtomicU64,
    /// New leaders that this peer has heard of.
    leader_changes: AtomicU64,
}

impl PeerView {
    pub(crate) fn new(store: u64, peer: u64, region: Region) -> PeerView {
        PeerView {
            group: GroupId(region.id),
            peer,
            store,
            region: RwLock::new(Arc::new(region)),
            leadership: watch::Sender::new(Leadership::default()),
            lease: Lease::none(),
            applied: AtomicU64::new(0),
            pending: Budget::new(PROPOSALS_PENDING_MAX),
            pending_bytes: Budget::new(PROPOSAL_BYTES_PENDING_MAX),
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
    pub(crate) fn set_region(&self, region: Region) {
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
    pub(crate) fn set_leadership(&self, leadership: Leadership) {
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
    /// Writes that were proposed through this peer since the start.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
    /// Writes that are under way through this peer, and their bytes.
    pub fn pending(&self) -> (usize, usize) {
        (self.pending.taken(), self.pending_bytes.taken())
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
        self.applied.load(Ordering::Relaxed)
    }
    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.store(index, Ordering::Relaxed);
    }
    pub(crate) fn set_lease(&self, term: u64, until: Instant) {
        self.lease.set(term, until.0);
    }
    pub(crate) fn drop_lease(&self) {
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

/// Proposes to, reads from and looks at the groups of one store. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) mail: mpsc::UnboundedSender<Mail>,
    pub(crate) views: Arc<RwLock<BTreeMap<GroupId, Arc<PeerView>>>>,
    pub(crate) clock: Clock,
    pub(crate) engine: Engine,
    pub(crate) poisoned: Arc<Poison>,
    pub(crate) log_figures: Arc<RwLock<BTreeMap<&'static str, u64>>>,
    /// Letters in the driver's mailbox after its last round.
    pub(crate) letters: Arc<AtomicU64>,
}

/// Why the store stopped serving, once it has: the first reason stays.
#[derive(Debug, Default)]
pub struct Poison(OnceLock<String>);

impl Poison {
    /// The reason, if the store has stopped serving.
    pub fn why(&self) -> Option<String> {
        self.0.get().cloned()
    }
    pub(crate) fn set(&self, why: String) {
        let _ = self.0.set(why);
    }
}

impl Handle {
    /// The engine, for reads after [`Handle::read_barrier`].
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The node's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Figures of the raft log, by name, as of the last tick.
    pub fn log_figures(&self) -> BTreeMap<&'static str, u64> {
        self.log_figures.read().expect("no writer panics").clone()
    }

    /// Figures of the raft groups here, by name; what counts up begins at 0 with the process.
    pub fn raft_figures(&self) -> BTreeMap<&'static str, u64> {
        let views = self.views();
        let sum = |of: &dyn Fn(&PeerView) -> u64| views.iter().map(|view| of(view)).sum::<u64>();
        [
            ("groups", views.len() as u64),
            ("leaders", sum(&|view| u64::from(view.leads()))),
            ("groups_without_leader", sum(&|view| u64::from(view.leadership().leader == 0))),
            ("leader_changes", sum(&PeerView::leader_changes)),
            ("proposals", sum(&PeerView::writes)),
            ("proposals_pending", sum(&|view| view.pending().0 as u64)),
            ("proposal_bytes_pending", sum(&|view| view.pending().1 as u64)),
            ("reads_by_lease", sum(&|view| view.reads().0)),
            ("reads_by_quorum", sum(&|view| view.reads().1)),
            ("mailbox_letters", self.letters.load(Ordering::Relaxed)),
        ]
        .into()
    }

    /// Why the store stopped serving, if it has.
    pub fn poisoned(&self) -> Option<String> {
        self.poisoned.why()
    }

    /// Stops the store for good, for a reason that its driver cannot know.
    pub fn stop_serving(&self, why: String) {
        // Without a driver it has stopped already.
        let _ = self.mail.send(Mail::Fail(why));
    }

    /// What this store's peer of `group` shows.
    pub fn view(&self, group: GroupId) -> Option<Arc<PeerView>> {
        self.views.read().expect("no writer panics").get(&group).cloned()
    }

    /// All groups with a peer here, in order of their ids.
    pub fn views(&self) -> Vec<Arc<PeerView>> {
        self.views.read().expect("no writer panics").values().cloned().collect()
    }

    /// Replicates `command` and gives the state machine's reply, once it is applied here.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::RegionNotFound`], [`Error::EntryTooLarge`], [`Error::Busy`], [`Error::Stopped`]: nothing
    /// happened. [`Error::Unknown`]: it may still happen.
    pub async fn propose(&self, group: GroupId, command: Bytes) -> Result<Bytes> {
        let view = self.view(group).ok_or(Error::RegionNotFound(group))?;
        if let Some(why) = self.poisoned() {
            return Err(Error::Stopped(why));
        }
        if !view.leads() {
            return Err(view.not_leader());
        }
        let bytes = command.len();
        if bytes > ENTRY_BYTES_MAX {
            return Err(Error::EntryTooLarge { group, bytes: bytes as u64 });
        }
        let ticket = Ticket::take(&view, bytes)?;
        let (sender, answer) = oneshot::channel();
        let mail = Mail::Propose { group, command, reply: Waiting { sender, _ticket: ticket } };
        self.mail.send(mail).map_err(|_| Error::Stopped("the store is shutting down".into()))?;
        view.writes.fetch_add(1, Ordering::Relaxed);
        answer.await.unwrap_or_else(|_| Err(Error::Unknown("the store stopped".into())))
    }

    /// Completes when a snapshot of the engine taken afterwards is linearizable for `group`: at once under a valid lease, after
    /// a round to a quorum otherwise.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::RegionNotFound`], [`Error::Stopped`], [`Error::Timeout`].
    pub async fn read_barrier(&self, group: GroupId) -> Result<Arc<PeerView>> {
        let view = self.view(group).ok_or(Error::RegionNotFound(group))?;
        if let Some(why) = self.poisoned() {
            return Err(Error::Stopped(why));
        }
        if let Some(term) = view.lease(self.clock.now()) {
            view.lease_reads.fetch_add(1, Ordering::Relaxed);
            let (store, group, peer) = (view.store, view.group.0, view.peer);
            probe::emit(|| Probe::LeaseRead { store, group, peer, term });
            return Ok(view);
        }
        if !view.leads() {
            return Err(view.not_leader());
        }
        view.index_reads.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let mail = Mail::Read { group, reply };
        self.mail.send(mail).map_err(|_| Error::Stopped("the store is shutting down".into()))?;
        answer.await.unwrap_or_else(|_| Err(Error::Stopped("the store stopped".into())))?;
        Ok(view)
    }

    /// Creates a group that never ran, with this store's peer of `region`; one that is here already is left alone.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the store does.
    pub async fn create(&self, region: Region) -> Result<()> {
        let stopped = || Error::Stopped("the store stopped".into());
        let (reply, answer) = oneshot::channel();
        self.mail.send(Mail::Create { region: Box::new(region), reply }).map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Hands `group`, which this store leads, over to `to_peer`. Returns when the transfer has begun: watch
    /// [`PeerView::subscribe`] for the outcome.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::RegionNotFound`]; [`Error::Invalid`] with the reason when that peer would not take over at
    /// once (it is silent, far behind, no voter); [`Error::Stopped`]. Nothing happened.
    pub async fn transfer_leader(&self, group: GroupId, to_peer: u64) -> Result<()> {
        let view = self.view(group).ok_or(Error::RegionNotFound(group))?;
        if !view.leads() {
            return Err(view.not_leader());
        }
        let stopped = || Error::Stopped("the store is shutting down".into());
        let (reply, answer) = oneshot::channel();
        self.mail.send(Mail::TransferLeader { group, to_peer, reply }).map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Hands over every region that this store leads, then the placement driver's group, to whoever would take over at once.
    /// Returns when this store has led nothing for `rest` (a transfer to it may have been on its way), or after `limit`: the
    /// groups that it leads still. Groups without another peer do not count. The placement driver's does not wait for regions that
    /// nobody takes over for longer than half the limit.
    pub async fn hand_over(&self, rest: Duration, limit: Duration) -> Vec<GroupId> {
        let begun = self.clock.now();
        let until = begun.plus(limit);
        let mut free_since = None;
        loop {
            let mut views = self.views();
            views.retain(|view| view.leads() && view.region().peers.len() > 1);
            let mut led: Vec<GroupId> = views.iter().map(|view| view.group).collect();
            let now = self.clock.now();
            let rested = led.is_empty() && now.since(*free_since.get_or_insert(now)) >= rest;
            if rested || now >= until || self.poisoned().is_some() {
                return led;
            }
            if !led.is_empty() {
                free_since = None;
                led.retain(|group| *group != GroupId::PD);
                // Without a driver there is nothing to hand over.
                let _ = self.mail.send(Mail::HandOver { pd: led.is_empty() });
                if !led.is_empty() && now.since(begun) >= limit / 2 {
                    let _ = self.mail.send(Mail::HandOver { pd: true });
                }
            }
            self.clock.sleep(HAND_OVER_LOOK).await;
        }
    }
}

/// Who waits for a proposal, and its place in the group's queue: taken until the proposal is settled, also when the caller has
/// gone away, since the command is in memory for as long.
#[derive(Debug)]
pub struct Waiting {
    sender: oneshot::Sender<Result<Bytes>>,
    _ticket: Ticket,
}

impl Waiting {
    /// Settles the proposal.
    pub(crate) fn settle(self, result: Result<Bytes>) {
        // Nobody may be there to hear it.
        let _ = self.sender.send(result);
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}

/// A place in a group's queue of proposals; given back when dropped.
#[derive(Debug)]
struct Ticket {
    _place: Share,
    _bytes: Share,
}

impl Ticket {
    fn take(view: &Arc<PeerView>, bytes: usize) -> Result<Ticket> {
        let busy = |what: String| Error::Busy(format!("group {}: {what} are under way", view.group));
        let place = view.pending.take(1).map_err(|count| busy(format!("{count} writes")))?;
        let bytes = view.pending_bytes.take(bytes).map_err(|bytes| busy(format!("writes of {bytes} bytes")))?;
        Ok(Ticket { _place: place, _bytes: bytes })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a proposal keeps its place for as long as its command is in memory. Method: by hand.

    use super::*;

    #[test]
    fn a_place_is_taken_until_the_proposal_is_settled() {
        let view = Arc::new(PeerView::new(1, 8, Region { id: 7, ..Region::default() }));
        let propose = || {
            let (sender, answer) = oneshot::channel();
            Ticket::take(&view, PROPOSAL_BYTES_PENDING_MAX / 2)
                .map(|ticket| (Waiting { sender, _ticket: ticket }, answer))
        };
        let (first, caller) = propose().unwrap();
        drop(caller);
        assert!(first.is_gone() && view.pending() == (1, PROPOSAL_BYTES_PENDING_MAX / 2), "the command still waits");
        let (second, _caller) = propose().unwrap();
        assert!(matches!(propose(), Err(Error::Busy(_))), "no more places, whoever has gone away");
        first.settle(Ok(Bytes::new()));
        drop(second);
        assert_eq!(view.pending(), (0, 0));
    }

    #[test]
    fn leader_changes_are_counted_once() {
        let view = PeerView::new(1, 8, Region { id: 7, ..Region::default() });
        for (term, leader, ready) in
            [(1, 8, false), (1, 8, true), (2, 0, false), (2, 9, false), (3, 9, false), (3, 9, false)]
        {
            view.set_leadership(Leadership { term, leader, ready });
        }
        assert_eq!(view.leader_changes(), 3);
    }
}
