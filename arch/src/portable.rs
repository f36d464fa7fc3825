//! # portable: words of 8 bytes
//!
//! The algorithms of [`generic`](crate::generic) over plain integers, and the crates that are faster than anything here. On
//! aarch64 the compiler makes NEON of much of it.

use std::mem::MaybeUninit;

use crate::column::{BytesColumn, BytesSet, Cmp, Needle};
use crate::generic::column::{One, existing, pack, rows_of};
use crate::generic::{self, Bytes, Group};
use crate::memcomparable::{GROUP, Invalid, MARKER};

impl Bytes for u64 {
    const LEN: usize = 8;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> u64 {
        // SAFETY: the caller's promise.
        u64::from_le(unsafe { from.cast::<u64>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn first_difference(self, other: u64) -> Option<usize> {
        let differ = self ^ other;
        (differ != 0).then(|| (differ.trailing_zeros() / 8) as usize)
    }
}

impl Group for u64 {
    const LEN: usize = 8;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<u64>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_full(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            to.cast::<u64>().write_unaligned(self);
            *to.add(GROUP) = MARKER;
        }
    }
}

/// CRC-32C by the crate crc-fast.
#[inline]
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(data);
    digest.finalize() as u32
}

/// CRC-64/XZ by the crate crc-fast.
#[inline]
pub fn crc64(crc: u64, data: &[u8]) -> u64 {
    let mut digest = crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc64Xz, !crc);
    digest.update(data);
    digest.finalize()
}

/// Word by word.
pub fn encode(plain: &[u8], out: &mut [MaybeUninit<u8>]) {
    // SAFETY: a word needs no special instructions.
    unsafe { generic::memcomparable::encode::<u64>(plain, out) }
}

/// Eight words at once while groups are full.
pub fn decode(bytes: &[u8], out: &mut [MaybeUninit<u8>]) -> Result<(usize, usize), Invalid> {
    generic::memcomparable::decode(bytes, out)
}

/// Word by word.
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    // SAFETY: a word needs no special instructions.
    unsafe { generic::key::common_prefix::<u64>(a, b) }
}

/// Word by word.
pub fn count(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

macro_rules! one {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?;)*) => { $(
        /// A number at a time, without branches.
        pub fn $name($($arg: $ty),*) $(-> $out)? {
            // SAFETY: a register of one number needs no special instructions.
            unsafe { generic::column::$name::<One>($($arg),*) }
        }
    )* };
}

one! {
    compare_i64(values: &[i64], valid: &[u64], cmp: Cmp, rhs: i64, out: &mut [u64]);
    compare_f64(values: &[f64], valid: &[u64], cmp: Cmp, rhs: f64, out: &mut [u64]);
    sum_i64(values: &[i64], rows: &[u64]) -> i128;
    sum_f64(lanes: &mut [f64; 8], values: &[f64], rows: &[u64]);
    min_i64(values: &[i64], rows: &[u64]) -> Option<i64>;
    max_i64(values: &[i64], rows: &[u64]) -> Option<i64>;
    min_f64(values: &[f64], rows: &[u64]) -> Option<f64>;
    max_f64(values: &[f64], rows: &[u64]) -> Option<f64>;
}

/// Rows whose length is right, without branches; then those by their bytes.
pub fn equal_bytes(column: BytesColumn<'_>, valid: &[u64], rhs: &[u8], out: &mut [u64]) {
    select(column, valid, out, |len| len == rhs.len(), |string| string == rhs);
}

/// Rows in order.
pub fn compare_bytes(column: BytesColumn<'_>, valid: &[u64], cmp: Cmp, rhs: &[u8], out: &mut [u64]) {
    match cmp {
        Cmp::Eq => equal_bytes(column, valid, rhs, out),
        Cmp::Ne => {
            equal_bytes(column, valid, rhs, out);
            for (word, (out, valid)) in out.iter_mut().zip(valid).enumerate() {
                *out = !*out & existing(*valid, rows_of(column.len(), word));
            }
        }
        _ => select(column, valid, out, |_| true, |string| cmp.holds(Some(string.cmp(rhs)))),
    }
}

/// Rows that are long enough, without branches; then those by their bytes.
pub fn starts_with(column: BytesColumn<'_>, valid: &[u64], prefix: &[u8], out: &mut [u64]) {
    select(column, valid, out, |len| len >= prefix.len(), |string| string.starts_with(prefix));
}

/// Rows whose length some member has; then those by their bytes.
pub fn in_set(column: BytesColumn<'_>, valid: &[u64], set: &BytesSet, out: &mut [u64]) {
    select(column, valid, out, |len| set.holds_length(len), |string| set.holds(string));
}

/// By the crate memchr.
#[inline]
pub fn find(haystack: &[u8], needle: &Needle) -> Option<usize> {
    needle.finder().find(haystack)
}

/// Rows of `valid` by their length and then by their bytes.
#[inline(always)]
fn select(
    column: BytesColumn<'_>,
    valid: &[u64],
    out: &mut [u64],
    length: impl Fn(usize) -> bool,
    holds: impl Fn(&[u8]) -> bool,
) {
    let len = column.len();
    assert!(valid.len() == len.div_ceil(64) && out.len() == valid.len(), "a bit a row");
    let (offsets, data) = column.parts();
    for (word, (out, valid)) in out.iter_mut().zip(valid).enumerate() {
        let first = word * 64;
        let rows = (len - first).min(64);
        let offsets = &offsets[first..=first + rows];
        let mut bytes = [0u8; 64];
        for (byte, pair) in bytes.iter_mut().zip(offsets.windows(2)) {
            *byte = u8::from(length((pair[1] - pair[0]) as usize));
        }
        let mut candidates = pack(&bytes) & valid;
        let mut bits = 0;
        while candidates != 0 {
            let row = candidates.trailing_zeros() as usize;
            let string = &data[offsets[row] as usize..offsets[row + 1] as usize];
            bits |= u64::from(holds(string)) << row;
            candidates &= candidates - 1;
        }
        *out = bits;
    }
}
