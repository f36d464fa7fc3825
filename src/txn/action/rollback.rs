//! BatchRollback, Cleanup, PessimisticRollback: ends of transactions that do not commit.

use crate::codec::lock::Lock;
use crate::mvcc::{Fate, Reader};
use crate::proto::kvrpcpb::{
    BatchRollbackRequest, BatchRollbackResponse, CleanupRequest, CleanupResponse, KeyError, PessimisticRollbackRequest,
    PessimisticRollbackResponse,
};
use crate::types::{Result, Timestamp};

use super::error::{self, Failure, told};
use super::{Decided, Key, Writes, keys, not_twice};

/// Decides a rollback of keys by their own transaction's client, or by one that knows that it will not commit.
///
/// # Errors
/// The engine's.
pub fn batch(reader: &Reader<'_>, request: &BatchRollbackRequest) -> Result<Decided<BatchRollbackResponse>> {
    let fails = |error: KeyError| {
        Ok(Decided::reply(BatchRollbackResponse { error: Some(error.into()), ..BatchRollbackResponse::default() }))
    };
    if let Err(error) = not_twice(request.keys.iter()) {
        return fails(error);
    }
    let mut writes = Writes::default();
    for key in keys(&request.keys) {
        if let Err(error) = told(one(reader, &key, Timestamp(request.start_version), &mut writes))? {
            return fails(error);
        }
    }
    Ok(Decided { writes, reply: BatchRollbackResponse::default() })
}

/// Rolls a transaction back at one key.
///
/// # Errors
/// The reply's error if it has committed, or the engine's.
pub(super) fn one(reader: &Reader<'_>, key: &Key, start: Timestamp, writes: &mut Writes) -> Result<(), Failure> {
    match writes.lock_of(reader, key, start)? {
        Some(lock) if lock.start == start => {
            if lock.is_pessimistic()
                && let Fate::Committed(commit, _) = reader.fate(&key.encoded, start)?
            {
                // A late lock request came after the commit.
                return Err(error::committed(start, commit, &key.plain).into());
            }
            end_lock(reader, key, &lock, true, writes)?;
            Ok(())
        }
        foreign => match reader.fate(&key.encoded, start)? {
            Fate::Committed(commit, _) => Err(error::committed(start, commit, &key.plain).into()),
            Fate::RolledBack => Ok(()),
            Fate::Forgotten => Err(error::forgotten(start).into()),
            Fate::Unknown(_) => Ok(writes.rollback(reader, key, start, (true, false), foreign)?),
        },
    }
}

/// Ends a transaction's own lock by a rollback, which is protected at its primary key: others decide by it. `drops`
/// says whether an unprotected rollback below goes.
pub(super) fn end_lock(reader: &Reader<'_>, key: &Key, lock: &Lock, drops: bool, writes: &mut Writes) -> Result<()> {
    writes.give_up(key, lock);
    writes.rollback(reader, key, lock.start, (drops, lock.primary == key.plain), None)
}

/// Decides the rollback of one key of a transaction whose client may be dead.
///
/// # Errors
/// The engine's.
pub fn cleanup(reader: &Reader<'_>, request: &CleanupRequest) -> Result<Decided<CleanupResponse>> {
    let (key, start) = (Key::new(request.key.clone()), Timestamp(request.start_version));
    let now = Timestamp(request.current_ts);
    let mut writes = Writes::default();
    let mut reply = CleanupResponse::default();
    match reader.lock_of(&key.encoded, start)? {
        Some(lock) if lock.start == start => {
            let fate = if lock.is_pessimistic() { reader.fate(&key.encoded, start)? } else { Fate::Unknown(None) };
            if let Fate::Committed(commit, _) = fate {
                writes.unlock(&key, &lock);
                reply.commit_version = commit.0;
            } else if lock.is_async() || (now.0 != 0 && !lock.has_expired(now)) {
                // An async commit may have taken place: its other keys decide.
                reply.error = Some(error::locked(&key.plain, &lock).into());
            } else {
                end_lock(reader, &key, &lock, false, &mut writes)?;
            }
        }
        foreign => match reader.fate(&key.encoded, start)? {
            Fate::Committed(commit, _) => reply.commit_version = commit.0,
            Fate::RolledBack => {}
            Fate::Forgotten => reply.error = Some(error::forgotten(start).into()),
            Fate::Unknown(_) => writes.rollback(reader, &key, start, (false, true), foreign)?,
        },
    }
    Ok(Decided { writes, reply })
}

/// Decides the release of pessimistic locks. `found` are the keys of the request, or those of the region's locks that
/// are the transaction's.
///
/// # Errors
/// The engine's.
pub fn pessimistic(
    reader: &Reader<'_>,
    request: &PessimisticRollbackRequest,
    found: &[Key],
) -> Result<Decided<PessimisticRollbackResponse>> {
    let mut writes = Writes::default();
    for key in found {
        let own = |lock: &Lock| {
            lock.start.0 == request.start_version && lock.is_pessimistic() && lock.for_update.0 <= request.for_update_ts
        };
        if let Some(lock) = writes.lock_of(reader, key, Timestamp(request.start_version))?.filter(own) {
            writes.unlock(key, &lock);
        }
    }
    Ok(Decided { writes, reply: PessimisticRollbackResponse::default() })
}
