//! The keys and values of the load.

use bytes::Bytes;

/// Number of keys that the load draws from.
pub const KEYS: u64 = 100_000;
/// Size of a value, bytes.
const VALUE_BYTES: usize = 256;

/// Returns the key with this number.
pub fn key(number: u64) -> Bytes {
    Bytes::from(format!("k{number:015}"))
}

/// Returns a value.
pub fn value() -> Bytes {
    Bytes::from(vec![b'v'; VALUE_BYTES])
}
