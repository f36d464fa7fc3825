//! The transactional client: snapshot reads, optimistic and pessimistic transactions, and the three ways to commit.
//!
//! ```text
//!   begin ─ get, scan ─ put, delete, lock ─ commit: prewrite all ▶ commit the primary key ▶ commit the others
//!                                            async: prewrite all; they commit at the largest answer
//!                                            one phase: one request, if one region has all keys
//!   a lock in the way ─▶ [resolve]: ask its primary key, then end the lock as that says
//! ```
//! **Never**: a transaction reported as failed that may commit later ([`Failed::Unknown`] is for that), a second commit
//! under another timestamp.

mod calls;
mod failed;
mod heart;
mod pipeline;
mod replicas;
mod resolve;

use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::codec::keyspace::Mode;
use crate::proto::kvrpcpb::prewrite_request::PessimisticAction;
use crate::proto::kvrpcpb::{
    Assertion, KeyError, LockInfo, Mutation, Op, PessimisticLockKeyResultType, PessimisticLockRequest, PrewriteRequest,
};
use crate::rt::clock::Instant;
use crate::types::Timestamp;
use crate::types::limits::LOCK_WAIT_MAX;

use super::error::Error;
use super::raw::RawClient;

pub use calls::Locks;
pub use failed::{Abort, Done, Failed, Why};
use failed::{aborted, reason, unknown};
use heart::Heart;
pub use replicas::Snapshot;
pub use resolve::{Ended, has_expired};

/// How often a client that waits for its locks to be ended looks.
const SETTLE_LOOK: Duration = Duration::from_millis(2);

/// How a transaction commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitBy {
    /// In two phases.
    #[default]
    TwoPhase,
    /// In one round of requests, decided by its locks.
    Async,
    /// In one request, if one region has all keys; else in one round.
    OnePhase,
}

/// Settings of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnOptions {
    /// Whether keys are locked as they are written.
    pub pessimistic: bool,
    /// How it commits.
    pub commit_by: CommitBy,
    /// How long it is considered to be alive without a heartbeat, in milliseconds.
    pub ttl_ms: u64,
    /// Whether a commit timestamp is asked for before the prewrite, so that it is later than all that came before.
    pub causal: bool,
    /// How far ahead the commit timestamp of an async commit may be; `None`: any distance.
    pub commit_within: Option<Duration>,
    /// How long it waits for the locks of others, in all.
    pub patience: Duration,
    /// Whether a commit that is decided returns while the locks of its keys are still being ended.
    pub in_background: bool,
    /// Whether its locks are kept while its program works on it, however long that takes (an hour at most).
    pub heartbeats: bool,
}

impl Default for TxnOptions {
    fn default() -> TxnOptions {
        TxnOptions {
            pessimistic: false,
            commit_by: CommitBy::TwoPhase,
            ttl_ms: 3000,
            causal: true,
            commit_within: None,
            patience: Duration::from_secs(5),
            in_background: false,
            heartbeats: true,
        }
    }
}

/// A client for transactions. Clones share its connections and routes.
#[derive(Clone, Debug)]
pub struct TxnClient {
    raw: RawClient,
    /// Whom reads are sent to.
    reads: RawClient,
    /// Whom reads as of a moment that has passed are sent to first.
    stale: Option<RawClient>,
    /// How many more requests are sent; a checker lets its clients die.
    life: Option<Arc<AtomicU32>>,
    /// How many decided transactions are still ending their locks in the background.
    ending: Arc<AtomicU32>,
}

/// Counts a transaction whose locks are being ended.
struct Ending(Arc<AtomicU32>);

impl Ending {
    fn new(count: &Arc<AtomicU32>) -> Ending {
        count.fetch_add(1, Ordering::Relaxed);
        Ending(count.clone())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl TxnClient {
    /// Creates a client over the routes and connections of `raw`.
    pub fn new(raw: RawClient) -> TxnClient {
        TxnClient { reads: raw.clone(), raw, stale: None, life: None, ending: Arc::default() }
    }

    /// Returns a key in the form that requests have.
    fn wire(&self, key: &Bytes) -> Bytes {
        self.raw.space().wire(Mode::Txn, key)
    }

    /// Returns the upper end of a range in the form that requests have; empty: plus infinity.
    fn wire_end(&self, end: &Bytes) -> Bytes {
        self.raw.space().wire_end(Mode::Txn, end).unwrap_or_default()
    }

    /// Returns a key of a reply as the client's user knows it.
    pub fn own(&self, wire: Bytes) -> Bytes {
        self.raw.space().own(wire)
    }

    /// Returns a client that sends this many requests and then none.
    #[must_use]
    pub fn dying_after(&self, requests: u32) -> TxnClient {
        TxnClient { life: Some(Arc::new(AtomicU32::new(requests))), ..self.clone() }
    }

    /// Returns whether the client still sends requests.
    fn live(&self) -> Result<(), Error> {
        let Some(life) = &self.life else { return Ok(()) };
        let left = life.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| Error::Unavailable("the client has died".into()))
    }

    /// Waits until no locks are being ended in the background ([`TxnOptions::in_background`]). A program that exits
    /// before leaves them to others.
    pub fn settle(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while self.ending.load(Ordering::Relaxed) > 0 {
                self.raw.clock().sleep(SETTLE_LOOK).await;
            }
        })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Failed::Aborted`] if there is no timestamp.
    pub fn begin(&self, options: TxnOptions) -> BoxFuture<'_, Done<Txn>> {
        Box::pin(async move {
            let start = self.timestamp().await.map_err(aborted)?;
            Ok(Txn::new(self, options, start))
        })
    }

    async fn timestamp(&self) -> Result<Timestamp, Error> {
        self.live()?;
        self.raw.pd().tso(1).await
    }

    async fn pause(&self, tries: u32) {
        let wait = Duration::from_millis(2 << tries.min(6));
        self.raw.clock().sleep(wait).await;
    }
}

/// What a transaction does to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Write {
    Put(Bytes),
    Insert(Bytes),
    Delete,
    Lock,
    /// Nothing: others may lock the key as well, but not write it.
    SharedLock,
    /// The servers have it.
    Flushed,
}

/// A transaction.
#[derive(Debug)]
pub struct Txn {
    client: TxnClient,
    options: TxnOptions,
    start: Timestamp,
    /// The latest timestamp at which it locked a key.
    for_update: Timestamp,
    primary: Option<Bytes>,
    writes: BTreeMap<Bytes, Write>,
    locked: BTreeSet<Bytes>,
    /// The keys that were written since the last flush.
    dirty: BTreeSet<Bytes>,
    /// The number of flushes.
    generation: u64,
    /// What keeps its locks alive.
    heart: Option<Heart>,
}

impl Txn {
    fn new(client: &TxnClient, options: TxnOptions, start: Timestamp) -> Txn {
        Txn {
            client: client.clone(),
            options,
            start,
            for_update: Timestamp(0),
            primary: None,
            writes: BTreeMap::new(),
            locked: BTreeSet::new(),
            dirty: BTreeSet::new(),
            generation: 0,
            heart: None,
        }
    }

    /// Returns the start timestamp: what the transaction sees.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// Returns whether keys are to be locked as they are written.
    pub fn is_pessimistic(&self) -> bool {
        self.options.pessimistic
    }

    /// Returns the value of a key at the transaction's start, or the one that it has set.
    ///
    /// # Errors
    /// [`Failed::Aborted`].
    pub fn get<'a>(&'a self, key: &'a Bytes) -> BoxFuture<'a, Done<Option<Bytes>>> {
        Box::pin(async move {
            let key = &self.client.wire(key);
            match self.writes.get(key) {
                Some(Write::Put(value) | Write::Insert(value)) => return Ok(Some(value.clone())),
                Some(Write::Delete) => return Ok(None),
                Some(Write::Flushed) => return self.read_back(key).await,
                Some(Write::Lock | Write::SharedLock) | None => {}
            }
            let mut waiting = Waiting::reading(self);
            loop {
                let reply = self.client.get(key, self.start, waiting.later()).await.map_err(aborted)?;
                match reply.error.map(|error| *error) {
                    None if reply.not_found => return Ok(None),
                    None => return Ok(Some(reply.value)),
                    Some(KeyError { locked: Some(lock), .. }) => waiting.behind(&[lock]).await?,
                    Some(error) => return Err(Failed::Aborted(reason(&error))),
                }
            }
        })
    }

    /// Returns the pairs in `[start, end)` at the transaction's start, at most `limit`, as its own writes change them.
    /// An empty `end` is plus infinity.
    ///
    /// # Errors
    /// [`Failed::Aborted`].
    pub fn scan<'a>(
        &'a self,
        start: &'a Bytes,
        end: &'a Bytes,
        limit: u32,
        reverse: bool,
    ) -> BoxFuture<'a, Done<Vec<(Bytes, Bytes)>>> {
        Box::pin(async move {
            let (start, end) = (&self.client.wire(start), &self.client.wire_end(end));
            let inside = |key: &Bytes| key >= start && (end.is_empty() || key < end);
            let own: Vec<(&Bytes, &Write)> = self.writes.iter().filter(|(key, _)| inside(key)).collect();
            // Each pair that it has deleted makes room for another.
            let deleted = own.iter().filter(|(_, write)| **write == Write::Delete).count() as u32;
            let asked = if limit == 0 { 0 } else { limit.saturating_add(deleted) };
            let found = self.stored(start, end, asked, reverse).await?;
            let seen_to = (found.len() as u32 >= asked).then(|| found.last().map(|(key, _)| key.clone())).flatten();
            let is_seen = |key: &Bytes| seen_to.as_ref().is_none_or(|to| if reverse { key >= to } else { key <= to });
            let mut pairs: BTreeMap<Bytes, Bytes> = found.into_iter().collect();
            for (key, write) in own.into_iter().filter(|(key, _)| is_seen(key)) {
                match write {
                    Write::Put(value) | Write::Insert(value) => drop(pairs.insert(key.clone(), value.clone())),
                    Write::Delete => drop(pairs.remove(key)),
                    Write::Flushed => match self.read_back(key).await? {
                        Some(value) => drop(pairs.insert(key.clone(), value)),
                        None => drop(pairs.remove(key)),
                    },
                    Write::Lock | Write::SharedLock => {}
                }
            }
            let limit = limit as usize;
            let own = |(key, value): (Bytes, Bytes)| (self.client.own(key), value);
            Ok(if reverse {
                pairs.into_iter().rev().take(limit).map(own).collect()
            } else {
                pairs.into_iter().take(limit).map(own).collect()
            })
        })
    }

    /// Returns the pairs of a range as they are stored.
    async fn stored(&self, start: &Bytes, end: &Bytes, limit: u32, reverse: bool) -> Done<Vec<(Bytes, Bytes)>> {
        let mut waiting = Waiting::reading(self);
        loop {
            let view = (self.start, waiting.later());
            let found = self.client.scan((start, end), limit, reverse, view).await.map_err(aborted)?;
            let errors: Vec<&KeyError> = found.iter().filter_map(|pair| pair.error.as_deref()).collect();
            if let Some(error) = errors.iter().find(|error| error.locked.is_none()) {
                return Err(Failed::Aborted(reason(error)));
            }
            let locks: Vec<LockInfo> = errors.iter().filter_map(|error| error.locked.clone()).collect();
            if locks.is_empty() {
                return Ok(found.into_iter().map(|pair| (pair.key, pair.value)).collect());
            }
            waiting.behind(&locks).await?;
        }
    }

    /// Sets a key.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.write(key, Write::Put(value));
    }

    /// Sets a key that must not exist; otherwise the commit fails.
    pub fn insert(&mut self, key: Bytes, value: Bytes) {
        self.write(key, Write::Insert(value));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: Bytes) {
        self.write(key, Write::Delete);
    }

    fn write(&mut self, key: Bytes, write: Write) {
        let key = self.client.wire(&key);
        self.primary.get_or_insert_with(|| key.clone());
        self.dirty.insert(key.clone());
        self.writes.insert(key, write);
    }

    /// Locks a key, so that nobody else writes it until the end of this transaction. Returns its newest value, and the
    /// timestamp at which that is its value.
    ///
    /// # Errors
    /// [`Failed::Aborted`]: a deadlock, too long a wait, or the transaction was rolled back by others.
    pub fn lock<'a>(&'a mut self, key: &'a Bytes, force: bool) -> BoxFuture<'a, Done<(Timestamp, Option<Bytes>)>> {
        Box::pin(async move {
            let key = &self.client.wire(key);
            self.primary.get_or_insert_with(|| key.clone());
            self.take(key, Op::PessimisticLock, force).await
        })
    }

    /// Locks a key in shared mode: others may do so as well, and nobody writes it until the end of this transaction,
    /// not even this one. The transaction commits in two phases then. Returns as [`Txn::lock`] does.
    ///
    /// # Errors
    /// As [`Txn::lock`]; also if this transaction has not locked or written another key before: others decide by that
    /// one what became of it.
    pub fn lock_shared<'a>(&'a mut self, key: &'a Bytes) -> BoxFuture<'a, Done<(Timestamp, Option<Bytes>)>> {
        Box::pin(async move {
            let key = &self.client.wire(key);
            if self.locked.contains(key) && self.writes.get(key) != Some(&Write::SharedLock) {
                return self.take(key, Op::PessimisticLock, false).await;
            }
            if self.primary.as_ref().is_none_or(|primary| primary == key) || self.writes.contains_key(key) {
                let why =
                    "a key is locked in shared mode after another key, and not to write it: lock that other key first";
                return Err(Failed::Aborted(Abort::new(Why::Refused, why)));
            }
            self.take(key, Op::SharedPessimisticLock, false).await
        })
    }

    async fn take(&mut self, key: &Bytes, op: Op, force: bool) -> Done<(Timestamp, Option<Bytes>)> {
        let primary = self.primary.clone().expect("it was chosen");
        let waiting = Waiting::new(self);
        loop {
            let at = self.client.timestamp().await.map_err(aborted)?;
            let request = PessimisticLockRequest {
                mutations: vec![Mutation { op: op as i32, key: key.clone(), ..Mutation::default() }],
                primary_lock: primary.clone(),
                start_version: self.start.0,
                lock_ttl: self.options.ttl_ms,
                for_update_ts: at.0,
                is_first_lock: self.locked.is_empty(),
                wait_timeout: waiting.left_ms(),
                return_values: true,
                min_commit_ts: if self.options.causal { at.0 + 1 } else { 0 },
                wake_up_mode: i32::from(force),
                ..PessimisticLockRequest::default()
            };
            let reply = self.client.lock(request).await.map_err(aborted)?;
            let Some(error) = reply.errors.into_iter().next() else {
                let mut found = (at, None);
                if let Some(result) = reply.results.into_iter().next() {
                    if result.r#type() == PessimisticLockKeyResultType::LockResultLockedWithConflict {
                        found.0 = Timestamp(result.locked_with_conflict_ts);
                    }
                    found.1 = result.existence.then_some(result.value);
                } else if !reply.not_founds.first().copied().unwrap_or(true) {
                    found.1 = reply.values.into_iter().next();
                }
                self.for_update = self.for_update.max(found.0);
                self.locked.insert(key.clone());
                self.keep_alive();
                let is_shared = op == Op::SharedPessimisticLock;
                self.writes.entry(key.clone()).or_insert(if is_shared { Write::SharedLock } else { Write::Lock });
                return Ok(found);
            };
            if let Some(lock) = error.locked {
                // The server has waited already.
                waiting.check()?;
                for lock in calls::each_lock([lock]) {
                    self.client.resolve(&lock, self.start).await.map_err(aborted)?;
                }
            } else if error.conflict.is_some() {
                // There is a newer version: lock at a later timestamp, before others do.
                waiting.check()?;
            } else {
                return Err(Failed::Aborted(reason(&error)));
            }
        }
    }

    fn mutations(&self) -> Vec<(Bytes, Mutation)> {
        let mutation = |(key, write): (&Bytes, &Write)| {
            let (op, value) = match write {
                Write::Put(value) => (Op::Put, value.clone()),
                Write::Insert(value) => (Op::Insert, value.clone()),
                Write::Delete => (Op::Del, Bytes::new()),
                Write::Lock | Write::Flushed => (Op::Lock, Bytes::new()),
                Write::SharedLock => (Op::SharedLock, Bytes::new()),
            };
            let assertion = Assertion::None as i32;
            (calls::encoded(key), Mutation { op: op as i32, key: key.clone(), value, assertion })
        };
        self.writes.iter().map(mutation).collect()
    }

    /// Commits. Returns the commit timestamp, 0 if nothing was written.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn commit(mut self) -> BoxFuture<'static, Done<Timestamp>> {
        Box::pin(async move {
            if self.generation > 0
                && let Err(failed) = self.flush().await
            {
                self.rollback().await;
                return Err(failed);
            }
            let Some(primary) = self.primary.clone().filter(|_| !self.writes.is_empty()) else {
                return Ok(Timestamp(0));
            };
            match self.try_commit(&primary).await {
                Ok(commit) => Ok(commit),
                Err(Failed::Aborted(why)) if why.left_nothing => Err(Failed::Aborted(why)),
                Err(Failed::Aborted(why)) => {
                    // It never committed; whether its locks go now or when others meet them does not matter.
                    drop(self.client.rollback(self.writes.keys().cloned().collect(), self.start).await);
                    Err(Failed::Aborted(why))
                }
                Err(Failed::Unknown(why)) if crate::mutant!("client.txn-unknown-as-failed") => {
                    Err(Failed::Aborted(Abort::new(Why::Refused, why)))
                }
                Err(Failed::Unknown(why)) => match self.client.find_out(&primary, self.start).await {
                    Ok(Some(commit)) => Ok(commit),
                    Ok(None) => {
                        drop(self.client.rollback(self.writes.keys().cloned().collect(), self.start).await);
                        Err(Failed::Aborted(Abort::new(Why::RolledBack, why)))
                    }
                    Err(_) => Err(Failed::Unknown(why)),
                },
            }
        })
    }

    async fn try_commit(&mut self, primary: &Bytes) -> Done<Timestamp> {
        let prewritten = if self.generation > 0 { Prewritten::Locked } else { self.prewrite(primary).await? };
        let keys: Vec<Bytes> = self.writes.keys().cloned().collect();
        let others: Vec<Bytes> = keys.iter().filter(|key| *key != primary).cloned().collect();
        match prewritten {
            Prewritten::Committed(commit) => return Ok(commit),
            Prewritten::Decided(commit) => {
                // All locks stand: it is committed, no matter who ends them.
                self.end_locks(keys, commit).await;
                return Ok(commit);
            }
            Prewritten::Locked => {}
        }
        if crate::mutant!("client.txn-secondary-first") && !others.is_empty() {
            let commit = self.client.timestamp().await.map_err(aborted)?;
            drop(self.client.commit(others.clone(), self.start, commit).await);
        }
        let mut waiting = Waiting::new(self);
        let commit = loop {
            let commit = self.client.timestamp().await.map_err(aborted)?;
            if commit <= self.for_update {
                // A key that it locked by force has another transaction's version there (seed 1796014011718).
                waiting.once().await?;
                continue;
            }
            let reply = self.client.commit(vec![primary.clone()], self.start, commit).await;
            match reply.map_err(unknown)? {
                None => break commit,
                Some(error) if error.commit_ts_expired.is_some() => waiting.once().await?,
                Some(error) => return Err(Failed::Aborted(reason(&error))),
            }
        };
        if !others.is_empty() {
            self.end_locks(others, commit).await;
        }
        Ok(commit)
    }

    /// Commits keys of a transaction that has committed. If that fails, others do it when they meet the locks.
    async fn end_locks(&self, keys: Vec<Bytes>, commit: Timestamp) {
        let (client, start) = (self.client.clone(), self.start);
        let ending = Ending::new(&self.client.ending);
        let work = async move {
            drop(client.commit(keys, start, commit).await);
            drop(ending);
        };
        if self.options.in_background {
            drop(crate::rt::task::spawn(work));
        } else {
            work.await;
        }
    }

    /// Returns whether one region has all its keys, as far as this client knows.
    async fn in_one_region(&self) -> bool {
        let keys: Vec<Bytes> = self.writes.keys().map(calls::encoded).collect();
        self.client.raw.have_one_region(&keys).await
    }

    /// Prewrites all keys.
    async fn prewrite(&mut self, primary: &Bytes) -> Done<Prewritten> {
        let mut waiting = Waiting::new(self);
        let has_shared = self.writes.values().any(|write| *write == Write::SharedLock);
        let commit_by = if has_shared { CommitBy::TwoPhase } else { self.options.commit_by };
        let mut one_phase = commit_by == CommitBy::OnePhase && self.in_one_region().await;
        let by_async = commit_by != CommitBy::TwoPhase;
        let min_commit_ts = match self.options.causal && by_async {
            true => self.client.timestamp().await.map_err(aborted)?.0 + 1,
            false => 0,
        };
        // Above every version that it has locked.
        let above = if self.for_update.0 == 0 { 0 } else { self.for_update.0 + 1 };
        let min_commit_ts = u64::max(min_commit_ts, if self.options.causal { above } else { 0 });
        let max_commit_ts = match self.options.commit_within {
            Some(within) if by_async => {
                let now = self.client.timestamp().await.map_err(aborted)?;
                Timestamp::new(now.physical_ms() + within.as_millis() as u64, 0).0
            }
            _ => 0,
        };
        let template = PrewriteRequest {
            primary_lock: primary.clone(),
            start_version: self.start.0,
            lock_ttl: self.options.ttl_ms,
            txn_size: self.writes.len() as u64,
            for_update_ts: self.for_update.0,
            min_commit_ts,
            use_async_commit: by_async,
            max_commit_ts,
            ..PrewriteRequest::default()
        };
        loop {
            let replies = if one_phase {
                match self.client.prewrite_at_once(self.fill(&template, self.mutations(), true)).await {
                    Ok(reply) if reply.errors.iter().any(|error| error.abort.contains("outside region")) => {
                        one_phase = false;
                        continue;
                    }
                    reply => reply.map(|reply| vec![reply]),
                }
            } else {
                let fill = |mutations| self.fill(&template, mutations, false);
                self.client.prewrite(self.mutations(), &fill).await
            };
            let replies = replies.map_err(|error| if by_async { unknown(error) } else { aborted(error) })?;
            let errors: Vec<KeyError> = replies.iter().flat_map(|reply| reply.errors.iter().cloned()).collect();
            let locks: Vec<LockInfo> = errors.iter().filter_map(|error| error.locked.clone()).collect();
            if let Some(error) = errors.iter().find(|error| error.locked.is_none()) {
                // A late lock request may still complete a pessimistic transaction whose locks decide it.
                let revives = by_async && self.options.pessimistic;
                let mut why = reason(error);
                // One request that was refused as a whole, because of a version that stays: a late copy of it will be
                // refused, too.
                why.left_nothing = one_phase && self.locked.is_empty() && error.conflict.is_some();
                return Err(if revives { Failed::Unknown(why.to_string()) } else { Failed::Aborted(why) });
            }
            if locks.is_empty() {
                if let Some(at) = replies.iter().map(|reply| reply.one_pc_commit_ts).find(|at| *at != 0 && one_phase) {
                    return Ok(Prewritten::Committed(Timestamp(at)));
                }
                let decided = by_async && replies.iter().all(|reply| reply.min_commit_ts != 0);
                let largest = replies.iter().map(|reply| reply.min_commit_ts).max().unwrap_or_default();
                return Ok(if decided { Prewritten::Decided(Timestamp(largest)) } else { Prewritten::Locked });
            }
            // Some keys may be locked, and this may take longer than they last.
            self.keep_alive();
            waiting.behind(&locks).await.map_err(|failed| match failed {
                Failed::Aborted(why) if by_async => Failed::Unknown(why.to_string()),
                failed => failed,
            })?;
        }
    }

    /// Returns the request for some of the keys.
    fn fill(&self, template: &PrewriteRequest, mutations: Vec<(Bytes, Mutation)>, one_phase: bool) -> PrewriteRequest {
        let mutations: Vec<Mutation> = mutations.into_iter().map(|(_, mutation)| mutation).collect();
        let action = |mutation: &Mutation| match self.locked.contains(&mutation.key) {
            true => PessimisticAction::DoPessimisticCheck as i32,
            false => PessimisticAction::SkipPessimisticCheck as i32,
        };
        let pessimistic = self.for_update.0 != 0;
        let has_primary = mutations.iter().any(|mutation| mutation.key == template.primary_lock);
        let secondaries = self.writes.keys().filter(|key| **key != template.primary_lock).cloned().collect();
        PrewriteRequest {
            pessimistic_actions: if pessimistic { mutations.iter().map(action).collect() } else { Vec::new() },
            secondaries: if has_primary && template.use_async_commit { secondaries } else { Vec::new() },
            mutations,
            try_one_pc: one_phase,
            ..template.clone()
        }
    }

    /// Ends the transaction without a commit.
    pub fn rollback(self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            drop(self.client.rollback(self.writes.keys().cloned().collect(), self.start).await);
        })
    }
}

/// What a prewrite came to.
enum Prewritten {
    /// It has committed.
    Committed(Timestamp),
    /// All locks stand, so it commits at this timestamp.
    Decided(Timestamp),
    /// All locks stand; the primary key decides.
    Locked,
}

/// Waits for the locks of others.
struct Waiting {
    client: TxnClient,
    reader: Timestamp,
    tries: u32,
    until: Instant,
    /// Whether it is a snapshot that waits.
    reads: bool,
    /// Start timestamps of transactions that commit after the snapshot, if at all.
    later: BTreeSet<u64>,
}

impl Waiting {
    fn new(txn: &Txn) -> Waiting {
        let until = txn.client.raw.clock().now().plus(txn.options.patience);
        let (client, later) = (txn.client.clone(), BTreeSet::new());
        Waiting { client, reader: txn.start, tries: 0, until, reads: false, later }
    }

    /// Returns the waiting of a read at the transaction's start.
    fn reading(txn: &Txn) -> Waiting {
        Waiting { reads: true, ..Waiting::new(txn) }
    }

    /// Returns the transactions whose locks do not hide anything from the read.
    fn later(&self) -> Vec<u64> {
        self.later.iter().copied().collect()
    }

    /// Returns for how long a server may let a lock request wait, in milliseconds; -1: it must not.
    fn left_ms(&self) -> i64 {
        let left = self.until.since(self.client.raw.clock().now());
        // The answer must come before the attempt is given up, and after some time it is looked whether the lock
        // stands.
        let wait = left.min(self.client.raw.options().attempt / 2).min(LOCK_WAIT_MAX);
        i64::try_from(wait.as_millis()).ok().filter(|ms| *ms > 0).unwrap_or(-1)
    }

    /// Returns an error once it has waited for too long.
    fn check(&self) -> Done<()> {
        if self.client.raw.clock().now() < self.until {
            return Ok(());
        }
        let why = "the locks and versions of others were in the way for too long";
        Err(Failed::Aborted(Abort::new(Why::Conflict, why)))
    }

    /// Waits a moment.
    async fn once(&mut self) -> Done<()> {
        self.check()?;
        self.client.pause(self.tries).await;
        self.tries += 1;
        Ok(())
    }

    /// Ends these locks if their transactions are decided, or waits a moment.
    async fn behind(&mut self, locks: &[LockInfo]) -> Done<()> {
        let mut all = true;
        for lock in &calls::each_lock(locks.iter().cloned()) {
            match self.client.end_decided(std::slice::from_ref(lock), self.reader).await.map_err(aborted)? {
                Ended::Committed(_) | Ended::RolledBack => {}
                Ended::Later if self.reads => drop(self.later.insert(lock.lock_version)),
                Ended::Later | Ended::Alive => all = false,
            }
        }
        if all { Ok(()) } else { self.once().await }
    }
}
