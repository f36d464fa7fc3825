//! The format of memcomparable strings: groups, markers, and what is wrong with bytes that are none.

/// Bytes of a group, without its marker.
pub const GROUP: usize = 8;
/// The marker of a full group.
pub const MARKER: u8 = 0xff;

/// The length of the encoding of `len` bytes.
pub const fn encoded_len(len: usize) -> usize {
    (len / GROUP + 1) * (GROUP + 1)
}

/// Why bytes are not the encoding of anything, and where that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong.
    pub fault: Fault,
    /// The offset of the first byte that is wrong; of [`Fault::Short`], the length.
    pub at: usize,
}

/// What is wrong with bytes that are not an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They end within a group, or before the last one.
    Short,
    /// A marker below 0xF7.
    Marker,
    /// Padding that is not zero.
    Padding,
}
