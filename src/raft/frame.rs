//! The payload of an entry: one or more commands, so that waiting commands can share one entry.
//!
//! ```text
//!   kind (1 byte) | length (u32 big endian) | command | kind | length | command | …
//! ```
//!
//! The kind is the only part of a command that consensus and the driver interpret: commands that only write may share
//! an entry; every other command has an entry to itself. A kind that this version does not know is skipped in the same
//! way on every replica (see [`next`]).

use ::raft::eraftpb::{Entry, EntryType};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes that framing adds to each command.
pub const HEADER_BYTES: usize = 5;

/// What a command needs to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The command only writes.
    Plain = 1,
    /// The command reads the result of earlier commands.
    Reads = 2,
    /// The command changes the group itself: its range, its existence.
    Admin = 3,
    /// The command changes the group's members. Its entry is one of raft's for changes of membership.
    Members = 4,
}

impl Kind {
    /// Returns whether the command must be the only one of its entry.
    pub fn stands_alone(self) -> bool {
        self != Kind::Plain
    }

    /// Returns whether the command changes the group itself.
    pub fn changes_group(self) -> bool {
        matches!(self, Kind::Admin | Kind::Members)
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Plain, Kind::Reads, Kind::Admin, Kind::Members].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// An encoded command for a group's state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What the command needs to be applied.
    pub kind: Kind,
    /// The encoded command, as the state machine receives it.
    pub bytes: Bytes,
}

impl Command {
    /// Creates a command that only writes.
    pub fn plain(bytes: impl Into<Bytes>) -> Command {
        Command { kind: Kind::Plain, bytes: bytes.into() }
    }
}

/// Packs commands into one payload.
///
/// # Panics
/// If a command has 4 GiB or more: the limit of an entry is far below that.
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

/// Returns whether a payload's first command must be the only one of its entry.
pub fn stands_alone(payload: &[u8]) -> bool {
    payload.first().and_then(|byte| Kind::from_byte(*byte)).is_some_and(Kind::stands_alone)
}

/// Returns whether a payload's first command changes the group itself.
pub fn changes_group(payload: &[u8]) -> bool {
    payload.first().and_then(|byte| Kind::from_byte(*byte)).is_some_and(Kind::changes_group)
}

/// Returns the payload of an entry. That of a change of membership lies beside what raft reads itself.
pub fn payload(entry: &Entry) -> &Bytes {
    if entry.get_entry_type() == EntryType::EntryNormal { &entry.data } else { &entry.context }
}

/// Returns the bytes of an entry's payload, and of what raft reads itself.
pub fn bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len()
}

/// Removes the next command from the front of a payload and returns it, or `None` at the end.
///
/// # Errors
/// If the rest of the payload cannot be decoded, with the reason. Every replica has the same bytes and finds the same
/// error: the rest is skipped, and the proposer gets an error.
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
    //! Goal: encoded commands are decoded unchanged, and truncated or unknown frames are detected. Method: by hand.
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
