//! A region sleeps only if none of its sleeping replicas lacks anything.
//!
//! Source: a sleeping leader sends nothing, so a replica that lacks an entry then would lack it for as long as nobody
//! asks for the region, and the next loss could take the entry.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;

use super::Violation;

/// The oracle.
#[derive(Debug, Default)]
pub struct Sleep {
    /// By group and store: what its sleeping replica has applied.
    asleep: BTreeMap<(u64, u64), u64>,
    /// How often a leader fell asleep.
    pub slept: u64,
}

impl Sleep {
    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        let Event::Note { store, what: "asleep", a: group, b: applied, data } = event else { return Ok(()) };
        self.asleep.insert((*group, *store), *applied);
        // A leader names the stores whose replicas have consented. They sleep since then, or are awake again.
        for consented in data.as_chunks::<8>().0 {
            self.slept += 1;
            let store = u64::from_be_bytes(*consented);
            if let Some(other) = self.asleep.get(&(*group, store)).filter(|other| *other < applied) {
                let what = format!(
                    "group {group}'s leader sleeps with everything up to {applied}, while store {store} sleeps with {other} only"
                );
                return Err(Violation::new("sleep", now_ns, node, what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a replica that lags is noticed when its leader sleeps. Method: a few events by hand.
    use super::*;

    #[test]
    fn a_replica_that_lacks_something() {
        let asleep = |store, applied, consented: &[u64]| {
            let data = consented.iter().flat_map(|store| store.to_be_bytes()).collect();
            Event::Note { store, what: "asleep", a: 7, b: applied, data }
        };
        let mut sleep = Sleep::default();
        sleep.observe(0, 1, &asleep(1, 9, &[])).unwrap();
        sleep.observe(1, 2, &asleep(2, 8, &[])).unwrap();
        sleep.observe(2, 3, &asleep(3, 9, &[1])).unwrap();
        assert!(sleep.observe(3, 3, &asleep(3, 9, &[1, 2])).is_err());
        assert_eq!(sleep.slept, 3);
    }
}
