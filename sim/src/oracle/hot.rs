//! Loads are reported once, regions are split where their load is, and load that was spread stays where it is.
//!
//! Source: PD's hot region scheduler, which moved regions to and fro (tikv/pd#3504, #11133); TiKV's splits by load.
//!
//! Every request that a store counts is an event. What the placement driver has heard of a region's load from a store
//! must not be more than was counted there. A region that is split because of its load must have had a part of the
//! requests on either side of the new boundary. The scenario asks how often leaders of regions were moved.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use armilla::rt::probe::Event;
use bytes::Bytes;

use super::Violation;

/// Fewer requests than these say nothing about a boundary.
const REQUESTS_MIN: usize = 16;
/// Each side of a boundary must have had at least this part of the requests, as one of that many. Stores require a
/// quarter; they sample batches by one of their keys.
const SIDE_PART: usize = 12;
/// How long requests are remembered, ns.
const REMEMBERED_NS: u64 = 20_000_000_000;
/// An order that is given again within this time is the same order, ns.
const SAME_ORDER_NS: u64 = 10_000_000_000;

/// The oracle.
#[derive(Debug, Default)]
pub struct Loads {
    /// By store and region: requests that were counted.
    counted: BTreeMap<(u64, u64), u64>,
    /// By the placement driver's leadership, store and region: requests that it heard of.
    heard: BTreeMap<(u64, Bytes, u64, u64), u64>,
    /// By store and region: the keys of the last requests, with their times (true ns).
    keys: BTreeMap<(u64, u64), VecDeque<(u64, Bytes)>>,
    /// By region: the last order to move its leader, and when.
    orders: BTreeMap<u64, (u64, u64)>,
    /// By region: how often its leader was ordered to move.
    pub moves: BTreeMap<u64, u64>,
    /// Regions with steady load: their leaders move by load only.
    pub steady: BTreeSet<u64>,
    /// By region: where its load was last ordered to move.
    by_load: BTreeMap<u64, u64>,
    /// Boundaries that were judged.
    pub splits: u64,
}

impl Loads {
    /// Judges one event.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Order { region, to_store, .. } => {
                let before = self.orders.insert(*region, (*to_store, now_ns));
                if before.is_none_or(|(to, at_ns)| to != *to_store || now_ns > at_ns + SAME_ORDER_NS) {
                    *self.moves.entry(*region).or_default() += 1;
                }
                if self.steady.contains(region) && self.by_load.get(region) != Some(to_store) {
                    let what = format!(
                        "region {region} has steady load, but its leader moves to store {to_store} for another reason"
                    );
                    return Err(Violation::new("loads", now_ns, node, what));
                }
            }
            Event::Note { what: "hot-transfer", a: region, b: to_store, .. } => {
                self.by_load.insert(*region, *to_store);
            }
            Event::Note { store, what: "load-read", a: region, data, .. } => {
                *self.counted.entry((*store, *region)).or_default() += 1;
                self.note_key(now_ns, (*store, *region), data);
            }
            Event::Note { store, what: "load-write", a: region, .. } => {
                *self.counted.entry((*store, *region)).or_default() += 1;
            }
            Event::Note { store, what: "load-key", a: region, data, .. } => {
                self.note_key(now_ns, (*store, *region), data);
            }
            Event::Note { store, what: "load-heard", a: region, b: requests, data: leadership } => {
                let counted = self.counted.get(&(*store, *region)).copied().unwrap_or(0);
                let heard = self.heard.entry((node, leadership.clone(), *store, *region)).or_default();
                *heard += requests;
                if *heard > counted {
                    let what = format!(
                        "the placement driver heard of {heard} requests to region {region} on store {store}, which \
                         counted {counted}"
                    );
                    return Err(Violation::new("loads", now_ns, node, what));
                }
            }
            Event::Note { store, what: "load-split", a: region, b: ms, data: key } => {
                return self.judge_split(now_ns, node, (*store, *region), (*ms, key));
            }
            _ => {}
        }
        Ok(())
    }

    fn note_key(&mut self, now_ns: u64, of: (u64, u64), key: &Bytes) {
        let keys = self.keys.entry(of).or_default();
        keys.push_back((now_ns, key.clone()));
        while keys.front().is_some_and(|(at_ns, _)| now_ns > at_ns + REMEMBERED_NS) {
            keys.pop_front();
        }
    }

    fn judge_split(
        &mut self,
        now_ns: u64,
        node: u64,
        of: (u64, u64),
        (ms, boundary): (u64, &Bytes),
    ) -> Result<(), Violation> {
        // The store has measured the time by its own clock, which may run too slowly or too fast.
        let on_sides = |tenths: u64| {
            let since_ns = now_ns.saturating_sub(ms * 100_000 * tenths);
            let keys = self.keys.get(&of).into_iter().flatten().filter(|(at_ns, _)| *at_ns >= since_ns);
            let (left, right): (Vec<_>, Vec<_>) = keys.partition(|(_, key)| key < boundary);
            (left.len(), right.len())
        };
        let (left, right) = on_sides(10);
        if left + right < REQUESTS_MIN {
            return Ok(());
        }
        let is_beside = |(left, right): (usize, usize)| left.min(right) * SIDE_PART < left + right;
        let is_wrong = [9, 10, 12].into_iter().map(on_sides).all(is_beside);
        self.splits += 1;
        if is_wrong {
            let what = format!(
                "region {} is split because of its load at {}: {left} requests were before it, {right} behind it",
                of.1,
                boundary.escape_ascii()
            );
            return Err(Violation::new("loads", now_ns, node, what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a load that is reported twice and a boundary beside the load are found. Method: handmade events.
    use super::*;

    fn note(what: &'static str, b: u64, data: &'static str) -> Event {
        Event::Note { store: 1, what, a: 7, b, data: data.into() }
    }

    #[test]
    fn more_than_was_counted() {
        let mut loads = Loads::default();
        for _ in 0..3 {
            loads.observe(0, 1, &note("load-read", 1, "a")).unwrap();
        }
        loads.observe(0, 1, &note("load-write", 1, "")).unwrap();
        assert!(loads.observe(0, 2, &note("load-heard", 4, "")).is_ok());
        assert!(loads.observe(0, 2, &note("load-heard", 1, "")).is_err());
    }

    #[test]
    fn beside_the_load() {
        let mut loads = Loads::default();
        for n in 0..40 {
            loads.observe(n, 1, &note("load-key", 1, if n % 2 == 0 { "a" } else { "c" })).unwrap();
        }
        assert!(loads.observe(40, 1, &note("load-split", 1000, "b")).is_ok());
        assert!(loads.observe(40, 1, &note("load-split", 1000, "d")).is_err());
        assert!(loads.observe(2_000_000_000, 1, &note("load-split", 1000, "d")).is_ok(), "long ago");
    }

    #[test]
    fn steady_load_moves_by_load() {
        let mut loads = Loads { steady: [7].into(), ..Loads::default() };
        loads.observe(0, 1, &Event::Note { store: 1, what: "hot-transfer", a: 7, b: 2, data: Bytes::new() }).unwrap();
        assert!(loads.observe(1, 1, &Event::Order { store: 1, region: 7, to_store: 2 }).is_ok());
        assert!(loads.observe(2, 1, &Event::Order { store: 1, region: 8, to_store: 3 }).is_ok());
        assert!(loads.observe(3, 1, &Event::Order { store: 1, region: 7, to_store: 3 }).is_err());
    }

    #[test]
    fn orders_that_are_repeated_are_one() {
        let mut loads = Loads::default();
        for (at_s, to_store) in [(0, 2), (1, 2), (2, 3), (20, 3)] {
            loads.observe(at_s * 1_000_000_000, 1, &Event::Order { store: 1, region: 7, to_store }).unwrap();
        }
        assert_eq!(loads.moves.get(&7), Some(&3));
    }
}
