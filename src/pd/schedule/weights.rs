//! Weights of stores: how large a part of the leaders, or of the replicas, a store is to have.
//!
//! A store with twice the weight is to have twice as many. The balance compares numbers that are divided by weights.

use std::collections::BTreeMap;

/// The weight of a store that was not given one.
pub const USUAL: u64 = 1000;

/// Weights of stores, in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights(BTreeMap<u64, u64>);

impl Weights {
    /// Sets the weight of a store, in thousandths.
    pub fn set(&mut self, store: u64, weight: u64) {
        self.0.insert(store, weight);
    }

    /// Returns a store's weight, in thousandths. A weight of 0 counts as the smallest one.
    pub fn of(&self, store: u64) -> u64 {
        self.0.get(&store).copied().unwrap_or(USUAL).max(1)
    }

    /// Returns a number of leaders or replicas divided by the store's weight, for comparisons.
    pub fn share(&self, store: u64, count: u64) -> u128 {
        u128::from(count) * u128::from(USUAL) * u128::from(USUAL) / u128::from(self.of(store))
    }

    /// Returns whether one of the `more` of store `from` should be one of store `to`, which has `fewer`: `from` has at
    /// least its share afterwards, compared with `to`. With equal weights, the difference must be at least two.
    pub fn moves(&self, (from, more): (u64, u64), (to, fewer): (u64, u64)) -> bool {
        let part = |count: u64, other: u64| u128::from(count) * u128::from(self.of(other));
        more > 0 && part(more - 1, to) >= part(fewer + 1, from)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: no move is undone by the next, and stores get their shares. Method: moves between two stores until none
    //! is left, for many weights.
    use super::*;

    #[test]
    fn two_stores_end_with_their_shares() {
        for (one, other, expected) in [
            (1000, 1000, (6, 6)),
            (2000, 1000, (8, 4)),
            (1000, 3000, (3, 9)),
            (0, 1000, (0, 12)),
            (1000, 0, (12, 0)),
            (500, 500, (6, 6)),
        ] {
            let mut weights = Weights::default();
            weights.set(1, one);
            weights.set(2, other);
            for first in [0, 12] {
                let (mut here, mut there) = (first, 12 - first);
                for _ in 0..20 {
                    match (weights.moves((1, here), (2, there)), weights.moves((2, there), (1, here))) {
                        (true, false) => (here, there) = (here - 1, there + 1),
                        (false, true) => (here, there) = (here + 1, there - 1),
                        (false, false) => break,
                        (true, true) => panic!("a move is undone by the next"),
                    }
                }
                let (wanted, _) = expected;
                assert!(here.abs_diff(wanted) <= 1, "{one} to {other}, from {first}: {here} and {there}");
            }
        }
    }
}
