//! # portable: words of 8 bytes
//!
//! The algorithms of [`generic`](crate::generic) over plain integers, and calls of the crates that are faster than
//! those. On aarch64 the compiler generates NEON instructions for much of it.

use std::mem::MaybeUninit;

use crate::format::{GROUP, Invalid, MARKER};
use crate::generic::column::{One, existing, pack, rows_of};
use crate::generic::{self, Bytes, Group};
use crate::operands::{BytesColumn, BytesSet, Cmp, FEW_MEMBERS, Needle, head, head_of};

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

/// Computes CRC-32C with the crate crc-fast.
#[inline]
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    if crc == 0 {
        // This avoids the copy of the polynomial's constants with which a digest begins.
        return crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, data) as u32;
    }
    let mut digest = crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(data);
    digest.finalize() as u32
}

/// Computes CRC-64/XZ: of short strings with tables, of longer ones with the crate crc-fast.
#[inline]
pub fn crc64(crc: u64, data: &[u8]) -> u64 {
    if data.len() < crate::short::TABLES_BELOW {
        return crate::short::crc64_by_tables(crc, data);
    }
    if crc == 0 {
        return crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, data);
    }
    let mut digest = crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc64Xz, !crc);
    digest.update(data);
    digest.finalize()
}

/// Encodes word by word.
pub fn encode(plain: &[u8], out: &mut [MaybeUninit<u8>]) {
    // SAFETY: a word needs no special instructions.
    unsafe { generic::memcomparable::encode::<u64>(plain, out) }
}

/// Decodes eight words at once as long as groups are full.
pub fn decode(bytes: &[u8], out: &mut [MaybeUninit<u8>]) -> Result<(usize, usize), Invalid> {
    // SAFETY: a word needs no special instructions.
    unsafe { generic::memcomparable::decode::<generic::memcomparable::ByWords>(bytes, out) }
}

/// Compares word by word.
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    // SAFETY: a word needs no special instructions.
    unsafe { generic::key::common_prefix::<u64>(a, b) }
}

/// Counts word by word.
pub fn count(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

macro_rules! one {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?;)*) => { $(
        /// Processes one number at a time, without branches.
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

/// Returns a mask of the bits of a [`head`] that a string of `len` bytes fills.
#[inline(always)]
fn filled(len: usize) -> u64 {
    (!0u64).unbounded_shl(64 - 8 * len.min(8) as u32)
}

/// Selects rows by their length, without branches, and compares the bytes of those.
fn equal_bytes(column: BytesColumn<'_>, valid: &[u64], rhs: &[u8], out: &mut [u64]) {
    by_length(column, valid, out, |len| len == rhs.len(), |string, _| string == rhs);
}

/// Compares the first 8 bytes of each row, without branches, and all bytes of the rows whose first 8 bytes are equal.
pub fn compare_bytes(column: BytesColumn<'_>, valid: &[u64], cmp: Cmp, rhs: &[u8], out: &mut [u64]) {
    let below = matches!(cmp, Cmp::Lt | Cmp::Le);
    match cmp {
        Cmp::Eq => equal_bytes(column, valid, rhs, out),
        Cmp::Ne => {
            equal_bytes(column, valid, rhs, out);
            for (word, (out, valid)) in out.iter_mut().zip(valid).enumerate() {
                *out = !*out & existing(*valid, rows_of(column.len(), word));
            }
        }
        _ => {
            let word = head_of(rhs);
            // Bit 0: the first 8 bytes are equal; bit 1: they differ and the comparison holds.
            let test = |row_len: usize, row_word: u64| {
                let row_word = row_word & filled(row_len);
                let holds = if below { row_word < word } else { row_word > word };
                u8::from(row_word == word) | u8::from(holds) << 1
            };
            let full = |string: &[u8]| cmp.holds(Some(string.cmp(rhs)));
            select(column, valid, out, test, Some(full));
        }
    }
}

/// Like [`compare_bytes`].
pub fn starts_with(column: BytesColumn<'_>, valid: &[u64], prefix: &[u8], out: &mut [u64]) {
    let (len, word, bits) = (prefix.len(), head_of(prefix), filled(prefix.len()));
    let test = |row_len: usize, row_word: u64| u8::from((row_len >= len) & (row_word & bits == word));
    select(column, valid, out, test, (len > 8).then_some(|string: &[u8]| string.starts_with(prefix)));
}

/// Selects rows whose length some member has, without branches; then, for a small set, those whose first 8 bytes are a
/// member's.
pub fn in_set(column: BytesColumn<'_>, valid: &[u64], set: &BytesSet, out: &mut [u64]) {
    let heads = set.heads();
    if heads.len() > FEW_MEMBERS {
        return by_length(column, valid, out, |len| set.holds_length(len), |string, _| set.holds(string));
    }
    let long = heads.last().is_some_and(|(len, _)| *len > 8);
    let holds = |string: &[u8], word: u64| {
        let word = word & filled(string.len());
        let same = |(len, head): &(usize, u64)| (string.len() == *len) & (word == *head);
        heads.iter().fold(false, |any, head| any | same(head))
            && (!long || heads.iter().zip(set.strings()).any(|(head, member)| same(head) && string == member))
    };
    by_length(column, valid, out, |len| set.holds_length(len), holds);
}

/// Searches with the crate memchr.
#[inline]
pub fn find(haystack: &[u8], needle: &Needle) -> Option<usize> {
    needle.finder().find(haystack)
}

/// Selects rows of `valid`: `test` gets the length and the [`head`] of each row and returns two bits. The upper bit
/// says that the row is selected. If only the lower bit is set, `full` decides; without `full` the row is selected.
#[inline(always)]
fn select(
    column: BytesColumn<'_>,
    valid: &[u64],
    out: &mut [u64],
    test: impl Fn(usize, u64) -> u8,
    full: Option<impl Fn(&[u8]) -> bool>,
) {
    by_words(column, valid, out, |offsets, data, valid| {
        let (mut upper, mut lower) = (0u64, 0u64);
        for (at, pair) in offsets.windows(2).enumerate() {
            let bits = u64::from(test((pair[1] - pair[0]) as usize, head(data, pair[0] as usize)));
            lower |= (bits & 1) << at;
            upper |= (bits >> 1) << at;
        }
        let open = lower & valid;
        (upper & valid) | full.as_ref().map_or(open, |full| each(offsets, data, open, |string, _| full(string)))
    });
}

/// Selects rows of `valid` by their length and then by their bytes; `holds` also gets the [`head`] of the string.
#[inline(always)]
fn by_length(
    column: BytesColumn<'_>,
    valid: &[u64],
    out: &mut [u64],
    length: impl Fn(usize) -> bool,
    holds: impl Fn(&[u8], u64) -> bool,
) {
    by_words(column, valid, out, |offsets, data, valid| {
        let mut bytes = [0u8; 64];
        for (byte, pair) in bytes.iter_mut().zip(offsets.windows(2)) {
            *byte = u8::from(length((pair[1] - pair[0]) as usize));
        }
        each(offsets, data, pack(&bytes) & valid, |string, start| holds(string, head(data, start)))
    });
}

/// Processes the column 64 rows at a time: `rows` gets their offsets, all bytes and the valid rows, and returns those
/// selected.
#[inline(always)]
fn by_words(column: BytesColumn<'_>, valid: &[u64], out: &mut [u64], rows: impl Fn(&[u32], &[u8], u64) -> u64) {
    let len = column.len();
    assert!(valid.len() == len.div_ceil(64) && out.len() == valid.len(), "a bit a row");
    let (offsets, data) = column.parts();
    for (word, (out, valid)) in out.iter_mut().zip(valid).enumerate() {
        let first = word * 64;
        *out = rows(&offsets[first..=first + (len - first).min(64)], data, *valid);
    }
}

/// Returns those of `rows` whose string `holds` accepts; `holds` also gets the string's offset.
#[inline(always)]
fn each(offsets: &[u32], data: &[u8], mut rows: u64, holds: impl Fn(&[u8], usize) -> bool) -> u64 {
    let mut bits = 0;
    while rows != 0 {
        let row = rows.trailing_zeros() as usize;
        let start = offsets[row] as usize;
        bits |= u64::from(holds(&data[start..offsets[row + 1] as usize], start)) << row;
        rows &= rows - 1;
    }
    bits
}
