//! Spreads replicas evenly over the stores, by their number.
//!
//! A replica moves only if its store has at least two more replicas than the target, so every move makes the cluster
//! more even and none is undone by the next. With weights, each store's number is divided by its own ([`Weights`]).
//! Replicas that are moving count at their target.

use std::collections::BTreeMap;

use super::places::Places;
use super::weights::Weights;

/// The replicas of a region that is at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The region's ID.
    pub region: u64,
    /// The stores of its replicas.
    pub stores: Vec<u64>,
    /// The store of its leader.
    pub leader: u64,
    /// Stores whose replicas do not move by their number: they move by their load.
    pub fixed: Vec<u64>,
}

/// A replica that should move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The region's ID.
    pub region: u64,
    /// The store that has the replica.
    pub from: u64,
    /// The store that should have it.
    pub to: u64,
}

/// Returns at most `max` moves, each from the store with the most replicas to the one with the fewest; ties are broken
/// by the smallest IDs. `counts` has the replicas of every store that may give or take some; `resting` are the regions
/// that may move. A replica that does not lead moves rather than a leader. No region becomes less isolated.
pub fn propose(
    mut counts: BTreeMap<u64, u64>,
    resting: &[Placement],
    places: &Places,
    weights: &Weights,
    max: usize,
) -> Vec<Proposal> {
    let mut proposals: Vec<Proposal> = Vec::new();
    while proposals.len() < max {
        let mut by_count: Vec<(u128, u64, u64)> =
            counts.iter().map(|(store, count)| (weights.share(*store, *count), *store, *count)).collect();
        by_count.sort_unstable();
        let pairs = by_count.iter().rev().flat_map(|from| by_count.iter().map(move |to| (*from, *to)));
        let fit = pairs.filter(|((_, from, more), (_, to, fewer))| weights.moves((*from, *more), (*to, *fewer)));
        let is_free = |one: &&Placement| proposals.iter().all(|moving| moving.region != one.region);
        let found = fit
            .filter_map(|((_, from, _), (_, to, _))| {
                let movable = |one: &&Placement| {
                    let is_free = one.stores.contains(&from) && !one.fixed.contains(&from);
                    is_free && places.allow(&one.stores, from, to)
                };
                let region = resting.iter().filter(is_free).filter(movable);
                let region = region.min_by_key(|one| (one.leader == from, one.region))?.region;
                Some(Proposal { region, from, to })
            })
            .next();
        let Some(next) = found else { break };
        counts.entry(next.from).and_modify(|count| *count -= 1);
        counts.entry(next.to).and_modify(|count| *count += 1);
        proposals.push(next);
    }
    proposals
}

#[cfg(test)]
mod tests {
    //! Goal: stores end with about as many replicas each, in as few moves as that takes. Method: by hand.
    use super::*;

    fn propose(counts: BTreeMap<u64, u64>, resting: &[Placement], places: &Places, max: usize) -> Vec<Proposal> {
        super::propose(counts, resting, places, &Weights::default(), max)
    }

    fn placement(region: u64, stores: &[u64]) -> Placement {
        Placement { region, stores: stores.to_vec(), leader: stores[0], fixed: Vec::new() }
    }

    #[test]
    fn an_empty_store_gets_its_share() {
        let regions: Vec<Placement> = (1..=8)
            .map(|region| placement(region, &[1 + region % 3, 1 + (region + 1) % 3, 1 + (region + 2) % 3]))
            .collect();
        let counts = BTreeMap::from([(1, 8), (2, 8), (3, 8), (4, 0)]);
        let moves = propose(counts, &regions, &Places::default(), 100);
        assert_eq!(moves.len(), 6, "{moves:?}");
        assert!(moves.iter().all(|one| one.to == 4));
        let mut moved: Vec<u64> = moves.iter().map(|one| one.region).collect();
        moved.dedup();
        assert_eq!(moved.len(), 6, "each region once");
        for one in &moves {
            assert_ne!(regions[one.region as usize - 1].leader, one.from, "followers move");
        }
    }

    #[test]
    fn what_moves_by_its_load_does_not_move_by_its_number() {
        let hot = Placement { fixed: vec![1, 2, 3], ..placement(1, &[1, 2, 3]) };
        let read = Placement { fixed: vec![1], ..placement(2, &[1, 2, 3]) };
        let counts = BTreeMap::from([(1, 9), (2, 9), (3, 9), (4, 0)]);
        let moves = propose(counts, &[hot, read], &Places::default(), 9);
        assert_eq!(moves, [Proposal { region: 2, from: 3, to: 4 }]);
    }

    #[test]
    fn nothing_moves_without_a_gain() {
        let regions = [placement(1, &[1, 2, 3])];
        assert_eq!(propose(BTreeMap::from([(1, 4), (2, 4), (3, 4), (4, 3)]), &regions, &Places::default(), 9), []);
        assert_eq!(
            propose(BTreeMap::from([(1, 5), (2, 5), (3, 3)]), &regions, &Places::default(), 9),
            [],
            "it has a replica there"
        );
        let two = Proposal { region: 1, from: 3, to: 4 };
        assert_eq!(propose(BTreeMap::from([(1, 4), (2, 4), (3, 6), (4, 0)]), &regions, &Places::default(), 9), [two]);
    }

    #[test]
    fn a_store_with_twice_the_weight_gets_twice_as_many() {
        let regions: Vec<Placement> = (1..=12).map(|region| placement(region, &[1, 2])).collect();
        let mut weights = Weights::default();
        weights.set(3, 2000);
        let counts = BTreeMap::from([(1, 12), (2, 12), (3, 0)]);
        let moves = super::propose(counts, &regions, &Places::default(), &weights, 100);
        assert_eq!(moves.len(), 12, "half of the 24");
    }
}
