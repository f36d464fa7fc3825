//! # operands: arguments of the kernels on columns
//!
//! A comparison, a column of byte strings, a set of them, and a string to search for. These types are plain data and
//! call no kernel; [`column`](crate::column) has the functions that do.

use std::cmp::Ordering;

/// A comparison with the value on the left and the constant on the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    /// The value is equal.
    Eq,
    /// The value is not equal.
    Ne,
    /// The value is less.
    Lt,
    /// The value is less or equal.
    Le,
    /// The value is greater.
    Gt,
    /// The value is greater or equal.
    Ge,
}

impl Cmp {
    /// All comparisons.
    pub const ALL: [Cmp; 6] = [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge];

    /// Returns whether the comparison holds for values in this order; `None` is IEEE 754's "unordered".
    pub fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Cmp::Eq => order == Some(Ordering::Equal),
            Cmp::Ne => order != Some(Ordering::Equal),
            Cmp::Lt => order == Some(Ordering::Less),
            Cmp::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Cmp::Gt => order == Some(Ordering::Greater),
            Cmp::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// The byte strings of one chunk: string `i` is `data[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Copy, Debug)]
pub struct BytesColumn<'a> {
    offsets: &'a [u32],
    data: &'a [u8],
}

impl<'a> BytesColumn<'a> {
    /// Creates a column of `offsets.len() - 1` strings (none if there are no offsets).
    ///
    /// # Panics
    /// Panics if an offset is smaller than the one before it, or points beyond `data`.
    pub fn new(offsets: &'a [u32], data: &'a [u8]) -> BytesColumn<'a> {
        let ascending = offsets.windows(2).fold(true, |all, pair| all & (pair[0] <= pair[1]));
        assert!(ascending, "the offsets of a column must ascend");
        let end = offsets.last().copied().unwrap_or(0) as usize;
        assert!(end <= data.len(), "an offset of {end} in {} bytes", data.len());
        BytesColumn { offsets, data }
    }

    /// Returns the number of strings.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Returns whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns string `row`.
    ///
    /// # Panics
    /// Panics if there is no such row.
    pub fn get(&self, row: usize) -> &'a [u8] {
        &self.data[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// Returns the offsets and the bytes.
    pub(crate) fn parts(&self) -> (&'a [u32], &'a [u8]) {
        (self.offsets, self.data)
    }

    /// Returns the strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let data = self.data;
        self.offsets.windows(2).map(move |pair| &data[pair[0] as usize..pair[1] as usize])
    }
}

/// A set of byte strings that rows are looked up in.
#[derive(Clone, Debug, Default)]
pub struct BytesSet {
    /// The distinct strings, ascending by length and then by bytes.
    strings: Vec<Vec<u8>>,
    /// Bit `n` is set if a member has `n` bytes; bit 63, if a member has 63 bytes or more.
    lengths: u64,
    /// The length and first 8 bytes of each member, as the portable kernels compare them.
    heads: Vec<(usize, u64)>,
}

/// Up to this many members are compared one by one.
pub(crate) const FEW_MEMBERS: usize = 8;

impl BytesSet {
    /// Creates the set of these strings, which may be in any order and may repeat.
    pub fn new<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> BytesSet {
        let mut strings: Vec<Vec<u8>> = strings.into_iter().map(|string| string.as_ref().to_vec()).collect();
        strings.sort_unstable_by(|a, b| order(a, b));
        strings.dedup();
        let lengths = strings.iter().fold(0, |bits, string| bits | 1 << string.len().min(63));
        let heads = strings.iter().map(|string| (string.len(), head_of(string))).collect();
        BytesSet { strings, lengths, heads }
    }

    /// Returns whether the set contains this string.
    pub fn holds(&self, string: &[u8]) -> bool {
        self.strings.binary_search_by(|member| order(member, string)).is_ok()
    }

    /// Returns the number of strings.
    pub fn len(&self) -> usize {
        self.strings.len()
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }

    /// Returns whether a string of `len` bytes may be in the set.
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

/// Compares two members in the order in which a set keeps them, which is cheap for strings of different lengths.
fn order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// A byte string to search for, prepared once for many searches.
#[derive(Clone, Debug)]
pub struct Needle {
    finder: memchr::memmem::Finder<'static>,
}

impl Needle {
    /// Prepares the search for `bytes`. The empty string is found in every string.
    pub fn new(bytes: &[u8]) -> Needle {
        Needle { finder: memchr::memmem::Finder::new(bytes).into_owned() }
    }

    /// Returns the string to search for.
    pub fn bytes(&self) -> &[u8] {
        self.finder.needle()
    }

    pub(crate) fn finder(&self) -> &memchr::memmem::Finder<'static> {
        &self.finder
    }
}

/// Returns the first 8 bytes of the string that begins at `start` in `data`, first byte highest. Behind the end of a
/// shorter string they contain the bytes that follow it in `data`, or zeros.
#[inline(always)]
pub(crate) fn head(data: &[u8], start: usize) -> u64 {
    match data[start..].first_chunk::<8>() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let rest = &data[start..];
            let mut eight = [0; 8];
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(eight)
        }
    }
}

/// Returns the [`head`] of a separate string, with zeros behind its end.
#[inline(always)]
pub(crate) fn head_of(string: &[u8]) -> u64 {
    head(string, 0)
}
