//! One group on this store: its consensus, its state machine, and its pending requests.

mod install;
mod proposals;
mod rest;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::raft::Group;
use crate::raft::machine::StateMachine;
use crate::raft::output::Output;
use crate::rt::clock::Instant;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::oneshot;
use crate::types::region::RegionEpoch;
use crate::types::{Error, Region, Result, region};

use super::claims::Claim;
use super::view::{Leadership, PeerView, ReadSlot};

pub(super) use install::Install;
pub(super) use proposals::{Packed, Proposal, Proposals, Queued};
pub(super) use rest::{Rest, Seen};

/// This store's peer of one group.
pub(super) struct Peer {
    pub(in crate::replica) group: Group,
    pub(in crate::replica) machine: Box<dyn StateMachine>,
    pub(in crate::replica) view: Arc<PeerView>,
    pub(in crate::replica) proposals: Proposals,
    pub(in crate::replica) install: Install,
    /// The range that the snapshot being installed replaces.
    pub(in crate::replica) replaced: Option<Claim>,
    /// The newest term in which a follower asked for the commit index: from then on requests do not read by the lease
    /// alone.
    asked_term: u64,
    /// The stores of members that are not known here yet: this peer's descriptor lags. By the peer's ID.
    strangers: BTreeMap<u64, u64>,
    /// Whether the engine records that the group began here with a snapshot and its log may not have begun.
    pub(in crate::replica) newcomer: bool,
    /// Whether it sleeps.
    pub(in crate::replica) rest: Rest,
    reads: Reads,
    shown: Shown,
    /// The applied index that a flush has made durable.
    durable: u64,
    /// Whether the peer is in the driver's list of groups that may have work.
    dirty: bool,
}

/// Pending reads, by the number that raft knows them by.
#[derive(Debug, Default)]
struct Reads {
    next: u64,
    waiting: BTreeMap<u64, (oneshot::Sender<Result<()>>, ReadSlot)>,
}

/// The values that were last shown or reported, so that only changes are.
#[derive(Debug, Default)]
struct Shown {
    /// The end of the lease (node clock, ns; 0 if there is none) and its term.
    lease: (u64, u64),
    /// Whether proposals are accepted.
    accepts: bool,
    leadership: Leadership,
    /// The term and leader that were last reported.
    reported: (u64, u64),
}

impl Peer {
    /// Creates the peer of a group whose engine state is durable up to `durable`.
    pub fn new(group: Group, view: Arc<PeerView>, machine: Box<dyn StateMachine>, durable: u64) -> Peer {
        Peer {
            group,
            machine,
            view,
            proposals: Proposals::default(),
            install: Install::default(),
            replaced: None,
            asked_term: 0,
            strangers: BTreeMap::new(),
            newcomer: false,
            rest: Rest::awake(0),
            reads: Reads::default(),
            shown: Shown::default(),
            durable,
            dirty: false,
        }
    }

    /// Returns the applied region descriptor.
    pub fn region(&self) -> &Region {
        self.machine.region()
    }

    /// Returns the applied index that a flush has made durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Notes that a flush has made everything up to `index` durable.
    pub fn note_durable(&mut self, index: u64) {
        let (group, applied) = (self.view.group, self.group.log().applied().0);
        assert!(index <= applied, "group {group}: only what is applied is flushed: {index} of {applied}");
        self.durable = self.durable.max(index);
    }

    /// Returns what changes when something happens in the group.
    pub fn seen(&self) -> Seen {
        Seen { term: self.group.term(), last_index: self.group.last_index(), reads: self.view.reads() }
    }

    /// Returns whether nobody waits for the peer, and nothing is under way but what raft knows of.
    pub fn is_idle(&self) -> bool {
        let waited_for = !self.proposals.is_settled() || !self.reads.waiting.is_empty();
        let changing = !self.install.is_idle() || self.newcomer || self.replaced.is_some();
        !(waited_for || changing || self.has_work() || self.machine.merges().merging.is_some())
    }

    /// Marks the group as possibly having work. Returns false if it was marked already.
    pub fn mark_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Returns whether the group waits until the engine has installed its snapshot.
    pub fn waits_for_install(&mut self) -> bool {
        let waits = matches!(self.install, Install::Running(_));
        if waits {
            self.dirty = false;
        }
        waits
    }

    /// Returns whether there is work to do, or a change to show.
    pub fn has_work(&self) -> bool {
        self.group.has_work() || !self.proposals.is_idle() || self.shown.accepts != self.group.accepts()
    }

    /// Returns the group's next output, if there is one, and shows its current state.
    pub fn take(&mut self, now_ns: u64) -> Option<Output> {
        self.dirty = false;
        let output = self.group.take(now_ns);
        self.publish(now_ns);
        output
    }

    /// Returns whether a message from a store is meant for this peer and comes from a peer that is a member, as far as
    /// is known here. A replica that left and came back, here or there, is another peer: messages to or from the old
    /// one must not reach the new one.
    pub fn is_meant(&self, from_store: u64, epoch: RegionEpoch, from: u64, to: u64) -> bool {
        if crate::mutant!("replica.peers-not-checked") {
            return true;
        }
        let sender = region::peer_by_id(self.region(), from);
        let newer = epoch.conf_ver > region::epoch(self.region()).conf_ver;
        to == self.group.peer() && sender.map_or(newer, |peer| peer.store_id == from_store)
    }

    /// Remembers where the sender of a message is, if the descriptor does not say so.
    pub fn meet(&mut self, peer: u64, store: u64) {
        if region::peer_by_id(self.region(), peer).is_none() && !crate::mutant!("replica.strangers-not-answered") {
            crate::reach!("driver.stranger");
            self.strangers.insert(peer, store);
        } else if !self.strangers.is_empty() {
            self.strangers.remove(&peer);
        }
    }

    /// Returns the commit index for a follower that is going to serve reads.
    pub fn index_for_follower(&mut self) -> u64 {
        // From now on, before anybody can know the index.
        self.asked_term = self.group.term();
        if !crate::mutant!("replica.asked-leader-reads-on") {
            self.view.drop_lease();
        }
        self.group.committed()
    }

    /// Returns the store of a member.
    pub fn store_of(&self, peer: u64) -> Option<u64> {
        let known = region::peer_by_id(self.region(), peer).map(|peer| peer.store_id);
        known.or_else(|| self.strangers.get(&peer).copied())
    }

    /// Shows the group's current state to request tasks.
    pub fn publish(&mut self, now_ns: u64) {
        let term = self.group.term();
        // A frozen group may be served by its target.
        let frozen = self.machine.merges().merging.is_some() && !crate::mutant!("replica.lease-while-merging");
        let until = if frozen { 0 } else { self.group.lease_until() };
        let (store, group, peer) = (self.view.store, self.view.group.0, self.view.peer);
        let old = std::mem::replace(&mut self.shown.lease, (until, term));
        if old != (until, term) {
            match until {
                // Followers may have served what is committed but not applied here.
                _ if self.asked_term == term && !crate::mutant!("replica.asked-leader-reads-on") => {
                    self.view.drop_lease();
                }
                0 => self.view.drop_lease(),
                until => self.view.set_lease(term, Instant(until)),
            }
        }
        if old.0 != until {
            probe::emit(|| Probe::Lease { store, group, peer, term, left_ns: until.saturating_sub(now_ns) });
        }
        let accepts = self.group.accepts();
        if std::mem::replace(&mut self.shown.accepts, accepts) != accepts {
            probe::emit(|| Probe::Accepts { store, group, peer, term, accepts });
        }
        assert!(term >= self.shown.leadership.term, "group {}: a peer's term never goes back", self.view.group);
        let leadership = Leadership { term, leader: self.group.leader(), ready: self.group.ready() };
        if self.shown.leadership != leadership {
            self.shown.leadership = leadership.clone();
            self.view.set_leadership(leadership);
        }
    }

    /// Reports the leader, if it changed since the last report.
    pub fn report_leadership(&mut self) {
        let after = (self.group.term(), self.group.leader());
        if std::mem::replace(&mut self.shown.reported, after) == after {
            return;
        }
        let (store, group, id, (term, leader)) = (self.view.store, self.view.group, self.view.peer, after);
        if leader == id {
            tracing::info!(store, %group, term, "became leader");
            probe::emit(|| Probe::Leader { store, group: group.0, peer: id, term });
        } else {
            tracing::debug!(store, %group, term, leader, "became follower");
            probe::emit(|| Probe::Follow { store, group: group.0, peer: id, term, leader });
        }
    }

    /// Asks a quorum to confirm a read.
    pub fn read(&mut self, reply: oneshot::Sender<Result<()>>, slot: ReadSlot) {
        self.reads.next += 1;
        self.reads.waiting.insert(self.reads.next, (reply, slot));
        self.group.read(self.reads.next);
    }

    /// Forgets reads whose callers have given up, and releases their slots.
    pub fn forget_given_up_reads(&mut self) {
        self.reads.waiting.retain(|_, (reply, _)| !reply.is_closed());
    }

    /// Answers reads: `served` may be served now, `lost` cannot be served here.
    pub fn answer_reads(&mut self, served: &[u64], lost: &[u64]) {
        let (store, group, peer) = (self.view.store, self.view.group.0, self.view.peer);
        for (reply, _slot) in served.iter().filter_map(|read| self.reads.waiting.remove(read)) {
            let index = self.group.log().applied().0;
            probe::emit(|| Probe::IndexRead { store, group, peer, index });
            let _ = reply.send(Ok(()));
        }
        for (reply, _slot) in lost.iter().filter_map(|read| self.reads.waiting.remove(read)) {
            let _ = reply.send(Err(self.view.not_leader()));
        }
    }

    /// Settles the proposals at and before an applied entry.
    pub fn settle(&mut self, index: u64, term: u64, replies: Vec<Bytes>) {
        let view = &self.view;
        self.proposals.settle(index, term, replies, || view.not_leader());
    }

    /// Ends the peer when the store stops serving: nothing may be read here any more, and every pending request gets
    /// `error`.
    pub fn end(&mut self, error: impl Fn() -> Error) {
        self.view.drop_lease();
        self.view.set_leadership(Leadership::default());
        self.proposals.fail_all(&error);
        for (_, (reply, _slot)) in std::mem::take(&mut self.reads.waiting) {
            let _ = reply.send(Err(error()));
        }
    }
}
