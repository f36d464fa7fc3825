//! How far apart the stores of a region are: in other zones, racks or hosts, by the labels of the stores.
//!
//! Two stores that differ in the first of `n` labels are 100^(n-1) apart, those that differ only in the last one 1, and
//! those that differ in none 0. The isolation of some stores is the sum over all pairs, so one zone more counts for more
//! than any number of racks (the measure of PD). A label that a store lacks is one that all such stores share.
//!
//! **Never**: a proposal that makes a region less isolated.

use std::collections::BTreeMap;

use super::balance::{Placement, Proposal};
use crate::proto::metapb::StoreLabel;

/// By how much a difference in a label weighs more than one in the next.
const WEIGHT: u64 = 100;

/// Where the stores are.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<u64, Vec<String>>);

impl Places {
    /// Notes where a store is: `levels` are the keys of the labels that say so, the largest first.
    pub fn add(&mut self, store: u64, labels: &[StoreLabel], levels: &[String]) {
        let value = |level: &String| {
            let label = labels.iter().find(|label| label.key.eq_ignore_ascii_case(level));
            label.map(|label| label.value.clone()).unwrap_or_default()
        };
        self.0.insert(store, levels.iter().map(value).collect());
    }

    /// Returns how far apart two stores are.
    fn apart(&self, one: u64, other: u64) -> u64 {
        let (Some(one), Some(other)) = (self.0.get(&one), self.0.get(&other)) else { return 0 };
        let first = one.iter().zip(other).position(|(one, other)| one != other);
        first.map_or(0, |level| WEIGHT.pow((one.len() - 1 - level) as u32))
    }

    /// Returns how far apart a store is from others in total.
    pub fn from_others(&self, store: u64, others: impl Iterator<Item = u64>) -> u64 {
        others.filter(|other| *other != store).map(|other| self.apart(store, other)).sum()
    }

    /// Returns whether `stores` are at least as isolated with `to` in the place of `from`.
    pub fn allow(&self, stores: &[u64], from: u64, to: u64) -> bool {
        self.gain(stores, from, to).is_some_and(|gain| gain >= 0) || crate::mutant!("pd.balance-ignores-places")
    }

    /// Returns how much more isolated `stores` are with `to` in the place of `from`; `None` if that is no change.
    fn gain(&self, stores: &[u64], from: u64, to: u64) -> Option<i64> {
        let rest = || stores.iter().copied().filter(|store| *store != from);
        let (before, after) = (self.from_others(from, rest()), self.from_others(to, rest()));
        (!stores.contains(&to)).then_some(after as i64 - before as i64)
    }
}

/// Returns at most `max` moves, each of which makes a region more isolated, by as much as one move can. `counts` has the
/// replicas of every store that may get some: of several, the one with the fewest gets the replica.
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

    /// Stores from 1 on, each with its zone and host.
    fn places(of: &[(&str, &str)]) -> Places {
        let levels = ["zone", "host"].map(str::to_owned);
        let mut places = Places::default();
        for (store, (zone, host)) in (1..).zip(of) {
            let label = |key: &str, value: &str| StoreLabel { key: key.into(), value: value.into() };
            let mut labels = vec![label("Zone", zone), label("host", host)];
            labels.retain(|label| !label.value.is_empty());
            places.add(store, &labels, &levels);
        }
        places
    }

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
    fn labels_that_are_missing_say_nothing() {
        assert_eq!(moves(&[("", ""), ("", ""), ("", ""), ("", "")], &[1, 2, 3], 1), []);
        let places = places(&[("", ""), ("", "h"), ("z", "")]);
        assert_eq!(places.apart(1, 2), 1);
        assert_eq!(places.apart(1, 3), WEIGHT);
        assert_eq!(places.apart(1, 9), 0, "nothing is known of store 9");
    }

    #[test]
    fn the_balance_may_not_bring_replicas_together() {
        let places = places(&[("a", ""), ("b", ""), ("c", ""), ("a", "")]);
        assert!(places.allow(&[1, 2, 3], 1, 4));
        assert!(!places.allow(&[1, 2, 3], 2, 4));
        assert!(!places.allow(&[1, 2, 3], 2, 3), "it has a replica there");
        assert!(Places::default().allow(&[1, 2, 3], 2, 4));
    }
}
