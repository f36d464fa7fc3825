//! # generic: each algorithm once
//!
//! An algorithm is written over a register of unknown width: [`Bytes`] (bytes to compare), [`Group`] (bytes to move) or
//! [`Lanes`] (numbers of 64 bits, and the masks that their comparison returns). The words of the portable tier are
//! registers as well. The file of an instruction set implements the traits and instantiates the algorithms under its
//! `#[target_feature]`; all code here is inlined into it.
//!
//! **Never**: a read or write beyond the slices given. The tests put an inaccessible page behind them.

pub(crate) mod column;
pub(crate) mod key;
pub(crate) mod memcomparable;

/// A register of bytes that can be compared.
pub(crate) trait Bytes: Copy {
    /// Number of bytes.
    const LEN: usize;

    /// # Safety
    /// `from` must have `LEN` readable bytes; the machine must support the instructions.
    unsafe fn load(from: *const u8) -> Self;

    /// Returns the first position at which two registers differ.
    ///
    /// # Safety
    /// The machine must support the instructions.
    unsafe fn first_difference(self, other: Self) -> Option<usize>;
}

/// A register that holds a group of 8 bytes and possibly bytes that follow it.
pub(crate) trait Group: Copy {
    /// Number of bytes that a load reads and a store writes, 8 or more.
    const LEN: usize;

    /// # Safety
    /// `from` must have `LEN` readable bytes; the machine must support the instructions.
    unsafe fn load(from: *const u8) -> Self;

    /// Writes the group and the marker 0xFF behind it.
    ///
    /// # Safety
    /// `to` must have 9 or `LEN` writable bytes, whichever is more; the machine must support the instructions.
    unsafe fn store_full(self, to: *mut u8);
}

/// A register of 16 bytes, for two groups of an encoding at a time.
pub(crate) trait Pair: Copy {
    /// # Safety
    /// Here and below: the machine must support the instructions, and `from` must have 16 readable bytes.
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut u8);
    /// Returns the first 8 bytes followed by bytes 7 to 14 of `other`.
    unsafe fn join(self, other: Self) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    /// Returns bytes 6 and 15, which are the markers if the register was loaded from the third byte of two groups on.
    unsafe fn markers(self) -> [u8; 2];
}

/// A register of numbers of 64 bits. A mask has all bits of a lane set, or none.
pub(crate) trait Lanes: Copy {
    /// Number of lanes.
    const LANES: usize;

    /// # Safety
    /// Here and below: the machine must support the instructions, and `from` must have `LANES` readable numbers.
    unsafe fn load(from: *const u64) -> Self;
    unsafe fn store(self, to: *mut u64);
    unsafe fn splat(number: u64) -> Self;

    unsafe fn eq_i64(self, other: Self) -> Self;
    /// Compares as signed integers: greater.
    unsafe fn gt_i64(self, other: Self) -> Self;
    unsafe fn eq_f64(self, other: Self) -> Self;
    unsafe fn lt_f64(self, other: Self) -> Self;
    unsafe fn le_f64(self, other: Self) -> Self;

    unsafe fn and(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    /// Adds with wrapping.
    unsafe fn add_u64(self, other: Self) -> Self;
    unsafe fn add_f64(self, other: Self) -> Self;
    /// Shifts right by 32, logically.
    unsafe fn high(self) -> Self;
    /// Shifts right by 1, logically.
    unsafe fn half(self) -> Self;
    /// Returns `yes` where the mask `self` is set, else `no`.
    unsafe fn choose(self, yes: Self, no: Self) -> Self;

    /// Returns the mask of the lowest `LANES` bits, first lane lowest.
    unsafe fn mask(bits: u64) -> Self;
    /// Returns the bits of a mask, first lane lowest.
    unsafe fn bits(self) -> u64;

    /// Tests 64 numbers at `from` against `rhs` and returns the results as bits.
    ///
    /// # Safety
    /// `from` must have 64 readable numbers.
    unsafe fn test64<T: column::Test>(from: *const u64, rhs: Self) -> u64;
}
