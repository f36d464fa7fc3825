//! What the snapshots of a store share: places, a rate in each direction, and counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use armilla_arch::sync::{Budget, Share};

use crate::rt::clock::Clock;

/// One direction: so many snapshots at a time, so many bytes a second all together. Clones share it.
#[derive(Clone, Debug)]
pub struct Traffic {
    places: Budget,
    clock: Clock,
    pace: Arc<Mutex<Pace>>,
}

impl Traffic {
    /// At most `places` at a time and `bytes_per_s` a second.
    pub fn new(clock: Clock, places: usize, bytes_per_s: u64) -> Traffic {
        let pace = Pace { bytes_per_s: bytes_per_s.max(1), free_ns: 0 };
        Traffic { places: Budget::new(places), clock, pace: Arc::new(Mutex::new(pace)) }
    }

    /// A place, free again when it is dropped.
    pub fn place(&self) -> Option<Share> {
        self.places.take(1).ok()
    }

    /// Waits until so many bytes may pass.
    pub async fn pass(&self, bytes: usize) {
        let now_ns = self.clock.now().0;
        let wait_ns = self.pace.lock().expect("no holder panics").wait_ns(now_ns, bytes);
        if wait_ns > 0 {
            self.clock.sleep(Duration::from_nanos(wait_ns)).await;
        }
    }
}

/// A rate.
#[derive(Debug)]
struct Pace {
    bytes_per_s: u64,
    /// When the next bytes may pass (node clock, ns).
    free_ns: u64,
}

impl Pace {
    /// How long so many bytes wait, ns.
    fn wait_ns(&mut self, now_ns: u64, bytes: usize) -> u64 {
        let begin_ns = now_ns.max(self.free_ns);
        // u128: a product of two sizes.
        self.free_ns = begin_ns + (bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_s)) as u64;
        begin_ns - now_ns
    }
}

/// Counters of a store's snapshots, since the process's start.
#[derive(Debug, Default)]
pub struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    /// One was delivered to another store.
    pub fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }
    /// One arrived whole.
    pub fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }
    /// One was sent away because all places are taken.
    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
    /// Bytes of one were sent or received.
    pub fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    /// By the name of their figure.
    pub fn figures(&self) -> [(&'static str, u64); 4] {
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
    //! Goal: bytes pass at the rate, also when several ask at once, and none are saved up. Method: by hand.

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
