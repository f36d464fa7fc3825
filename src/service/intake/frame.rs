//! gRPC's framing and protobuf's encoding, as far as they are read before a message is decoded.

use crate::types::limits::REFUSED_PREFIX_BYTES_MAX;
use bytes::{BufMut as _, Bytes, BytesMut};

/// The length of a gRPC frame header in bytes: a flag and a length.
pub(super) const HEADER: usize = 5;

/// Returns the header of a gRPC frame with `len` bytes.
pub(super) fn header(len: usize) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER);
    frame.put_u8(0);
    frame.put_u32(len as u32);
    frame.freeze()
}

/// Reads a variable-length number from the beginning of `bytes`, and advances `bytes` past it.
pub(super) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    let value = bytes[..=end].iter().rev().try_fold(0_u64, |value, byte| {
        let shifted = value.checked_mul(128)?;
        Some(shifted | u64::from(byte & 0x7f))
    })?;
    *bytes = &bytes[end + 1..];
    Some(value)
}

/// Returns the region of a request from its first bytes: the request's first field is the context, whose first field is
/// the region's id. Returns 0 if there is none.
pub(super) fn region_of(mut request: &[u8]) -> u64 {
    const CONTEXT: u64 = 1 << 3 | 2;
    const REGION: u64 = 1 << 3;
    let bytes = &mut request;
    if varint(bytes) != Some(CONTEXT) || varint(bytes).is_none() || varint(bytes) != Some(REGION) {
        return 0;
    }
    varint(bytes).unwrap_or(0)
}

/// Appends `data` to the prefix that is kept of a request, up to its maximum length.
pub(super) fn keep_prefix(prefix: &mut BytesMut, data: &[u8]) {
    let room = REFUSED_PREFIX_BYTES_MAX.saturating_sub(prefix.len());
    prefix.extend_from_slice(&data[..data.len().min(room)]);
}
