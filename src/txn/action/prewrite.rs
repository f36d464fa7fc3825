//! Prewrite: the first phase of a commit, or the whole of one that fits one region.
//!
//! ```text
//!   check ──▶ Answer: errors, or "has committed already"
//!         └─▶ Prewrite ──(async commit, one phase: locks in memory, then max_ts)──▶ settle ──▶ locks or records
//! ```

use bytes::Bytes;

use crate::codec::lock::{Lock, LockKind};
use crate::codec::record::RecordKind;
use crate::mvcc::{Fate, Reader};
use crate::proto::kvrpcpb::prewrite_request::PessimisticAction;
use crate::proto::kvrpcpb::write_conflict::Reason;
use crate::proto::kvrpcpb::{Assertion, AssertionLevel, KeyError, Mutation, Op, PrewriteRequest, PrewriteResponse};
use crate::types::{Error, Result, Timestamp};

use super::error::{self, Failure, told};
use super::{Decided, Key, Writes, not_twice};

/// What a prewrite comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// Nothing is written.
    Answer(Box<PrewriteResponse>),
    /// Others have locked keys. Nothing is written; the reply says at which timestamp the other keys could commit.
    Locked(Vec<KeyError>, Prewrite),
    /// All keys may be locked.
    Ready(Prewrite),
}

/// How a transaction commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By a second request, for its primary key.
    TwoPhase,
    /// As soon as all its locks stand.
    Async,
    /// In this request.
    OnePhase,
}

/// The locks of a prewrite whose checks have passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Prewrite {
    mode: Mode,
    also_async: bool,
    start: Timestamp,
    max_commit: Timestamp,
    locks: Vec<NewLock>,
    /// The smallest commit timestamp that keys without a new lock ask for.
    kept: Timestamp,
}

/// A lock to be set.
#[derive(Clone, Debug, PartialEq)]
struct NewLock {
    key: Key,
    lock: Lock,
    value: Bytes,
    /// The transaction's own pessimistic lock, which it replaces.
    replaces: Option<Lock>,
}

/// What a key comes to.
enum Verdict {
    /// It gets a lock.
    Lock(Box<NewLock>),
    /// It has the transaction's lock already; its smallest commit timestamp, or 0 if it is of two phases.
    Keeps(Timestamp),
    /// Only its absence was asked for.
    Absent(Timestamp),
    /// The transaction has committed at this timestamp.
    Committed(Timestamp),
}

/// Returns the mode that a request asks for.
pub fn mode(request: &PrewriteRequest) -> Mode {
    match (request.try_one_pc, request.use_async_commit) {
        (true, _) => Mode::OnePhase,
        (false, true) => Mode::Async,
        (false, false) => Mode::TwoPhase,
    }
}

/// Returns the timestamp to which max_ts must be raised before the snapshot: a key whose absence counts is read.
pub fn reads_at(request: &PrewriteRequest) -> Option<Timestamp> {
    let reads = |mutation: &Mutation| matches!(mutation.op(), Op::Insert | Op::CheckNotExists);
    request.mutations.iter().any(reads).then_some(Timestamp(request.start_version))
}

/// Checks the keys of a prewrite.
///
/// # Errors
/// The engine's.
pub fn check(reader: &Reader<'_>, request: &PrewriteRequest, source: u64) -> Result<Checked> {
    check_writes(reader, request, source, 0)
}

/// Checks the keys of a prewrite; with a `generation`, of a pipelined transaction's write ([`super::flush`]).
///
/// # Errors
/// The engine's.
pub(super) fn check_writes(
    reader: &Reader<'_>,
    request: &PrewriteRequest,
    source: u64,
    generation: u64,
) -> Result<Checked> {
    let only =
        |error| Ok(Checked::Answer(Box::new(PrewriteResponse { errors: vec![error], ..PrewriteResponse::default() })));
    if let Err(error) = check_form(request) {
        return only(error);
    }
    let asked = Asked { reader, request, source, generation, start: Timestamp(request.start_version) };
    let mode = mode(request);
    let mut prewrite = Prewrite {
        mode,
        also_async: request.use_async_commit,
        start: asked.start,
        max_commit: Timestamp(request.max_commit_ts),
        locks: Vec::with_capacity(request.mutations.len()),
        kept: Timestamp(0),
    };
    let (mut locked, mut asserted, mut keeps) = (Vec::new(), None, false);
    for (at, mutation) in request.mutations.iter().enumerate() {
        let key = Key::new(mutation.key.clone());
        match told(asked.key(&key, mutation, at))? {
            Ok(Verdict::Lock(lock)) => prewrite.locks.push(*lock),
            Ok(Verdict::Keeps(min_commit)) => {
                keeps = true;
                if min_commit.0 == 0 {
                    prewrite.fall_back();
                }
                prewrite.kept = prewrite.kept.max(min_commit);
            }
            Ok(Verdict::Absent(min_commit)) => prewrite.kept = prewrite.kept.max(min_commit),
            Ok(Verdict::Committed(commit)) => return Ok(Checked::Answer(Box::new(committed(mode, request, commit)))),
            Err(error) if error.locked.is_some() => locked.push(error),
            Err(error) if error.assertion_failed.is_some() => asserted = asserted.or(Some(error)),
            Err(error) => return only(error),
        }
        if reader.needs_disk() {
            return Ok(Checked::Answer(Box::default()));
        }
    }
    if let Some(error) = asserted {
        return only(error);
    }
    let beside = crate::mutant!("txn.one-pc-beside-locked-key") && mode == Mode::OnePhase && !prewrite.locks.is_empty();
    if !locked.is_empty() && !beside {
        return Ok(Checked::Locked(locked, prewrite));
    }
    // A lock of an earlier request cannot become part of a commit in one phase.
    if keeps && mode == Mode::OnePhase && !prewrite.locks.is_empty() {
        prewrite.fall_back();
    }
    Ok(Checked::Ready(prewrite))
}

/// Returns the reply to a request whose transaction has committed already.
fn committed(mode: Mode, request: &PrewriteRequest, commit: Timestamp) -> PrewriteResponse {
    crate::reach!("txn.prewrite-after-its-commit");
    PrewriteResponse {
        min_commit_ts: if request.use_async_commit { commit.0 } else { 0 },
        one_pc_commit_ts: if mode == Mode::OnePhase { commit.0 } else { 0 },
        ..PrewriteResponse::default()
    }
}

fn check_form(request: &PrewriteRequest) -> Result<(), KeyError> {
    not_twice(request.mutations.iter().map(|mutation| &mutation.key))?;
    let fits = |mutation: &Mutation| {
        matches!(
            Op::try_from(mutation.op),
            Ok(Op::Put | Op::Del | Op::Lock | Op::Insert | Op::CheckNotExists | Op::SharedLock)
        )
    };
    if let Some(wrong) = request.mutations.iter().find(|mutation| !fits(mutation)) {
        return Err(error::abort(format!(
            "a prewrite cannot have the operation {}: use Put, Del, Lock, SharedLock, Insert or CheckNotExists",
            wrong.op
        )));
    }
    if request.mutations.iter().any(|mutation| mutation.op() == Op::SharedLock) {
        if request.for_update_ts == 0 {
            return Err(error::abort("an optimistic transaction cannot use SharedLock: lock the key first"));
        }
        if mode(request) != Mode::TwoPhase {
            return Err(error::abort(
                "a transaction with keys in shared mode commits in two phases: ask for no other way",
            ));
        }
    }
    let count = request.mutations.len();
    if request.for_update_ts != 0 && request.pessimistic_actions.len() < count {
        return Err(error::abort(format!(
            "{} pessimistic actions for {count} mutations: give one for each",
            request.pessimistic_actions.len()
        )));
    }
    if let Some(wrong) = request.for_update_ts_constraints.iter().find(|one| one.index as usize >= count) {
        return Err(error::abort(format!(
            "a constraint names mutation {}, but the request has {count}: count from 0",
            wrong.index
        )));
    }
    Ok(())
}

/// A request while its keys are checked.
struct Asked<'a> {
    reader: &'a Reader<'a>,
    request: &'a PrewriteRequest,
    source: u64,
    /// The generation of a pipelined transaction's write; 0 if it is a prewrite.
    generation: u64,
    start: Timestamp,
}

impl Asked<'_> {
    fn is_pessimistic(&self) -> bool {
        self.request.for_update_ts != 0
    }

    /// What is to be checked at a key that a pessimistic transaction has not locked; `None` in an optimistic one.
    fn action(&self, at: usize) -> Option<PessimisticAction> {
        let action = || self.request.pessimistic_actions.get(at).copied().unwrap_or_default();
        self.is_pessimistic().then(|| PessimisticAction::try_from(action()).unwrap_or_default())
    }

    /// Checks one key.
    fn key(&self, key: &Key, mutation: &Mutation, at: usize) -> Result<Verdict, Failure> {
        let action = self.action(at);
        if self.is_pessimistic() && mutation.op() == Op::CheckNotExists {
            return Err(error::abort("a pessimistic transaction cannot use CheckNotExists: lock the key").into());
        }
        let lock = self.reader.lock_of(&key.encoded, self.start)?;
        let unseen = mutation.op() != Op::SharedLock && crate::mutant!("txn.shared-lock-lets-writers-in");
        let lock = lock.filter(|lock| !(lock.is_shared() && unseen));
        let has_own = lock.as_ref().is_some_and(|lock| lock.start == self.start);
        let floor = self.reader.floor();
        let is_old = self.start < floor && !crate::mutant!("gc.lock-below-the-floor");
        if is_old && (!has_own || mode(self.request) == Mode::OnePhase) {
            crate::reach!("txn.prewrite-below-the-floor");
            return self.unless_committed(key, error::below_floor(self.start, floor));
        }
        if mutation.op() == Op::SharedLock
            && let Some(error) = self.in_shared_mode(key, lock.as_ref())
        {
            return self.unless_committed(key, error);
        }
        match lock {
            Some(lock) if lock.start == self.start && lock.is_shared() && mutation.op() != Op::SharedLock => {
                Err(error::abort("the transaction has locked the key in shared mode: use SharedLock").into())
            }
            Some(lock) if lock.start != self.start => {
                let found = match action {
                    _ if lock.is_shared() => error::locked(&key.plain, &lock),
                    Some(PessimisticAction::DoPessimisticCheck) => {
                        error::pessimistic_lock_not_found(self.start, &key.plain)
                    }
                    // Whoever waits for a pessimistic transaction's lock resolves it at once.
                    Some(_) => error::locked(&key.plain, &Lock { ttl_ms: 0, ..lock }),
                    None => error::locked(&key.plain, &lock),
                };
                self.unless_committed(key, found)
            }
            Some(lock) if lock.is_pessimistic() => self.own_pessimistic(key, mutation, at, lock),
            Some(lock) if lock.generation < self.generation || self.forgets_order() => {
                if mutation.op() == Op::Insert && lock.kind == LockKind::Put {
                    return Err(error::already_exist(&key.plain).into());
                }
                crate::reach!("txn.flushed-again");
                Ok(self.lock(key, mutation, Some(lock)))
            }
            Some(lock) => Ok(Verdict::Keeps(if lock.is_async() { lock.min_commit } else { Timestamp(0) })),
            None => self.unlocked(key, mutation, action),
        }
    }

    /// Returns why a key is not committed in shared mode, if it is not locked in that mode.
    fn in_shared_mode(&self, key: &Key, lock: Option<&Lock>) -> Option<KeyError> {
        match lock {
            Some(lock) if lock.is_shared() && lock.start == self.start => None,
            Some(lock) if !lock.is_shared() => Some(error::locked(&key.plain, lock)),
            _ => Some(error::pessimistic_lock_not_found(self.start, &key.plain)),
        }
    }

    /// Planted bug.
    fn forgets_order(&self) -> bool {
        self.generation > 0 && crate::mutant!("txn.flush-ignores-generation")
    }

    /// A key with the transaction's own pessimistic lock.
    fn own_pessimistic(&self, key: &Key, mutation: &Mutation, at: usize, lock: Lock) -> Result<Verdict, Failure> {
        if !self.is_pessimistic() {
            let why = "an optimistic prewrite found a pessimistic lock";
            return Err(error::lock_type_not_match(self.start, &key.plain, why).into());
        }
        let expected = self.request.for_update_ts_constraints.iter().find(|one| one.index as usize == at);
        if expected.is_some_and(|one| one.expected_for_update_ts != lock.for_update.0) {
            return self.unless_committed(key, error::pessimistic_lock_not_found(self.start, &key.plain));
        }
        if self.request.assertion_level() == AssertionLevel::Strict && mutation.assertion() != Assertion::None {
            let until = lock.for_update.max(Timestamp(self.request.for_update_ts));
            if self.newest_but_rollbacks(key)?.is_some_and(|(commit, _)| commit > until) {
                return self.unless_committed(key, error::pessimistic_lock_not_found(self.start, &key.plain));
            }
            self.assert(key, mutation, true)?;
        }
        Ok(self.lock(key, mutation, Some(lock)))
    }

    /// A key without a lock.
    fn unlocked(&self, key: &Key, mutation: &Mutation, action: Option<PessimisticAction>) -> Result<Verdict, Failure> {
        let newest = self.reader.newest(&key.encoded, Timestamp::MAX)?;
        let start = self.start;
        let mut loaded = true;
        if action == Some(PessimisticAction::DoPessimisticCheck) {
            // The lock was lost. It may be set again if nothing happened since.
            if newest.is_some_and(|(commit, _)| commit >= start) {
                return self.unless_committed(key, error::pessimistic_lock_not_found(start, &key.plain));
            }
            crate::reach!("txn.pessimistic-lock-amended");
            self.assert(key, mutation, false)?;
            return Ok(self.lock(key, mutation, None));
        }
        let skips_newer = crate::mutant!("txn.prewrite-no-newer-check")
            || (self.request.try_one_pc && crate::mutant!("txn.one-pc-skips-conflict"));
        let checks_exist = match action {
            None if self.request.skip_constraint_check => {
                self.own_fate(key)?;
                if let Fate::Committed(commit, _) = self.reader.fate(&key.encoded, start)? {
                    return Ok(Verdict::Committed(commit));
                }
                loaded = false;
                if self.request.assertion_level() == AssertionLevel::Strict
                    && mutation.assertion() != Assertion::None
                    && let Some((commit, record)) = newest.filter(|(commit, _)| *commit > start)
                {
                    return Err(self.conflict(key, record.start, commit, Reason::Optimistic).into());
                }
                false
            }
            Some(PessimisticAction::SkipPessimisticCheck) => {
                if !crate::mutant!("txn.prewrite-skip-hides-rollback") {
                    self.own_fate(key)?;
                }
                if let Fate::Committed(commit, _) = self.reader.fate(&key.encoded, start)? {
                    return Ok(Verdict::Committed(commit));
                }
                let until = Timestamp(self.request.for_update_ts);
                if self.newest_but_rollbacks(key)?.is_some_and(|(commit, _)| commit > until) {
                    return Err(error::pessimistic_lock_not_found(start, &key.plain).into());
                }
                true
            }
            _ => {
                let reason = if action.is_none() { Reason::Optimistic } else { Reason::LazyUniquenessCheck };
                if let Some((commit, record)) = newest {
                    let rolled_back = record.kind == RecordKind::Rollback || record.overlapped;
                    if commit == start && rolled_back && !crate::mutant!("txn.prewrite-ignores-own-rollback") {
                        return Err(self.conflict(key, record.start, commit, Reason::SelfRolledBack).into());
                    }
                    if commit > start && !skips_newer {
                        return self.unless_committed(key, self.conflict(key, record.start, commit, reason));
                    }
                }
                true
            }
        };
        if checks_exist && matches!(mutation.op(), Op::Insert | Op::CheckNotExists) {
            let change = self.reader.newest_change(&key.encoded, Timestamp::MAX)?;
            if change.is_some_and(|(_, record)| record.kind == RecordKind::Put) {
                return Err(error::already_exist(&key.plain).into());
            }
        }
        if loaded || self.request.assertion_level() == AssertionLevel::Strict {
            self.assert(key, mutation, false)?;
        }
        if mutation.op() == Op::CheckNotExists {
            return Ok(Verdict::Absent(start.next().max(Timestamp(self.request.min_commit_ts))));
        }
        Ok(self.lock(key, mutation, None))
    }

    fn conflict(&self, key: &Key, other: Timestamp, commit: Timestamp, reason: Reason) -> KeyError {
        error::conflict(self.start, (other, commit), &key.plain, &self.request.primary_lock, reason)
    }

    /// Stops the request if its transaction was rolled back at this key, also below newer records.
    fn own_fate(&self, key: &Key) -> Result<(), Failure> {
        if self.reader.fate(&key.encoded, self.start)? == Fate::RolledBack {
            return Err(self.conflict(key, self.start, self.start, Reason::SelfRolledBack).into());
        }
        Ok(())
    }

    /// Returns the newest record that is not a rollback.
    fn newest_but_rollbacks(&self, key: &Key) -> Result<Option<(Timestamp, RecordKind)>> {
        let mut versions = self.reader.versions(&key.encoded, Timestamp::MAX)?;
        while let Some((commit, record)) = versions.next()? {
            if record.kind != RecordKind::Rollback {
                return Ok(Some((commit, record.kind)));
            }
        }
        Ok(None)
    }

    /// Returns an error, unless the request came before and its transaction has committed since.
    fn unless_committed(&self, key: &Key, error: KeyError) -> Result<Verdict, Failure> {
        if crate::mutant!("txn.prewrite-retry-commits-again") {
            return Err(error.into());
        }
        match self.reader.fate(&key.encoded, self.start)? {
            Fate::Committed(commit, _) => Ok(Verdict::Committed(commit)),
            Fate::Forgotten if mode(self.request) != Mode::TwoPhase => {
                Err(Error::Unknown(error::FORGOTTEN.into()).into())
            }
            Fate::RolledBack | Fate::Unknown(_) | Fate::Forgotten => Err(error.into()),
        }
    }

    /// Checks the client's assertion about a key, on which the transaction may have had a lock.
    fn assert(&self, key: &Key, mutation: &Mutation, was_locked: bool) -> Result<(), Failure> {
        let assertion = mutation.assertion();
        if self.request.assertion_level() == AssertionLevel::Off || assertion == Assertion::None {
            return Ok(());
        }
        let change = self.reader.newest_change(&key.encoded, Timestamp::MAX)?;
        let exists = change.as_ref().is_some_and(|(_, record)| record.is_put());
        if exists == (assertion == Assertion::Exist) {
            return Ok(());
        }
        if exists && mutation.op() == Op::Insert {
            return Err(error::already_exist(&key.plain).into());
        }
        // As in TiKV, a delete is named only if nothing is above it, not even the transaction's lock.
        let newest = self.reader.newest(&key.encoded, Timestamp::MAX)?;
        let on_top = |(commit, _): &(Timestamp, _)| {
            exists || (!was_locked && newest.as_ref().is_some_and(|(at, _)| at == commit))
        };
        let found = change.filter(on_top).map(|(commit, record)| (record.start, commit));
        Err(error::assertion_failed(self.start, &key.plain, assertion, found).into())
    }

    fn lock(&self, key: &Key, mutation: &Mutation, replaces: Option<Lock>) -> Verdict {
        let kind = match mutation.op() {
            Op::Del => LockKind::Delete,
            Op::Lock | Op::SharedLock => LockKind::Lock,
            _ => LockKind::Put,
        };
        let request = self.request;
        let mut lock = Lock {
            for_update: Timestamp(request.for_update_ts),
            txn_size: request.txn_size,
            min_commit: Timestamp(request.min_commit_ts),
            source: self.source,
            generation: self.generation,
            ..Lock::new(kind, request.primary_lock.clone(), self.start, request.lock_ttl)
        };
        if let Some(old) = &replaces {
            lock.ttl_ms = lock.ttl_ms.max(old.ttl_ms);
            lock.for_update = lock.for_update.max(old.for_update);
            lock.min_commit = lock.min_commit.max(old.min_commit);
            lock.rollbacks.clone_from(&old.rollbacks);
            lock.shared.clone_from(&old.shared);
        }
        if request.use_async_commit {
            let is_primary = key.plain == request.primary_lock;
            lock.secondaries = Some(if is_primary { request.secondaries.clone() } else { Vec::new() });
        }
        let value = if kind == LockKind::Put { mutation.value.clone() } else { Bytes::new() };
        Verdict::Lock(Box::new(NewLock { key: key.clone(), lock, value, replaces }))
    }
}

/// Returns whether a lock's value is stored apart from it.
fn has_value_apart(lock: &Lock) -> bool {
    lock.kind == LockKind::Put && lock.short_value.is_none()
}

impl Prewrite {
    /// Returns how the transaction commits.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns how many locks must stand in memory before max_ts is read, until what is written is applied.
    pub fn guards(&self) -> usize {
        if self.mode == Mode::TwoPhase { 0 } else { self.locks.len() }
    }

    /// Returns these locks, with the smallest commit timestamps that follow from max_ts.
    pub fn in_memory(&self, max_ts: Timestamp) -> Vec<(Key, Lock)> {
        let fixed = |new: &NewLock| {
            let min_commit = self.min_commit(&new.lock, max_ts);
            (new.key.clone(), Lock { min_commit, short_value: None, ..new.lock.clone() })
        };
        self.locks.iter().take(self.guards()).map(fixed).collect()
    }

    /// Returns whether a lock was taken above the timestamp that its client knows, so that a new timestamp is needed
    /// before the smallest commit timestamp is fixed.
    pub fn needs_timestamp(&self) -> bool {
        let above = |new: &NewLock| {
            new.replaces.as_ref().is_some_and(|old| old.with_conflict) && new.lock.min_commit <= new.lock.for_update
        };
        self.mode != Mode::TwoPhase && self.locks.iter().any(above)
    }

    fn fall_back(&mut self) {
        self.mode = Mode::TwoPhase;
        if crate::mutant!("txn.prewrite-fallback-half-async") {
            return;
        }
        self.locks.iter_mut().for_each(|new| new.lock.secondaries = None);
    }

    /// Returns the smallest timestamp at which a key may commit when all reads so far were at or below `max_ts`.
    fn min_commit(&self, lock: &Lock, max_ts: Timestamp) -> Timestamp {
        let above = max_ts.max(self.start).max(lock.for_update);
        let above = if crate::mutant!("txn.prewrite-m-without-plus-one") { above } else { above.next() };
        lock.min_commit.max(above)
    }

    /// Returns the reply to a request some of whose keys others have locked.
    pub fn locked(self, errors: Vec<KeyError>, max_ts: Timestamp) -> PrewriteResponse {
        let mins = || self.locks.iter().map(|new| self.min_commit(&new.lock, max_ts));
        let too_late = self.max_commit.0 != 0 && mins().any(|min| min > self.max_commit);
        let tells = self.also_async && self.mode != Mode::TwoPhase && !too_late;
        let min_commit_ts = if tells { mins().max().unwrap_or_default().max(self.kept).0 } else { 0 };
        PrewriteResponse { errors, min_commit_ts, ..PrewriteResponse::default() }
    }

    /// Fixes the smallest commit timestamps, and returns what is written. `max_ts` is the largest timestamp of any read
    /// so far; it was read after the locks stood in memory.
    pub fn settle(mut self, max_ts: Timestamp) -> Decided<PrewriteResponse> {
        // A key later in the request made it fall back, after the locks before it were made.
        if self.mode == Mode::TwoPhase {
            self.fall_back();
        } else {
            let mins: Vec<Timestamp> = self.locks.iter().map(|new| self.min_commit(&new.lock, max_ts)).collect();
            if self.max_commit.0 != 0 && mins.iter().any(|min| *min > self.max_commit) {
                crate::reach!("txn.commit-too-late-for-one-request");
                self.fall_back();
            } else {
                self.locks.iter_mut().zip(mins).for_each(|(new, min)| new.lock.min_commit = min);
            }
        }
        let largest = self.locks.iter().map(|new| new.lock.min_commit).max().unwrap_or_default().max(self.kept);
        let mut writes = Writes::default();
        for NewLock { key, mut lock, value, replaces } in self.locks {
            if lock.kind == LockKind::Put {
                lock.short_value = writes.value(&key, lock.start, &value);
            }
            // The value of an earlier generation that is stored apart, if this one's is not.
            if let Some(old) = replaces.as_ref().filter(|old| has_value_apart(old) && !has_value_apart(&lock)) {
                writes.forget_value(&key, old.start);
            }
            if replaces.is_none() || self.mode == Mode::OnePhase {
                writes.begins(lock.start);
            }
            match (self.mode, replaces) {
                (Mode::OnePhase, None) => writes.commit_at_once(&key, &lock, largest),
                // The record replaces the pessimistic lock.
                (Mode::OnePhase, Some(_)) => writes.commit(&key, &lock, largest),
                _ => writes.lock(&key, &lock),
            }
        }
        let mut reply = PrewriteResponse::default();
        match self.mode {
            Mode::TwoPhase => {}
            Mode::Async => reply.min_commit_ts = largest.0,
            Mode::OnePhase => {
                reply.one_pc_commit_ts = largest.0;
                reply.min_commit_ts = if self.also_async { largest.0 } else { 0 };
            }
        }
        Decided { writes, reply }
    }
}
