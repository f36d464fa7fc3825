//! Changes of a group's members.
//!
//! A change is an entry that raft knows as such, so that it allows one at a time and no candidate that has not applied
//! one that is committed. The state machine decides at apply whether it is made; raft is told of it only then.
//!
//! **In** come descriptors before and after; **out** go entries, and refusals with a reason. **Never**: a proposal of a
//! change after which no quorum of voters would be alive and nearly up to date; a membership that differs from the
//! applied descriptor's.

use ::raft::eraftpb::{ConfState, Entry, EntryType};
use bytes::Bytes;
use protobuf::Message as _;

use super::group::Group;
use super::membership;
use crate::proto::metapb::PeerRole;
use crate::types::limits::PROMOTED_LAG_ENTRIES_MAX;
use crate::types::region::{self, Peer};
use crate::types::{Error, Region, Result};

/// A peer that has heard no leader for this many election timeouts may have been removed.
const ALONE_TIMEOUTS: usize = 3;

fn sorted(mut ids: Vec<u64>) -> Vec<u64> {
    ids.sort_unstable();
    ids
}

/// Returns the parts of a membership, in an order that can be compared.
fn parts(state: &ConfState) -> [Vec<u64>; 4] {
    [&state.voters, &state.voters_outgoing, &state.learners, &state.learners_next].map(|ids| sorted(ids.clone()))
}

impl Group {
    /// Proposes the change of members from `from`, the applied descriptor, to `to`, and returns the entry's index and
    /// term. `payload` is the command that makes the change.
    ///
    /// # Errors
    /// [`Error::NotLeader`]; [`Error::Busy`] while an earlier change or a transfer is under way; [`Error::Invalid`],
    /// with the reason, if the change would leave the group without a quorum. None has any effect.
    pub fn propose_members(&mut self, payload: Bytes, from: &Region, to: &Region, now_ns: u64) -> Result<(u64, u64)> {
        if !self.leads() {
            return Err(Error::NotLeader { group: self.id(), leader: None });
        }
        if !self.ready() || self.transfers() || self.node.raft.has_pending_conf() {
            return Err(Error::Busy(format!(
                "region {}: its leader is new, or an earlier change is under way",
                self.id()
            )));
        }
        self.check_quorum_after(from, to, now_ns).map_err(Error::Invalid)?;
        let change = membership::change(from, to);
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.data = change.write_to_bytes().map_err(|e| Error::Invalid(e.to_string()))?.into();
        entry.context = payload;
        let (index, term) = self.propose_entry(entry, now_ns)?;
        let kept = self.node.raft.raft_log.unstable.entries.last().map(|last| (last.index, last.get_entry_type()));
        assert_eq!(
            kept,
            Some((index, EntryType::EntryConfChangeV2)),
            "group {}: raft refused a change of members that was checked",
            self.id()
        );
        Ok((index, term))
    }

    /// Checks that every half of the membership after a change has a quorum of voters that are alive and hold the log
    /// except for its last entries.
    fn check_quorum_after(&self, from: &Region, to: &Region, now_ns: u64) -> Result<(), String> {
        if crate::mutant!("raft.members-without-quorum") {
            return Ok(());
        }
        let own = region::peer_by_id(to, self.peer).map(Peer::role);
        if !matches!(own, Some(PeerRole::Voter | PeerRole::IncomingVoter | PeerRole::DemotingVoter)) {
            return Err(format!(
                "region {}: its leader, peer {}, has to remain a voter: move it first",
                to.id, self.peer
            ));
        }
        let last = self.last_index();
        let fit = |peer: &u64| {
            let progress = self.node.raft.prs().get(*peer);
            let matched = progress.map_or(0, |progress| progress.matched);
            let alive = self.transfers.is_heard(*peer, self.election_ns(), now_ns);
            *peer == self.peer || alive && last.saturating_sub(matched) <= PROMOTED_LAG_ENTRIES_MAX
        };
        let state = membership::conf_state(to);
        for voters in [&state.voters, &state.voters_outgoing] {
            let fit = voters.iter().filter(|peer| fit(peer)).count();
            // A group in trouble may change as long as that does not make it worse.
            if !voters.is_empty() && fit <= voters.len() / 2 {
                return Err(format!(
                    "region {}: after the change only {fit} of {} voters would be alive and up to date",
                    to.id,
                    voters.len()
                ));
            }
        }
        let promoted = to.peers.iter().filter(|peer| {
            let before = region::peer_by_id(from, peer.id).map(Peer::role);
            before == Some(PeerRole::Learner) && peer.role() != PeerRole::Learner
        });
        for peer in promoted {
            if !fit(&peer.id) {
                return Err(format!("region {}: learner {} is not alive or not up to date", to.id, peer.id));
            }
        }
        Ok(())
    }

    /// Tells raft of a change that was applied: the group has the members of `to` now. Must come before
    /// [`Group::applied`].
    pub fn members_changed(&mut self, from: &Region, to: &Region) {
        let change = membership::change(from, to);
        let state = self.node.apply_conf_change(&change);
        let state = state.unwrap_or_else(|e| panic!("group {}: raft refuses the members of {to:?}: {e}", self.id()));
        let expected = membership::conf_state(to);
        assert_eq!(parts(&state), parts(&expected), "group {}: raft has the descriptor's members", self.id());
        self.log_mut().set_conf_state(expected);
        // A leader that is no voter any more would go on as one.
        let votes = self.log().conf_state().voters.contains(&self.peer);
        let old = self.log().conf_state().voters_outgoing.contains(&self.peer);
        if self.leads() && !votes && !old {
            crate::reach!("raft.leader-demoted");
            let term = self.term();
            self.node.raft.become_follower(term, 0);
        }
    }

    /// Returns whether this peer leads a group with a joint membership that it can and should end.
    pub fn should_leave_joint(&self) -> bool {
        let state = self.log().conf_state();
        self.ready()
            && !state.voters_outgoing.is_empty()
            && state.voters.contains(&self.peer)
            && !self.node.raft.has_pending_conf()
    }

    /// Returns whether this peer has not heard a leader for long. It may have been removed without hearing of it.
    pub fn is_alone(&self) -> bool {
        let long = ALONE_TIMEOUTS * self.election_ticks();
        // The leader of a learner is never forgotten.
        !self.leads() && (self.leaderless_ticks > long || self.node.raft.election_elapsed > long)
    }

    /// Returns whether this peer leads a group of whose voters it will be none.
    pub fn is_leaving(&self) -> bool {
        let state = self.log().conf_state();
        self.leads() && !state.voters_outgoing.is_empty() && !state.voters.contains(&self.peer)
    }
}
