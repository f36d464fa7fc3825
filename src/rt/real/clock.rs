//! The machine's clocks.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt as _;

use crate::rt::clock::{Elapsed, Instant};

/// A node's clock: a monotonic one for durations and leases, a wall clock for timestamps.
#[derive(Clone, Debug)]
pub struct Clock {
    epoch_ns: u64,
}

/// Returns nanoseconds since the machine booted, including the time it was suspended. After a night's suspension a
/// leader must not find its lease still valid, as CLOCK_MONOTONIC (and so `std::time::Instant`) would suggest.
fn boot_ns() -> u64 {
    // SAFETY: timespec is plain data, for which zeroes are a valid value.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is valid for writing the result.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    assert_eq!(failed, 0, "every Linux since 2.6.39 has CLOCK_BOOTTIME");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Clock {
    /// Returns the machine's clocks; instants count from now.
    pub fn real() -> Clock {
        Clock { epoch_ns: boot_ns() }
    }

    /// Returns the time of the monotonic clock. It keeps running while the process is stopped and while the machine is
    /// suspended. A virtual machine that its host pauses may lose time: that counts as drift, and must stay within what
    /// leases allow for.
    pub fn now(&self) -> Instant {
        // One second is added so that no instant is zero, which callers may use for "never".
        Instant(boot_ns().saturating_sub(self.epoch_ns) + 1_000_000_000)
    }

    /// Returns milliseconds since 1970. May jump forward or back.
    pub fn wall_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }

    /// Completes after `duration` on this clock.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Returns `future`'s value, or [`Elapsed`] if it takes longer than `duration`, in which case the future is
    /// dropped.
    ///
    /// # Errors
    /// [`Elapsed`] when `duration` has passed.
    pub fn timeout<F: Future>(
        &self,
        duration: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + use<F> {
        // Not an async function, which would have space for `future` twice.
        tokio::time::timeout(duration, future).map(|ended| ended.map_err(|_| Elapsed))
    }
}
