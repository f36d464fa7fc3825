//! # generic: each algorithm once
//!
//! An algorithm is written over a register of unknown width: [`Bytes`] (bytes to compare), [`Group`] (bytes to move) or
//! [`Lanes`] (numbers of 64 bits, and the masks that comparing them gives). The words of the portable tier are registers too.
//! A file of an instruction set implements the traits and instantiates the algorithms under its `#[target_feature]`; everything
//! here is inlined into that.
//!
//! **Never**: a read or write beyond the slices given; the tests put a page without rights behind them.

pub(crate) mod column;
pub(crate) mod key;
pub(crate) mod memcomparable;

/// A register of bytes that can be compared.
pub(crate) trait Bytes: Copy {
    /// How many.
    const LEN: usize;

    /// # Safety
    /// `from` has `LEN` readable bytes; the instructions are there.
    unsafe fn load(from: *const u8) -> Self;

    /// The first place where two registers differ.
    ///
    /// # Safety
    /// The instructions are there.
    unsafe fn first_difference(self, other: Self) -> Option<usize>;
}

/// A register that holds a group of 8 bytes and perhaps what follows.
pub(crate) trait Group: Copy {
    /// How many bytes a load reads and a store writes, 8 or more.
    const LEN: usize;

    /// # Safety
    /// `from` has `LEN` readable bytes; the instructions are there.
    unsafe fn load(from: *const u8) -> Self;

    /// Writes the group and the marker 0xFF behind it.
    ///
    /// # Safety
    /// `to` has the larger of 9 and `LEN` writable bytes; the instructions are there.
    unsafe fn store_full(self, to: *mut u8);
}

/// A register of 16 bytes, for two groups of an encoding at a time.
pub(crate) trait Pair: Copy {
    /// # Safety
    /// Here and below: the instructions are there; `from` has 16 readable bytes.
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut u8);
    /// The first 8 bytes, then bytes 7 to 14 of `other`.
    unsafe fn join(self, other: Self) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    /// Bytes 6 and 15, the markers when the register was loaded from the third byte of two groups on.
    unsafe fn markers(self) -> [u8; 2];
}

/// A register of numbers of 64 bits. A mask has all bits of a lane set, or none.
pub(crate) trait Lanes: Copy {
    /// How many.
    const LANES: usize;

    /// # Safety
    /// Here and below: the instructions are there; `from` has `LANES` readable numbers.
    unsafe fn load(from: *const u64) -> Self;
    unsafe fn store(self, to: *mut u64);
    unsafe fn splat(number: u64) -> Self;

    unsafe fn eq_i64(self, other: Self) -> Self;
    /// Signed greater.
    unsafe fn gt_i64(self, other: Self) -> Self;
    unsafe fn eq_f64(self, other: Self) -> Self;
    unsafe fn lt_f64(self, other: Self) -> Self;
    unsafe fn le_f64(self, other: Self) -> Self;

    unsafe fn and(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    /// Wrapping.
    unsafe fn add_u64(self, other: Self) -> Self;
    unsafe fn add_f64(self, other: Self) -> Self;
    /// Logical shift by 32.
    unsafe fn high(self) -> Self;
    /// Logical shift by 1.
    unsafe fn half(self) -> Self;
    /// `yes` where the mask `self` is set, else `no`.
    unsafe fn choose(self, yes: Self, no: Self) -> Self;

    /// The mask of the lowest `LANES` bits, first lane lowest.
    unsafe fn mask(bits: u64) -> Self;
    /// The bits of a mask, first lane lowest.
    unsafe fn bits(self) -> u64;

    /// The bits of 64 numbers at `from`, tested against `rhs`.
    ///
    /// # Safety
    /// `from` has 64 readable numbers.
    unsafe fn test64<T: column::Test>(from: *const u64, rhs: Self) -> u64;
}
