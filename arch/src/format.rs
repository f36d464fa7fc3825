//! The format of memcomparable strings: groups, markers, and the errors of bytes that are not an encoding.

/// Number of bytes in a group, without its marker.
pub const GROUP: usize = 8;
/// The marker of a full group.
pub const MARKER: u8 = 0xff;

/// Returns the length of the encoding of `len` bytes.
pub const fn encoded_len(len: usize) -> usize {
    (len / GROUP + 1) * (GROUP + 1)
}

/// Why bytes are not a valid encoding, and at which offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The kind of error.
    pub fault: Fault,
    /// The offset of the first wrong byte; for [`Fault::Short`], the length.
    pub at: usize,
}

/// A kind of invalid encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes end within a group, or before the last one.
    Short,
    /// A marker below 0xF7.
    Marker,
    /// Padding with a byte other than zero.
    Padding,
}
