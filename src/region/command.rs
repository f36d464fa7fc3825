//! Commands of a data region: how a proposer makes them, and what the reply means.
//!
//! This is the one place that translates a [`RegionReply`] into a result.

use bytes::Bytes;
use prost::Message as _;

use crate::engine::Cf;
use crate::proto::armilla::raft::region_command::Op;
use crate::proto::armilla::raft::region_reply::Outcome;
use crate::proto::armilla::raft::{CasReply, Change, CommandHeader, RegionCommand, RegionReply, Write};
use crate::raft::frame::{Command, Kind};
use crate::types::{Error, Result};

/// Sets a key to a stored form.
pub fn put(cf: Cf, key: Bytes, stored: Bytes) -> Change {
    Change { cf: cf as u32, key, value: Some(stored), range_end: None }
}

/// Removes a key.
pub fn delete(cf: Cf, key: Bytes) -> Change {
    Change { cf: cf as u32, key, value: None, range_end: None }
}

/// Removes the keys in `[start, end)`; an empty `end` is plus infinity.
pub fn delete_range(cf: Cf, start: Bytes, end: Bytes) -> Change {
    Change { cf: cf as u32, key: start, value: None, range_end: Some(end) }
}

/// Changes that happen together, in order.
pub fn write(changes: Vec<Change>) -> Op {
    Op::Write(Write { changes })
}

/// The encoded command.
pub fn encode(header: CommandHeader, op: Op) -> Command {
    let kind = match op {
        Op::Write(_) => Kind::Plain,
        Op::Cas(_) | Op::Collect(_) => Kind::Reads,
    };
    let command = RegionCommand { header: Some(header), op: Some(op) };
    Command { kind, bytes: command.encode_to_vec().into() }
}

/// Whether an operation may make the store's data more.
pub fn adds_data(op: &Op) -> bool {
    match op {
        Op::Write(write) => write.changes.iter().any(|change| change.value.is_some()),
        Op::Cas(cas) => cas.stored.is_some(),
        Op::Collect(_) => false,
    }
}

/// The length of the encoded command, bytes.
pub fn encoded_len(header: CommandHeader, op: &Op) -> usize {
    // Two bytes of tags, one of the header's length and at most four of the operation's.
    let body = match op {
        Op::Write(write) => write.encoded_len(),
        Op::Cas(cas) => cas.encoded_len(),
        Op::Collect(collect) => collect.encoded_len(),
    };
    7 + header.encoded_len() + body
}

/// What a command's reply says: the compare-and-swap's result, nothing for other commands.
///
/// # Errors
/// [`Error::EpochNotMatch`], [`Error::KeyNotInRegion`], [`Error::StaleCommand`], [`Error::Invalid`]: the command did nothing.
/// [`Error::Corruption`] if the reply does not decode.
pub fn outcome(reply: Bytes) -> Result<Option<CasReply>> {
    let reply = RegionReply::decode(reply)
        .map_err(|e| Error::Corruption(format!("the state machine's reply does not decode: {e}")))?;
    match reply.outcome {
        None => Ok(None),
        Some(Outcome::Cas(cas)) => Ok(Some(cas)),
        Some(Outcome::EpochNotMatch(current)) => Err(Error::EpochNotMatch(vec![current])),
        Some(Outcome::OutsideRegion(outside)) => {
            Err(Error::KeyNotInRegion { key: outside.key, region: Box::new(outside.region.unwrap_or_default()) })
        }
        Some(Outcome::Stale(_)) => Err(Error::StaleCommand),
        Some(Outcome::Refused(why)) => Err(Error::Invalid(why)),
    }
}
