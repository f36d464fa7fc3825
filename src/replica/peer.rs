//! One group on this store, as the driver keeps it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use protobuf::Message as _;

use crate::proto::armilla::raft::GroupState;
use crate::raft::Group;
use crate::raft::machine::StateMachine;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::oneshot;
use crate::types::{Error, Region, Result};

use super::handle::{Leadership, PeerView, Waiting};
use super::snapshot::Pair;

/// An entry that was proposed here and is not applied yet.
#[derive(Debug)]
pub(super) struct Proposal {
    pub index: u64,
    pub term: u64,
    pub replies: Vec<Waiting>,
}

/// One group on this store.
pub(super) struct Peer {
    pub group: Group,
    pub view: Arc<PeerView>,
    pub machine: Box<dyn StateMachine>,
    pub region: Region,
    /// Commands that wait to be packed into an entry.
    pub queue: Vec<(Bytes, Waiting)>,
    /// Entries under way, by index.
    pub proposals: VecDeque<Proposal>,
    /// Reads under way, by id.
    pub reads: BTreeMap<u64, oneshot::Sender<Result<()>>>,
    /// Applied index that a flush has made durable.
    pub durable: u64,
    /// The index of the last snapshot installed here; 0: none.
    pub snapshot_index: u64,
    /// When leadership was lost with proposals under way (node clock, ns).
    pub lost_at: Option<u64>,
    /// The data of a snapshot that raft is about to judge.
    pub arrived: Option<Vec<Pair>>,
    /// A snapshot that the engine holds: index, term and encoded state, for raft to hear of after the log write.
    pub installed: Option<(u64, u64, Bytes)>,
    /// The end of the lease that was last published (node clock, ns; 0: none).
    pub leased: u64,
    /// Whether proposals were taken, as last reported.
    pub accepts: bool,
    /// The term and leader that were last reported.
    pub reported: (u64, u64),
    /// Is in the driver's list of groups with something to do.
    pub dirty: bool,
}

impl Peer {
    /// The group's state at an applied entry, as the engine and snapshots carry it.
    pub fn encode_state(&self, index: u64, term: u64) -> Bytes {
        let conf_state = self.group.log().conf_state().write_to_bytes().expect("a conf state encodes");
        let state = GroupState {
            region: Some(self.region.clone()),
            applied_index: index,
            applied_term: term,
            conf_state: conf_state.into(),
            peer_id: self.group.peer(),
            installed_index: self.snapshot_index,
        };
        state.encode_to_vec().into()
    }

    /// Shows request tasks what they may see, now.
    pub fn publish(&mut self, now_ns: u64) {
        let term = self.group.term();
        let until = self.group.lease_until();
        match until {
            0 => self.view.drop_lease(),
            until => self.view.set_lease(term, crate::rt::clock::Instant(until)),
        }
        if std::mem::replace(&mut self.leased, until) != until {
            let (store, group, peer) = (self.view.store, self.view.group.0, self.view.peer);
            probe::emit(|| Probe::Lease { store, group, peer, term, left_ns: until.saturating_sub(now_ns) });
        }
        let accepts = self.group.accepts();
        if std::mem::replace(&mut self.accepts, accepts) != accepts {
            let (store, group, peer) = (self.view.store, self.view.group.0, self.view.peer);
            probe::emit(|| Probe::Accepts { store, group, peer, term, accepts });
        }
        self.view.set_leadership(Leadership { term, leader: self.group.leader(), ready: self.group.ready() });
    }

    /// Remembers who waits for an entry that was just proposed. Entries of an earlier leadership at or behind its place are
    /// overwritten here; another peer that still holds them may yet commit them.
    pub fn await_entry(&mut self, proposal: Proposal) {
        while self.proposals.back().is_some_and(|last| last.index >= proposal.index) {
            let overwritten = self.proposals.pop_back().expect("just seen");
            fail(overwritten, || Error::Unknown("leadership was lost while it was under way".into()));
        }
        self.proposals.push_back(proposal);
    }

    /// Settles the proposals at and before an applied entry. Those of another term at that index never happened.
    pub fn settle(&mut self, index: u64, term: u64, replies: Vec<Bytes>) {
        while self.proposals.front().is_some_and(|p| p.index < index) {
            // Entries are applied one by one, so an older proposal can only remain if a snapshot jumped over it.
            let proposal = self.proposals.pop_front().expect("just seen");
            fail(proposal, || Error::Unknown("a snapshot replaced the log before the write's fate was seen".into()));
        }
        if self.proposals.front().is_none_or(|p| p.index != index) {
            return;
        }
        let proposal = self.proposals.pop_front().expect("just seen");
        if proposal.term == term || crate::mutant!("replica.settle-ignores-term") {
            assert_eq!(proposal.replies.len(), replies.len(), "an entry has as many replies as commands");
            for (waiting, reply) in proposal.replies.into_iter().zip(replies) {
                waiting.settle(Ok(reply));
            }
        } else {
            let refused = self.view.not_leader();
            fail(proposal, || refused.clone());
        }
    }

    /// Fails everything that waits for this group.
    pub fn fail_all(&mut self, error: impl Fn() -> Error) {
        for (_, reply) in self.queue.drain(..) {
            reply.settle(Err(error()));
        }
        for proposal in self.proposals.drain(..) {
            fail(proposal, &error);
        }
        for (_, reply) in std::mem::take(&mut self.reads) {
            let _ = reply.send(Err(error()));
        }
    }
}

pub(super) fn fail(proposal: Proposal, error: impl Fn() -> Error) {
    for reply in proposal.replies {
        reply.settle(Err(error()));
    }
}
