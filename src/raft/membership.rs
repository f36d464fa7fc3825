//! Who votes: the conf state of a descriptor, and the first state of a group.

use ::raft::eraftpb::{ConfState, HardState};

use crate::proto::metapb::PeerRole;
use crate::types::Region;

/// Index and term of the entry that every group is said to begin behind: raft-rs wants an initialized log to be non-empty.
pub const FIRST: (u64, u64) = (5, 5);

/// The membership that a descriptor's peers make up.
pub fn conf_state(region: &Region) -> ConfState {
    let mut state = ConfState::default();
    for peer in &region.peers {
        match peer.role() {
            PeerRole::Learner => state.learners.push(peer.id),
            PeerRole::Voter | PeerRole::IncomingVoter | PeerRole::DemotingVoter => state.voters.push(peer.id),
        }
    }
    state
}

/// The hard state of a group that never ran.
pub fn first_hard_state() -> HardState {
    let mut state = HardState::default();
    state.term = FIRST.1;
    state.commit = FIRST.0;
    state
}
