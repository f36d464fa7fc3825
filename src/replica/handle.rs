//! The driver's front: how other rooms propose, read and look at the groups of this store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

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
    /// Reads and writes that went through this peer.
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
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
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
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
            *old = leadership;
            changed
        });
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

    /// Why the store stopped serving, if it has.
    pub fn poisoned(&self) -> Option<String> {
        self.poisoned.why()
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
        let (reply, answer) = oneshot::channel();
        let mail = Mail::Propose { group, command, reply };
        self.mail.send(mail).map_err(|_| Error::Stopped("the store is shutting down".into()))?;
        view.writes.fetch_add(1, Ordering::Relaxed);
        let result = answer.await.unwrap_or_else(|_| Err(Error::Unknown("the store stopped".into())));
        drop(ticket);
        result
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
        view.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(term) = view.lease(self.clock.now()) {
            let (store, group, peer) = (view.store, view.group.0, view.peer);
            probe::emit(|| Probe::LeaseRead { store, group, peer, term });
            return Ok(view);
        }
        if !view.leads() {
            return Err(view.not_leader());
        }
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

    /// Asks the leader here to hand `group` over to `to_peer`. Best effort: watch [`PeerView::subscribe`] for the outcome.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::RegionNotFound`].
    pub fn transfer_leader(&self, group: GroupId, to_peer: u64) -> Result<()> {
        let view = self.view(group).ok_or(Error::RegionNotFound(group))?;
        if !view.leads() {
            return Err(view.not_leader());
        }
        self.mail
            .send(Mail::TransferLeader { group, to_peer })
            .map_err(|_| Error::Stopped("the store is shutting down".into()))
    }
}

/// A place in a group's queue of proposals; given back when dropped.
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
