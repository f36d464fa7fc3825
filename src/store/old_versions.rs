//! What this store tells the placement driver of old versions, and what it is told: how far back history goes.
//!
//! The keeper of transactions reports **in** how far each region that is led here is cleared; heartbeats carry that
//! out, and bring the safe points back. **Never**: a report of a range that the region no longer has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// How far back history goes in the whole cluster. Both numbers are timestamps; 0: not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SafePoints {
    /// No transaction may begin, and nothing be read, below this.
    pub txn: u64,
    /// Versions that only transactions below this could read are to be removed.
    pub collect: u64,
}

/// What is known of a region that is led here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// The region's version.
    pub version: u64,
    /// No lock of a transaction that began below this timestamp is left, and none will come.
    pub below: u64,
    /// Whether there is more than one value of some key, or a deletion.
    pub has_old: bool,
}

/// The reports of a store. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Reports(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    regions: BTreeMap<u64, Cleared>,
    oldest: Option<u64>,
}

impl Reports {
    /// Returns the report of a region, if it has this version.
    pub fn of(&self, region: u64, version: u64) -> Cleared {
        let state = self.0.lock().expect("no holder panics");
        state.regions.get(&region).copied().filter(|one| one.version == version).unwrap_or_default()
    }

    /// Returns when the oldest transaction began that is alive and has a lock here.
    pub fn oldest(&self) -> Option<u64> {
        self.0.lock().expect("no holder panics").oldest
    }

    /// Replaces all reports.
    pub fn replace(&self, regions: BTreeMap<u64, Cleared>, oldest: Option<u64>) {
        *self.0.lock().expect("no holder panics") = State { regions, oldest };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_for_its_version_only() {
        let reports = Reports::default();
        let cleared = Cleared { version: 3, below: 77, has_old: true };
        reports.clone().replace([(5, cleared)].into(), Some(40));
        assert_eq!((reports.of(5, 3), reports.oldest()), (cleared, Some(40)));
        assert_eq!([reports.of(5, 4), reports.of(6, 3)], [Cleared::default(); 2]);
    }
}
