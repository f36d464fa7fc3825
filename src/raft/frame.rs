//! The payload of an entry: one or more commands, so that everything that is waiting shares one entry.
//!
//! ```text
//!   u32 big endian length | command | u32 length | command | …
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::types::{Error, Result};

/// Bytes that a frame adds to each command.
pub const HEADER_BYTES: usize = 4;

/// Packs commands into one payload.
pub fn encode<'a>(commands: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    let bytes = commands.clone().map(|command| HEADER_BYTES + command.len()).sum();
    let mut out = BytesMut::with_capacity(bytes);
    for command in commands {
        out.put_u32(u32::try_from(command.len()).expect("an entry's limit is far below 4 GiB"));
        out.put_slice(command);
    }
    out.freeze()
}

/// The next command of a payload, cut off its front; nothing at the end.
///
/// # Errors
/// [`Error::Corruption`] if the payload is not a sequence of frames.
pub fn next(payload: &mut Bytes) -> Result<Option<Bytes>> {
    if payload.is_empty() {
        return Ok(None);
    }
    if payload.len() < HEADER_BYTES {
        return Err(Error::Corruption("an entry's frame header is cut off".into()));
    }
    let len = payload.get_u32() as usize;
    if payload.len() < len {
        return Err(Error::Corruption(format!("an entry's frame of {len} bytes has only {}", payload.len())));
    }
    Ok(Some(payload.split_to(len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let commands = [Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"ccc")];
        let mut payload = encode(commands.iter());
        let mut seen = Vec::new();
        while let Some(command) = next(&mut payload).unwrap() {
            seen.push(command);
        }
        assert_eq!(seen, commands);
    }

    #[test]
    fn a_cut_frame_is_corruption() {
        let mut payload = encode([Bytes::from_static(b"abc")].iter()).slice(..5);
        assert!(matches!(next(&mut payload), Err(Error::Corruption(_))));
    }
}
