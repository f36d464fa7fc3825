//! Commit: the second phase. The primary key's commit decides the transaction, the others follow.

use crate::codec::lock::Lock;
use crate::codec::record::RecordKind;
use crate::mvcc::{Fate, Reader};
use crate::proto::kvrpcpb::{CommitRequest, CommitResponse, KeyError};
use crate::types::{Error, Result, Timestamp};

use super::error::{self, Failure, told};
use super::{Decided, Key, Writes, keys, not_twice};

/// Decides a commit request.
///
/// # Errors
/// The engine's.
pub fn decide(reader: &Reader<'_>, request: &CommitRequest) -> Result<Decided<CommitResponse>> {
    let (start, commit) = (Timestamp(request.start_version), Timestamp(request.commit_version));
    let fails =
        |error: KeyError| Ok(Decided::reply(CommitResponse { error: Some(error.into()), ..CommitResponse::default() }));
    if let Err(error) = check_form(start, commit, request) {
        return fails(error);
    }
    let mut writes = Writes::default();
    for key in keys(&request.keys) {
        if let Err(error) = told(one(reader, &key, start, commit, &mut writes))? {
            return fails(error);
        }
    }
    let reply = CommitResponse { commit_version: commit.0, ..CommitResponse::default() };
    Ok(Decided { writes, reply })
}

fn check_form(start: Timestamp, commit: Timestamp, request: &CommitRequest) -> Result<(), KeyError> {
    not_twice(request.keys.iter())?;
    if commit <= start {
        return Err(error::invalid_commit_ts(start, commit));
    }
    Ok(())
}

/// Checks that a transaction may commit at a timestamp. A lock that was taken by force stands at the commit timestamp
/// of another transaction: at that timestamp the other one's record would be replaced. If it came after its own
/// transaction's commit, that record is its own, and nothing is replaced.
///
/// # Errors
/// The reply's error, or the engine's.
pub(super) fn check_commit_ts(reader: &Reader<'_>, key: &Key, lock: &Lock, commit: Timestamp) -> Result<(), Failure> {
    let mut least = lock.min_commit;
    if commit <= lock.for_update
        && !crate::mutant!("txn.commit-replaces-a-record")
        && let Some((at, record)) = reader.newest(&key.encoded, commit)?
        && at == commit
        && record.kind != RecordKind::Rollback
        && (record.start != lock.start || crate::mutant!("txn.commit-refuses-its-own-record"))
    {
        crate::reach!("txn.commit-at-a-record");
        least = least.max(commit.next());
    }
    if commit < least && !crate::mutant!("txn.commit-ignores-min-commit") {
        let lock = Lock { min_commit: least, ..lock.clone() };
        return Err(error::commit_ts_expired(&key.plain, &lock, commit).into());
    }
    Ok(())
}

/// Commits one key of a transaction.
///
/// # Errors
/// The reply's error: the key is not locked any more, or the commit is too early; or the engine's.
pub(super) fn one(
    reader: &Reader<'_>,
    key: &Key,
    start: Timestamp,
    commit: Timestamp,
    writes: &mut Writes,
) -> Result<(), Failure> {
    if let Some(lock) = writes.lock_of(reader, key, start)?.filter(|lock| lock.start == start) {
        check_commit_ts(reader, key, &lock, commit)?;
        writes.commit(key, &lock, commit);
        return Ok(());
    }
    match reader.fate(&key.encoded, start)? {
        Fate::Committed(..) => Ok(()),
        Fate::RolledBack | Fate::Unknown(_) => Err(error::txn_lock_not_found(start, &key.plain).into()),
        Fate::Forgotten => Err(Error::Unknown(error::FORGOTTEN.into()).into()),
    }
}
