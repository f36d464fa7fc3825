//! Where stores are: in which zone, rack and host, by their labels.
//!
//! Two stores that differ in the first of `n` labels are 100^(n-1) apart, those that differ only in the last one 1, and
//! those that differ in none 0. The isolation of some stores is the sum over all pairs, so one zone more counts for
//! more than any number of racks (the measure of PD). A label that a store lacks is one that all such stores share.

use std::collections::BTreeMap;

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
    pub fn apart_from_all(&self, store: u64, others: impl Iterator<Item = u64>) -> u64 {
        others.filter(|other| *other != store).map(|other| self.apart(store, other)).sum()
    }

    /// Returns whether `stores` are at least as isolated with `to` in the place of `from`.
    pub fn allow(&self, stores: &[u64], from: u64, to: u64) -> bool {
        self.gain(stores, from, to).is_some_and(|gain| gain >= 0) || crate::mutant!("pd.balance-ignores-places")
    }

    /// Returns how much more isolated `stores` are with `to` in the place of `from`; `None` if `to` is one of them.
    pub fn gain(&self, stores: &[u64], from: u64, to: u64) -> Option<i64> {
        let rest = || stores.iter().copied().filter(|store| *store != from);
        let (before, after) = (self.apart_from_all(from, rest()), self.apart_from_all(to, rest()));
        (!stores.contains(&to)).then_some(after as i64 - before as i64)
    }
}

#[cfg(test)]
pub mod tests {
    //! Goal: the isolation of stores is that of PD. Method: by hand.
    use super::*;

    /// Stores from 1 on, each with its zone and host.
    pub fn places(of: &[(&str, &str)]) -> Places {
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

    #[test]
    fn labels_that_are_missing_say_nothing() {
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
