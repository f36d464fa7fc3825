//! How far the regions are cleared of old locks, as stores report it.
//!
//! Reports come **in** with heartbeats; **out** comes what they say of all keys together. **Never**: a report that
//! counts for a range which the region no longer has.

use super::{Cluster, PdState};
use crate::types::region;

/// What is known of all regions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// No region has, or will get, a lock of a transaction that began below this timestamp.
    pub cleared_below: u64,
    /// Whether some region has versions that may be removed once the safe point has passed them.
    pub has_old: bool,
    /// When the oldest transaction began that is alive.
    pub oldest: Option<u64>,
}

impl Cluster {
    /// Returns what stores have reported of the regions, as the replicated map has them now.
    pub fn history(&self, state: &PdState, now_ms: u64) -> History {
        let mut history = History { cleared_below: u64::MAX, ..History::default() };
        for region in state.regions() {
            let heard = self.regions.get(&region.id);
            let heard = heard.filter(|heard| heard.version() == region::epoch(region).version);
            let cleared = heard.map_or(0, |heard| heard.last.cleared_below);
            history.cleared_below = history.cleared_below.min(cleared);
            history.has_old |= heard.is_some_and(|heard| heard.last.has_old_versions);
        }
        let alive = self.stores.iter().filter(|(id, _)| self.alive(**id, now_ms));
        history.oldest = alive.map(|(_, heard)| heard.last.oldest_transaction).filter(|at| *at != 0).min();
        history
    }
}
