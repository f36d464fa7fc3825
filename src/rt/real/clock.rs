//! The machine's clocks.

use std::future::Future;
use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};

use crate::rt::clock::{Elapsed, Instant};

/// A node's clock: a monotonic one for durations and leases, a wall clock for timestamps.
#[derive(Clone, Debug)]
pub struct Clock {
    epoch: StdInstant,
}

impl Clock {
    /// The machine's clocks; instants count from now.
    pub fn real() -> Clock {
        Clock { epoch: StdInstant::now() }
    }

    /// The monotonic clock. It keeps running while the process is stopped.
    pub fn now(&self) -> Instant {
        // One second is added so that no instant is zero, which callers may use for "never".
        Instant(self.epoch.elapsed().as_nanos() as u64 + 1_000_000_000)
    }

    /// Milliseconds since 1970. May jump either way.
    pub fn wall_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }

    /// Completes after `duration` on this clock.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// `future`'s value, or [`Elapsed`] if it takes longer than `duration`; the future is dropped then.
    ///
    /// # Errors
    /// [`Elapsed`] when the time ran out.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(duration, future).await.map_err(|_| Elapsed)
    }
}
