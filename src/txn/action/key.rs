//! Keys of a request, in both forms.

use bytes::Bytes;

use crate::codec::txn_key;
use crate::proto::kvrpcpb::KeyError;

use super::error;

/// A key, as clients and as the engine know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The key in requests and replies.
    pub plain: Bytes,
    /// The key in the engine, of which a region's boundaries are made.
    pub encoded: Bytes,
}

impl Key {
    /// Returns a key of a request.
    pub fn new(plain: Bytes) -> Key {
        let encoded = txn_key::encode(&plain);
        Key { plain, encoded }
    }

    /// Returns a key of the engine.
    ///
    /// # Errors
    /// [`crate::types::Error::Corruption`] if it is not one.
    pub fn of_encoded(encoded: Bytes) -> crate::types::Result<Key> {
        Ok(Key { plain: txn_key::decode(&encoded)?, encoded })
    }
}

/// Returns the keys of a request.
pub fn keys(plain: &[Bytes]) -> Vec<Key> {
    plain.iter().cloned().map(Key::new).collect()
}

/// Checks that a request that writes has keys, and each once.
///
/// # Errors
/// The error of the reply.
pub fn not_twice<'a>(plain: impl Iterator<Item = &'a Bytes>) -> Result<(), KeyError> {
    let mut sorted: Vec<&Bytes> = plain.collect();
    if sorted.is_empty() {
        return Err(error::abort("the request has no keys: give at least one"));
    }
    sorted.sort();
    match sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(error::abort("the request has a key twice: give each key once")),
        false => Ok(()),
    }
}
