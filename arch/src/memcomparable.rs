//! # memcomparable: an encoding of byte strings that keeps their order
//!
//! **In** come plain byte strings, **out** go groups of 8 bytes, each followed by a marker: 0xFF minus the number of
//! zero bytes that pad the group. A string whose length is a multiple of 8 ends with a group of padding alone (marker
//! 0xF7). **Never**: a decoder that accepts bytes that the encoder would not write.

use std::mem::MaybeUninit;

use bytes::{BufMut, BytesMut};

use crate::{dispatch, kernels::run};

pub use crate::format::{Fault, GROUP, Invalid, MARKER, encoded_len};

/// Appends the encoding of `plain` to `out`.
#[inline]
pub fn encode_into(out: &mut BytesMut, plain: &[u8]) {
    let len = encoded_len(plain.len());
    out.reserve(len);
    run::encode(dispatch::active(), plain, &mut out.spare_capacity_mut()[..len]);
    // SAFETY: `encode` has written all `len` bytes, which were reserved.
    unsafe { out.advance_mut(len) };
}

/// Decodes the encoding at the start of `bytes` and appends the string to `out`. Returns the number of bytes read.
///
/// # Errors
/// Returns [`Invalid`] if there is no valid encoding, and leaves `out` unchanged.
#[inline]
pub fn decode_into(out: &mut BytesMut, bytes: &[u8]) -> Result<usize, Invalid> {
    let room = bytes.len() / (GROUP + 1) * GROUP;
    out.reserve(room);
    let spare: &mut [MaybeUninit<u8>] = out.spare_capacity_mut();
    let (took, gave) = run::decode(dispatch::active(), bytes, &mut spare[..room])?;
    // SAFETY: `decode` has written `gave` bytes, at most `room`.
    unsafe { out.advance_mut(gave) };
    Ok(took)
}
