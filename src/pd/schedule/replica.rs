//! Gives every region its number of replicas, on stores that are there.
//!
//! A replica is replaced in four steps: a learner is added on another store, gets the data, becomes a voter while the
//! old voter becomes a learner, and the old learner is removed. Each step follows from the region's descriptor and the
//! stores alone, so nothing is lost if the placement driver's leader changes in between.
//!
//! **Never**: a step that removes a voter before another one has taken its place, or a step while the members change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::proto::armilla::raft::PeerChange;
use crate::proto::armilla::raft::peer_change::Kind;
use crate::proto::metapb::PeerRole;
use crate::types::Region;
use crate::types::region::Peer;

use super::places::Places;
use super::weights::Weights;

/// What the placement driver knows of the stores.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    /// Stores that get new replicas, each with the number of replicas that it has.
    pub fit: BTreeMap<u64, u64>,
    /// Stores that are gone for good or have to become empty.
    pub gone: BTreeSet<u64>,
    /// Where the stores are.
    pub places: Places,
    /// Stores that take the place of lost ones: by the lost store.
    pub instead: BTreeMap<u64, u64>,
    /// Of replicas.
    pub weights: Weights,
}

/// The next step for a region.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Add a learner on this store, with an ID that was never used before.
    Add(u64),
    /// Make these changes at once.
    Change(Vec<PeerChange>),
}

fn change(kind: Kind, peer: &Peer) -> PeerChange {
    PeerChange { kind: kind as i32, peer_id: peer.id, store_id: peer.store_id }
}

/// Returns the next step for a region that is to have `replicas` voters and no learner; `None` if it is as it should
/// be, or cannot get there now. `leader` is the leader's peer.
pub fn next(region: &Region, leader: u64, replicas: usize, stores: &Stores) -> Option<Step> {
    let of = |role: PeerRole| region.peers.iter().filter(move |peer| peer.role() == role);
    if of(PeerRole::IncomingVoter).chain(of(PeerRole::DemotingVoter)).next().is_some() {
        // The region's leader ends that by itself.
        return None;
    }
    let is_gone = |peer: &&Peer| stores.gone.contains(&peer.store_id);
    if let Some(lost) = of(PeerRole::Learner).find(is_gone) {
        return Some(Step::Change(vec![change(Kind::Remove, lost)]));
    }
    let voters = of(PeerRole::Voter).count();
    let learner = of(PeerRole::Learner).next();
    let lost = of(PeerRole::Voter).find(is_gone);
    if voters > replicas {
        // The leader stays if it can.
        let extra = lost.or_else(|| of(PeerRole::Voter).rfind(|peer| peer.id != leader))?;
        return Some(Step::Change(vec![change(Kind::Demote, extra)]));
    }
    let needed = voters < replicas || lost.is_some();
    match (learner, lost) {
        (Some(learner), _) if !needed => Some(Step::Change(vec![change(Kind::Remove, learner)])),
        (Some(learner), Some(lost)) if voters == replicas => {
            Some(Step::Change(vec![change(Kind::Promote, learner), change(Kind::Demote, lost)]))
        }
        (Some(learner), _) => Some(Step::Change(vec![change(Kind::Promote, learner)])),
        (None, _) if needed => {
            let free = stores.fit.iter().filter(|(store, _)| region.peers.iter().all(|peer| peer.store_id != **store));
            // As far as possible from those that stay.
            let stay = || region.peers.iter().filter(|peer| !is_gone(peer)).map(|peer| peer.store_id);
            let apart = |store: u64| Reverse(stores.places.apart_from_all(store, stay()));
            let instead = lost.and_then(|lost| stores.instead.get(&lost.store_id));
            let best = free.min_by_key(|(store, count)| {
                (apart(**store), instead != Some(*store), stores.weights.share(**store, **count), **store)
            });
            best.map(|(store, _)| Step::Add(*store))
        }
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every region gets its replicas back in steps that never cost it a voter. Method: the steps are carried out
    //! until there is none left.
    use super::*;
    use crate::proto::armilla::raft::ChangePeers;
    use crate::region::members;

    fn region(stores: &[u64]) -> Region {
        let peer = |store: &u64| Peer { id: 10 + store, store_id: *store, ..Peer::default() };
        Region { id: 9, peers: stores.iter().map(peer).collect(), ..Region::default() }
    }

    /// Carries out the steps, and returns the stores of the voters in the end and how many steps it took.
    fn run(mut region: Region, replicas: usize, fit: &[u64], gone: &[u64]) -> (Vec<u64>, usize) {
        let counts = fit.iter().map(|store| (*store, 100 - store)).collect();
        let stores = Stores { fit: counts, gone: gone.iter().copied().collect(), ..Stores::default() };
        let (mut steps, mut fewest) = (0, region.peers.len());
        while let Some(step) = next(&region, region.peers[0].id, replicas, &stores) {
            let changes = match step {
                Step::Add(store_id) => {
                    vec![PeerChange { kind: Kind::AddLearner as i32, peer_id: 1000 + steps as u64, store_id }]
                }
                Step::Change(changes) => changes,
            };
            region = members::changed(&region, &ChangePeers { changes }).expect("a step can be made");
            if members::is_joint(&region) {
                region = members::changed(&region, &ChangePeers::default()).expect("it can be ended");
            }
            fewest = fewest.min(region.peers.iter().filter(|peer| peer.role() == PeerRole::Voter).count());
            steps += 1;
            assert!(steps < 20, "the steps end");
        }
        assert!(region.peers.iter().all(|peer| peer.role() == PeerRole::Voter) && fewest >= 1);
        let mut voters: Vec<u64> = region.peers.iter().map(|peer| peer.store_id).collect();
        voters.sort_unstable();
        (voters, steps)
    }

    #[test]
    fn lost_replicas_are_replaced() {
        assert_eq!(run(region(&[1, 2, 3]), 3, &[1, 2, 3], &[]), (vec![1, 2, 3], 0));
        assert_eq!(run(region(&[1, 2, 3]), 3, &[1, 2, 4], &[3]), (vec![1, 2, 4], 3));
        assert_eq!(run(region(&[1, 2, 3]), 3, &[4, 5], &[1, 2]).0, vec![3, 4, 5]);
        assert_eq!(run(region(&[1]), 3, &[1, 2, 3], &[]), (vec![1, 2, 3], 4), "a learner and a voter for each");
        assert_eq!(run(region(&[1, 2, 3, 4]), 3, &[1, 2, 3, 4], &[]).0.len(), 3);
        let store = region(&[1, 2, 3]);
        assert_eq!(next(&store, 11, 3, &Stores { gone: [3].into(), ..Stores::default() }), None, "no store has room");
    }

    #[test]
    fn the_store_with_the_fewest_replicas_gets_the_next_one() {
        let stores = Stores { fit: [(4, 7), (5, 3), (6, 3)].into(), gone: [3].into(), ..Stores::default() };
        assert_eq!(next(&region(&[1, 2, 3]), 11, 3, &stores), Some(Step::Add(5)));
    }

    #[test]
    fn the_store_that_replaces_a_lost_one_gets_its_replicas() {
        let fit = BTreeMap::from([(4, 0), (5, 9), (6, 0)]);
        let stores = Stores { fit, gone: [3].into(), instead: [(3, 5)].into(), ..Stores::default() };
        assert_eq!(next(&region(&[1, 2, 3]), 11, 3, &stores), Some(Step::Add(5)));
    }
}
