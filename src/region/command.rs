//! Commands of a data region: building and encoding them, and decoding their replies.
//!
//! Nothing else translates a [`RegionReply`] into a result.

use bytes::Bytes;
use prost::Message as _;

use crate::codec::lock;
use crate::engine::Cf;
use crate::proto::armilla::raft::region_command::Op;
use crate::proto::armilla::raft::region_reply::Outcome;
use crate::proto::armilla::raft::{CasReply, Change, CommandHeader, RegionCommand, RegionReply, Write};
use crate::raft::frame::{Command, Kind};
use crate::types::{Error, GroupId, Region, Result, version};

/// Returns the change that sets a key to an encoded value.
pub fn put(cf: Cf, key: Bytes, stored: Bytes) -> Change {
    Change { cf: cf as u32, key, value: Some(stored), range_end: None }
}

/// Returns the change that removes a key.
pub fn delete(cf: Cf, key: Bytes) -> Change {
    Change { cf: cf as u32, key, value: None, range_end: None }
}

/// Returns the change that removes the keys in `[start, end)`; an empty `end` is plus infinity.
pub fn delete_range(cf: Cf, start: Bytes, end: Bytes) -> Change {
    Change { cf: cf as u32, key: start, value: None, range_end: Some(end) }
}

/// Returns the operation that applies changes atomically, in order.
pub fn write(changes: Vec<Change>) -> Op {
    Op::Write(Write { changes })
}

/// Returns the kind of commands with an operation.
pub fn kind(op: &Op) -> Kind {
    match op {
        Op::Write(_) => Kind::Plain,
        // Marks and epoch are part of the group's record, which no other command of its entry may see half changed.
        Op::Cas(_) | Op::Collect(_) | Op::CollectVersions(_) | Op::DeleteVersions(_) => Kind::Reads,
        Op::ChangePeers(_) => Kind::Members,
        Op::Split(_)
        | Op::PrepareMerge(_)
        | Op::SealMerge(_)
        | Op::RollBackMerge(_)
        | Op::CommitMerge(_)
        | Op::RefuseMerge(_)
        | Op::ForgetAbsorbed(_) => Kind::Admin,
    }
}

/// Encodes a command.
pub fn encode(header: CommandHeader, op: Op) -> Command {
    let kind = kind(&op);
    let command = RegionCommand { header: Some(header), op: Some(op) };
    Command { kind, bytes: command.encode_to_vec().into() }
}

/// Returns the version of the protocol that introduced an operation.
pub fn since(op: &Op) -> u32 {
    match op {
        Op::Write(write) if write.changes.iter().any(shares_a_key) => version::SHARED_LOCKS,
        Op::Write(write) if write.changes.iter().any(is_transactional) => version::TRANSACTIONS,
        Op::Write(_) | Op::Cas(_) | Op::Collect(_) => 1,
        Op::Split(_) => version::SPLITS,
        Op::ChangePeers(_) => version::MEMBERS,
        Op::PrepareMerge(_)
        | Op::SealMerge(_)
        | Op::RollBackMerge(_)
        | Op::CommitMerge(_)
        | Op::RefuseMerge(_)
        | Op::ForgetAbsorbed(_) => version::MERGES,
        Op::CollectVersions(_) | Op::DeleteVersions(_) => version::SAFE_POINTS,
    }
}

/// Returns whether a change sets locks in shared mode.
fn shares_a_key(change: &Change) -> bool {
    change.cf == Cf::TxnLock as u32 && change.value.as_deref().is_some_and(lock::is_shared)
}

/// Returns whether a change is one of transactional data.
fn is_transactional(change: &Change) -> bool {
    Cf::TXN.iter().any(|cf| *cf as u32 == change.cf)
}

/// Returns whether an operation may increase the amount of stored data.
pub fn adds_data(op: &Op) -> bool {
    match op {
        Op::Write(write) => write.changes.iter().any(|change| change.value.is_some()),
        Op::Cas(cas) => cas.stored.is_some(),
        _ => false,
    }
}

/// Returns the length of the encoded command in bytes, or slightly more.
pub fn encoded_len(header: CommandHeader, op: &Op) -> usize {
    // Two bytes for tags, one for the header's length and at most four for the operation's length.
    let body = match op {
        Op::Write(write) => write.encoded_len(),
        Op::Cas(cas) => cas.encoded_len(),
        Op::Collect(collect) => collect.encoded_len(),
        Op::Split(split) => split.encoded_len(),
        Op::ChangePeers(change) => change.encoded_len(),
        Op::PrepareMerge(prepare) => prepare.encoded_len(),
        Op::SealMerge(seal) => seal.encoded_len(),
        Op::RollBackMerge(roll_back) => roll_back.encoded_len(),
        Op::CommitMerge(commit) => commit.encoded_len(),
        Op::RefuseMerge(refuse) => refuse.encoded_len(),
        Op::ForgetAbsorbed(forget) => forget.encoded_len(),
        Op::CollectVersions(collect) => collect.encoded_len(),
        Op::DeleteVersions(delete) => delete.encoded_len(),
    };
    7 + header.encoded_len() + body
}

/// Decodes a command's reply: the result of a compare-and-swap, `None` for other commands.
///
/// # Errors
/// [`Error::EpochNotMatch`], [`Error::KeyNotInRegion`], [`Error::StaleCommand`], [`Error::Merging`] or
/// [`Error::Invalid`] if the command was refused and changed nothing. [`Error::Corruption`] if the reply cannot be
/// decoded.
pub fn outcome(reply: Bytes) -> Result<Option<CasReply>> {
    match decode(reply)? {
        Some(Outcome::Cas(cas)) => Ok(Some(cas)),
        _ => Ok(None),
    }
}

/// Returns the pieces in the reply to a split, in order of their keys.
///
/// # Errors
/// As [`outcome`].
pub fn pieces(reply: Bytes) -> Result<Vec<Region>> {
    match decode(reply)? {
        Some(Outcome::Split(split)) => Ok(split.regions),
        _ => Err(Error::Corruption("the state machine's reply to a split has no regions".into())),
    }
}

/// Returns the region in the reply to a change of its peers, or to a step of a merge.
///
/// # Errors
/// As [`outcome`].
pub fn changed(reply: Bytes) -> Result<Region> {
    match decode(reply)? {
        Some(Outcome::Changed(region)) => Ok(region),
        _ => Err(Error::Corruption("the state machine's reply to a change of the region has no region".into())),
    }
}

/// Decodes the outcome of a command that was carried out.
fn decode(reply: Bytes) -> Result<Option<Outcome>> {
    let reply = RegionReply::decode(reply)
        .map_err(|e| Error::Corruption(format!("the state machine's reply does not decode: {e}")))?;
    match reply.outcome {
        Some(Outcome::EpochNotMatch(current)) => Err(Error::EpochNotMatch(vec![current])),
        Some(Outcome::OutsideRegion(outside)) => {
            Err(Error::KeyNotInRegion { key: outside.key, region: Box::new(outside.region.unwrap_or_default()) })
        }
        Some(Outcome::Stale(_)) => Err(Error::StaleCommand),
        Some(Outcome::Refused(why)) => Err(Error::Invalid(why)),
        Some(Outcome::Merging(region)) => Err(Error::Merging(GroupId(region))),
        done => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an operation is proposed only once every node knows it. Method: a table.
    use super::*;
    use crate::codec::lock::{Lock, LockKind, Shared, encode};
    use crate::types::Timestamp;

    #[test]
    fn operations_need_the_version_that_introduced_them() {
        let one = Lock::new(LockKind::Pessimistic, "pk".into(), Timestamp(10), 200);
        let shared = Lock { shared: Some(Box::new(Shared::default())), ..one.clone() };
        let key = || Bytes::from_static(b"k");
        for (change, since_then) in [
            (put(Cf::RawDefault, key(), Bytes::from_static(b"H")), 1),
            (put(Cf::TxnLock, key(), encode(&one)), version::TRANSACTIONS),
            (put(Cf::TxnLock, key(), encode(&shared)), version::SHARED_LOCKS),
            (delete(Cf::TxnLock, key()), version::TRANSACTIONS),
        ] {
            assert_eq!(since(&write(vec![change.clone()])), since_then, "{change:?}");
        }
    }
}
