//! What the load reads and writes.

use bytes::Bytes;

/// Keys that the load draws from.
pub const KEYS: u64 = 100_000;
/// Bytes of a value.
const VALUE_BYTES: usize = 256;

/// The key of that number.
pub fn key(number: u64) -> Bytes {
    Bytes::from(format!("k{number:015}"))
}

/// A value.
pub fn value() -> Bytes {
    Bytes::from(vec![b'v'; VALUE_BYTES])
}
