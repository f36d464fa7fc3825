//! The timestamp oracle's allocator: strictly increasing numbers below a bound that was saved through raft beforehand.
//!
//! Pure: the clock comes in as `now_ms`. (`mutant!`, `buggify!` and `reach!` are constant outside the simulator.)

use crate::types::Timestamp;
use crate::types::limits::TSO_WINDOW;
use crate::types::timestamp::LOGICAL_BITS;

/// Number of timestamps in one millisecond.
const LOGICAL_COUNT: u64 = 1 << LOGICAL_BITS;
/// The largest physical part that fits its bits: in the year 4199.
const PHYSICAL_MS_MAX: u64 = (1 << (64 - LOGICAL_BITS)) - 1;

/// The allocator needs a higher saved bound before it can continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedWindow {
    /// The bound (ms, exclusive) to save through raft and then to pass to [`Tso::extend`].
    pub to_ms: u64,
}

/// Allocates the timestamps of one leadership.
///
/// The caller must, in this order: create it with the bound that the replicated state holds when the leader is ready;
/// save a higher bound through raft; call [`Tso::extend`]; and only then call [`Tso::take`]. At each `take` it must be
/// sure that it is still leader.
#[derive(Clone, Debug)]
pub struct Tso {
    /// The physical part of the next timestamp (ms), unless the clock is ahead of it.
    physical_ms: u64,
    /// The logical part of the next timestamp; at most [`LOGICAL_COUNT`].
    logical: u64,
    /// Exclusive upper bound of physical parts (ms).
    bound_ms: u64,
}

impl Tso {
    /// Creates an allocator that starts above every timestamp of earlier leaders: their physical parts are below
    /// `bound_ms`.
    pub fn new(bound_ms: u64) -> Tso {
        Tso { physical_ms: bound_ms, logical: 0, bound_ms }
    }

    /// Returns the saved bound (ms, exclusive).
    #[cfg(test)]
    pub fn bound_ms(&self) -> u64 {
        self.bound_ms
    }

    /// Records that a bound was saved through raft. A lower bound than before has no effect.
    pub fn extend(&mut self, bound_ms: u64) {
        self.bound_ms = self.bound_ms.max(bound_ms);
    }

    /// Returns the bound to save so that a whole window is available at `now_ms`.
    pub fn window(&self, now_ms: u64) -> NeedWindow {
        window(self.physical_ms.max(now_ms))
    }

    /// Returns whether less than half of the window is left at `now_ms`, so that a higher bound should be saved before
    /// a caller has to wait for it.
    pub fn runs_low(&self, now_ms: u64) -> bool {
        let left_ms = self.bound_ms.saturating_sub(self.physical_ms.max(now_ms));
        u128::from(left_ms) * 2 < TSO_WINDOW.as_millis() || crate::buggify!("tso.save-early")
    }

    /// Takes `count` timestamps that share their physical part, and returns the largest.
    ///
    /// # Errors
    /// [`NeedWindow`] if the next timestamp would not be below the saved bound; then no timestamp is taken.
    ///
    /// # Panics
    /// If `count` is zero or larger than the number of timestamps in one millisecond.
    pub fn take(&mut self, count: u32, now_ms: u64) -> Result<Timestamp, NeedWindow> {
        let count = u64::from(count);
        assert!(count > 0 && count <= LOGICAL_COUNT, "a batch must fit into one millisecond: {count}");
        let (mut physical_ms, mut first) = (self.physical_ms, self.logical);
        if now_ms < physical_ms {
            crate::reach!("tso.clock-went-back");
        }
        let goes_back = crate::mutant!("tso.goes-back-with-the-clock");
        if now_ms > physical_ms || (goes_back && now_ms < physical_ms) {
            (physical_ms, first) = (now_ms, 0);
        }
        if first + count > LOGICAL_COUNT {
            if crate::mutant!("tso.logical-overflow") {
                first = 0;
            } else {
                crate::reach!("tso.millisecond-used-up");
                (physical_ms, first) = (physical_ms + 1, 0);
            }
        }
        if physical_ms >= self.bound_ms {
            crate::reach!("tso.window-used-up");
            return Err(window(physical_ms));
        }
        assert!(physical_ms <= PHYSICAL_MS_MAX, "the physical part has run out of bits");
        assert!(physical_ms >= self.physical_ms || goes_back, "the physical part never goes back");
        assert!(first + count <= LOGICAL_COUNT, "the logical part has run out of bits");
        (self.physical_ms, self.logical) = (physical_ms, first + count);
        Ok(Timestamp::new(physical_ms, self.logical - 1))
    }
}

fn window(physical_ms: u64) -> NeedWindow {
    NeedWindow { to_ms: physical_ms.saturating_add(TSO_WINDOW.as_millis() as u64).min(PHYSICAL_MS_MAX + 1) }
}
