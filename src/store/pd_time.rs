//! The placement driver's time, as far as this store has heard of it.
//!
//! What has expired is removed from all replicas for good, so it must not go by the clock of one node alone: a clock that is ahead
//! would remove what others still show.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::rt::clock::{Clock, Instant};

/// A word of the placement driver that is older says nothing any more: clocks drift.
const OLD: Duration = Duration::from_secs(60);

/// What was heard last. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct PdTime(Arc<Mutex<Option<(u64, Instant)>>>);

impl PdTime {
    /// The placement driver said at some moment before `now` that it is `wall_ms` (unix time).
    pub fn heard(&self, wall_ms: u64, now: Instant) {
        *self.0.lock().expect("no holder panics") = Some((wall_ms, now));
    }

    /// A time (unix, ms) that neither the placement driver's clock nor this node's is behind; nothing if the placement driver was
    /// not heard lately.
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
