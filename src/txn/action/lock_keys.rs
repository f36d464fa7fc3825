//! PessimisticLock: locks keys before the commit begins, and reads them on the way.

use bytes::Bytes;

use crate::codec::lock::{self, Lock, LockKind, Shared};
use crate::codec::record::Record;
use crate::mvcc::{Fate, Reader};
use crate::proto::kvrpcpb::write_conflict::Reason;
use crate::proto::kvrpcpb::{
    Assertion, KeyError, Mutation, Op, PessimisticLockKeyResult, PessimisticLockKeyResultType as Kind,
    PessimisticLockRequest, PessimisticLockResponse, PessimisticLockWakeUpMode,
};
use crate::types::limits::SHARED_LOCKS_BYTES_FULL;
use crate::types::{Result, Timestamp};

use super::error::{self, Failure, told};
use super::{Decided, Key, Writes, not_twice};

/// What a lock request comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Locking {
    /// It is decided.
    Done(Box<Decided<PessimisticLockResponse>>),
    /// Other transactions have locked a key. The request may wait for them; nothing of it is kept. What is written
    /// before says that no more transactions are to join those that share the key.
    Locked(Key, Box<Lock>, Writes),
}

/// What is known of a key once it is locked.
#[derive(Default)]
struct Found {
    value: Option<Bytes>,
    /// The timestamp above the client's at which the lock was taken; 0 if it was taken at the client's.
    conflict: Timestamp,
}

/// Returns whether a request takes its lock even if there is a newer version.
pub fn is_forced(request: &PessimisticLockRequest) -> bool {
    request.wake_up_mode() == PessimisticLockWakeUpMode::WakeUpModeForceLock
}

/// Returns the timestamp to which max_ts must be raised before the snapshot: the request reads.
pub fn reads_at(request: &PessimisticLockRequest) -> Option<Timestamp> {
    let absent = |mutation: &Mutation| mutation.assertion() == Assertion::NotExist;
    let reads = request.return_values || request.check_existence || request.mutations.iter().any(absent);
    reads.then_some(Timestamp(request.for_update_ts))
}

/// Returns the reply to a request that cannot get its locks.
pub fn refused(request: &PessimisticLockRequest, error: KeyError) -> PessimisticLockResponse {
    let mut reply = PessimisticLockResponse::default();
    if is_forced(request) && (error.locked.is_some() || error.deadlock.is_some()) {
        reply.results = vec![PessimisticLockKeyResult { r#type: Kind::LockResultFailed as i32, ..Default::default() }];
    }
    reply.errors = vec![error];
    reply
}

/// A lock that was in a request's way until it was released: the key, and when its transaction began.
pub type Waited = (Key, Timestamp);

/// Decides a request that may have waited. After that it is answered by a conflict with the transaction that it waited
/// for, even if another one has its keys now, and asks again at a new timestamp, as TiKV's clients expect; one that
/// takes its lock over newer versions gets it, or waits again.
///
/// # Errors
/// As [`decide`].
pub fn decide_after(reader: &Reader<'_>, request: &PessimisticLockRequest, waited: Option<&Waited>) -> Result<Locking> {
    let locking = decide(reader, request)?;
    let Some((key, other)) = waited.filter(|_| !is_forced(request)) else { return Ok(locking) };
    let fails = matches!(&locking, Locking::Done(decided) if !decided.reply.errors.is_empty());
    if fails || crate::mutant!("txn.wait-ends-with-the-lock") {
        return Ok(locking);
    }
    let commit = match reader.fate(&key.encoded, *other)? {
        Fate::Committed(commit, _) => commit,
        _ => Timestamp(0),
    };
    let start = Timestamp(request.start_version);
    let conflict =
        error::conflict(start, (*other, commit), &key.plain, &request.primary_lock, Reason::PessimisticRetry);
    Ok(Locking::Done(Box::new(Decided::reply(refused(request, conflict)))))
}

/// Decides a lock request.
///
/// # Errors
/// The engine's.
pub fn decide(reader: &Reader<'_>, request: &PessimisticLockRequest) -> Result<Locking> {
    let fails = |error| Ok(Locking::Done(Box::new(Decided::reply(refused(request, error)))));
    if let Err(error) = check_form(request) {
        return fails(error);
    }
    let mut writes = Writes::default();
    let mut found = Vec::with_capacity(request.mutations.len());
    let start = Timestamp(request.start_version);
    for mutation in &request.mutations {
        let key = Key::new(mutation.key.clone());
        let wants_shared = mutation.op() == Op::SharedPessimisticLock;
        let lock = match reader.lock_of(&key.encoded, start)? {
            Some(lock) if !fits(&lock, start, wants_shared) => return Ok(locked(key, lock, start, wants_shared)),
            lock => lock,
        };
        match told(one(reader, request, (&key, mutation), lock, &mut writes))? {
            Ok(one) => found.push(one),
            Err(error) => return fails(error),
        }
    }
    Ok(Locking::Done(Box::new(Decided { writes, reply: reply(request, found) })))
}

/// Returns whether a transaction may have its lock beside, or in place of, this one.
fn fits(lock: &Lock, start: Timestamp, wants_shared: bool) -> bool {
    let own = lock.start == start;
    match &lock.shared {
        None => own && !wants_shared,
        Some(_) if !wants_shared => crate::mutant!("txn.shared-lock-lets-writers-in"),
        Some(shared) if shared.closed => own || crate::mutant!("txn.shared-lock-never-closes"),
        Some(_) => own || lock::encode(lock).len() < SHARED_LOCKS_BYTES_FULL,
    }
}

/// Returns that a key is locked. If this request is not to share it, no others join those that do, so that it becomes
/// free.
fn locked(key: Key, mut lock: Lock, start: Timestamp, wants_shared: bool) -> Locking {
    let mut writes = Writes::default();
    if let Some(shared) = lock.shared.as_mut().filter(|shared| !shared.closed && !wants_shared) {
        shared.closed = true;
        crate::reach!("txn.shared-lock-closed");
        writes.lock(&key, &lock);
    }
    // A transaction does not wait for itself.
    if lock.start == start
        && let Some(others) = lock.rest()
    {
        lock = others;
    }
    Locking::Locked(key, Box::new(lock), writes)
}

fn check_form(request: &PessimisticLockRequest) -> Result<(), KeyError> {
    not_twice(request.mutations.iter().map(|mutation| &mutation.key))?;
    for Mutation { op, key, .. } in &request.mutations {
        match Op::try_from(*op) {
            Ok(Op::PessimisticLock) => {}
            Ok(Op::SharedPessimisticLock) if *key != request.primary_lock => {}
            Ok(Op::SharedPessimisticLock) => {
                return Err(error::abort(
                    "the primary key cannot be locked in shared mode: choose another key that the transaction locks",
                ));
            }
            _ => {
                return Err(error::abort(format!(
                    "a lock request cannot have the operation {op}: use PessimisticLock or SharedPessimisticLock"
                )));
            }
        }
    }
    if is_forced(request) && request.mutations.len() > 1 {
        return Err(error::abort("a request in the mode ForceLock has one key"));
    }
    if request.lock_only_if_exists && !request.return_values {
        let (start, key) = (Timestamp(request.start_version), &request.mutations[0].key);
        return Err(error::named("LockIfExistsFailed", start, key, "lock_only_if_exists needs return_values"));
    }
    Ok(())
}

/// Locks one key.
fn one(
    reader: &Reader<'_>,
    request: &PessimisticLockRequest,
    (key, mutation): (&Key, &Mutation),
    standing: Option<Lock>,
    writes: &mut Writes,
) -> Result<Found, Failure> {
    let others = match &standing {
        Some(lock) if lock.start.0 == request.start_version => lock.shared.clone(),
        Some(lock) => Some(Box::new(Shared { others: lock.each(), closed: false })),
        None => Some(Box::default()),
    };
    let shared = others.filter(|_| mutation.op() == Op::SharedPessimisticLock);
    let own = standing.filter(|lock| lock.start.0 == request.start_version);
    let (start, at) = (Timestamp(request.start_version), Timestamp(request.for_update_ts));
    let forced = is_forced(request);
    let must_be_absent = mutation.assertion() == Assertion::NotExist;
    let conflict = |record: &Record, commit| {
        error::conflict(start, (record.start, commit), &key.plain, &request.primary_lock, Reason::PessimisticRetry)
    };
    if own.as_ref().is_some_and(|lock| !lock.is_pessimistic()) {
        let why = "the key is locked by the transaction's own prewrite";
        return Err(error::lock_type_not_match(start, &key.plain, why).into());
    }
    let mut found = Found::default();
    let mut newer = None;
    match &own {
        Some(lock) if forced && lock.for_update > at => found.conflict = lock.for_update,
        Some(_) => {}
        None => {
            if start < reader.floor() && !crate::mutant!("gc.lock-below-the-floor") {
                return Err(error::below_floor(start, reader.floor()).into());
            }
            newer = reader.newest(&key.encoded, Timestamp::MAX)?.filter(|(commit, _)| *commit > at);
            if crate::mutant!("txn.lock-ignores-newer") {
                newer = None;
            }
            if let Some((commit, record)) = newer.as_ref().filter(|_| !forced) {
                return Err(conflict(record, *commit).into());
            }
            let over_rollback = forced && crate::mutant!("txn.lock-force-over-rollback");
            if reader.fate(&key.encoded, start)? == Fate::RolledBack && !over_rollback {
                let why = "the transaction was rolled back";
                return Err(error::named("PessimisticLockRolledBack", start, &key.plain, why).into());
            }
            if let Some((commit, _)) = &newer {
                found.conflict = *commit;
            }
        }
    }
    let read_at = at.max(found.conflict);
    let change = reader.newest_change(&key.encoded, read_at)?;
    let put = change.filter(|(_, record)| record.is_put());
    if let Some((_, record)) = &put {
        if must_be_absent && found.conflict.0 != 0 {
            // A retry at a later timestamp tells the client what it must know.
            let (commit, record) = reader.newest(&key.encoded, read_at)?.unwrap_or((read_at, record.clone()));
            return Err(conflict(&record, commit).into());
        }
        if must_be_absent {
            return Err(error::already_exist(&key.plain).into());
        }
        if request.return_values || found.conflict.0 != 0 {
            found.value = Some(reader.value_of(&key.encoded, record.start, record.short_value.clone())?);
        } else {
            found.value = Some(Bytes::new());
        }
    }
    if request.lock_only_if_exists && put.is_none() {
        if let Some((commit, record)) = &newer {
            return Err(conflict(record, *commit).into());
        }
        return Ok(found);
    }
    let for_update = at.max(found.conflict);
    if own.is_none() {
        writes.begins(start);
    }
    if own.is_none_or(|lock| lock.for_update < for_update) {
        let lock = Lock {
            for_update,
            min_commit: Timestamp(request.min_commit_ts),
            with_conflict: found.conflict.0 != 0,
            shared,
            ..Lock::new(LockKind::Pessimistic, request.primary_lock.clone(), start, request.lock_ttl)
        };
        writes.lock(key, &lock);
    }
    Ok(found)
}

/// Returns the reply to a request that got its locks.
fn reply(request: &PessimisticLockRequest, found: Vec<Found>) -> PessimisticLockResponse {
    let mut reply = PessimisticLockResponse::default();
    if is_forced(request) {
        let result = |one: Found| {
            let with_conflict = one.conflict.0 != 0;
            let wants_value = request.return_values || with_conflict;
            let wants_existence = wants_value || request.check_existence;
            let kind = if with_conflict { Kind::LockResultLockedWithConflict } else { Kind::LockResultNormal };
            PessimisticLockKeyResult {
                r#type: kind as i32,
                existence: wants_existence && one.value.is_some(),
                value: one.value.filter(|_| wants_value).unwrap_or_default(),
                locked_with_conflict_ts: one.conflict.0,
            }
        };
        reply.results = found.into_iter().map(result).collect();
    } else if request.return_values || request.check_existence {
        reply.not_founds = found.iter().map(|one| one.value.is_none()).collect();
        if request.return_values {
            reply.values = found.into_iter().map(|one| one.value.unwrap_or_default()).collect();
        }
    }
    reply
}
