//! Each node's clocks: they start at different times, drift apart, and the wall clock may be stepped. The monotonic clock never
//! goes back and never jumps; it only runs too fast or too slow.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use madsim::time::TimeHandle;

use super::queue::{EventQueue, Timer};
use crate::rt::clock::{Elapsed, Instant};

/// Simulated time zero as an exact wall clock shows it, in milliseconds since 1970 (2026-01-01T00:00:00Z).
pub const WALL_EPOCH_MS: u64 = 1_767_225_600_000;

/// Timers have a granularity of a millisecond, as tokio's have.
const TICK_NS: u64 = 1_000_000;

/// Between two looks of a sleeper at a clock that stands still.
const FROZEN_LOOK_NS: u64 = 100_000_000;

/// Parts of a million.
const MILLION: i128 = 1_000_000;

#[derive(Debug)]
struct Rate {
    /// Where the current rate began: real (ghost) time and local time, in nanoseconds.
    real_ns: u64,
    local_ns: u64,
    /// The clock runs at `1 + ppm / 1e6` of real time.
    ppm: i64,
    /// Added to the wall clock.
    offset_ms: i64,
    /// Both clocks stand still, at `local_ns`.
    frozen: bool,
}

/// The simulator's hands on one node's clocks.
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

    /// Sets how far the wall clock is from the truth, in milliseconds. The monotonic clock is not touched.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.rate.lock().unwrap().offset_ms = offset_ms;
    }

    /// Steps the wall clock by `delta_ms`, either way.
    pub fn step_ms(&self, delta_ms: i64) {
        self.rate.lock().unwrap().offset_ms += delta_ms;
    }

    /// A leap second: the wall clock shows a second twice (`inserted`), or leaves one out.
    pub fn leap(&self, inserted: bool) {
        crate::reach!("clock.leap-second");
        self.step_ms(if inserted { -1000 } else { 1000 });
    }

    /// Makes both clocks run fast (positive) or slow (negative) by so many parts of a million, from now on.
    ///
    /// # Panics
    /// If the clock would stand still or run backwards.
    pub fn set_drift_ppm(&self, ppm: i64) {
        assert!(ppm > -1_000_000, "a monotonic clock does not run backwards");
        let real_ns = self.real_ns();
        let local_ns = self.local_at(real_ns);
        let mut rate = self.rate.lock().unwrap();
        (rate.real_ns, rate.local_ns, rate.ppm) = (real_ns, local_ns, ppm);
    }

    /// Stops both clocks, as those of a virtual machine that is saved, or lets them go on from where they stood.
    pub fn set_frozen(&self, frozen: bool) {
        let real_ns = self.real_ns();
        let local_ns = self.local_at(real_ns);
        let mut rate = self.rate.lock().unwrap();
        (rate.real_ns, rate.local_ns, rate.frozen) = (real_ns, local_ns, frozen);
    }

    /// The present drift in parts of a million.
    pub fn drift_ppm(&self) -> i64 {
        self.rate.lock().unwrap().ppm
    }

    /// The wall clock's present distance from the truth in milliseconds, without what drift has added.
    pub fn offset_ms(&self) -> i64 {
        self.rate.lock().unwrap().offset_ms
    }

    /// Local nanoseconds at a real instant, under the present rate.
    fn local_at(&self, real_ns: u64) -> u64 {
        let rate = self.rate.lock().unwrap();
        if rate.frozen {
            return rate.local_ns;
        }
        let passed = i128::from(real_ns) - i128::from(rate.real_ns);
        (i128::from(rate.local_ns) + passed * (MILLION + i128::from(rate.ppm)) / MILLION) as u64
    }

    /// The first real instant at which the local clock shows at least `local_ns`, under the present rate.
    fn real_when(&self, local_ns: u64) -> u64 {
        let now_ns = self.real_ns();
        let rate = self.rate.lock().unwrap();
        if rate.frozen && local_ns > rate.local_ns {
            // Nobody knows; whoever waits looks again.
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

    /// What the monotonic clock shows, for oracles: nanoseconds since the node was made, through all its lives.
    pub fn local_ns(&self) -> u64 {
        self.local_now()
    }

    /// What the wall clock shows: milliseconds since 1970.
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
    /// Local time when the node's process started, so that instants of two lives of a node differ.
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

    /// The monotonic clock. It keeps running while the process is paused, and drifts.
    pub fn now(&self) -> Instant {
        // One second is added so that no instant is zero, which callers may use for "never".
        Instant(self.clock.local_now() - self.start_ns + 1_000_000_000)
    }

    /// Milliseconds since 1970. May jump either way.
    pub fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// Completes after `duration` on this clock.
    pub async fn sleep(&self, duration: Duration) {
        let clock = &self.clock;
        let until = clock.local_now().saturating_add(duration.as_nanos().min(u128::from(u64::MAX / 4)) as u64);
        let until = until.div_ceil(TICK_NS) * TICK_NS;
        // The rate may change under a sleeper: look again when the timer fires.
        loop {
            Timer::new(self.queue.clone(), clock.real_when(until)).await;
            if clock.local_now() >= until {
                return;
            }
        }
    }

    /// `future`'s value, or [`Elapsed`] if it takes longer than `duration`; the future is dropped then.
    ///
    /// # Errors
    /// [`Elapsed`] when the time ran out.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
        tokio::select! {
            biased;
            value = future => Ok(value),
            () = self.sleep(duration) => Err(Elapsed),
        }
    }
}
