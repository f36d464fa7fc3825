//! CheckTxnStatus: what became of a transaction, asked at its primary key. Ends it if its client seems to be dead.

use crate::codec::lock::Lock;
use crate::mvcc::{Fate, Reader};
use crate::proto::kvrpcpb::{Action, CheckTxnStatusRequest, CheckTxnStatusResponse};
use crate::types::{Result, Timestamp};

use super::error;
use super::{Decided, Key, Writes, rollback};

/// Decides a question about a transaction.
///
/// # Errors
/// The engine's.
pub fn decide(reader: &Reader<'_>, request: &CheckTxnStatusRequest) -> Result<Decided<CheckTxnStatusResponse>> {
    let (key, start) = (Key::new(request.primary_key.clone()), Timestamp(request.lock_ts));
    let mut writes = Writes::default();
    let reply = match reader.lock_of(&key.encoded, start)? {
        // The primary key is not locked in shared mode.
        Some(lock) if lock.start == start && lock.is_shared() => {
            let error = Some(error::primary_mismatch(&key.plain, &lock).into());
            CheckTxnStatusResponse { error, ..CheckTxnStatusResponse::default() }
        }
        Some(lock) if lock.start == start => locked(reader, request, &key, lock, &mut writes)?,
        foreign => unlocked(reader, request, &key, foreign, &mut writes)?,
    };
    Ok(Decided { writes, reply })
}

fn ended(action: Action) -> CheckTxnStatusResponse {
    CheckTxnStatusResponse { action: action as i32, ..CheckTxnStatusResponse::default() }
}

/// The transaction lives. As in TiKV, the lock is shown at its primary key, wherever it was asked for.
fn alive(lock: &Lock, action: Action) -> CheckTxnStatusResponse {
    CheckTxnStatusResponse {
        lock_ttl: lock.ttl_ms,
        lock_info: Some(error::info(&lock.primary, lock)),
        action: action as i32,
        ..CheckTxnStatusResponse::default()
    }
}

/// The transaction's lock stands.
fn locked(
    reader: &Reader<'_>,
    request: &CheckTxnStatusRequest,
    key: &Key,
    lock: Lock,
    writes: &mut Writes,
) -> Result<CheckTxnStatusResponse> {
    let resolving = request.resolving_pessimistic_lock;
    let other_primary = lock.primary != key.plain && !crate::mutant!("txn.status-no-primary-check");
    if request.verify_is_primary && other_primary {
        if resolving || !lock.is_pessimistic() {
            let error = Some(error::primary_mismatch(&key.plain, &lock).into());
            return Ok(CheckTxnStatusResponse { error, ..CheckTxnStatusResponse::default() });
        }
        // The transaction has chosen another primary key since: this lock decides nothing.
        let reply = unlocked(reader, request, key, None, writes)?;
        if reply.error.is_none() {
            writes.unlock(key, &lock);
        }
        return Ok(reply);
    }
    let sync = request.force_sync_commit || crate::mutant!("txn.status-rolls-back-async");
    if lock.is_async() && !sync {
        return Ok(alive(&lock, Action::NoAction));
    }
    if lock.is_pessimistic()
        && let fate @ (Fate::Committed(..) | Fate::RolledBack) = reader.fate(&key.encoded, lock.start)?
    {
        // A late lock request came after the end.
        writes.unlock(key, &lock);
        return Ok(match fate {
            Fate::Committed(commit, _) => {
                CheckTxnStatusResponse { commit_version: commit.0, ..CheckTxnStatusResponse::default() }
            }
            _ => ended(Action::NoAction),
        });
    }
    if lock.has_expired(Timestamp(request.current_ts)) || crate::mutant!("txn.status-ignores-ttl") {
        if lock.is_pessimistic() && resolving {
            writes.unlock(key, &lock);
            return Ok(ended(Action::TtlExpirePessimisticRollback));
        }
        rollback::end_lock(reader, key, &lock, true, writes)?;
        return Ok(ended(Action::TtlExpireRollback));
    }
    Ok(push(request, key, lock, writes))
}

/// Makes a live transaction commit after the caller's snapshot, so that the caller need not wait.
fn push(request: &CheckTxnStatusRequest, key: &Key, mut lock: Lock, writes: &mut Writes) -> CheckTxnStatusResponse {
    let caller = Timestamp(request.caller_start_ts);
    let anyone = caller == Timestamp::MAX;
    if lock.min_commit.0 != 0 && !anyone && caller >= lock.min_commit {
        lock.min_commit = caller.next().max(Timestamp(request.current_ts));
        writes.lock(key, &lock);
        crate::reach!("txn.commit-pushed");
    }
    let pushed = anyone || (caller.0 != 0 && lock.min_commit > caller);
    alive(&lock, if pushed { Action::MinCommitTsPushed } else { Action::NoAction })
}

/// The transaction has no lock here.
fn unlocked(
    reader: &Reader<'_>,
    request: &CheckTxnStatusRequest,
    key: &Key,
    foreign: Option<Lock>,
    writes: &mut Writes,
) -> Result<CheckTxnStatusResponse> {
    let start = Timestamp(request.lock_ts);
    Ok(match reader.fate(&key.encoded, start)? {
        Fate::Committed(commit, _) => {
            CheckTxnStatusResponse { commit_version: commit.0, ..CheckTxnStatusResponse::default() }
        }
        Fate::RolledBack => ended(Action::NoAction),
        Fate::Forgotten => {
            CheckTxnStatusResponse { error: Some(error::forgotten(start).into()), ..CheckTxnStatusResponse::default() }
        }
        Fate::Unknown(_) if !request.rollback_if_not_exist => {
            let error = Some(error::txn_not_found(start, &key.plain).into());
            CheckTxnStatusResponse { error, ..CheckTxnStatusResponse::default() }
        }
        Fate::Unknown(_) if request.resolving_pessimistic_lock => ended(Action::LockNotExistDoNothing),
        Fate::Unknown(_) => {
            writes.rollback(reader, key, start, (false, true), foreign)?;
            ended(Action::LockNotExistRollback)
        }
    })
}
