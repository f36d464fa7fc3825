//! Moves replicas of a region farther apart: to other zones, racks or hosts.
//!
//! **Never**: a proposal that makes a region less isolated.

use std::collections::BTreeMap;

use super::balance::{Placement, Proposal};
use super::places::Places;

/// Returns at most `max` moves, each of which makes a region more isolated, by as much as one move can. `counts` has
/// the replicas of every store that may get some: of several, the one with the fewest gets the replica.
pub fn propose(mut counts: BTreeMap<u64, u64>, resting: &[Placement], places: &Places, max: usize) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    // What the stores of a region allow at best. Many regions have the same stores.
    let mut known: BTreeMap<&[u64], i64> = BTreeMap::new();
    for region in resting {
        if proposals.len() >= max || crate::mutant!("pd.two-in-one-place") {
            break;
        }
        let moves = region.stores.iter().flat_map(|from| counts.keys().map(move |to| (*from, *to)));
        let moves = moves.filter_map(|(from, to)| Some((places.gain(&region.stores, from, to)?, from, to)));
        let best =
            *known.entry(&region.stores[..]).or_insert_with(|| moves.clone().map(|(gain, ..)| gain).max().unwrap_or(0));
        if best <= 0 {
            continue;
        }
        let fewest = |to: u64| counts.get(&to).copied().unwrap_or(u64::MAX);
        // A replica that does not lead moves rather than a leader.
        let best = moves.filter(|(gain, ..)| *gain == best);
        let Some((_, from, to)) = best.min_by_key(|(_, from, to)| (*from == region.leader, fewest(*to), *from, *to))
        else {
            continue;
        };
        counts.entry(to).and_modify(|count| *count += 1);
        proposals.push(Proposal { region: region.region, from, to });
    }
    proposals
}

#[cfg(test)]
mod tests {
    //! Goal: replicas end as far apart as the stores allow, in as few moves as that takes. Method: by hand.
    use super::*;
    use crate::pd::schedule::places::tests::places;

    fn moves(of: &[(&str, &str)], stores: &[u64], leader: u64) -> Vec<(u64, u64)> {
        let counts = (1..=of.len() as u64).map(|store| (store, 10 + store % 3)).collect();
        let resting = [Placement { region: 7, stores: stores.to_vec(), leader, fixed: Vec::new() }];
        propose(counts, &resting, &places(of), 9).iter().map(|one| (one.from, one.to)).collect()
    }

    #[test]
    fn replicas_move_to_other_zones_first_and_to_other_hosts_then() {
        let of = [("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"), ("a", "1")];
        assert_eq!(moves(&of, &[1, 3, 4], 1), []);
        assert_eq!(moves(&of, &[1, 2, 3], 1), [(2, 4)], "one of two in zone a, not the leader");
        assert_eq!(moves(&of, &[1, 2, 3], 2), [(1, 4)]);
        assert_eq!(moves(&of[..3], &[1, 2, 3], 1), [], "there is no third zone");
        assert_eq!(moves(&[("a", "1"), ("a", "1"), ("b", "1"), ("a", "2")], &[1, 2, 3], 1), [(2, 4)], "another host");
    }

    #[test]
    fn stores_without_labels_are_all_the_same() {
        assert_eq!(moves(&[("", ""), ("", ""), ("", ""), ("", "")], &[1, 2, 3], 1), []);
    }
}
