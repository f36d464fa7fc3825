//! The steps of a transaction, one request each: lock, prewrite, commit, roll back, resolve.

use armilla::proto::kvrpcpb::prewrite_request::{ForUpdateTsConstraint, PessimisticAction};
use armilla::proto::kvrpcpb::write_conflict::Reason;
use armilla::proto::kvrpcpb::{
    BatchRollbackRequest, CommitRequest, KeyError, Mutation, Op, PessimisticLockKeyResultType, PessimisticLockRequest,
    PessimisticLockResponse, PessimisticRollbackRequest, PrewriteRequest, PrewriteResponse, ResolveLockRequest,
    TxnInfo,
};
use armilla::rt::rng::Rng;
use bytes::Bytes;

use super::send::send;
use super::table::{Entry, Fate, How};
use super::{PATIENCE_NS, Worker};

/// How many transactions are resolved at once.
const RESOLVED_AT_ONCE: usize = 4;

impl Worker {
    /// Takes some step of a transaction that may be taken now.
    pub(super) async fn act(&self, number: usize, rng: &mut Rng) {
        // What cannot be done now is drawn again.
        for _ in 0..4 {
            let done = match rng.below(100) {
                0..=39 => self.advance(number, rng).await,
                40..=51 => self.prewrite(number, rng).await,
                52..=57 => self.lock(number, rng).await,
                58..=63 => self.commit_primary(number, rng).await,
                64..=68 => self.commit_others(number, rng).await,
                69..=77 => self.ask(number, rng).await,
                78..=79 => self.ask_elsewhere(number, rng).await,
                80..=83 => self.ask_secondary(number, rng).await,
                84..=86 => self.clean_up(number, rng).await,
                87..=88 => self.heartbeat(number, rng).await,
                89..=92 => self.resolve(number, rng).await,
                93..=94 => self.give_up(number, rng).await,
                95 => self.commit_at_a_record(number).await,
                96 => {
                    self.settle(number, 0, rng).await;
                    Some(())
                }
                _ => {
                    self.read(Some(number), rng).await;
                    Some(())
                }
            };
            if done.is_some() {
                return;
            }
        }
    }

    /// Takes the next step of a client that nothing disturbs.
    pub(super) async fn advance(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        match entry.fate {
            // A lock request that was under way.
            Some((Fate::Committed(_), _)) if rng.chance(0.1) => return self.lock(number, rng).await,
            Some((Fate::Committed(_), _)) if rng.chance(0.5) => return self.commit_others(number, rng).await,
            // Its own client may not know yet.
            Some((Fate::RolledBack, _)) if rng.chance(0.6) => {}
            Some(_) => return None,
            None => {}
        }
        if !entry.may_prewrite() {
            return self.lock(number, rng).await;
        }
        if !entry.is_prewritten() {
            return self.prewrite(number, rng).await;
        }
        if entry.may_choose() {
            if rng.chance(0.5) {
                self.commit_at_a_record(number).await;
            }
            let at = self.pd.tso(1).await.ok()?.0;
            self.with(|table| {
                let entry = &mut table.entries[number];
                if entry.may_choose() {
                    entry.commits.push(at);
                    entry.refused = false;
                }
            });
            // Readers come in between.
            match rng.below(5) {
                0 | 1 => return Some(()),
                2 => self.read_key(entry.primary(), rng).await,
                _ => {}
            }
        }
        self.commit_primary(number, rng).await
    }

    /// Locks a key of a pessimistic transaction, perhaps in shared mode. It may wait for others.
    async fn lock(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let wait_ms = if rng.chance(0.5) { rng.between(20, 300) as i64 } else { -1 };
        self.lock_within(number, wait_ms, rng).await
    }

    /// Locks a key of a pessimistic transaction, and waits for others for at most `wait_ms`; -1: not at all.
    pub(super) async fn lock_within(&self, number: usize, wait_ms: i64, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        let locks = entry.locks?;
        let (op, key) = match &entry.shared {
            Some(key) if rng.chance(0.4) => (Op::SharedPessimisticLock, key),
            _ => (Op::PessimisticLock, &entry.writes[rng.below(locks.count as u64) as usize].0),
        };
        let is_shared = op == Op::SharedPessimisticLock;
        let place = self.sender.place(key)?;
        let request = PessimisticLockRequest {
            mutations: vec![Mutation { op: op as i32, key: key.clone(), ..Mutation::default() }],
            primary_lock: entry.primary().clone(),
            start_version: entry.start,
            lock_ttl: entry.ttl_ms,
            for_update_ts: locks.at,
            is_first_lock: entry.held.is_empty() && rng.chance(0.5),
            wait_timeout: wait_ms,
            return_values: true,
            min_commit_ts: entry.min_commit,
            wake_up_mode: i32::from(locks.forced && !is_shared),
            ..PessimisticLockRequest::default()
        };
        let (now, collected) = (self.now(), self.collected());
        let wait = self.with(|table| table.waits(entry.start, key.clone(), now));
        let reply: PessimisticLockResponse =
            send!(place, self.sender, Worker::wait_ns(rng), kv_pessimistic_lock, request)?;
        let now = self.now();
        self.with(|table| table.answered(wait, now));
        if let Some(error) = reply.errors.first() {
            if let Some(lock) = error.locked.as_ref().filter(|_| !self.collects) {
                let judged = self.with(|table| table.waited_in_vain(wait, wait_ms, lock));
                self.judge(judged);
            }
            self.has_released(error);
            self.refused(error, rng).await;
            return Some(());
        }
        if entry.start < collected {
            self.fails(format!("the transaction {} locked a key below the collection's safe point", entry.start));
        }
        let mut found = (locks.at, None);
        if let Some(result) = reply.results.into_iter().next() {
            if result.r#type() == PessimisticLockKeyResultType::LockResultLockedWithConflict {
                found.0 = result.locked_with_conflict_ts;
            }
            found.1 = result.existence.then_some(result.value);
        } else if !reply.not_founds.first().copied().unwrap_or(true) {
            found.1 = reply.values.into_iter().next();
        }
        self.with(|table| {
            let entry = &mut table.entries[number];
            if entry.frozen.is_none() {
                entry.held.insert(key.clone(), found);
            }
        });
        Some(())
    }

    /// Learns from a conflict after a wait what became of the transaction that was waited for: if it has no record of a
    /// commit then, its lock was removed.
    fn has_released(&self, error: &KeyError) {
        let Some(conflict) = error.conflict.as_ref().filter(|conflict| {
            conflict.reason() == Reason::PessimisticRetry && conflict.conflict_commit_ts == 0 && !self.collects
        }) else {
            return;
        };
        let Some(number) = self.with(|table| table.number(conflict.conflict_ts)) else { return };
        // Pessimistic locks are also released by those who lock the key again.
        if self.entry(number).locks.is_none() {
            self.learn(number, Fate::RolledBack, "a conflict after a wait for its lock");
        }
    }

    /// Returns up to which safe point some region has removed old versions by now: no lock below it is left.
    fn collected(&self) -> u64 {
        self.sender.0.monitor.with(|seen| seen.collected)
    }

    /// Deals with what stops a request: a lock is looked into, a deadlock judged.
    async fn refused(&self, error: &KeyError, rng: &mut Rng) {
        if let Some(deadlock) = &error.deadlock {
            let judged = self.with(|table| table.circle(&deadlock.wait_chain));
            self.judge(judged);
        }
        let Some(lock) = error.locked.as_ref().filter(|_| rng.chance(0.9)) else { return };
        // One of those that share the key, if it is shared: the others are met later.
        let lock = if lock.shared_lock_infos.is_empty() { lock } else { rng.pick(&lock.shared_lock_infos) };
        let Some(number) = self.with(|table| table.number(lock.lock_version)) else { return };
        if let super::ask::Settled::Fate(_) = self.settle(number, 0, rng).await {
            self.resolve_one(number, &lock.key, rng).await;
        }
    }

    /// Fixes the timestamp of a transaction's prewrites. Returns the transaction.
    fn freeze(&self, number: usize) -> Option<Entry> {
        self.with(|table| {
            let entry = &mut table.entries[number];
            if !entry.may_prewrite() {
                return None;
            }
            let above = entry.held.values().map(|(at, _)| *at).max().unwrap_or_default();
            entry.frozen.get_or_insert(above);
            Some(entry.clone())
        })
    }

    /// Prewrites a key, all keys of a region, or asks for a key's absence.
    pub(super) async fn prewrite(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.freeze(number)?;
        if let Some(absent) = entry.absent.clone().filter(|_| rng.chance(0.3)) {
            return self.check_absent(number, absent).await;
        }
        let all = entry.keys();
        let missing: Vec<&Bytes> = all.iter().filter(|key| !entry.prewritten.contains_key(*key)).collect();
        let key = match missing.is_empty() || rng.chance(0.2) {
            true => rng.pick(&all),
            false => rng.pick(&missing),
        };
        let place = self.sender.place(key)?;
        let one_phase = entry.how == How::OnePhase && place.own(&all).len() == all.len();
        let keys = if one_phase || rng.chance(0.4) { place.own(&all) } else { vec![key.clone()] };
        let request = prewrite(&entry, &keys, one_phase);
        let is_old = entry.start < self.collected();
        let reply: PrewriteResponse = send!(place, self.sender, Worker::wait_ns(rng), kv_prewrite, request)?;
        let now = self.now();
        if let Some(error) = reply.errors.first() {
            if let Some((Fate::Committed(at), _)) = entry.fate.filter(|_| !self.collects) {
                self.fails(format!("the transaction {} has committed at {at}, but: {error:?}", entry.start));
            }
            self.refused(error, rng).await;
            return Some(());
        }
        if one_phase && reply.one_pc_commit_ts != 0 {
            self.learn(number, Fate::Committed(reply.one_pc_commit_ts), "a commit in one phase");
            return Some(());
        }
        let known = self.with(|table| {
            table.entries[number].must_be_committed |= is_old;
            table.prewrote(number, &keys, reply.min_commit_ts, now)
        });
        self.judge(known);
        Some(())
    }

    /// Asks whether a key exists, as part of a transaction.
    pub(super) async fn check_absent(&self, number: usize, key: Bytes) -> Option<()> {
        let entry = self.entry(number);
        let place = self.sender.place(&key)?;
        let mutation = Mutation { op: Op::CheckNotExists as i32, key: key.clone(), ..Mutation::default() };
        let request = PrewriteRequest { mutations: vec![mutation], ..template(&entry) };
        let reply: PrewriteResponse = send!(place, self.sender, PATIENCE_NS, kv_prewrite, request)?;
        if reply.errors.is_empty() {
            self.with(|table| table.entries[number].reads.push((key, entry.start, None)));
        }
        Some(())
    }

    /// Commits the primary key, perhaps with an earlier timestamp that was refused.
    async fn commit_primary(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        let newest = *entry.commits.last()?;
        let at = if rng.chance(0.8) { newest } else { *rng.pick(&entry.commits) };
        let place = self.sender.place(entry.primary())?;
        let keys = vec![entry.primary().clone()];
        let request =
            CommitRequest { start_version: entry.start, keys, commit_version: at, ..CommitRequest::default() };
        let reply = send!(place, self.sender, Worker::wait_ns(rng), kv_commit, request)?;
        if reply.error.is_none() {
            self.note_released(&entry, std::slice::from_ref(entry.primary()));
        }
        match reply.error {
            // A copy that comes after the commit is told its own timestamp.
            None if entry.commits.len() == 1 => self.learn(number, Fate::Committed(at), "a commit"),
            None => {}
            Some(error) if error.commit_ts_expired.is_some() => self.with(|table| {
                let entry = &mut table.entries[number];
                entry.refused |= entry.commits.last() == Some(&at);
            }),
            Some(error) if error.txn_lock_not_found.is_some() => {
                self.learn(number, Fate::RolledBack, "a commit without the primary lock");
            }
            Some(_) => {}
        }
        Some(())
    }

    /// Commits keys of a transaction that has committed.
    async fn commit_others(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        let at = entry.committed()?;
        let all = entry.keys();
        let key = rng.pick(&all);
        let place = self.sender.place(key)?;
        let keys = if rng.chance(0.5) { place.own(&all) } else { vec![key.clone()] };
        let (start_version, commit_version) = (entry.start, at);
        let request = CommitRequest { start_version, keys: keys.clone(), commit_version, ..CommitRequest::default() };
        let reply = send!(place, self.sender, Worker::wait_ns(rng), kv_commit, request)?;
        if reply.error.is_none() {
            self.note_released(&entry, &keys);
        }
        self.no_trace(&entry, at, reply.error.as_deref());
        Some(())
    }

    /// Notes that a transaction has committed keys, and has no locks on them any more.
    fn note_released(&self, entry: &Entry, keys: &[Bytes]) {
        let now = self.now();
        self.with(|table| table.release(entry, keys, now));
    }

    /// Checks that a key of a committed transaction was not found without lock and record.
    fn no_trace(&self, entry: &Entry, at: u64, error: Option<&KeyError>) {
        if let Some(error) = error.filter(|error| error.txn_lock_not_found.is_some()) {
            self.fails(format!("the transaction {} has committed at {at}, but: {error:?}", entry.start));
        }
    }

    /// Commits at the commit timestamp of the version that the primary lock was forced over. It must be refused: the
    /// other transaction's record is there.
    async fn commit_at_a_record(&self, number: usize) -> Option<()> {
        let entry = self.entry(number);
        let (at, value) = entry.held.get(entry.primary())?;
        let forced = entry.locks.is_some_and(|locks| locks.forced && locks.at < *at);
        if !forced || !entry.may_choose() || !entry.commits.is_empty() || value.is_none() {
            return None;
        }
        let wrote = |other: &Entry| {
            other.committed() == Some(*at)
                && other.writes.iter().any(|(key, own)| key == entry.primary() && own == value)
        };
        if !self.with(|table| table.entries.iter().any(wrote)) {
            return None;
        }
        let place = self.sender.place(entry.primary())?;
        let keys = vec![entry.primary().clone()];
        let request =
            CommitRequest { start_version: entry.start, keys, commit_version: *at, ..CommitRequest::default() };
        let reply = send!(place, self.sender, PATIENCE_NS, kv_commit, request)?;
        // It may have been committed meanwhile by another client, which chose its timestamp.
        if reply.error.is_none() && self.entry(number).commits.is_empty() {
            self.fails(format!("the transaction {} committed at {at}, where another's record is", entry.start));
        }
        Some(())
    }

    /// Gives a transaction up and rolls it back, or releases its pessimistic locks.
    async fn give_up(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.with(|table| {
            let entry = &mut table.entries[number];
            let may = entry.how == How::TwoPhase && entry.commits.is_empty() && entry.committed().is_none();
            entry.gives_up |= may;
            entry.gives_up.then(|| entry.clone())
        })?;
        let all = entry.keys();
        let key = rng.pick(&all);
        let place = self.sender.place(key)?;
        let keys = if rng.chance(0.5) { place.own(&all) } else { vec![key.clone()] };
        if entry.locks.is_some() && rng.chance(0.4) {
            let request = PessimisticRollbackRequest {
                start_version: entry.start,
                for_update_ts: entry.held.values().map(|(at, _)| *at).max().unwrap_or(entry.start),
                keys: if rng.chance(0.7) { keys } else { Vec::new() },
                ..PessimisticRollbackRequest::default()
            };
            return send!(place, self.sender, Worker::wait_ns(rng), kv_pessimistic_rollback, request).map(drop);
        }
        let request = BatchRollbackRequest { start_version: entry.start, keys, ..BatchRollbackRequest::default() };
        let reply = send!(place, self.sender, Worker::wait_ns(rng), kv_batch_rollback, request)?;
        if let Some(error) = reply.error.filter(|error| error.abort.starts_with("Committed")) {
            self.fails(format!("the transaction {} never sent a commit, but: {error:?}", entry.start));
        }
        Some(())
    }

    /// Ends locks of decided transactions: of one key, or all that a region has.
    async fn resolve(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        entry.fate?;
        let all = entry.keys();
        let key = rng.pick(&all);
        if rng.chance(0.4) {
            return self.resolve_one(number, key, rng).await;
        }
        let decided = self.with(|table| {
            let all = table.entries.iter().rev().filter_map(|entry| Some((entry.start, entry.fate?.0)));
            all.take(RESOLVED_AT_ONCE).chain(entry.fate.map(|(fate, _)| (entry.start, fate))).collect::<Vec<_>>()
        });
        let status = |fate| if let Fate::Committed(at) = fate { at } else { 0 };
        let request = match rng.chance(0.5) {
            true => ResolveLockRequest {
                txn_infos: decided.iter().map(|(txn, fate)| TxnInfo { txn: *txn, status: status(*fate) }).collect(),
                ..ResolveLockRequest::default()
            },
            false => ResolveLockRequest {
                start_version: entry.start,
                commit_version: entry.fate.map_or(0, |(fate, _)| status(fate)),
                ..ResolveLockRequest::default()
            },
        };
        let place = self.sender.place(key)?;
        send!(place, self.sender, Worker::wait_ns(rng), kv_resolve_lock, request).map(drop)
    }

    /// Ends the lock of a decided transaction on one key.
    pub(super) async fn resolve_one(&self, number: usize, key: &Bytes, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        let (fate, _) = entry.fate?;
        let commit_version = if let Fate::Committed(at) = fate { at } else { 0 };
        let keys = vec![key.clone()];
        let request =
            ResolveLockRequest { start_version: entry.start, commit_version, keys, ..ResolveLockRequest::default() };
        let place = self.sender.place(key)?;
        let reply = send!(place, self.sender, Worker::wait_ns(rng), kv_resolve_lock, request)?;
        if commit_version != 0 {
            if reply.error.is_none() {
                self.note_released(&entry, std::slice::from_ref(key));
            }
            self.no_trace(&entry, commit_version, reply.error.as_deref());
        }
        Some(())
    }
}

/// Returns what all prewrites of a transaction have in common.
fn template(entry: &Entry) -> PrewriteRequest {
    PrewriteRequest {
        primary_lock: entry.primary().clone(),
        start_version: entry.start,
        lock_ttl: entry.ttl_ms,
        txn_size: entry.writes.len() as u64,
        min_commit_ts: entry.min_commit,
        ..PrewriteRequest::default()
    }
}

/// Returns the prewrite of some keys.
fn prewrite(entry: &Entry, keys: &[Bytes], one_phase: bool) -> PrewriteRequest {
    let by_async = entry.how != How::TwoPhase;
    let op = |value: &Option<Bytes>| if value.is_some() { Op::Put } else { Op::Del };
    let written = entry.writes.iter().map(|(key, value)| (op(value), key, value.as_ref()));
    let shared = entry.shared.iter().map(|key| (Op::SharedLock, key, None));
    let listed: Vec<_> = written.chain(shared).filter(|(_, key, _)| keys.contains(key)).collect();
    let mutation = |(op, key, value): &(Op, &Bytes, Option<&Bytes>)| Mutation {
        op: *op as i32,
        key: (*key).clone(),
        value: value.cloned().unwrap_or_default(),
        ..Mutation::default()
    };
    let action = |(_, key, _): &(Op, &Bytes, Option<&Bytes>)| match entry.held.contains_key(*key) {
        true => PessimisticAction::DoPessimisticCheck as i32,
        false => PessimisticAction::SkipPessimisticCheck as i32,
    };
    let constraint = |(index, (op, key, _)): (usize, &(Op, &Bytes, Option<&Bytes>))| {
        let (at, _) = entry.held.get(*key).filter(|_| *op != Op::SharedLock)?;
        Some(ForUpdateTsConstraint { index: index as u32, expected_for_update_ts: *at })
    };
    let has_primary = keys.contains(entry.primary());
    let is_pessimistic = entry.locks.is_some();
    PrewriteRequest {
        mutations: listed.iter().map(mutation).collect(),
        pessimistic_actions: if is_pessimistic { listed.iter().map(action).collect() } else { Vec::new() },
        for_update_ts: entry.frozen.unwrap_or_default(),
        for_update_ts_constraints: listed.iter().enumerate().filter_map(constraint).collect(),
        use_async_commit: by_async,
        try_one_pc: one_phase,
        max_commit_ts: if by_async { entry.max_commit } else { 0 },
        secondaries: match by_async && has_primary {
            true => entry.writes[1..].iter().map(|(key, _)| key.clone()).collect(),
            false => Vec::new(),
        },
        ..template(entry)
    }
}
