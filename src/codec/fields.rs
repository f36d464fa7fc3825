//! The parts of which locks and commit records consist: numbers of variable length, byte strings, big endian numbers.

use bytes::{Buf, BufMut, BytesMut};

use crate::types::{Error, Result};

/// Appends a number: 7 bits a byte, the lowest first, with the highest bit set in all bytes but the last.
pub(super) fn put_number(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// Appends a byte string: its length (a signed number, so twice its value), then the bytes.
pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_number(out, (bytes.len() as u64) << 1);
    out.put_slice(bytes);
}

/// What is left to decode. `what` names it in errors.
pub(super) struct Fields<'a> {
    pub(super) rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(rest: &'a [u8], what: &'static str) -> Fields<'a> {
        Fields { rest, what }
    }

    /// Returns the error for something that cannot be decoded.
    pub(super) fn broken(&self, why: &str) -> Error {
        Error::Corruption(format!("a stored {}: {why}, {} bytes before its end", self.what, self.rest.len()))
    }

    /// Returns the next byte, or `None` at the end.
    pub(super) fn tag(&mut self) -> Option<u8> {
        self.rest.has_remaining().then(|| self.rest.get_u8())
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        self.tag().ok_or_else(|| self.broken("cut off"))
    }

    pub(super) fn fixed(&mut self) -> Result<u64> {
        if self.rest.len() < 8 {
            return Err(self.broken("a number is cut off"));
        }
        Ok(self.rest.get_u64())
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.broken("a number is over 64 bits"))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.number()?;
        if length & 1 == 1 {
            return Err(self.broken("a length is negative"));
        }
        self.take(length >> 1)
    }

    pub(super) fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        if length > self.rest.len() as u64 {
            return Err(self.broken("bytes are cut off"));
        }
        let (taken, rest) = self.rest.split_at(length as usize);
        self.rest = rest;
        Ok(taken)
    }
}
