//! Timestamps: physical milliseconds and a logical counter in one number.

use std::fmt;

/// The number of bits of the logical counter.
pub const LOGICAL_BITS: u32 = 18;

/// A timestamp of the timestamp oracle: milliseconds since 1970, shifted left by [`LOGICAL_BITS`], plus a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The largest timestamp: "the newest, whatever it is" in requests. Never given out.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// Combines the two parts.
    ///
    /// # Panics
    /// Panics if `logical` does not fit in [`LOGICAL_BITS`] bits.
    pub fn new(physical_ms: u64, logical: u64) -> Timestamp {
        assert!(logical < 1 << LOGICAL_BITS, "the logical part must not overflow into the physical one");
        Timestamp(physical_ms << LOGICAL_BITS | logical)
    }
    /// Returns the physical part: milliseconds since 1970.
    pub fn physical_ms(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }
    /// Returns the next timestamp; [`Timestamp::MAX`] if there is none.
    pub fn next(self) -> Timestamp {
        Timestamp(self.0.saturating_add(1))
    }
    /// Returns the logical part: the counter within the millisecond.
    pub fn logical(self) -> u64 {
        self.0 & ((1 << LOGICAL_BITS) - 1)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
