//! Changes a descriptor's peers and their roles. Pure: every replica gets the same result.
//!
//! **In** come a descriptor and a change; **out** comes the descriptor after it, or the reason why it cannot be made.
//! **Never**: a region without a voter, two peers on one store, a voter that leaves without having been a learner, two
//! changes of voters at once outside of a joint membership.

use crate::proto::armilla::raft::peer_change::Kind;
use crate::proto::armilla::raft::{ChangePeers, PeerChange};
use crate::proto::metapb::PeerRole;
use crate::types::region::{Peer, RegionEpoch};
use crate::types::{Region, region};

/// Returns whether a peer's role is about to change: the membership is joint.
fn moves(peer: &Peer) -> bool {
    matches!(peer.role(), PeerRole::IncomingVoter | PeerRole::DemotingVoter)
}

/// Returns whether the members of a region are changing: decisions need a quorum of the old and of the new voters.
pub fn is_joint(region: &Region) -> bool {
    region.peers.iter().any(moves)
}

/// Returns the descriptor after a change. Its configuration version is one higher.
///
/// # Errors
/// The reason, as a sentence.
pub fn changed(region: &Region, command: &ChangePeers) -> Result<Region, String> {
    let mut after = region.clone();
    let changes = &command.changes;
    match (is_joint(region), changes.is_empty()) {
        (true, true) => after.peers.iter_mut().for_each(settle),
        (true, false) => {
            return Err(format!("region {}'s members are changing: that has to end first", region.id));
        }
        (false, true) => return Err(format!("region {}'s members are not changing", region.id)),
        (false, false) => {
            let joint = changes.len() > 1;
            changes.iter().try_for_each(|change| change_peer(&mut after, change, joint))?;
        }
    }
    let votes = |peer: &Peer| matches!(peer.role(), PeerRole::Voter | PeerRole::IncomingVoter);
    if !after.peers.iter().any(votes) {
        return Err(format!("region {} would have no voter left", region.id));
    }
    let epoch = region::epoch(region);
    let grows = u64::from(!crate::mutant!("region.members-keep-conf-ver"));
    after.region_epoch = Some(RegionEpoch { conf_ver: epoch.conf_ver + grows, ..epoch });
    Ok(after)
}

/// Gives a peer the role that it has after a joint membership.
fn settle(peer: &mut Peer) {
    match peer.role() {
        PeerRole::IncomingVoter => peer.set_role(PeerRole::Voter),
        PeerRole::DemotingVoter => peer.set_role(PeerRole::Learner),
        PeerRole::Voter | PeerRole::Learner => {}
    }
}

fn change_peer(region: &mut Region, change: &PeerChange, joint: bool) -> Result<(), String> {
    let PeerChange { peer_id, store_id, .. } = *change;
    let id = region.id;
    let kind = Kind::try_from(change.kind).map_err(|kind| format!("a change of the unknown kind {kind}"))?;
    if kind == Kind::AddLearner {
        if joint {
            return Err(format!("region {id}: a learner is added by a change of its own"));
        }
        if peer_id == 0 || store_id == 0 {
            return Err(format!("region {id}: a new peer needs an ID and a store"));
        }
        if let Some(other) = region.peers.iter().find(|peer| peer.store_id == store_id || peer.id == peer_id) {
            return Err(format!("region {id} has peer {} on store {} already", other.id, other.store_id));
        }
        region.peers.push(Peer { id: peer_id, store_id, role: PeerRole::Learner as i32, ..Peer::default() });
        return Ok(());
    }
    let known = |peer: &&mut Peer| peer.id == peer_id && peer.store_id == store_id;
    let Some(peer) = region.peers.iter_mut().find(known) else {
        return Err(format!("region {id} has no peer {peer_id} on store {store_id}"));
    };
    match (kind, peer.role()) {
        (Kind::Promote, PeerRole::Learner) => {
            peer.set_role(if joint { PeerRole::IncomingVoter } else { PeerRole::Voter });
        }
        (Kind::Demote, PeerRole::Voter) => {
            peer.set_role(if joint { PeerRole::DemotingVoter } else { PeerRole::Learner });
        }
        (Kind::Remove, PeerRole::Learner) if joint => {
            return Err(format!("region {id}: a learner is removed by a change of its own"));
        }
        (Kind::Remove, PeerRole::Learner) => region.peers.retain(|peer| peer.id != peer_id),
        (kind, role) => {
            return Err(format!("region {id}: peer {peer_id} is a {role:?}, which {kind:?} does not change"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: only safe changes are made, and each raises the configuration version by one. Method: by hand.
    use super::*;

    fn region(roles: &[PeerRole]) -> Region {
        let peer = |(id, role): (u64, &PeerRole)| Peer { id, store_id: id, role: *role as i32, ..Peer::default() };
        let epoch = RegionEpoch { version: 7, conf_ver: 3 };
        Region { id: 9, peers: (1..).zip(roles).map(peer).collect(), region_epoch: Some(epoch), ..Region::default() }
    }

    fn change(region: &Region, changes: &[(Kind, u64)]) -> Result<Vec<PeerRole>, String> {
        let change = |(kind, peer): &(Kind, u64)| PeerChange { kind: *kind as i32, peer_id: *peer, store_id: *peer };
        let after = changed(region, &ChangePeers { changes: changes.iter().map(change).collect() })?;
        assert_eq!(region::epoch(&after), RegionEpoch { version: 7, conf_ver: 4 });
        Ok(after.peers.iter().map(Peer::role).collect())
    }

    #[test]
    fn a_peer_is_replaced_in_four_steps() {
        use PeerRole::{DemotingVoter, IncomingVoter, Learner, Voter};
        let start = region(&[Voter, Voter, Voter]);
        assert_eq!(change(&start, &[(Kind::AddLearner, 4)]), Ok(vec![Voter, Voter, Voter, Learner]));
        let learns = region(&[Voter, Voter, Voter, Learner]);
        let swap = change(&learns, &[(Kind::Promote, 4), (Kind::Demote, 1)]);
        assert_eq!(swap, Ok(vec![DemotingVoter, Voter, Voter, IncomingVoter]));
        let joint = region(&[DemotingVoter, Voter, Voter, IncomingVoter]);
        assert_eq!(change(&joint, &[]), Ok(vec![Learner, Voter, Voter, Voter]));
        let left = region(&[Learner, Voter, Voter, Voter]);
        assert_eq!(change(&left, &[(Kind::Remove, 1)]), Ok(vec![Voter, Voter, Voter]));
        assert_eq!(change(&learns, &[(Kind::Promote, 4)]), Ok(vec![Voter; 4]));
        assert_eq!(change(&start, &[(Kind::Demote, 3)]), Ok(vec![Voter, Voter, Learner]));
    }

    #[test]
    fn unsafe_changes_are_refused_with_the_reason() {
        use PeerRole::{DemotingVoter, IncomingVoter, Learner, Voter};
        let why = |roles: &[PeerRole], changes: &[(Kind, u64)]| change(&region(roles), changes).unwrap_err();
        assert!(why(&[Voter], &[(Kind::Demote, 1)]).contains("no voter left"));
        assert!(why(&[Voter, Voter], &[(Kind::Remove, 2)]).contains("is a Voter"));
        assert!(why(&[Voter, Voter], &[(Kind::AddLearner, 2)]).contains("already"));
        assert!(why(&[Voter, Learner], &[(Kind::Promote, 3)]).contains("no peer 3"));
        assert!(why(&[Voter, Learner], &[]).contains("not changing"));
        assert!(why(&[DemotingVoter, IncomingVoter], &[(Kind::AddLearner, 3)]).contains("end first"));
        assert!(why(&[Voter, Learner], &[(Kind::Remove, 2), (Kind::Demote, 1)]).contains("of its own"));
        assert!(why(&[Voter, Learner], &[(Kind::AddLearner, 0)]).contains("needs an ID"));
    }
}
