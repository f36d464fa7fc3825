//! The machine's clocks.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::rt::clock::{Elapsed, Instant};

/// A node's clock: a monotonic one for durations and leases, a wall clock for timestamps.
#[derive(Clone, Debug)]
pub struct Clock {
    epoch_ns: u64,
}

/// Nanoseconds since the machine's start, times of its suspension included: a leader that wakes up after a night must not find
/// its lease as it left it, which CLOCK_MONOTONIC (and so `std::time::Instant`) would show.
fn boot_ns() -> u64 {
    // SAFETY: timespec is plain data, for which zeroes are a valid value.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is a valid place for the answer.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    assert_eq!(failed, 0, "every Linux since 2.6.39 has CLOCK_BOOTTIME");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Clock {
    /// The machine's clocks; instants count from now.
    pub fn real() -> Clock {
        Clock { epoch_ns: boot_ns() }
    }

    /// The monotonic clock. It keeps running while the process is stopped and while the machine is suspended. A virtual machine
    /// that its host pauses may lose time: that is drift, and must stay within what leases allow for.
    pub fn now(&self) -> Instant {
        // One second is added so that no instant is zero, which callers may use for "never".
        Instant(boot_ns().saturating_sub(self.epoch_ns) + 1_000_000_000)
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
