//! The stored form of a raw value: the value, then a tail.
//!
//! ```text
//!   value bytes | 0x00                          no expiry
//!   value bytes | expiry, u64 big endian | 0x01 expires at that unix second
//! ```
//! The tail comes last so that a read returns a slice of the engine's buffer without a copy.

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::{Error, Result};

const PLAIN: u8 = 0;
const EXPIRES: u8 = 1;

/// How many bytes the stored form adds at most.
pub const TAIL_BYTES_MAX: usize = 9;

/// Returns the stored form of `value`, which expires at `expires_at_s` (Unix seconds) if given.
pub fn encode(value: &[u8], expires_at_s: Option<u64>) -> Bytes {
    let mut out = BytesMut::with_capacity(value.len() + TAIL_BYTES_MAX);
    out.put_slice(value);
    match expires_at_s {
        None => out.put_u8(PLAIN),
        Some(at) => {
            out.put_u64(at);
            out.put_u8(EXPIRES);
        }
    }
    out.freeze()
}

/// Returns the length of the value in a stored form, and its expiry (Unix seconds).
///
/// # Errors
/// Returns [`Error::Corruption`] if the tail is invalid.
pub fn decode(stored: &[u8]) -> Result<(usize, Option<u64>)> {
    match stored.split_last() {
        Some((&PLAIN, value)) => Ok((value.len(), None)),
        Some((&EXPIRES, rest)) => match rest.split_last_chunk::<8>() {
            Some((value, at)) => Ok((value.len(), Some(u64::from_be_bytes(*at)))),
            None => Err(Error::Corruption(format!("raw value of {} bytes: expiry cut off", stored.len()))),
        },
        Some((tail, _)) => Err(Error::Corruption(format!("raw value: unknown tail {tail:#04x}"))),
        None => Err(Error::Corruption("raw value: no tail".into())),
    }
}

/// Returns the value in a stored form and the seconds until it expires (0: never). Returns `None` if it has expired at
/// `now_s` (Unix seconds).
///
/// # Errors
/// Returns [`Error::Corruption`] if the tail is invalid.
pub fn live(stored: &Bytes, now_s: u64) -> Result<Option<(Bytes, u64)>> {
    let (len, expires) = decode(stored)?;
    Ok(match expires {
        None => Some((stored.slice(..len), 0)),
        Some(at) if at > now_s => Some((stored.slice(..len), at - now_s)),
        Some(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_expiry() {
        let plain = encode(b"v", None);
        assert_eq!(live(&plain, u64::MAX).unwrap(), Some((Bytes::from_static(b"v"), 0)));
        let timed = encode(b"", Some(100));
        assert_eq!(live(&timed, 99).unwrap(), Some((Bytes::new(), 1)));
        assert_eq!(live(&timed, 100).unwrap(), None);
    }

    #[test]
    fn refuses_what_it_did_not_write() {
        for bad in [&b""[..], b"\x02", b"1234567\x01"] {
            assert!(matches!(decode(bad), Err(Error::Corruption(_))), "{bad:?}");
        }
    }
}
