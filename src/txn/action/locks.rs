//! TxnHeartBeat, CheckSecondaryLocks and ScanLock: looking at locks, and making them last.

use crate::codec::lock::{Lock, Shared};
use crate::engine::{Cf, Visit};
use crate::mvcc::{Fate, Reader};
use crate::proto::kvrpcpb::{
    CheckSecondaryLocksRequest, CheckSecondaryLocksResponse, KeyError, LockInfo, TxnHeartBeatRequest,
    TxnHeartBeatResponse,
};
use crate::types::{Result, Timestamp};

use super::error;
use super::{Decided, Key, Writes, keys, not_twice};

/// Decides a heartbeat: the primary lock lasts at least as long as its client asks for.
///
/// # Errors
/// The engine's.
pub fn heartbeat(reader: &Reader<'_>, request: &TxnHeartBeatRequest) -> Result<Decided<TxnHeartBeatResponse>> {
    let (key, start) = (Key::new(request.primary_lock.clone()), Timestamp(request.start_version));
    let fails = |error: KeyError| {
        Ok(Decided::reply(TxnHeartBeatResponse { error: Some(error.into()), ..TxnHeartBeatResponse::default() }))
    };
    let Some(mut lock) = reader.lock_of(&key.encoded, start)?.filter(|lock| lock.start == start) else {
        return fails(error::txn_not_found(start, &key.plain));
    };
    if lock.is_shared() {
        return fails(error::primary_mismatch(&key.plain, &lock));
    }
    let mut writes = Writes::default();
    let shortens = crate::mutant!("txn.heartbeat-shortens");
    if lock.ttl_ms < request.advise_lock_ttl || shortens {
        lock.ttl_ms = if shortens { request.advise_lock_ttl.min(1) } else { request.advise_lock_ttl };
        writes.lock(&key, &lock);
    }
    let reply = TxnHeartBeatResponse { lock_ttl: lock.ttl_ms, ..TxnHeartBeatResponse::default() };
    Ok(Decided { writes, reply })
}

/// Decides whether an async commit has all its locks. A key that has none is rolled back, so that it never gets one.
///
/// # Errors
/// The engine's.
pub fn secondaries(
    reader: &Reader<'_>,
    request: &CheckSecondaryLocksRequest,
) -> Result<Decided<CheckSecondaryLocksResponse>> {
    let start = Timestamp(request.start_version);
    let mut reply = CheckSecondaryLocksResponse::default();
    if let Err(error) = not_twice(request.keys.iter()) {
        reply.error = Some(error.into());
        return Ok(Decided::reply(reply));
    }
    let mut writes = Writes::default();
    for key in keys(&request.keys) {
        let foreign = match reader.lock_of(&key.encoded, start)? {
            Some(lock) if lock.start == start && !lock.is_pessimistic() => {
                reply.locks.push(error::info(&key.plain, &Lock { shared: None, ..lock }));
                continue;
            }
            Some(lock) if lock.start == start => {
                writes.unlock(&key, &lock);
                None
            }
            foreign => foreign,
        };
        match reader.fate(&key.encoded, start)? {
            Fate::Committed(commit, _) => reply.commit_ts = commit.0,
            Fate::RolledBack => {}
            Fate::Forgotten => {
                reply.error = Some(error::forgotten(start).into());
                return Ok(Decided::reply(CheckSecondaryLocksResponse { locks: Vec::new(), ..reply }));
            }
            Fate::Unknown(_) if crate::mutant!("txn.secondary-leaves-nothing") => {}
            Fate::Unknown(_) => writes.rollback(reader, &key, start, (true, true), foreign)?,
        }
        // One key decides them all.
        reply.locks.clear();
        return Ok(Decided { writes, reply });
    }
    Ok(Decided { writes, reply })
}

/// Returns the keys in `[start, end)` (encoded) with locks that `wanted` accepts, in order, and at most `limit` of them
/// (0: all). Of shared locks, only those that it accepts are there.
///
/// # Errors
/// The engine's.
pub fn scan(
    read: &dyn crate::engine::Read,
    (start, end): (&[u8], &[u8]),
    limit: usize,
    wanted: &dyn Fn(&Lock) -> bool,
) -> Result<Vec<(Key, Lock)>> {
    let (mut found, mut failed) = (Vec::new(), None);
    read.scan(Cf::TxnLock, start, end, &mut |key, value| {
        let lock = crate::codec::lock::decode(bytes::Bytes::copy_from_slice(value));
        let pair = lock.and_then(|lock| Ok((Key::of_encoded(bytes::Bytes::copy_from_slice(key))?, lock)));
        match pair {
            Ok((key, lock)) if lock.is_shared() => {
                found.extend(only(lock, wanted).map(|lock| (key, lock)));
            }
            Ok((key, lock)) if wanted(&lock) => found.push((key, lock)),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
        if failed.is_some() || (limit != 0 && found.len() >= limit) { Visit::Stop } else { Visit::More }
    })?;
    failed.map_or(Ok(found), Err)
}

/// Returns those of shared locks that `wanted` accepts; `None` if it accepts none.
fn only(shared: Lock, wanted: &dyn Fn(&Lock) -> bool) -> Option<Lock> {
    let closed = shared.shared.as_ref().is_some_and(|shared| shared.closed);
    let mut each = shared.each().into_iter().filter(|lock| wanted(lock));
    let first = each.next()?;
    Some(Lock { shared: Some(Box::new(Shared { others: each.collect(), closed })), ..first })
}

/// Returns locks as clients know them.
pub fn infos(found: &[(Key, Lock)]) -> Vec<LockInfo> {
    found.iter().map(|(key, lock)| error::info(&key.plain, lock)).collect()
}
