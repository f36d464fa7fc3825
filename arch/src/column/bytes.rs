//! Columns of byte strings: where each begins, and the bytes of all.

use super::{Bitmap, Cmp};
use crate::{dispatch, kernels::run};

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

    /// The offsets and the bytes.
    pub(crate) fn parts(&self) -> (&'a [u32], &'a [u8]) {
        (self.offsets, self.data)
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
    assert_eq!(column.len(), valid.len(), "one row a string");
    run::compare_bytes(dispatch::active(), column, valid.words(), cmp, rhs, out.reset(column.len()));
}

/// The rows of `valid` whose string begins with `prefix`. `out` is overwritten.
pub fn starts_with(column: BytesColumn<'_>, valid: &Bitmap, prefix: &[u8], out: &mut Bitmap) {
    assert_eq!(column.len(), valid.len(), "one row a string");
    run::starts_with(dispatch::active(), column, valid.words(), prefix, out.reset(column.len()));
}

/// The rows of `valid` whose string is in `set`. `out` is overwritten.
pub fn in_set(column: BytesColumn<'_>, valid: &Bitmap, set: &BytesSet, out: &mut Bitmap) {
    assert_eq!(column.len(), valid.len(), "one row a string");
    run::in_set(dispatch::active(), column, valid.words(), set, out.reset(column.len()));
}

/// A set of byte strings to look rows up in.
#[derive(Clone, Debug, Default)]
pub struct BytesSet {
    /// Ascending by length and then by bytes, each once.
    strings: Vec<Vec<u8>>,
    /// Bit `n`: some member has `n` bytes; bit 63: or more.
    lengths: u64,
    /// Length and first 8 bytes of each member, as the portable kernels compare them.
    heads: Vec<(usize, u64)>,
}

/// A set of so few members is compared with each of them.
pub(crate) const FEW_MEMBERS: usize = 8;

impl BytesSet {
    /// The set of these strings, in any order, with or without repetition.
    pub fn new<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> BytesSet {
        let mut strings: Vec<Vec<u8>> = strings.into_iter().map(|string| string.as_ref().to_vec()).collect();
        strings.sort_unstable_by(|a, b| order(a, b));
        strings.dedup();
        let lengths = strings.iter().fold(0, |bits, string| bits | 1 << string.len().min(63));
        let heads = strings.iter().map(|string| (string.len(), crate::portable::head_of(string))).collect();
        BytesSet { strings, lengths, heads }
    }

    /// Whether the set has this string.
    pub fn holds(&self, string: &[u8]) -> bool {
        self.strings.binary_search_by(|member| order(member, string)).is_ok()
    }

    /// How many strings it has.
    pub fn len(&self) -> usize {
        self.strings.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }

    /// Whether a string of `len` bytes may be in the set.
    #[inline(always)]
    pub(crate) fn holds_length(&self, len: usize) -> bool {
        self.lengths >> len.min(63) & 1 == 1
    }

    pub(crate) fn heads(&self) -> &[(usize, u64)] {
        &self.heads
    }

    pub(crate) fn strings(&self) -> &[Vec<u8>] {
        &self.strings
    }
}

/// The order in which a set keeps its members: cheap to decide for strings of different lengths.
fn order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// A byte string to search for, prepared once.
#[derive(Clone, Debug)]
pub struct Needle {
    finder: memchr::memmem::Finder<'static>,
}

impl Needle {
    /// Prepares the search for `bytes`; the empty string is in every string.
    pub fn new(bytes: &[u8]) -> Needle {
        Needle { finder: memchr::memmem::Finder::new(bytes).into_owned() }
    }

    /// What is searched for.
    pub fn bytes(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Whether it stands anywhere in `haystack`.
    #[inline]
    pub fn is_in(&self, haystack: &[u8]) -> bool {
        self.find(haystack).is_some()
    }

    /// Where it first stands in `haystack`.
    #[inline]
    pub fn find(&self, haystack: &[u8]) -> Option<usize> {
        run::find(dispatch::active(), haystack, self)
    }

    pub(crate) fn finder(&self) -> &memchr::memmem::Finder<'static> {
        &self.finder
    }
}
