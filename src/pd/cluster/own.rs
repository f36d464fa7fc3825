//! The members of the placement driver's own group: as many as wanted, on stores that are there.
//!
//! The steps are those of every region ([`replica::next`]). The leader takes them itself, because nobody else orders
//! them. **Never**: a step from a descriptor that the leader has not applied.

use super::Cluster;
use super::moves::Move;
use crate::pd::schedule::balance::{Placement, Proposal};
use crate::pd::schedule::isolation;
use crate::pd::schedule::replica::{self, Step};
use crate::pd::state::{self, PdState};
use crate::proto::armilla::raft::PeerChange;
use crate::proto::armilla::raft::peer_change::Kind;
use crate::proto::metapb::PeerRole;
use crate::types::region::Peer;
use crate::types::{Region, region, version};

/// What is under way in the placement driver's own group.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// The learner that it is to get, and the configuration version at which that was decided.
    learner: Option<(u64, Peer)>,
    /// A member that is to move.
    moving: Option<Move>,
    /// When the places of the members are next looked at.
    look_at_ms: u64,
}

/// The time between two looks at the places of the members.
const ISOLATE_MS: u64 = 10_000;

/// The next step of the placement driver's own group.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnStep {
    /// A member is to be added on this store: it needs an ID that was never used before.
    Name(u64),
    /// These changes are to be made at once.
    Change(Vec<PeerChange>),
}

/// Returns how many members there are to be: as many as wanted or, if there are fewer stores, an odd number, because
/// another member would not make the group survive more failures.
fn wanted(members: usize, up: usize) -> usize {
    let possible = members.min(up).max(1);
    if possible < members && possible.is_multiple_of(2) { possible - 1 } else { possible }
}

impl Cluster {
    /// Returns the next step of the group that `group` describes, whose peer `leader` asks, to have `members` members.
    pub fn own_step(
        &mut self,
        state: &PdState,
        group: &Region,
        leader: u64,
        members: usize,
        now_ms: u64,
    ) -> Option<OwnStep> {
        if state.cluster_version() < version::PD_MEMBERS || crate::mutant!("pd.keeps-lost-members") {
            return None;
        }
        let up = state.stores().filter(|record| state::is_up(record)).count();
        let members = wanted(members, up);
        let gone = |peer: &Peer| self.is_gone(state, peer.store_id, now_ms);
        let whole = group.peers.len() == members
            && group.peers.iter().all(|peer| peer.role() == PeerRole::Voter && !gone(peer));
        if whole && self.own.moving.is_none() {
            self.own.learner = None;
            self.own.moving = self.isolate_own(state, group, leader, now_ms);
            self.own.moving?;
        }
        let mut stores = self.stores_for_replicas(state, now_ms);
        // A store that was wiped has another ID now, and its old one is unknown where the state is young.
        stores.gone.extend(group.peers.iter().map(|peer| peer.store_id).filter(|id| state.store(*id).is_none()));
        if let Some(moving) = &mut self.own.moving {
            match moving.adjusted(group, &stores, now_ms) {
                Some(adjusted) => stores = adjusted,
                None => self.own.moving = None,
            }
        }
        let conf_ver = region::epoch(group).conf_ver;
        match replica::next(group, leader, members, &stores)? {
            Step::Change(changes) => Some(OwnStep::Change(changes)),
            Step::Add(on) => {
                let known = self.own.learner.filter(|(at, learner)| (*at, learner.store_id) == (conf_ver, on));
                let Some((_, Peer { id, store_id, .. })) = known else { return Some(OwnStep::Name(on)) };
                Some(OwnStep::Change(vec![PeerChange { kind: Kind::AddLearner as i32, peer_id: id, store_id }]))
            }
        }
    }

    /// Returns the move of a member that brings the members farther apart, if there is one. Looks now and then.
    fn isolate_own(&mut self, state: &PdState, group: &Region, leader: u64, now_ms: u64) -> Option<Move> {
        let settling = now_ms.saturating_sub(self.since_ms) < self.options.settle_ms;
        if settling || now_ms < self.own.look_at_ms {
            return None;
        }
        self.own.look_at_ms = now_ms + ISOLATE_MS;
        let stores = self.stores_for_replicas(state, now_ms);
        let leads = region::peer_by_id(group, leader).map_or(0, |peer| peer.store_id);
        let members = group.peers.iter().map(|peer| peer.store_id).collect();
        let resting = [Placement { region: group.id, stores: members, leader: leads, fixed: Vec::new() }];
        let Proposal { from, to, .. } = *isolation::propose(stores.fit, &resting, &stores.places, 1).first()?;
        tracing::info!(from_store = from, to_store = to, "a member moves farther away from the others");
        Some(Move::new(group, from, to, now_ms))
    }

    /// Gives an ID that was never used before to the learner that the group is to get on a store.
    pub fn name_own_learner(&mut self, group: &Region, store_id: u64, id: u64) {
        self.own.learner = Some((region::epoch(group).conf_ver, Peer { id, store_id, ..Peer::default() }));
    }

    /// Moves a member to another store, on an operator's behalf.
    ///
    /// # Errors
    /// A sentence, if that is not possible.
    pub fn move_own_member(
        &mut self,
        state: &PdState,
        group: &Region,
        from: u64,
        to: u64,
        now_ms: u64,
    ) -> Result<(), String> {
        if state.cluster_version() < version::PD_MEMBERS {
            return Err(format!(
                "the placement driver's members cannot be moved yet: the cluster uses version {} of its protocol, that \
                 needs version {}",
                state.cluster_version(),
                version::PD_MEMBERS
            ));
        }
        self.can_move(state, group, from, to, now_ms)
            .map_err(|why| why.replace("region 1 ", "the placement driver "))?;
        self.own.moving = Some(Move::new(group, from, to, now_ms));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_members_as_help() {
        let on = |up| [1, 3, 5].map(|members| wanted(members, up));
        assert_eq!(on(0), [1, 1, 1]);
        assert_eq!(on(1), [1, 1, 1]);
        assert_eq!(on(2), [1, 1, 1]);
        assert_eq!(on(3), [1, 3, 3]);
        assert_eq!(on(4), [1, 3, 3]);
        assert_eq!(on(9), [1, 3, 5]);
    }
}
