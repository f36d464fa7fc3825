//! Values are collected by the placement driver's time, never ahead of it or of the store's own clock.
//!
//! Source: TiKV collects expired raw values below a safe point from the placement driver; no store's clock decides
//! alone.
//!
//! The time that the placement driver sent to a store, and how long ago by the true clock, bounds the time that the
//! store may assume: its clock may run too fast by at most the allowed drift. Responses may be late or overtake each
//! other, so every response to the store counts. The placement driver's clock may be wrong as well: a
//! value that has not expired by the store's own clock must not be collected.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;

use super::Violation;

/// How much too fast a clock may run, parts per million: slightly more than the faults allow.
const DRIFT_PPM: u64 = 112_000;

/// The oracle.
#[derive(Debug, Default)]
pub struct Collection {
    /// By store: the response that allows the latest time, as that time (ms) and when it was sent (true ns).
    told: BTreeMap<u64, (u64, u64)>,
}

/// Returns the latest time that a store may assume, ms.
fn bound_ms((wall_ms, told_ns): (u64, u64), now_ns: u64) -> u64 {
    let elapsed_ns = now_ns.saturating_sub(told_ns);
    // A millisecond for rounding.
    wall_ms + (elapsed_ns + elapsed_ns / 1_000_000 * DRIFT_PPM) / 1_000_000 + 1
}

impl Collection {
    /// Judges one event of a node, whose wall clock shows `wall_ms`.
    pub fn observe(
        &mut self,
        now_ns: u64,
        node: u64,
        event: &Event,
        wall_ms: impl Fn() -> u64,
    ) -> Result<(), Violation> {
        match event {
            Event::Note { what: "time-told", a: store, b: wall_ms, .. } => {
                let new = (*wall_ms, now_ns);
                let best = self.told.entry(*store).or_insert(new);
                if *wall_ms > bound_ms(*best, now_ns) {
                    *best = new;
                }
                Ok(())
            }
            Event::Note { store, what: "collects-by", a: by_ms, .. } => {
                let bound = self.told.get(store).map_or(0, |told| bound_ms(*told, now_ns)).min(wall_ms());
                if *by_ms <= bound {
                    return Ok(());
                }
                let what = format!("store {store} collects what expired by {by_ms} ms, {} ms too early", by_ms - bound);
                Err(Violation::new("collection", now_ns, node, what))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a store that uses its own clock is found, one whose clock only drifts is not. Method: handmade events.
    use super::*;

    #[test]
    fn bounds() {
        let mut collection = Collection::default();
        let note = |what, a, b| Event::Note { store: 3, what, a, b, data: Default::default() };
        let (second, right) = (1_000_000_000, || 1_000_000);
        assert!(collection.observe(0, 1, &note("collects-by", 1, 0), right).is_err(), "it was told no time");
        collection.observe(second, 1, &note("time-told", 3, 50_000), right).unwrap();
        assert!(collection.observe(11 * second, 1, &note("collects-by", 61_120, 0), right).is_ok());
        assert!(collection.observe(11 * second, 1, &note("collects-by", 61_200, 0), right).is_err());
        assert!(
            collection.observe(11 * second, 1, &note("collects-by", 61_000, 0), || 60_999).is_err(),
            "the store's own clock is behind"
        );
        collection.observe(12 * second, 1, &note("time-told", 3, 20_000), right).unwrap();
        assert!(
            collection.observe(12 * second, 1, &note("collects-by", 61_000, 0), right).is_ok(),
            "the older response may be late"
        );
    }
}
