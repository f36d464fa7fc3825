//! Keys of API V2, and how the keys of both API versions are stored.
//!
//! ```text
//!   'r' | keyspace, u24 big endian | key      a raw key
//!   'x' | keyspace, u24 big endian | key      a transactional key
//! ```
//! With API V2 raw keys are stored in memcomparable encoding, as transactional ones are, so that the boundaries of all
//! regions are encodings. With API V1 raw keys are stored as they are.

use ::bytes::{Bytes, BytesMut};

use super::bytes;
use crate::types::{Api, Error, Result};

/// The length of a prefix.
pub const PREFIX_BYTES: usize = 4;
/// The number of keyspaces that there can be: IDs have 24 bits.
pub const KEYSPACES: u32 = 1 << 24;
/// The keyspace that always exists.
pub const DEFAULT: u32 = 0;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Raw calls.
    Raw,
    /// Transactions.
    Txn,
}

impl Mode {
    /// Returns the first byte of the mode's keys.
    pub fn letter(self) -> u8 {
        match self {
            Mode::Raw => b'r',
            Mode::Txn => b'x',
        }
    }
}

/// The keys of one mode in one keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Raw or transactional.
    pub mode: Mode,
    /// The keyspace's ID, below [`KEYSPACES`].
    pub keyspace: u32,
}

impl Prefix {
    /// Returns the prefix of a key; `None` if it has none.
    pub fn of(key: &[u8]) -> Option<Prefix> {
        let (&[letter, a, b, c], _) = key.split_first_chunk::<PREFIX_BYTES>()?;
        let mode = [Mode::Raw, Mode::Txn].into_iter().find(|mode| mode.letter() == letter)?;
        Some(Prefix { mode, keyspace: u32::from_be_bytes([0, a, b, c]) })
    }

    /// Returns the bytes with which the keys begin.
    pub fn start(self) -> [u8; PREFIX_BYTES] {
        self.number().to_be_bytes()
    }

    /// Returns the smallest string above all the keys.
    pub fn end(self) -> [u8; PREFIX_BYTES] {
        (self.number() + 1).to_be_bytes()
    }

    /// Returns a key with the prefix in front of it.
    pub fn on(self, key: &[u8]) -> Bytes {
        [&self.start()[..], key].concat().into()
    }

    fn number(self) -> u32 {
        u32::from(self.mode.letter()) << 24 | self.keyspace
    }
}

/// Returns the boundaries that keep a keyspace's raw and transactional keys in regions of their own.
pub fn boundaries(keyspace: u32) -> [Bytes; 4] {
    let of = |mode| {
        let prefix = Prefix { mode, keyspace };
        [bytes::encode(&prefix.start()), bytes::encode(&prefix.end())]
    };
    let ([a, b], [c, d]) = (of(Mode::Raw), of(Mode::Txn));
    [a, b, c, d]
}

/// Returns whether the keys of a mode and keyspace begin at this boundary of a region, or end there.
pub fn is_boundary(boundary: &[u8]) -> bool {
    bytes::decode(boundary).is_ok_and(|key| key.len() == PREFIX_BYTES && matches!(key[0], b'r' | b's' | b'x' | b'y'))
}

/// Returns a raw key as it is stored.
pub fn stored(api: Api, key: Bytes) -> Bytes {
    match api {
        Api::V1 => key,
        Api::V2 => bytes::encode(&key),
    }
}

/// Returns a stored raw key as clients know it.
///
/// # Errors
/// [`Error::Corruption`] if it is not a stored key.
pub fn plain(api: Api, stored: &Bytes) -> Result<Bytes> {
    match api {
        Api::V1 => Ok(stored.clone()),
        Api::V2 => bytes::decode(stored).map_err(wrong),
    }
}

/// Returns a stored raw key as clients know it, in `buffer` if it has to be decoded.
///
/// # Errors
/// [`Error::Corruption`] if it is not a stored key.
pub fn plain_in<'k>(api: Api, stored: &'k [u8], buffer: &'k mut BytesMut) -> Result<&'k [u8]> {
    match api {
        Api::V1 => Ok(stored),
        Api::V2 => {
            buffer.clear();
            bytes::decode_into(buffer, stored).map_err(wrong)?;
            Ok(buffer)
        }
    }
}

fn wrong(error: bytes::DecodeError) -> Error {
    Error::Corruption(format!("a raw key: {error}"))
}

#[cfg(test)]
mod tests {
    //! Goal: the keys of a mode and keyspace are together, and nothing else is among them. Method: examples at the
    //! limits.
    use super::*;

    #[test]
    fn prefixes_are_what_clients_write() {
        let raw = Prefix { mode: Mode::Raw, keyspace: 0x01_02_03 };
        assert_eq!(raw.start(), *b"r\x01\x02\x03");
        assert_eq!(raw.end(), *b"r\x01\x02\x04");
        assert_eq!(raw.on(b"k"), &b"r\x01\x02\x03k"[..]);
        assert_eq!(Prefix::of(b"r\x01\x02\x03k"), Some(raw));
        let last = Prefix { mode: Mode::Txn, keyspace: KEYSPACES - 1 };
        assert_eq!((last.start(), last.end()), (*b"x\xff\xff\xff", *b"y\0\0\0"));
        assert_eq!(Prefix::of(b"x\0\0\0"), Some(Prefix { mode: Mode::Txn, keyspace: DEFAULT }));
        for none in [&b""[..], b"r", b"x\0\0", b"t\0\0\0key", b"R\0\0\0"] {
            assert_eq!(Prefix::of(none), None);
        }
    }

    #[test]
    fn boundaries_are_around_each_mode() {
        let [raw, after_raw, txn, after_txn] = boundaries(7);
        let key = |mode, keyspace, key: &[u8]| bytes::encode(&Prefix { mode, keyspace }.on(key));
        assert!(key(Mode::Raw, 6, &[0xff; 20]) < raw && raw <= key(Mode::Raw, 7, b""));
        assert!(key(Mode::Raw, 7, &[0xff; 20]) < after_raw && after_raw <= key(Mode::Raw, 8, b""));
        assert!(key(Mode::Txn, 6, &[0xff; 20]) < txn && txn <= key(Mode::Txn, 7, b""));
        assert!(key(Mode::Txn, 7, &[0xff; 20]) < after_txn && after_txn <= key(Mode::Txn, 8, b""));
        assert!([raw, after_raw, txn, after_txn].iter().all(|boundary| is_boundary(boundary)));
        let others = [key(Mode::Raw, 7, b"k"), bytes::encode(b"k\0\0\0"), Bytes::from_static(b"r\0\0\0"), Bytes::new()];
        assert!(!others.iter().any(|boundary| is_boundary(boundary)));
    }

    #[test]
    fn stored_keys_are_read_again() {
        let mut buffer = BytesMut::new();
        for (api, form) in [(Api::V1, Bytes::from_static(b"r\0\0\0k")), (Api::V2, bytes::encode(b"r\0\0\0k"))] {
            let key = Bytes::from_static(b"r\0\0\0k");
            assert_eq!(stored(api, key.clone()), form);
            assert_eq!(plain(api, &form).unwrap(), key);
            assert_eq!(plain_in(api, &form, &mut buffer).unwrap(), key);
        }
        assert!(matches!(plain(Api::V2, &Bytes::from_static(b"plain")), Err(Error::Corruption(_))));
    }
}
