//! Each node's clocks. They start at different times and drift apart, and the wall clock may be stepped. The monotonic
//! clock never goes back and never jumps; it only runs fast or slow.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use madsim::time::TimeHandle;

use super::queue::{EventQueue, Timer};
use crate::rt::clock::{Elapsed, Instant};

/// Simulated time zero as an exact wall clock shows it, in milliseconds since 1970 (2026-01-01T00:00:00Z).
pub const WALL_EPOCH_MS: u64 = 1_767_225_600_000;

/// Timers have a granularity of one millisecond, as tokio's have.
const TICK_NS: u64 = 1_000_000;

/// How often a sleeper checks a frozen clock again.
const FROZEN_LOOK_NS: u64 = 100_000_000;

/// Parts per million.
const MILLION: i128 = 1_000_000;

#[derive(Debug)]
struct Rate {
    /// When the current rate took effect: true and local time, in nanoseconds.
    real_ns: u64,
    local_ns: u64,
    /// The clock runs at `1 + ppm / 1e6` times the speed of true time.
    ppm: i64,
    /// Milliseconds added to the wall clock.
    offset_ms: i64,
    /// Both clocks are frozen at `local_ns`.
    frozen: bool,
}

/// The simulator's control over one node's clocks.
#[derive(Debug)]
pub struct SimClock {
    time: TimeHandle_,
    rate: Mutex<Rate>,
}

/// `TimeHandle` has no `Debug`.
struct TimeHandle_(TimeHandle);

impl std::fmt::Debug for TimeHandle_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TimeHandle")
    }
}

impl SimClock {
    pub(super) fn new(time: TimeHandle) -> SimClock {
        let rate = Rate { real_ns: 0, local_ns: 0, ppm: 0, offset_ms: 0, frozen: false };
        SimClock { time: TimeHandle_(time), rate: Mutex::new(rate) }
    }

    fn real_ns(&self) -> u64 {
        self.time.0.elapsed().as_nanos() as u64
    }

    /// Sets the wall clock's offset from true time, in milliseconds. Does not affect the monotonic clock.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.rate.lock().unwrap().offset_ms = offset_ms;
    }

    /// Steps the wall clock by `delta_ms`, forward or back.
    pub fn step_ms(&self, delta_ms: i64) {
        self.rate.lock().unwrap().offset_ms += delta_ms;
    }

    /// Applies a leap second: the wall clock repeats a second (`inserted`) or skips one.
    pub fn leap(&self, inserted: bool) {
        crate::reach!("clock.leap-second");
        self.step_ms(if inserted { -1000 } else { 1000 });
    }

    /// Makes both clocks run fast (positive) or slow (negative) by `ppm` parts per million from now on.
    ///
    /// # Panics
    /// If the clock would stop or run backwards.
    pub fn set_drift_ppm(&self, ppm: i64) {
        assert!(ppm > -1_000_000, "a monotonic clock does not run backwards");
        let real_ns = self.real_ns();
        let local_ns = self.local_at(real_ns);
        let mut rate = self.rate.lock().unwrap();
        (rate.real_ns, rate.local_ns, rate.ppm) = (real_ns, local_ns, ppm);
    }

    /// Stops both clocks, like those of a virtual machine that is suspended to disk, or lets them continue from where
    /// they stopped.
    pub fn set_frozen(&self, frozen: bool) {
        let real_ns = self.real_ns();
        let local_ns = self.local_at(real_ns);
        let mut rate = self.rate.lock().unwrap();
        (rate.real_ns, rate.local_ns, rate.frozen) = (real_ns, local_ns, frozen);
    }

    /// Returns the current drift in parts per million.
    pub fn drift_ppm(&self) -> i64 {
        self.rate.lock().unwrap().ppm
    }

    /// Returns the wall clock's current offset from true time in milliseconds, without the offset that drift has added.
    pub fn offset_ms(&self) -> i64 {
        self.rate.lock().unwrap().offset_ms
    }

    /// Returns the local time, in nanoseconds, at a point in true time, under the current rate.
    fn local_at(&self, real_ns: u64) -> u64 {
        let rate = self.rate.lock().unwrap();
        if rate.frozen {
            return rate.local_ns;
        }
        let passed = i128::from(real_ns) - i128::from(rate.real_ns);
        (i128::from(rate.local_ns) + passed * (MILLION + i128::from(rate.ppm)) / MILLION) as u64
    }

    /// Returns the first point in true time at which the local clock shows at least `local_ns`, under the current rate.
    fn real_when(&self, local_ns: u64) -> u64 {
        let now_ns = self.real_ns();
        let rate = self.rate.lock().unwrap();
        if rate.frozen && local_ns > rate.local_ns {
            // The clock's restart is not known in advance; the sleeper checks again later.
            return now_ns + FROZEN_LOOK_NS;
        }
        let wanted = i128::from(local_ns) - i128::from(rate.local_ns);
        let speed = MILLION + i128::from(rate.ppm);
        let passed = (wanted * MILLION + speed - 1).div_euclid(speed);
        (i128::from(rate.real_ns) + passed).max(0) as u64
    }

    pub(super) fn local_now(&self) -> u64 {
        self.local_at(self.real_ns())
    }

    /// Returns the monotonic clock's time, for oracles: nanoseconds since the node was created, across all its
    /// incarnations.
    pub fn local_ns(&self) -> u64 {
        self.local_now()
    }

    /// Returns the wall clock's time: milliseconds since 1970.
    pub fn wall_ms(&self) -> u64 {
        let local_ms = (self.local_now() / 1_000_000) as i64;
        (WALL_EPOCH_MS as i64 + local_ms + self.offset_ms()).max(1) as u64
    }
}

/// A node's clock: a monotonic one for durations and leases, a wall clock for timestamps.
#[derive(Clone)]
pub struct Clock {
    queue: Arc<EventQueue>,
    node: u64,
    clock: Arc<SimClock>,
    /// Local time when the node's process started, so that instants of two incarnations of a node differ.
    start_ns: u64,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock(node {})", self.node)
    }
}

impl Clock {
    pub(super) fn new(queue: Arc<EventQueue>, node: u64, clock: Arc<SimClock>) -> Clock {
        let start_ns = clock.local_now();
        Clock { queue, node, clock, start_ns }
    }

    /// Returns the time of the monotonic clock. It keeps running while the process is paused, and drifts.
    pub fn now(&self) -> Instant {
        // One second is added so that no instant is zero, which callers may use for "never".
        Instant(self.clock.local_now() - self.start_ns + 1_000_000_000)
    }

    /// Returns milliseconds since 1970. May jump forward or back.
    pub fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// Completes after `duration` on this clock.
    pub async fn sleep(&self, duration: Duration) {
        let clock = &self.clock;
        let until = clock.local_now().saturating_add(duration.as_nanos().min(u128::from(u64::MAX / 4)) as u64);
        let until = until.div_ceil(TICK_NS) * TICK_NS;
        // The rate may change during the sleep, so the clock is checked again when the timer fires.
        loop {
            Timer::new(self.queue.clone(), clock.real_when(until)).await;
            if clock.local_now() >= until {
                return;
            }
        }
    }

    /// Returns `future`'s value, or [`Elapsed`] if it takes longer than `duration`, in which case the future is
    /// dropped.
    ///
    /// # Errors
    /// [`Elapsed`] when `duration` has passed.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
        tokio::select! {
            biased;
            value = future => Ok(value),
            () = self.sleep(duration) => Err(Elapsed),
        }
    }
}
