//! Questions about transactions: their fate, their locks, whether they live; and what the answers may be.
//!
//! **In** come answers, **out** go facts. **Never**: a lock ended before its time to live, or by a question about a key
//! that is not its primary.

use std::collections::BTreeSet;

use armilla::client::txn::has_expired;
use armilla::proto::kvrpcpb::{
    Action, CheckSecondaryLocksRequest, CheckTxnStatusRequest, CheckTxnStatusResponse, CleanupRequest, LockInfo,
    TxnHeartBeatRequest,
};
use armilla::rt::rng::Rng;
use armilla::types::Timestamp;
use bytes::Bytes;

use super::send::send;
use super::table::{Entry, Fate, How};
use super::{PATIENCE_NS, Worker};

/// What became of a lock's transaction, for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is decided.
    Fate(Fate),
    /// It commits after the reader's snapshot, if at all.
    Later,
    /// It may commit at any time.
    Alive,
}

impl Worker {
    /// Takes over a decisive answer.
    pub(super) fn learn(&self, number: usize, fate: Fate, by: &str) {
        let now = self.now();
        let known = self.with(|table| table.learn(number, fate, by, now));
        self.judge(known);
    }

    /// Asks a transaction's primary key for its fate. Returns the answer, if it is one.
    async fn status(
        &self,
        number: usize,
        (caller, current): (u64, u64),
        ends: bool,
        rng: &mut Rng,
    ) -> Option<CheckTxnStatusResponse> {
        let entry = self.entry(number);
        let resolving = entry.locks.is_some() && rng.chance(0.3);
        let request = CheckTxnStatusRequest {
            primary_key: entry.primary().clone(),
            lock_ts: entry.start,
            caller_start_ts: caller,
            current_ts: current,
            rollback_if_not_exist: ends,
            resolving_pessimistic_lock: resolving,
            verify_is_primary: true,
            ..CheckTxnStatusRequest::default()
        };
        let place = self.sender.place(entry.primary())?;
        let reply: CheckTxnStatusResponse =
            send!(place, self.sender, Worker::wait_ns(rng), kv_check_txn_status, request)?;
        self.check_status(number, &entry, (caller, current), &reply);
        Some(reply)
    }

    /// Judges an answer of a transaction's primary key; `entry` is what was known before it was asked for.
    fn check_status(
        &self,
        number: usize,
        entry: &Entry,
        (caller, current): (u64, u64),
        reply: &CheckTxnStatusResponse,
    ) {
        if reply.error.is_some() {
            return;
        }
        let start = entry.start;
        match (reply.action(), reply.lock_ttl, reply.commit_version) {
            (Action::MinCommitTsPushed, 1.., _) => {
                let min = reply.lock_info.as_ref().map_or(0, |lock| lock.min_commit_ts);
                if caller != u64::MAX && min <= caller {
                    self.fails(format!("the transaction {start} is said to be pushed above {caller}, but is at {min}"));
                }
            }
            (_, 1.., _) => {}
            (_, 0, 1..) => self.learn(number, Fate::Committed(reply.commit_version), "the primary key"),
            (Action::LockNotExistDoNothing, ..) => {}
            (action @ (Action::TtlExpireRollback | Action::TtlExpirePessimisticRollback), ..) => {
                let ttl_ms = entry.ttl_ms.max(entry.lives_ms);
                if entry.lives(ttl_ms, current) {
                    self.fails(format!(
                        "the transaction {start} was ended at {current} ({action:?}), although it lives {ttl_ms} ms"
                    ));
                }
                if action == Action::TtlExpireRollback {
                    self.learn(number, Fate::RolledBack, "its expiry");
                }
            }
            (action, ..) => self.learn(number, Fate::RolledBack, &format!("the primary key ({action:?})")),
        }
    }

    /// Asks a transaction's primary key with timestamps that clients may have.
    pub(super) async fn ask(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        let caller = if rng.chance(0.5) { self.pd.tso(1).await.ok()?.0 } else { 0 };
        let current = match rng.below(5) {
            // A clock that stood still since.
            0 | 1 => entry.start,
            2 => Timestamp::new(Timestamp(entry.start).physical_ms() + entry.ttl_ms, 0)
                .0
                .min(self.pd.tso(1).await.ok()?.0),
            _ => self.pd.tso(1).await.ok()?.0,
        };
        self.status(number, (caller, current), rng.chance(0.5), rng).await.map(drop)
    }

    /// Asks a transaction's primary key, which ends it if it knows nothing of it.
    pub(super) async fn ask_ending(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let start = self.entry(number).start;
        self.status(number, (0, start), true, rng).await.map(drop)
    }

    /// Asks a key that is not the primary one: it must not decide anything.
    pub(super) async fn ask_elsewhere(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        let (key, _) = entry.writes.get(1)?;
        let current = self.pd.tso(1).await.ok()?.0;
        let request = CheckTxnStatusRequest {
            primary_key: key.clone(),
            lock_ts: entry.start,
            caller_start_ts: if rng.chance(0.5) { current } else { 0 },
            current_ts: current,
            verify_is_primary: true,
            ..CheckTxnStatusRequest::default()
        };
        let place = self.sender.place(key)?;
        let reply: CheckTxnStatusResponse = send!(place, self.sender, PATIENCE_NS, kv_check_txn_status, request)?;
        let start = entry.start;
        match (reply.error.is_some(), reply.lock_ttl, reply.action()) {
            (true, ..) => {}
            (_, 1.., _) => self.fails(format!("the transaction {start} was asked for at another key than its primary")),
            (.., Action::TtlExpireRollback) => {
                self.fails(format!("the transaction {start} was rolled back at another key than its primary"));
            }
            (_, 0, _) if reply.commit_version != 0 => {
                self.learn(number, Fate::Committed(reply.commit_version), "a record");
            }
            _ => {}
        }
        Some(())
    }

    /// Asks some keys of an async commit whether they are locked. Returns their locks.
    pub(super) async fn secondaries(&self, number: usize, keys: &[Bytes], rng: &mut Rng) -> Option<Vec<LockInfo>> {
        let entry = self.entry(number);
        let mut all = Vec::new();
        let mut left: Vec<Bytes> = keys.to_vec();
        while let Some(first) = left.first() {
            let place = self.sender.place(first)?;
            let keys = if rng.chance(0.5) { place.own(&left) } else { vec![first.clone()] };
            left.retain(|key| !keys.contains(key));
            let count = keys.len();
            let request = CheckSecondaryLocksRequest {
                keys,
                start_version: entry.start,
                ..CheckSecondaryLocksRequest::default()
            };
            let reply = send!(place, self.sender, Worker::wait_ns(rng), kv_check_secondary_locks, request)?;
            if reply.error.is_some() {
                return None;
            }
            match (reply.commit_ts, reply.locks.len()) {
                (0, locks) if locks < count => self.learn(number, Fate::RolledBack, "a key without its lock"),
                (0, _) => {}
                (at, _) => self.learn(number, Fate::Committed(at), "the record of another key"),
            }
            all.extend(reply.locks);
        }
        Some(all)
    }

    /// Asks one other key of an async commit.
    pub(super) async fn ask_secondary(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        if entry.how == How::TwoPhase || entry.writes.len() < 2 {
            return None;
        }
        let (key, _) = &entry.writes[rng.between(1, entry.writes.len() as u64 - 1) as usize];
        self.secondaries(number, std::slice::from_ref(key), rng).await.map(drop)
    }

    /// Finds out what became of a transaction whose lock is in the way, as clients do.
    pub(super) async fn settle(&self, number: usize, reader: u64, rng: &mut Rng) -> Settled {
        if let Some((fate, _)) = self.entry(number).fate
            && rng.chance(0.7)
        {
            return Settled::Fate(fate);
        }
        self.try_settle(number, reader, rng).await.unwrap_or(Settled::Alive)
    }

    async fn try_settle(&self, number: usize, reader: u64, rng: &mut Rng) -> Option<Settled> {
        let entry = self.entry(number);
        let now = self.pd.tso(1).await.ok()?;
        let is_old = !entry.lives(entry.ttl_ms, now.0);
        let reply = self.status(number, (reader, now.0), is_old, rng).await?;
        let decided = |worker: &Worker| worker.entry(number).fate.map(|(fate, _)| Settled::Fate(fate));
        if reply.error.is_some() || reply.lock_ttl == 0 {
            return decided(self);
        }
        let lives = match reply.action() {
            Action::MinCommitTsPushed if reader != 0 => Settled::Later,
            _ => Settled::Alive,
        };
        let lock = reply.lock_info?;
        if !lock.use_async_commit || !has_expired(&lock, now) {
            return Some(lives);
        }
        let others: Vec<Bytes> = entry.writes[1..].iter().map(|(key, _)| key.clone()).collect();
        let listed: BTreeSet<&Bytes> = lock.secondaries.iter().collect();
        if listed != others.iter().collect() {
            self.fails(format!("the primary lock of {} lists {:?}, not its keys", entry.start, lock.secondaries));
        }
        let found = self.secondaries(number, &others, rng).await?;
        if let Some(decided) = decided(self) {
            return Some(decided);
        }
        if found.iter().all(|lock| lock.use_async_commit) && found.len() == others.len() {
            let at = found.iter().map(|lock| lock.min_commit_ts).fold(lock.min_commit_ts, u64::max);
            self.learn(number, Fate::Committed(at), "all its locks");
            return decided(self);
        }
        // One of them is locked for two phases: the primary key decides.
        let request = CheckTxnStatusRequest {
            primary_key: entry.primary().clone(),
            lock_ts: entry.start,
            current_ts: now.0,
            rollback_if_not_exist: true,
            force_sync_commit: true,
            verify_is_primary: true,
            ..CheckTxnStatusRequest::default()
        };
        let place = self.sender.place(entry.primary())?;
        let reply: CheckTxnStatusResponse = send!(place, self.sender, PATIENCE_NS, kv_check_txn_status, request)?;
        self.check_status(number, &entry, (0, now.0), &reply);
        decided(self)
    }

    /// Rolls a transaction back at its primary key if it has expired, or at once.
    pub(super) async fn clean_up(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        let current_ts = if rng.chance(0.8) { self.pd.tso(1).await.ok()?.0 } else { 0 };
        let place = self.sender.place(entry.primary())?;
        let request = CleanupRequest {
            key: entry.primary().clone(),
            start_version: entry.start,
            current_ts,
            ..CleanupRequest::default()
        };
        let reply = send!(place, self.sender, Worker::wait_ns(rng), kv_cleanup, request)?;
        match (reply.error, reply.commit_version) {
            (Some(_), _) => {}
            (None, 0) => self.learn(number, Fate::RolledBack, "a clean-up"),
            (None, at) => self.learn(number, Fate::Committed(at), "a clean-up"),
        }
        Some(())
    }

    /// Makes a transaction live longer.
    pub(super) async fn heartbeat(&self, number: usize, rng: &mut Rng) -> Option<()> {
        let entry = self.entry(number);
        let advise_lock_ttl = entry.ttl_ms * rng.between(1, 3);
        let place = self.sender.place(entry.primary())?;
        let request = TxnHeartBeatRequest {
            primary_lock: entry.primary().clone(),
            start_version: entry.start,
            advise_lock_ttl,
            ..TxnHeartBeatRequest::default()
        };
        let reply = send!(place, self.sender, PATIENCE_NS, kv_txn_heart_beat, request)?;
        if reply.error.is_some() {
            return None;
        }
        if reply.lock_ttl < advise_lock_ttl {
            let start = entry.start;
            self.fails(format!("the transaction {start} lives {} ms, not {advise_lock_ttl}", reply.lock_ttl));
        }
        // A pessimistic lock may be given up and taken again.
        if entry.locks.is_none() {
            self.with(|table| {
                let lives_ms = &mut table.entries[number].lives_ms;
                *lives_ms = (*lives_ms).max(reply.lock_ttl);
            });
        }
        Some(())
    }
}
