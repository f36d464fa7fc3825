//! The placement driver's time, as last reported to this store.
//!
//! Expired values are removed permanently from all replicas, so the clock of a single node must not decide: a clock
//! that is ahead would remove values that other nodes still return.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::rt::clock::{Clock, Instant};

/// A report of the placement driver's time that is older is not used, because clocks drift.
const OLD: Duration = Duration::from_secs(60);

/// The time that was reported last. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct PdTime(Arc<Mutex<Option<(u64, Instant)>>>);

impl PdTime {
    /// Records that the placement driver's clock was `wall_ms` (Unix milliseconds) at some moment before `now`.
    pub fn heard(&self, wall_ms: u64, now: Instant) {
        *self.0.lock().expect("no holder panics") = Some((wall_ms, now));
    }

    /// Returns a time (Unix milliseconds) that is not ahead of the placement driver's clock or of this node's. Returns
    /// `None` if the placement driver has not reported its time recently.
    pub fn earliest_ms(&self, clock: &Clock) -> Option<u64> {
        let (wall_ms, at) = (*self.0.lock().expect("no holder panics"))?;
        let since = clock.now().since(at);
        if crate::mutant!("store.collects-by-own-clock") {
            return Some(clock.wall_ms());
        }
        let (own_ms, pd_ms) = (clock.wall_ms(), wall_ms + since.as_millis() as u64);
        if own_ms < pd_ms {
            crate::reach!("store.placement-driver-is-ahead");
        }
        let ahead = crate::mutant!("store.collects-by-placement-driver-alone");
        (since <= OLD).then(|| if ahead { pd_ms } else { own_ms.min(pd_ms) })
    }
}
