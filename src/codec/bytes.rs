//! Memcomparable byte strings: encodings that compare as the plain strings do, and that no other encoding is a prefix of.
//!
//! Groups of 8 bytes, each followed by a marker: 0xFF minus the number of zero bytes that pad the group. A string whose
//! length is a multiple of 8 ends with a group of padding alone (marker 0xF7).

use bytes::{BufMut, Bytes, BytesMut};

const GROUP: usize = 8;
const MARKER: u8 = 0xff;

/// Why bytes are not the encoding of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a group, or before the last one.
    #[error("a memcomparable encoding that ends too early")]
    Short,
    /// A marker below 0xF7.
    #[error("a memcomparable encoding with a marker that cannot be one")]
    Marker,
    /// Padding that is not zero.
    #[error("a memcomparable encoding with padding that is not zero")]
    Padding,
}

/// The length of the encoding of `len` bytes.
pub fn encoded_len(len: usize) -> usize {
    (len / GROUP + 1) * (GROUP + 1)
}

/// Encodes a string.
pub fn encode(plain: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(encoded_len(plain.len()));
    encode_into(&mut out, plain);
    out.freeze()
}

/// Encodes a string at the end of `out`.
pub fn encode_into(out: &mut BytesMut, plain: &[u8]) {
    let (groups, rest) = plain.as_chunks::<GROUP>();
    for group in groups {
        out.put_slice(group);
        out.put_u8(MARKER);
    }
    let padding = GROUP - rest.len();
    out.put_slice(rest);
    out.put_bytes(0, padding);
    out.put_u8(MARKER - padding as u8);
}

/// Decodes the encoding at the head of `bytes`; gives the string and what follows it.
///
/// # Errors
/// [`DecodeError`] when there is no valid encoding.
pub fn decode_prefix(bytes: &[u8]) -> Result<(Bytes, &[u8]), DecodeError> {
    let mut out = BytesMut::with_capacity(bytes.len() / (GROUP + 1) * GROUP);
    let (groups, _) = bytes.as_chunks::<{ GROUP + 1 }>();
    for (at, group) in groups.iter().enumerate() {
        let (data, marker) = (&group[..GROUP], group[GROUP]);
        let padding = usize::from(MARKER - marker);
        if padding > GROUP {
            return Err(DecodeError::Marker);
        }
        let (data, zeros) = data.split_at(GROUP - padding);
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Padding);
        }
        out.put_slice(data);
        if padding > 0 {
            return Ok((out.freeze(), &bytes[(at + 1) * (GROUP + 1)..]));
        }
    }
    Err(DecodeError::Short)
}

/// Decodes an encoding that fills `bytes`.
///
/// # Errors
/// [`DecodeError`]; bytes after the end are [`DecodeError::Short`] of another encoding.
pub fn decode(bytes: &[u8]) -> Result<Bytes, DecodeError> {
    match decode_prefix(bytes)? {
        (plain, []) => Ok(plain),
        _ => Err(DecodeError::Short),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: the encodings that the protocol fixes. Method: worked out by hand from WIRE.md 4.1.
    #[test]
    fn known_encodings() {
        assert_eq!(encode(b"")[..], [0, 0, 0, 0, 0, 0, 0, 0, 0xf7]);
        assert_eq!(encode(b"abc")[..], *b"abc\0\0\0\0\0\xfa");
        assert_eq!(encode(b"abcdefgh")[..], *b"abcdefgh\xff\0\0\0\0\0\0\0\0\xf7");
        assert_eq!(encode(b"abcdefghi")[..], *b"abcdefgh\xffi\0\0\0\0\0\0\0\xf8");
        let sentinel = [[0xff; 9], [0, 0, 0, 0, 0, 0, 0, 0, 0xf7]].concat();
        assert_eq!(encode(&[0xff; 8]), sentinel);
    }

    /// Goal: nothing but an encoding decodes. Method: one example of each fault.
    #[test]
    fn refusals() {
        assert_eq!(decode(b""), Err(DecodeError::Short));
        assert_eq!(decode(b"abc"), Err(DecodeError::Short));
        assert_eq!(decode(b"abcdefgh\xff"), Err(DecodeError::Short));
        assert_eq!(decode(b"abc\0\0\0\0\0\xf6"), Err(DecodeError::Marker));
        assert_eq!(decode(b"abcd\0\0\0\0\xfa"), Err(DecodeError::Padding));
        assert_eq!(decode(b"abc\0\0\0\0\0\xfax"), Err(DecodeError::Short));
        assert_eq!(decode_prefix(b"abc\0\0\0\0\0\xfax"), Ok((Bytes::from_static(b"abc"), &b"x"[..])));
    }

    /// Strings whose bytes and lengths crowd around the borders of the format.
    fn strings() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(1), Just(0xf7), Just(0xfe), Just(0xff), any::<u8>()];
        proptest::collection::vec(byte, 0..27)
    }

    proptest! {
        /// Goal: order and content survive. Method: pairs of strings, encoded and compared, decoded and compared.
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

        /// Goal: a decode never accepts what an encode would not write. Method: arbitrary bytes near valid ones.
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
