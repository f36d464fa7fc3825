//! # operands: what kernels on columns take besides slices
//!
//! A comparison, a column of byte strings, a set of them, a string to search for: plain data, which calls no kernel.
//! [`column`](crate::column) has the functions that do.

use std::cmp::Ordering;

/// A comparison: the value stands left, the constant right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

impl Cmp {
    /// All of them.
    pub const ALL: [Cmp; 6] = [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge];

    /// Whether the comparison holds for values in this order; `None` is what IEEE 754 calls unordered.
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
        let heads = strings.iter().map(|string| (string.len(), head_of(string))).collect();
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

    pub(crate) fn finder(&self) -> &memchr::memmem::Finder<'static> {
        &self.finder
    }
}

/// The first 8 bytes of the string that begins at `start` in `data`, first byte highest; behind a shorter string's end is what
/// follows it in `data`, or zeros.
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

/// The [`head`] of a string on its own, zeros behind its end.
#[inline(always)]
pub(crate) fn head_of(string: &[u8]) -> u64 {
    head(string, 0)
}
