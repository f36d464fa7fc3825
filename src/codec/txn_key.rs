//! The keys of transactional data in the engine.
//!
//! ```text
//!   lock     enc(key)                  enc: memcomparable, see `codec::bytes`
//!   write    enc(key) | !commit_ts     u64 big endian: newer versions come first
//!   default  enc(key) | !start_ts
//! ```
//! A region's boundaries are `enc(key)` without a timestamp, so a region has all versions of its keys.

use ::bytes::{BufMut, Bytes, BytesMut};

use super::bytes;
use crate::types::{Error, Result, Timestamp};

/// The length of a timestamp in a key.
pub const TIMESTAMP_BYTES: usize = 8;

/// Returns the encoded form of a key, which is the key of its lock.
pub fn encode(key: &[u8]) -> Bytes {
    bytes::encode(key)
}

/// Returns the engine's key of a version.
pub fn versioned(encoded: &[u8], at: Timestamp) -> Bytes {
    let mut out = BytesMut::with_capacity(encoded.len() + TIMESTAMP_BYTES);
    out.put_slice(encoded);
    out.put_u64(!at.0);
    out.freeze()
}

/// Returns the encoded key and the timestamp of a version.
///
/// # Errors
/// [`Error::Corruption`] if the key is too short for a timestamp.
pub fn version_of(key: &[u8]) -> Result<(&[u8], Timestamp)> {
    match key.split_last_chunk::<TIMESTAMP_BYTES>() {
        Some((encoded, at)) => Ok((encoded, Timestamp(!u64::from_be_bytes(*at)))),
        None => Err(Error::Corruption(format!("a version's key of {} bytes has no timestamp", key.len()))),
    }
}

/// Returns the key of an encoded key.
///
/// # Errors
/// [`Error::Corruption`] if it is not one.
pub fn decode(encoded: &[u8]) -> Result<Bytes> {
    let mut out = BytesMut::new();
    decode_into(&mut out, encoded)?;
    Ok(out.freeze())
}

/// Appends the key of an encoded key to `out`.
///
/// # Errors
/// As [`decode`].
pub fn decode_into(out: &mut BytesMut, encoded: &[u8]) -> Result<()> {
    bytes::decode_into(out, encoded).map_err(|error| Error::Corruption(format!("a transactional key: {error}")))
}

/// Returns a boundary at or below `key` that cuts no versions of one key apart: the encoded key that `key` begins with,
/// or else `key` itself. A raw key may begin with an encoded key too: all that does stays together, because the
/// versions of that key are, or will be, among it.
pub fn boundary(key: &[u8]) -> &[u8] {
    match bytes::decode_prefix(key) {
        Ok((_, rest)) => &key[..key.len() - rest.len()],
        Err(_) => key,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: versions of one key are together, the newest first, between the boundaries of its region. Method:
    //! examples.
    use super::*;

    #[test]
    fn versions_are_in_order_within_their_borders() {
        let (a, b) = (encode(b"a"), encode(b"a\0"));
        let at = |key: &[u8], at| versioned(key, Timestamp(at));
        let keys = [a.clone(), at(&a, u64::MAX), at(&a, 7), at(&a, 6), at(&a, 0), b.clone(), at(&b, 9)];
        assert!(keys.is_sorted());
        assert_eq!(version_of(&keys[2]).unwrap(), (&a[..], Timestamp(7)));
        assert_eq!(decode(&b).unwrap(), &b"a\0"[..]);
        assert!(matches!(version_of(b"short"), Err(Error::Corruption(_))));
        assert!(matches!(decode(b"raw"), Err(Error::Corruption(_))));
        let raw = |key: &'static str| Bytes::from_static(key.as_bytes());
        let among = Bytes::from([&a[..], b"~raw"].concat());
        for (key, cut) in [(&keys[2], &a), (&a, &a), (&among, &a), (&raw("raw"), &raw("raw"))] {
            assert_eq!(boundary(key), cut);
        }
    }
}
