//! Memcomparable byte strings: encodings that compare as the plain strings do. No encoding is a prefix of another.
//!
//! Groups of 8 bytes, each followed by a marker: 0xFF minus the number of zero bytes that pad the group. A string whose
//! length is a multiple of 8 ends with a group of padding alone (marker 0xF7).

use bytes::{Bytes, BytesMut};

use crate::arch::memcomparable::{self, Fault, Invalid};

/// Why bytes are not a valid encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a group, or before the last group.
    #[error("memcomparable encoding ends too early, after {0} bytes")]
    Short(usize),
    /// A marker is below 0xF7.
    #[error("memcomparable encoding has an invalid marker at byte {0}")]
    Marker(usize),
    /// The padding is not zero.
    #[error("memcomparable encoding has padding that is not zero at byte {0}")]
    Padding(usize),
    /// More bytes follow the encoding.
    #[error("memcomparable encoding ends after {0} bytes, but more bytes follow")]
    Long(usize),
}

impl From<Invalid> for DecodeError {
    fn from(invalid: Invalid) -> DecodeError {
        match invalid.fault {
            Fault::Short => DecodeError::Short(invalid.at),
            Fault::Marker => DecodeError::Marker(invalid.at),
            Fault::Padding => DecodeError::Padding(invalid.at),
        }
    }
}

/// Returns the length of the encoding of `len` bytes.
pub fn encoded_len(len: usize) -> usize {
    memcomparable::encoded_len(len)
}

/// Encodes `plain`.
pub fn encode(plain: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(encoded_len(plain.len()));
    encode_into(&mut out, plain);
    out.freeze()
}

/// Appends the encoding of `plain` to `out`.
pub fn encode_into(out: &mut BytesMut, plain: &[u8]) {
    memcomparable::encode_into(out, plain);
}

/// Decodes the encoding at the beginning of `bytes`. Returns the plain string and the bytes that follow the encoding.
///
/// # Errors
/// Returns a [`DecodeError`] if `bytes` does not begin with a valid encoding.
pub fn decode_prefix(bytes: &[u8]) -> Result<(Bytes, &[u8]), DecodeError> {
    let mut out = BytesMut::new();
    let took = memcomparable::decode_into(&mut out, bytes)?;
    Ok((out.freeze(), &bytes[took..]))
}

/// Decodes `bytes`, which must be exactly one encoding, and appends the plain string to `out`.
///
/// # Errors
/// As [`decode`].
pub fn decode_into(out: &mut BytesMut, bytes: &[u8]) -> Result<(), DecodeError> {
    match memcomparable::decode_into(out, bytes)? {
        took if took == bytes.len() => Ok(()),
        took => Err(DecodeError::Long(took)),
    }
}

/// Decodes `bytes`, which must be exactly one encoding.
///
/// # Errors
/// Returns a [`DecodeError`]; [`DecodeError::Long`] if bytes follow the encoding.
pub fn decode(bytes: &[u8]) -> Result<Bytes, DecodeError> {
    let mut out = BytesMut::new();
    decode_into(&mut out, bytes)?;
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: the encodings that the protocol defines. Method: examples worked out by hand from WIRE.md 4.1.
    #[test]
    fn known_encodings() {
        assert_eq!(encode(b"")[..], [0, 0, 0, 0, 0, 0, 0, 0, 0xf7]);
        assert_eq!(encode(b"abc")[..], *b"abc\0\0\0\0\0\xfa");
        assert_eq!(encode(b"abcdefgh")[..], *b"abcdefgh\xff\0\0\0\0\0\0\0\0\xf7");
        assert_eq!(encode(b"abcdefghi")[..], *b"abcdefgh\xffi\0\0\0\0\0\0\0\xf8");
        let sentinel = [[0xff; 9], [0, 0, 0, 0, 0, 0, 0, 0, 0xf7]].concat();
        assert_eq!(encode(&[0xff; 8]), sentinel);
    }

    /// Goal: only valid encodings decode. Method: one example of each fault.
    #[test]
    fn refusals() {
        assert_eq!(decode(b""), Err(DecodeError::Short(0)));
        assert_eq!(decode(b"abc"), Err(DecodeError::Short(3)));
        assert_eq!(decode(b"abcdefgh\xff"), Err(DecodeError::Short(9)));
        assert_eq!(decode(b"abc\0\0\0\0\0\xf6"), Err(DecodeError::Marker(8)));
        assert_eq!(decode(b"abcd\0\0\0\0\xfa"), Err(DecodeError::Padding(3)));
        assert_eq!(decode(b"abc\0\0\0\0\0\xfax"), Err(DecodeError::Long(9)));
        assert_eq!(decode_prefix(b"abc\0\0\0\0\0\xfax"), Ok((Bytes::from_static(b"abc"), &b"x"[..])));
    }

    /// Strings whose bytes and lengths are close to the boundaries of the format.
    fn strings() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(1), Just(0xf7), Just(0xfe), Just(0xff), any::<u8>()];
        proptest::collection::vec(byte, 0..27)
    }

    proptest! {
        /// Goal: encoding preserves order and content. Method: pairs of strings, encoded and compared, decoded and
        /// compared.
        #[test]
        fn order_and_content(left in strings(), right in strings()) {
            let (a, b) = (encode(&left), encode(&right));
            prop_assert_eq!(a.cmp(&b), left.cmp(&right));
            prop_assert_eq!(a.len(), encoded_len(left.len()));
            prop_assert_eq!(decode(&a), Ok(Bytes::from(left.clone())));
            let mut both = BytesMut::from(&a[..]);
            encode_into(&mut both, &right);
            prop_assert_eq!(decode_prefix(&both), Ok((Bytes::from(left), &b[..])));
        }

        /// Goal: decoding never accepts bytes that encoding would not produce. Method: valid encodings with one byte
        /// changed.
        #[test]
        fn decode_accepts_only_encodings(plain in strings(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encode(&plain).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(decoded) = decode(&bytes) {
                prop_assert_eq!(&encode(&decoded)[..], &bytes[..]);
            }
        }
    }
}
