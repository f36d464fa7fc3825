//! Transactions of all stores that wait for locks, and circles of them. Pure, and soft: stores repeat what they know.
//!
//! Reports of stores come **in**, each with all waits of the store; circles go **out**, to the store where one of the
//! waits is to end. **Never**: a circle of waits that did not stand at one moment. A wait that two reports in a row
//! name stood when the first of them arrived, because a store makes the next report only after the answer to the one
//! before; one that several name stood from the arrival of the first to that of the last but one. A copy that arrives
//! late is known by its number.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::armilla::pd::{Circle, Wait};
use crate::proto::deadlock::WaitForEntry;

/// A report that is older says nothing any more, milliseconds.
const OLD_MS: u64 = 2000;

/// The waits of all stores.
#[derive(Debug, Default)]
pub struct Waits {
    stores: BTreeMap<u64, Report>,
}

#[derive(Debug, Default)]
struct Report {
    /// When this report and the one before arrived.
    at_ms: u64,
    before_ms: u64,
    number: u64,
    /// By the store's number: the wait, and the arrival of the first report that named it.
    waits: BTreeMap<u64, (WaitForEntry, u64)>,
}

/// A wait that stood for some time.
#[derive(Clone, Copy, Debug)]
struct Edge<'w> {
    store: u64,
    number: u64,
    wait: &'w WaitForEntry,
    from_ms: u64,
    to_ms: u64,
}

impl Waits {
    /// Takes over the report of a store with this number that arrived at `now_ms`. Returns the circles that are to be
    /// opened there.
    pub fn report(&mut self, store: u64, number: u64, waits: Vec<Wait>, now_ms: u64) -> Vec<Circle> {
        self.stores.retain(|_, report| now_ms.saturating_sub(report.at_ms) <= OLD_MS);
        // The numbers of a machine that was started again may be lower: by then its old reports are forgotten.
        if self.stores.get(&store).is_some_and(|known| number <= known.number) {
            return Vec::new();
        }
        let before = self.stores.remove(&store).unwrap_or_default();
        let since = |number: u64, wait: &WaitForEntry| {
            before.waits.get(&number).filter(|(known, _)| known == wait).map_or(now_ms, |(_, since)| *since)
        };
        let named = waits.into_iter().filter_map(|wait| Some((wait.number, wait.edge?)));
        let waits = named.map(|(number, wait)| (number, (wait.clone(), since(number, &wait)))).collect();
        self.stores.insert(store, Report { at_ms: now_ms, before_ms: before.at_ms, number, waits });
        self.circles(store)
    }

    /// Returns the circles whose youngest transaction waits on a store.
    fn circles(&self, store: u64) -> Vec<Circle> {
        let mut by_waiter: BTreeMap<u64, Vec<Edge<'_>>> = BTreeMap::new();
        for (id, report) in &self.stores {
            let edge = |(number, (wait, since)): (&u64, &'_ (WaitForEntry, u64))| (*number, *since, wait.txn);
            for (number, since, txn) in report.waits.iter().map(edge) {
                if since <= report.before_ms {
                    let wait = &report.waits[&number].0;
                    let (from_ms, to_ms) = (since, report.before_ms);
                    by_waiter.entry(txn).or_default().push(Edge { store: *id, number, wait, from_ms, to_ms });
                }
            }
        }
        let mut found = Vec::new();
        let here = by_waiter.values().flatten().filter(|edge| edge.store == store).copied();
        for edge in here.collect::<Vec<_>>() {
            let way = way(&by_waiter, edge);
            // Every store finds the same circle: the youngest transaction in it is the one that gives way.
            if let Some(mut way) = way.filter(|way| way.iter().all(|one| one.wait.txn <= edge.wait.txn)) {
                way.push(edge);
                crate::reach!("pd.circle-of-waits");
                found.push(Circle { number: edge.number, chain: way.iter().map(|one| one.wait.clone()).collect() });
            }
        }
        found
    }
}

/// Returns the waits of a way from the transaction that `last` waits for back to its waiter, if all of them and `last`
/// stood at one moment.
fn way<'w>(by_waiter: &BTreeMap<u64, Vec<Edge<'w>>>, last: Edge<'w>) -> Option<Vec<Edge<'w>>> {
    let mut seen = BTreeSet::from([last.wait.wait_for_txn]);
    let mut ways = vec![(last.wait.wait_for_txn, Vec::new(), (last.from_ms, last.to_ms))];
    while let Some((at, way, (from_ms, to_ms))) = ways.pop() {
        for edge in by_waiter.get(&at).into_iter().flatten() {
            let stood = (from_ms.max(edge.from_ms), to_ms.min(edge.to_ms));
            if stood.0 > stood.1 && !crate::mutant!("pd.circle-of-other-moments") {
                continue;
            }
            let mut way: Vec<Edge<'_>> = way.clone();
            way.push(*edge);
            if edge.wait.wait_for_txn == last.wait.txn {
                return Some(way);
            }
            if seen.insert(edge.wait.wait_for_txn) {
                ways.push((edge.wait.wait_for_txn, way, stood));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    //! Goal: circles over stores are found once they have stood at one moment, and only those. Method: reports by hand.
    use super::*;

    fn wait(number: u64, txn: u64, wait_for_txn: u64) -> Wait {
        let edge = WaitForEntry { txn, wait_for_txn, key: "k".into(), ..WaitForEntry::default() };
        Wait { number, edge: Some(edge) }
    }

    fn ends(circles: &[Circle]) -> Vec<(u64, Vec<u64>)> {
        circles.iter().map(|circle| (circle.number, circle.chain.iter().map(|edge| edge.txn).collect())).collect()
    }

    /// A store and its waits, at a time that numbers the report.
    fn report(all: &mut Waits, store: u64, waits: Vec<Wait>, at: u64) -> Vec<Circle> {
        all.report(store, at, waits, at)
    }

    #[test]
    fn a_circle_over_two_stores_ends_at_its_youngest() {
        let mut waits = Waits::default();
        assert!(report(&mut waits, 1, vec![wait(7, 10, 20)], 100).is_empty());
        assert!(report(&mut waits, 2, vec![wait(3, 20, 10)], 150).is_empty());
        assert!(report(&mut waits, 1, vec![wait(7, 10, 20)], 200).is_empty(), "stood at 100");
        assert!(report(&mut waits, 2, vec![wait(3, 20, 10)], 250).is_empty(), "stood at 150: the other may be over");
        assert!(report(&mut waits, 1, vec![wait(7, 10, 20)], 300).is_empty(), "a circle at 150, but not to end here");
        let found = report(&mut waits, 2, vec![wait(3, 20, 10)], 350);
        assert_eq!(ends(&found), [(3, vec![10, 20])], "its own wait is last");
        assert!(report(&mut waits, 2, vec![], 450).is_empty());
        assert!(report(&mut waits, 2, vec![wait(4, 20, 10)], 500).is_empty(), "another wait");
    }

    #[test]
    fn waits_of_different_moments_are_no_circle() {
        let mut waits = Waits::default();
        report(&mut waits, 1, vec![wait(7, 10, 20)], 100);
        report(&mut waits, 1, vec![wait(7, 10, 20)], 200);
        // Store 1 is silent; what it said ends before the other begins to wait.
        report(&mut waits, 2, vec![wait(3, 20, 10)], 300);
        assert!(report(&mut waits, 2, vec![wait(3, 20, 10)], 400).is_empty());
        assert!(report(&mut waits, 1, vec![wait(7, 10, 20)], 450).is_empty(), "stood until 200 for certain");
        assert!(report(&mut waits, 2, vec![wait(3, 20, 10)], 500).is_empty());
        assert!(report(&mut waits, 1, vec![wait(7, 10, 20)], 550).is_empty(), "not to end here");
        assert_eq!(ends(&report(&mut waits, 2, vec![wait(3, 20, 10)], 600)).len(), 1, "now both have stood at 300");
        assert!(report(&mut waits, 2, vec![wait(3, 20, 10)], 3000).is_empty(), "old reports are forgotten");
    }

    #[test]
    fn copies_that_arrive_late_say_nothing() {
        let mut waits = Waits::default();
        report(&mut waits, 1, vec![wait(7, 10, 20)], 100);
        report(&mut waits, 2, vec![wait(3, 20, 10)], 110);
        report(&mut waits, 1, vec![], 200);
        assert!(waits.report(1, 100, vec![wait(7, 10, 20)], 300).is_empty());
        assert!(waits.report(1, 100, vec![wait(7, 10, 20)], 400).is_empty());
        assert!(report(&mut waits, 2, vec![wait(3, 20, 10)], 410).is_empty());
    }

    #[test]
    fn longer_circles_and_bystanders() {
        let mut waits = Waits::default();
        for at in [100, 200, 300] {
            report(&mut waits, 1, vec![wait(1, 10, 20), wait(2, 40, 10)], at);
            report(&mut waits, 2, vec![wait(1, 20, 30)], at + 10);
            report(&mut waits, 3, vec![wait(1, 30, 10)], at + 20);
        }
        assert_eq!(ends(&report(&mut waits, 3, vec![wait(1, 30, 10)], 400)), [(1, vec![10, 20, 30])]);
        assert!(
            report(&mut waits, 1, vec![wait(1, 10, 20), wait(2, 40, 10)], 410).is_empty(),
            "40 only waits for the circle"
        );
    }
}
