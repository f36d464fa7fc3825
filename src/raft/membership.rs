//! Membership: the conf state of a descriptor, and the first state of a group.

use ::raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, HardState};

use crate::proto::metapb::PeerRole;
use crate::types::Region;
use crate::types::region::{self, Peer};

/// Index and term of the entry after which every group's log starts: raft-rs requires the log of an initialized group
/// to be non-empty.
pub const FIRST: (u64, u64) = (5, 5);

/// Returns the membership that a descriptor's peers make up. While a voter is being added or demoted the membership is
/// joint: decisions need a quorum of the new voters and a quorum of the old ones.
pub fn conf_state(region: &Region) -> ConfState {
    let mut state = ConfState::default();
    let moves = |peer: &Peer| matches!(peer.role(), PeerRole::IncomingVoter | PeerRole::DemotingVoter);
    let joint = region.peers.iter().any(moves);
    for peer in &region.peers {
        let role = peer.role();
        if matches!(role, PeerRole::Voter | PeerRole::IncomingVoter) {
            state.voters.push(peer.id);
        }
        if joint && matches!(role, PeerRole::Voter | PeerRole::DemotingVoter) {
            state.voters_outgoing.push(peer.id);
        }
        match role {
            PeerRole::Learner => state.learners.push(peer.id),
            PeerRole::DemotingVoter => state.learners_next.push(peer.id),
            PeerRole::Voter | PeerRole::IncomingVoter => {}
        }
    }
    state
}

/// Returns the change of membership that leads from one descriptor to the next, for raft.
pub fn change(from: &Region, to: &Region) -> ConfChangeV2 {
    let is_joint = |region: &Region| !conf_state(region).voters_outgoing.is_empty();
    let mut change = ConfChangeV2::default();
    if is_joint(from) {
        // Raft ends a joint membership by a change without changes.
        return change;
    }
    // Raft does not end it by itself.
    let transition = if is_joint(to) { ConfChangeTransition::Explicit } else { ConfChangeTransition::Auto };
    change.set_transition(transition);
    let mut add = |kind, peer: u64| {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = peer;
        change.mut_changes().push(single);
    };
    for peer in &to.peers {
        let before = region::peer_by_id(from, peer.id).map(Peer::role);
        match peer.role() {
            role if before == Some(role) => {}
            PeerRole::Voter | PeerRole::IncomingVoter => add(ConfChangeType::AddNode, peer.id),
            PeerRole::Learner | PeerRole::DemotingVoter => add(ConfChangeType::AddLearnerNode, peer.id),
        }
    }
    for peer in from.peers.iter().filter(|peer| region::peer_by_id(to, peer.id).is_none()) {
        add(ConfChangeType::RemoveNode, peer.id);
    }
    change
}

/// Returns the hard state of a group that never ran.
pub fn first_hard_state() -> HardState {
    let mut state = HardState::default();
    state.term = FIRST.1;
    state.commit = FIRST.0;
    state
}

#[cfg(test)]
mod tests {
    //! Goal: roles are translated into the right membership. Method: by hand.
    use super::*;

    fn region(roles: &[PeerRole]) -> Region {
        let peer = |(id, role): (u64, &PeerRole)| Peer { id, store_id: id, role: *role as i32, ..Peer::default() };
        Region { peers: (1..).zip(roles).map(peer).collect(), ..Region::default() }
    }

    #[test]
    fn a_peer_on_its_way_makes_the_membership_joint() {
        use PeerRole::{DemotingVoter, IncomingVoter, Learner, Voter};
        let still = conf_state(&region(&[Voter, Voter, Learner]));
        assert_eq!((still.voters, still.learners), (vec![1, 2], vec![3]));
        assert!(still.voters_outgoing.is_empty() && still.learners_next.is_empty());
        let joint = conf_state(&region(&[Voter, DemotingVoter, IncomingVoter, Learner]));
        assert_eq!((joint.voters, joint.voters_outgoing), (vec![1, 3], vec![1, 2]));
        assert_eq!((joint.learners, joint.learners_next), (vec![4], vec![2]));
    }
}
