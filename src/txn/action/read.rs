//! KvGet, KvBatchGet, KvScan, MvccGetByKey, MvccGetByStartTs: what a transaction sees.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::codec::lock::{Lock, LockKind};
use crate::codec::record::{self, RecordKind};
use crate::codec::txn_key;
use crate::engine::{Cf, Visit};
use crate::mvcc::{Next, Reader, Scan, Scanned, scan};
use crate::proto::armilla::raft::ReadAt;
use crate::proto::kvrpcpb::{Context, IsolationLevel, KeyError, KvPair, MvccInfo, MvccLock, MvccValue, MvccWrite, Op};
use crate::types::{Error, Result, Timestamp};

use super::Key;
use super::error;
use super::page::Page;

/// How a request reads.
#[derive(Clone, Debug)]
pub struct View {
    /// The timestamp.
    pub at: Timestamp,
    /// Whether locks count.
    pub with_locks: bool,
    /// Whether the commit timestamp of each value is wanted.
    pub commit_times: bool,
    /// Start timestamps of locks that do not count: they are resolved and commit later, or never.
    resolved: Vec<u64>,
    /// Start timestamps of transactions that have committed at or below `at`.
    committed: Vec<u64>,
}

/// What a lock means for a read.
enum Judged {
    /// It does not matter.
    Passed,
    /// The value is the lock's.
    Opened,
    /// The read has to wait for it.
    Blocked,
}

impl View {
    /// Returns how a request with this context reads at a timestamp.
    pub fn new(context: &Context, at: u64, commit_times: bool) -> View {
        let with_locks = context.isolation_level() != IsolationLevel::Rc && !crate::mutant!("txn.read-no-lock-check");
        let (resolved, committed) = (context.resolved_locks.clone(), context.committed_locks.clone());
        View { at: Timestamp(at), with_locks, commit_times, resolved, committed }
    }

    /// Returns how a read that another store serves reads.
    pub fn elsewhere(read: &ReadAt) -> View {
        let (resolved, committed) = (read.passes.clone(), Vec::new());
        View { at: Timestamp(read.at), with_locks: true, commit_times: false, resolved, committed }
    }

    /// Returns what the leader is told of a read that another store serves, without its keys.
    pub fn told(&self) -> ReadAt {
        ReadAt { at: self.at.0, passes: self.resolved.clone(), ..ReadAt::default() }
    }

    /// Returns whether a lock that stands in memory only, whose transaction may commit at any moment, stops this read.
    pub fn is_blocked_in_memory(&self, lock: &Lock) -> bool {
        self.with_locks
            && lock.start <= self.at
            && lock.kind != LockKind::Lock
            && lock.min_commit <= self.at
            && !self.resolved.contains(&lock.start.0)
    }

    fn judge(&self, key: &[u8], lock: &Lock) -> Judged {
        if lock.start > self.at
            || matches!(lock.kind, LockKind::Lock | LockKind::Pessimistic)
            || lock.min_commit > self.at
            || self.resolved.contains(&lock.start.0)
        {
            return Judged::Passed;
        }
        let is_async = lock.is_async() && !crate::mutant!("txn.read-max-skips-async");
        if self.at == Timestamp::MAX && lock.primary == key && !is_async {
            return Judged::Passed;
        }
        if self.committed.contains(&lock.start.0) && !self.commit_times { Judged::Opened } else { Judged::Blocked }
    }
}

/// Returns the value of a key and when it was committed (0 if that is not known), or the lock that stands in the way.
///
/// # Errors
/// The engine's.
pub fn get(reader: &Reader<'_>, view: &View, key: &Key) -> Result<Result<Option<(Timestamp, Bytes)>, KeyError>> {
    if view.with_locks
        && let Some(lock) = reader.lock(&key.encoded)?
    {
        match view.judge(&key.plain, &lock) {
            Judged::Passed => {}
            Judged::Opened => return opened(reader, key, &lock).map(Ok),
            Judged::Blocked => return Ok(Err(error::locked(&key.plain, &lock))),
        }
    }
    reader.value(&key.encoded, view.at).map(Ok)
}

/// Returns the value that a committed transaction's lock holds.
fn opened(reader: &Reader<'_>, key: &Key, lock: &Lock) -> Result<Option<(Timestamp, Bytes)>> {
    Ok(match lock.kind {
        LockKind::Put => {
            let value = reader.value_of(&key.encoded, lock.start, lock.short_value.clone())?;
            Some((Timestamp(0), value))
        }
        _ => None,
    })
}

/// Returns a pair with a value.
pub fn pair(key: Bytes, value: Bytes, commit: Timestamp, view: &View) -> KvPair {
    KvPair { key, value, commit_ts: if view.commit_times { commit.0 } else { 0 }, ..KvPair::default() }
}

/// A range to read, of encoded keys.
#[derive(Clone, Debug)]
pub struct Range {
    /// The first key.
    pub start: Bytes,
    /// The end (exclusive); empty is plus infinity.
    pub end: Bytes,
    /// Whether to go downwards.
    pub reverse: bool,
    /// How many pairs, errors included.
    pub limit: usize,
    /// Whether values are left out.
    pub key_only: bool,
    /// Of how many values one is returned, beginning with the first. Errors are all returned, and do not count.
    pub one_in: u32,
}

/// Chooses every `one_in`th value of a scan.
struct Sample {
    one_in: u32,
    passed: u32,
}

impl Sample {
    fn takes(&mut self) -> bool {
        let takes = self.passed == 0;
        self.passed = (self.passed + 1) % self.one_in;
        takes
    }
}

/// Adds the pairs of a range to an empty page, up to the range's limit. A locked key is a pair with an error, and the
/// scan goes on behind it.
///
/// # Errors
/// The engine's, and [`Page`]'s.
pub fn range(reader: &Reader<'_>, view: &View, range: &Range, page: &mut Page) -> Result<()> {
    if range.limit == 0 {
        return Ok(());
    }
    if view.with_locks {
        // A search for the next lock may pass the tombstones of all locks that were ended in the region. So values are
        // looked for first, and then for a lock as far as those reach.
        match part(reader, &View { with_locks: false, ..view.clone() }, range, page) {
            // With errors in place of locked keys' values the reply may fit.
            Err(Error::Invalid(_)) => {}
            reached => {
                let (start, end) = read_so_far(range, reached?);
                if reader.needs_disk() || !reader.has_lock(&start, &end)? {
                    return Ok(());
                }
            }
        }
        *page = Page::default();
    }
    part(reader, view, range, page).map(drop)
}

/// Returns the part of a range that a scan has read which ended at the key `last`, or at the range's end.
fn read_so_far(range: &Range, last: Option<Bytes>) -> (Bytes, Bytes) {
    match last {
        None => (range.start.clone(), range.end.clone()),
        Some(last) if range.reverse => (last, range.end.clone()),
        Some(last) if crate::mutant!("txn.scan-misses-the-last-lock") => (range.start.clone(), last),
        Some(last) => (range.start.clone(), [&last[..], b"\0"].concat().into()),
    }
}

/// Adds the pairs of a range. Returns the last key, encoded, if the range's limit ended the scan.
fn part(reader: &Reader<'_>, view: &View, range: &Range, page: &mut Page) -> Result<Option<Bytes>> {
    let asked = Scan {
        start: range.start.clone(),
        end: range.end.clone(),
        reverse: range.reverse,
        at: view.at,
        with_values: !range.key_only,
        with_locks: view.with_locks,
    };
    let mut sample = Sample { one_in: range.one_in.max(1), passed: 0 };
    let mut last = None;
    let shown = |commit: Timestamp| if view.commit_times { commit.0 } else { 0 };
    scan(reader, &asked, &mut |encoded, found| {
        match found {
            Scanned::Value(..) if !sample.takes() => return Ok(Next::More),
            Scanned::Value(commit, value) => page.add(encoded, value, shown(commit))?,
            Scanned::Locked(lock) => {
                let key = Key::of_encoded(Bytes::copy_from_slice(encoded))?;
                match view.judge(&key.plain, &lock) {
                    Judged::Passed => return Ok(Next::LookBehind),
                    Judged::Opened => match opened(reader, &key, &lock)?.filter(|_| sample.takes()) {
                        Some((commit, value)) => {
                            let value = if range.key_only { Bytes::new() } else { value };
                            page.add(encoded, &value, shown(commit))?;
                        }
                        None => return Ok(Next::More),
                    },
                    Judged::Blocked if crate::mutant!("txn.scan-skips-locked") => return Ok(Next::More),
                    Judged::Blocked => page.fail(error::locked(&key.plain, &lock))?,
                }
            }
        }
        if page.count() < range.limit {
            return Ok(Next::More);
        }
        last = Some(Bytes::copy_from_slice(encoded));
        Ok(Next::Stop)
    })?;
    Ok(last)
}

/// Returns everything that is stored of a key.
///
/// # Errors
/// The engine's.
pub fn everything(read: &dyn crate::engine::Read, key: &Key) -> Result<MvccInfo> {
    let reader = Reader::new(read);
    let mut info =
        MvccInfo { lock: reader.any_lock(&key.encoded)?.map(|lock| stored_lock(&lock)), ..MvccInfo::default() };
    let mut versions = reader.versions(&key.encoded, Timestamp::MAX)?;
    while let Some((commit, record)) = versions.next()? {
        let op = match record.kind {
            RecordKind::Put => Op::Put,
            RecordKind::Delete => Op::Del,
            RecordKind::Lock => Op::Lock,
            RecordKind::Rollback => Op::Rollback,
        };
        let (last_change, versions_to_last_change) = record.last_change.unwrap_or_default();
        info.writes.push(MvccWrite {
            r#type: op as i32,
            start_ts: record.start.0,
            commit_ts: commit.0,
            short_value: record.short_value.unwrap_or_default(),
            has_overlapped_rollback: record.overlapped,
            has_gc_fence: record.gc_fence.is_some(),
            gc_fence: record.gc_fence.unwrap_or_default().0,
            last_change_ts: last_change.0,
            versions_to_last_change,
        });
    }
    let start = txn_key::versioned(&key.encoded, Timestamp::MAX);
    let end = [&txn_key::versioned(&key.encoded, Timestamp(0))[..], &[0]].concat();
    let mut failed = None;
    read.scan(Cf::TxnDefault, &start, &end, &mut |stored, value| match txn_key::version_of(stored) {
        Ok((_, start)) => {
            info.values.push(MvccValue { start_ts: start.0, value: Bytes::copy_from_slice(value) });
            Visit::More
        }
        Err(error) => {
            failed = Some(error);
            Visit::Stop
        }
    })?;
    failed.map_or(Ok(info), Err)
}

/// Returns the first key in `[start, end)` (encoded keys, or boundaries) for which the transaction that began at `at`
/// has left a record. Looks at every record until then. Ends early once the caller is `gone`.
///
/// # Errors
/// The engine's; [`Error::Timeout`] if the caller is gone.
pub fn written_by(
    read: &dyn crate::engine::Read,
    (start, end): (&Bytes, &Bytes),
    at: Timestamp,
    gone: &AtomicBool,
) -> Result<Option<Key>> {
    let mut found = Ok(None);
    read.scan_once(Cf::TxnWrite, start, end, &mut |stored, value| {
        let its_own = record::decode_ref(value).map(|record| record.start == at);
        found = match its_own {
            _ if gone.load(Ordering::Relaxed) => Err(Error::Timeout("the caller has gone".into())),
            Ok(false) => return Visit::More,
            Ok(true) => txn_key::version_of(stored).and_then(|(key, _)| txn_key::decode(key)).map(Some),
            Err(error) => Err(error),
        };
        Visit::Stop
    })?;
    Ok(found?.map(Key::new))
}

fn stored_lock(lock: &Lock) -> MvccLock {
    let op = error::info(&Bytes::new(), lock).lock_type;
    let (last_change, versions_to_last_change) = lock.last_change.unwrap_or_default();
    MvccLock {
        r#type: op,
        start_ts: lock.start.0,
        primary: lock.primary.clone(),
        short_value: lock.short_value.clone().unwrap_or_default(),
        ttl: lock.ttl_ms,
        for_update_ts: lock.for_update.0,
        txn_size: lock.txn_size,
        use_async_commit: lock.is_async(),
        secondaries: lock.secondaries.clone().unwrap_or_default(),
        rollback_ts: lock.rollbacks.iter().map(|at| at.0).collect(),
        last_change_ts: last_change.0,
        versions_to_last_change,
    }
}
