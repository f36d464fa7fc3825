//! The payload of an entry: one or more commands, so that everything that is waiting shares one entry.
//!
//! ```text
//!   kind (1 byte) | length (u32 big endian) | command | kind | length | command | …
//! ```
//!
//! The kind is all that consensus and the driver know of a command: commands that only write may share an entry, all others stand
//! alone in theirs. A kind that this version does not know is skipped alike on every replica (see [`next`]).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes that a frame adds to each command.
pub const HEADER_BYTES: usize = 5;

/// What applying a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// It only writes.
    Plain = 1,
    /// It reads what was applied before it.
    Reads = 2,
    /// It changes the group itself: its range, its members, its life.
    Admin = 3,
}

impl Kind {
    /// Whether the command must be the only one of its entry.
    pub fn stands_alone(self) -> bool {
        self != Kind::Plain
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Plain, Kind::Reads, Kind::Admin].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// An encoded command for a group's state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What applying it needs.
    pub kind: Kind,
    /// What the state machine gets.
    pub bytes: Bytes,
}

impl Command {
    /// A command that only writes.
    pub fn plain(bytes: impl Into<Bytes>) -> Command {
        Command { kind: Kind::Plain, bytes: bytes.into() }
    }
}

/// Packs commands into one payload.
///
/// # Panics
/// If a command has 4 GiB or more: an entry's limit is far below.
pub fn encode<'a>(commands: impl Iterator<Item = &'a Command> + Clone) -> Bytes {
    let bytes = commands.clone().map(|command| HEADER_BYTES + command.bytes.len()).sum();
    let mut out = BytesMut::with_capacity(bytes);
    for command in commands {
        out.put_u8(command.kind as u8);
        out.put_u32(u32::try_from(command.bytes.len()).expect("an entry's limit is far below 4 GiB"));
        out.put_slice(&command.bytes);
    }
    out.freeze()
}

/// Whether a payload's first command must be the only one of its entry.
pub fn stands_alone(payload: &[u8]) -> bool {
    payload.first().and_then(|byte| Kind::from_byte(*byte)).is_some_and(Kind::stands_alone)
}

/// Cuts the next command off the front of a payload; nothing at the end.
///
/// # Errors
/// Why the rest of the payload cannot be understood. Every replica finds the same, since all have the same bytes: the rest is
/// skipped, and its proposer is told.
pub fn next(payload: &mut Bytes) -> Result<Option<Command>, String> {
    if payload.is_empty() {
        return Ok(None);
    }
    if payload.len() < HEADER_BYTES {
        return Err(format!("a frame's header has {} of {HEADER_BYTES} bytes", payload.len()));
    }
    let byte = payload.get_u8();
    let len = payload.get_u32() as usize;
    let kind = Kind::from_byte(byte).ok_or_else(|| format!("commands of kind {byte} are unknown to this version"))?;
    if payload.len() < len {
        return Err(format!("a frame of {len} bytes has only {}", payload.len()));
    }
    Ok(Some(Command { kind, bytes: payload.split_to(len) }))
}

#[cfg(test)]
mod tests {
    //! Goal: what was packed comes back; what was not is told from it. Method: by hand.
    use super::*;

    fn commands() -> Vec<Command> {
        let command = |kind, bytes: &'static [u8]| Command { kind, bytes: Bytes::from_static(bytes) };
        vec![command(Kind::Plain, b"a"), command(Kind::Reads, b""), command(Kind::Admin, b"ccc")]
    }

    #[test]
    fn commands_come_back_in_order() {
        let mut payload = encode(commands().iter());
        let mut seen = Vec::new();
        while let Some(command) = next(&mut payload).unwrap() {
            seen.push(command);
        }
        assert_eq!(seen, commands());
    }

    #[test]
    fn cut_and_unknown_frames_are_told() {
        let whole = encode(commands()[2..].iter());
        for cut in 1..whole.len() {
            assert!(next(&mut whole.slice(..cut)).is_err(), "{cut} bytes");
        }
        let mut unknown = whole.to_vec();
        unknown[0] = 9;
        assert!(next(&mut unknown.into()).unwrap_err().contains("kind 9"));
    }
}
