//! # memcomparable: byte strings that compare as the plain ones do
//!
//! **In** come plain byte strings, **out** go groups of 8 bytes, each followed by a marker: 0xFF minus the number of zero bytes
//! that pad the group. A string whose length is a multiple of 8 ends with a group of padding alone (marker 0xF7). **Never**: a
//! decode that accepts what an encode would not write.

use std::mem::MaybeUninit;

use bytes::{BufMut, BytesMut};

use crate::{dispatch, kernels::run};

pub use crate::format::{Fault, GROUP, Invalid, MARKER, encoded_len};

/// Encodes `plain` at the end of `out`.
#[inline]
pub fn encode_into(out: &mut BytesMut, plain: &[u8]) {
    let len = encoded_len(plain.len());
    out.reserve(len);
    run::encode(dispatch::active(), plain, &mut out.spare_capacity_mut()[..len]);
    // SAFETY: `encode` has written all `len` bytes, which were reserved.
    unsafe { out.advance_mut(len) };
}

/// Decodes the encoding at the head of `bytes` to the end of `out`; gives the number of bytes it took.
///
/// # Errors
/// [`Invalid`] when there is no valid encoding; `out` is as it was.
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
