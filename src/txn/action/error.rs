//! Key errors: what a reply says about a key, in the form that clients act on.

use bytes::Bytes;

use crate::codec::lock::{Lock, LockKind};
use crate::proto::kvrpcpb::write_conflict::Reason;
use crate::proto::kvrpcpb::{
    AlreadyExist, Assertion, AssertionFailed, CommitTsExpired, KeyError, LockInfo, Op, PrimaryMismatch,
    TxnLockNotFound, TxnNotFound, WriteConflict,
};
use crate::types::{Error, Timestamp};

/// Why a key stops a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The reply says so about a key.
    Key(Box<KeyError>),
    /// The engine failed.
    Engine(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Failure {
        Failure::Key(Box::new(error))
    }
}

/// Separates what a reply says from what the engine says.
///
/// # Errors
/// The engine's.
pub fn told<T>(result: Result<T, Failure>) -> Result<Result<T, KeyError>, Error> {
    match result {
        Ok(done) => Ok(Ok(done)),
        Err(Failure::Key(error)) => Ok(Err(*error)),
        Err(Failure::Engine(error)) => Err(error),
    }
}

/// Returns a lock as clients know it. Shared ones are in one that has nothing else but the key.
pub fn info(key: &Bytes, lock: &Lock) -> LockInfo {
    if lock.is_shared() {
        return LockInfo {
            key: key.clone(),
            lock_type: Op::SharedLock as i32,
            shared_lock_infos: lock.each().iter().map(|lock| info(key, lock)).collect(),
            ..LockInfo::default()
        };
    }
    let op = match lock.kind {
        LockKind::Put => Op::Put,
        LockKind::Delete => Op::Del,
        LockKind::Lock => Op::Lock,
        LockKind::Pessimistic => Op::PessimisticLock,
    };
    LockInfo {
        primary_lock: lock.primary.clone(),
        lock_version: lock.start.0,
        key: key.clone(),
        lock_ttl: lock.ttl_ms,
        txn_size: lock.txn_size,
        lock_type: op as i32,
        lock_for_update_ts: lock.for_update.0,
        use_async_commit: lock.is_async(),
        min_commit_ts: lock.min_commit.0,
        secondaries: lock.secondaries.clone().unwrap_or_default(),
        ..LockInfo::default()
    }
}

/// Why the fate of an old transaction is not known.
pub const FORGOTTEN: &str = "the transaction began before the garbage collection's safe point, and its records may have \
                             been removed: whether it has committed is not known any more";

/// The fate of an old transaction is not known any more.
pub fn forgotten(start: Timestamp) -> KeyError {
    abort(format!("{FORGOTTEN} (start timestamp {start})"))
}

/// A transaction, or a read, is older than the region's history.
pub fn below_floor(at: Timestamp, floor: Timestamp) -> KeyError {
    abort(format!(
        "the timestamp {at} is below the garbage collection's safe point {floor}: begin again with a new timestamp, and \
         keep transactions and reads shorter than the time for which old versions are kept"
    ))
}

/// The key is locked.
pub fn locked(key: &Bytes, lock: &Lock) -> KeyError {
    KeyError { locked: Some(info(key, lock)), ..KeyError::default() }
}

/// The transaction cannot go on, and no other field says why.
pub fn abort(why: impl Into<String>) -> KeyError {
    KeyError { abort: why.into(), ..KeyError::default() }
}

/// Like [`abort`], for a reason that TiKV has a name for: clients show it, tools look for it.
pub fn named(name: &str, start: Timestamp, key: &Bytes, why: &str) -> KeyError {
    abort(format!("{name} {{ start_ts: {start}, key: {} }}: {why}", key.escape_ascii()))
}

/// The pessimistic lock that the request relies on is gone.
pub fn pessimistic_lock_not_found(start: Timestamp, key: &Bytes) -> KeyError {
    named("PessimisticLockNotFound", start, key, "the key is not locked any more; run the transaction again")
}

/// The lock is of a kind that the request does not expect.
pub fn lock_type_not_match(start: Timestamp, key: &Bytes, why: &str) -> KeyError {
    named("LockTypeNotMatch", start, key, why)
}

/// The commit timestamp is not above the start timestamp.
pub fn invalid_commit_ts(start: Timestamp, commit: Timestamp) -> KeyError {
    abort(format!(
        "InvalidTxnTso {{ start_ts: {start}, commit_ts: {commit} }}: a transaction commits after its start timestamp"
    ))
}

/// The transaction has committed, so it is not rolled back.
pub fn committed(start: Timestamp, commit: Timestamp, key: &Bytes) -> KeyError {
    named("Committed", start, key, &format!("the transaction has committed at {commit}"))
}

/// Another transaction has written the key.
pub fn conflict(
    start: Timestamp,
    (other, commit): (Timestamp, Timestamp),
    key: &Bytes,
    primary: &Bytes,
    reason: Reason,
) -> KeyError {
    let conflict = WriteConflict {
        start_ts: start.0,
        conflict_ts: other.0,
        key: key.clone(),
        primary: primary.clone(),
        conflict_commit_ts: commit.0,
        reason: reason as i32,
    };
    let retryable = format!("write conflict of the transaction that began at {start} with the one at {other}");
    KeyError { conflict: Some(conflict), retryable, ..KeyError::default() }
}

/// The key to be inserted exists.
pub fn already_exist(key: &Bytes) -> KeyError {
    KeyError { already_exist: Some(AlreadyExist { key: key.clone() }), ..KeyError::default() }
}

/// An assertion of the client does not hold; `found` is the newest change's start and commit timestamp.
pub fn assertion_failed(
    start: Timestamp,
    key: &Bytes,
    assertion: Assertion,
    found: Option<(Timestamp, Timestamp)>,
) -> KeyError {
    let (existing_start, existing_commit) = found.unwrap_or_default();
    let failed = AssertionFailed {
        start_ts: start.0,
        key: key.clone(),
        assertion: assertion as i32,
        existing_start_ts: existing_start.0,
        existing_commit_ts: existing_commit.0,
    };
    KeyError { assertion_failed: Some(failed), ..KeyError::default() }
}

/// The commit timestamp is below what the lock allows.
pub fn commit_ts_expired(key: &Bytes, lock: &Lock, attempted: Timestamp) -> KeyError {
    let expired = CommitTsExpired {
        start_ts: lock.start.0,
        attempted_commit_ts: attempted.0,
        key: key.clone(),
        min_commit_ts: lock.min_commit.0,
    };
    KeyError { commit_ts_expired: Some(expired), ..KeyError::default() }
}

/// The key to be committed has neither the lock nor a commit record.
pub fn txn_lock_not_found(start: Timestamp, key: &Bytes) -> KeyError {
    let retryable = format!("TxnLockNotFound: the transaction that began at {start} has no lock on the key");
    KeyError { txn_lock_not_found: Some(TxnLockNotFound { key: key.clone() }), retryable, ..KeyError::default() }
}

/// Nothing is known of the transaction at its primary key.
pub fn txn_not_found(start: Timestamp, primary: &Bytes) -> KeyError {
    let missing = TxnNotFound { start_ts: start.0, primary_key: primary.clone() };
    KeyError { txn_not_found: Some(missing), ..KeyError::default() }
}

/// The lock names another primary key.
pub fn primary_mismatch(key: &Bytes, lock: &Lock) -> KeyError {
    let mismatch = PrimaryMismatch { lock_info: Some(info(key, lock)) };
    KeyError { primary_mismatch: Some(mismatch), ..KeyError::default() }
}
