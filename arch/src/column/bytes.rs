//! Columns of byte strings: where each begins, and the bytes of all.

use super::{Bitmap, Cmp};
use crate::scalar;

/// The byte strings of one chunk: string `i` is `data[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Copy, Debug)]
pub struct BytesColumn<'a> {
    offsets: &'a [u32],
    data: &'a [u8],
}

impl<'a> BytesColumn<'a> {
    /// A column of `offsets.len() - 1` strings (none when there are no offsets).
    ///
    /// # Panics
    /// When an offset is smaller than the one before it, or points beyond `data`.
    pub fn new(offsets: &'a [u32], data: &'a [u8]) -> BytesColumn<'a> {
        let ascending = offsets.windows(2).fold(true, |all, pair| all & (pair[0] <= pair[1]));
        assert!(ascending, "offsets of a column that do not ascend");
        let end = offsets.last().copied().unwrap_or(0) as usize;
        assert!(end <= data.len(), "an offset of {end} in {} bytes", data.len());
        BytesColumn { offsets, data }
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// String `row`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn get(&self, row: usize) -> &'a [u8] {
        &self.data[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// The strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let data = self.data;
        self.offsets.windows(2).map(move |pair| &data[pair[0] as usize..pair[1] as usize])
    }
}

/// The rows of `valid` whose string stands in `cmp` to `rhs`, in the order of unsigned bytes. `out` is overwritten.
///
/// # Panics
/// When `valid` has not one row a string, here and below.
pub fn compare_bytes(column: BytesColumn<'_>, valid: &Bitmap, cmp: Cmp, rhs: &[u8], out: &mut Bitmap) {
    select(column, valid, out, |string| cmp.holds(Some(string.cmp(rhs))));
}

/// The rows of `valid` whose string begins with `prefix`. `out` is overwritten.
pub fn starts_with(column: BytesColumn<'_>, valid: &Bitmap, prefix: &[u8], out: &mut Bitmap) {
    select(column, valid, out, |string| string.starts_with(prefix));
}

/// The rows of `valid` whose string is in `set`. `out` is overwritten.
pub fn in_set(column: BytesColumn<'_>, valid: &Bitmap, set: &BytesSet, out: &mut Bitmap) {
    select(column, valid, out, |string| set.holds(string));
}

/// The rows of `valid` whose string has `needle` within it. `out` is overwritten.
pub fn contains(column: BytesColumn<'_>, valid: &Bitmap, needle: &Needle, out: &mut Bitmap) {
    select(column, valid, out, |string| needle.is_in(string));
}

/// A set of byte strings to look rows up in.
#[derive(Clone, Debug, Default)]
pub struct BytesSet {
    /// Ascending, each once.
    strings: Vec<Vec<u8>>,
}

impl BytesSet {
    /// The set of these strings, in any order, with or without repetition.
    pub fn new<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> BytesSet {
        let mut strings: Vec<Vec<u8>> = strings.into_iter().map(|string| string.as_ref().to_vec()).collect();
        strings.sort_unstable();
        strings.dedup();
        BytesSet { strings }
    }

    /// Whether the set has this string.
    pub fn holds(&self, string: &[u8]) -> bool {
        self.strings.binary_search_by(|member| member[..].cmp(string)).is_ok()
    }

    /// How many strings it has.
    pub fn len(&self) -> usize {
        self.strings.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }
}

/// A byte string to search for, prepared once.
#[derive(Clone, Debug)]
pub struct Needle {
    bytes: Vec<u8>,
}

impl Needle {
    /// Prepares the search for `bytes`; the empty string is in every string.
    pub fn new(bytes: &[u8]) -> Needle {
        Needle { bytes: bytes.to_vec() }
    }

    /// What is searched for.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it stands anywhere in `haystack`.
    pub fn is_in(&self, haystack: &[u8]) -> bool {
        scalar::find(haystack, &self.bytes).is_some()
    }

    /// Where it first stands in `haystack`.
    pub fn find(&self, haystack: &[u8]) -> Option<usize> {
        scalar::find(haystack, &self.bytes)
    }
}

fn select(column: BytesColumn<'_>, valid: &Bitmap, out: &mut Bitmap, holds: impl Fn(&[u8]) -> bool) {
    assert_eq!(column.len(), valid.len(), "one row a string");
    let words = out.reset(column.len());
    for row in valid {
        words[row / 64] |= u64::from(holds(column.get(row))) << (row % 64);
    }
}
