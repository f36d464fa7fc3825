//! What the snapshots of a store share: slots and a rate limit for each direction, and counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use armilla_arch::sync::{Budget, Share};

use crate::rt::clock::Clock;

/// The limits of one direction: the number of snapshots at a time, and their bytes per second in total. Clones share
/// them.
#[derive(Clone, Debug)]
pub struct Traffic {
    slots: Budget,
    clock: Clock,
    pace: Arc<Mutex<Pace>>,
}

impl Traffic {
    /// Allows at most `slots` snapshots at a time, and `bytes_per_s` bytes per second.
    pub fn new(clock: Clock, slots: usize, bytes_per_s: u64) -> Traffic {
        let pace = Pace { bytes_per_s: bytes_per_s.max(1), free_ns: 0 };
        Traffic { slots: Budget::new(slots), clock, pace: Arc::new(Mutex::new(pace)) }
    }

    /// Takes a slot, if one is free. Dropping it releases the slot.
    pub fn take_slot(&self) -> Option<Share> {
        self.slots.take(1).ok()
    }

    /// Waits until `bytes` more bytes may pass.
    pub async fn pass(&self, bytes: usize) {
        let now_ns = self.clock.now().0;
        let wait_ns = self.pace.lock().expect("no holder panics").wait_ns(now_ns, bytes);
        if wait_ns > 0 {
            self.clock.sleep(Duration::from_nanos(wait_ns)).await;
        }
    }
}

/// A rate limit.
#[derive(Debug)]
struct Pace {
    bytes_per_s: u64,
    /// When the next bytes may pass (node clock, ns).
    free_ns: u64,
}

impl Pace {
    /// Returns how long `bytes` bytes have to wait, in nanoseconds.
    fn wait_ns(&mut self, now_ns: u64, bytes: usize) -> u64 {
        let begin_ns = now_ns.max(self.free_ns);
        // u128, because the product of two sizes may not fit into 64 bits.
        self.free_ns = begin_ns + (bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_s)) as u64;
        begin_ns - now_ns
    }
}

/// Counters of a store's snapshots since the process started.
#[derive(Debug, Default)]
pub struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    /// Counts a snapshot that was delivered to another store.
    pub fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }
    /// Counts a snapshot that arrived completely.
    pub fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }
    /// Counts a snapshot from another store that was refused for lack of a slot or of disk space.
    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
    /// Counts bytes of snapshots that were sent or received.
    pub fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    /// Returns the counters by the names of their metrics.
    pub fn stats(&self) -> [(&'static str, u64); 4] {
        [
            ("snapshots_sent", self.sent.load(Ordering::Relaxed)),
            ("snapshots_received", self.received.load(Ordering::Relaxed)),
            ("snapshots_refused", self.refused.load(Ordering::Relaxed)),
            ("snapshot_bytes", self.bytes.load(Ordering::Relaxed)),
        ]
    }
}

#[cfg(test)]
mod tests {
    //! Goal: bytes pass at the rate, even if several tasks ask at once, and an unused rate is not saved up. Method: by
    //! hand.

    use super::*;

    #[test]
    fn bytes_pass_at_the_rate() {
        let second = 1_000_000_000;
        let mut pace = Pace { bytes_per_s: 1 << 20, free_ns: 0 };
        assert_eq!(pace.wait_ns(5 * second, 2 << 20), 0, "the first ones pass at once");
        assert_eq!(pace.wait_ns(5 * second, 1 << 20), 2 * second, "two seconds for two MiB");
        assert_eq!(pace.wait_ns(6 * second, 1), 2 * second);
        assert_eq!(pace.wait_ns(20 * second, 1 << 20), 0);
        assert_eq!(pace.wait_ns(20 * second, 0), second);
    }
}
