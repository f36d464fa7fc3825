//! What all clients of the protocol know together: transactions, what servers have said about them, reads and waits.
//!
//! Answers come **in**; contradictions, and at the end the whole history, go **out**. **Never**: a fact that a correct
//! server could take back. A decisive answer about a transaction's fate holds forever, so two that differ are a
//! violation, in whatever order they were given.

use std::collections::BTreeMap;

use armilla::client::{CommitBy, TxnOptions};
use armilla::proto::deadlock::WaitForEntry;
use armilla::proto::kvrpcpb::{LockInfo, Op};
use armilla::types::Timestamp;
use bytes::Bytes;

use crate::workload::history::show;
use crate::workload::txn::{Outcome, Record};

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has committed at this timestamp.
    Committed(u64),
    /// It never commits.
    RolledBack,
}

/// How a transaction wants to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// In two phases.
    TwoPhase,
    /// As soon as all its locks stand.
    Async,
    /// In one request, if a region has all its keys.
    OnePhase,
}

/// The pessimistic locks of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Locks {
    /// The timestamp of its lock requests.
    pub at: u64,
    /// How many of its keys are locked before the prewrite, the first ones.
    pub count: usize,
    /// Whether they are taken over newer versions.
    pub forced: bool,
}

/// A transaction. Its requests are fixed when it begins; clients send them in any order that lost, late and repeated
/// requests of a correct client could have.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The client that began it.
    pub client: u32,
    /// True time before its start timestamp was asked for, ns.
    pub begun_ns: u64,
    /// Its start timestamp.
    pub start: u64,
    /// Its keys and what it writes to them; the primary key first.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
    /// A key that it locks in shared mode, if it is pessimistic.
    pub shared: Option<Bytes>,
    /// A key that must not exist.
    pub absent: Option<Bytes>,
    /// How it wants to commit.
    pub how: How,
    /// How long its locks last, ms.
    pub ttl_ms: u64,
    /// The smallest commit timestamp that its prewrites ask for.
    pub min_commit: u64,
    /// The largest one; 0: any.
    pub max_commit: u64,
    /// Its pessimistic locks, if it is pessimistic.
    pub locks: Option<Locks>,
    /// The locks that it holds: at which timestamp, and the value at that time.
    pub held: BTreeMap<Bytes, (u64, Option<Bytes>)>,
    /// The timestamp of its locks in prewrites, from the first prewrite on.
    pub frozen: Option<u64>,
    /// The smallest commit timestamps in the answers to prewrites; 0: the key is locked for two phases.
    pub prewritten: BTreeMap<Bytes, u64>,
    /// Commit timestamps that its client has chosen, each after the one before was refused.
    pub commits: Vec<u64>,
    /// Whether the last of them was refused.
    pub refused: bool,
    /// Whether its client has given up, without ever having sent a commit.
    pub gives_up: bool,
    /// How long its primary lock lasts at least since a heartbeat, ms.
    pub lives_ms: u64,
    /// What became of it, and when that was first known (true time, ns).
    pub fate: Option<(Fate, u64)>,
    /// Whether a prewrite was accepted when its locks could not stand any more: it must have committed before.
    pub must_be_committed: bool,
    /// What it has read.
    pub reads: Vec<(Bytes, u64, Option<Bytes>)>,
}

impl Entry {
    /// Returns the primary key.
    pub fn primary(&self) -> &Bytes {
        &self.writes[0].0
    }

    /// Returns all keys that it locks; the primary key first.
    pub fn keys(&self) -> Vec<Bytes> {
        self.writes.iter().map(|(key, _)| key).chain(&self.shared).cloned().collect()
    }

    /// Returns whether its primary key decides it.
    pub fn is_two_phase(&self) -> bool {
        self.how == How::TwoPhase || self.prewritten.values().any(|min| *min == 0)
    }

    /// Returns whether all its keys are prewritten.
    pub fn is_prewritten(&self) -> bool {
        self.writes.iter().map(|(key, _)| key).chain(&self.shared).all(|key| self.prewritten.contains_key(key))
    }

    /// Returns whether its client may send prewrites: it holds all its pessimistic locks, or did.
    pub fn may_prewrite(&self) -> bool {
        let shared = usize::from(self.shared.is_some());
        self.frozen.is_some() || self.locks.is_none_or(|locks| self.held.len() >= locks.count + shared)
    }

    /// Returns whether its client may choose a commit timestamp. It does not know what others were told.
    pub fn may_choose(&self) -> bool {
        let open = self.committed().is_none() && !self.gives_up && (self.commits.is_empty() || self.refused);
        open && self.is_two_phase() && self.is_prewritten()
    }

    /// Returns the commit timestamp if it is known to have committed.
    pub fn committed(&self) -> Option<u64> {
        match self.fate {
            Some((Fate::Committed(at), _)) => Some(at),
            _ => None,
        }
    }

    /// Returns whether its lock must still last at `now`, another's timestamp, after `ttl_ms`.
    pub fn lives(&self, ttl_ms: u64, now: u64) -> bool {
        Timestamp(now).physical_ms() <= Timestamp(self.start).physical_ms().saturating_add(ttl_ms)
    }

    fn record(&self) -> Record {
        let outcome = match self.fate {
            Some((Fate::Committed(at), _)) => Outcome::Committed(Timestamp(at)),
            Some((Fate::RolledBack, _)) => Outcome::Aborted,
            None if self.gives_up => Outcome::Aborted,
            None => Outcome::Unknown,
        };
        let commit_by = match self.how {
            How::TwoPhase => CommitBy::TwoPhase,
            How::Async => CommitBy::Async,
            How::OnePhase => CommitBy::OnePhase,
        };
        let (pessimistic, ttl_ms) = (self.locks.is_some(), self.ttl_ms);
        let locked = self.held.iter().map(|(key, (at, _))| (key.clone(), Timestamp(*at)));
        let found = self.held.iter().map(|(key, (at, value))| (key.clone(), Timestamp(*at), value.clone()));
        let seen = self.reads.iter().map(|(key, at, value)| (key.clone(), Timestamp(*at), value.clone()));
        Record {
            client: self.client,
            begun: self.begun_ns,
            ended: self.fate.map_or(u64::MAX, |(_, at)| at),
            start: Timestamp(self.start),
            reads: found.chain(seen).collect(),
            writes: self.writes.clone(),
            locks: locked.collect(),
            outcome,
            options: TxnOptions { pessimistic, commit_by, ttl_ms, ..TxnOptions::default() },
        }
    }
}

/// A read of the newest value.
#[derive(Clone, Debug)]
struct Newest {
    key: Bytes,
    asked_ns: u64,
    value: Option<Bytes>,
}

/// A lock request that may have waited.
#[derive(Clone, Debug)]
struct Wait {
    start: u64,
    key: Bytes,
    from_ns: u64,
    /// When it was answered; `u64::MAX` if it was not.
    to_ns: u64,
}

/// What is known.
#[derive(Debug, Default)]
pub struct Table {
    /// All transactions, in the order in which they began.
    pub entries: Vec<Entry>,
    /// Transactions at whose start the safe point was held, the newest last.
    pub held: Vec<usize>,
    /// The largest safe point of garbage collection that was written or read.
    pub safe_point: u64,
    by_start: BTreeMap<u64, usize>,
    snapshots: Vec<Record>,
    newest: Vec<Newest>,
    waits: Vec<Wait>,
    /// When transactions were known to have committed keys, by start timestamp, and whether they force their locks.
    released: BTreeMap<(u64, Bytes), (u64, bool)>,
}

impl Table {
    /// Adds a transaction. Returns its number.
    pub fn begin(&mut self, entry: Entry) -> usize {
        self.by_start.insert(entry.start, self.entries.len());
        self.entries.push(entry);
        self.entries.len() - 1
    }

    /// Returns the number of the transaction that began at a timestamp.
    pub fn number(&self, start: u64) -> Option<usize> {
        self.by_start.get(&start).copied()
    }

    /// Takes over a decisive answer.
    ///
    /// # Errors
    /// A description of the contradiction to an earlier one.
    pub fn learn(&mut self, number: usize, fate: Fate, by: &str, now_ns: u64) -> Result<(), String> {
        let entry = &mut self.entries[number];
        let who = format!("the transaction {} ({:?}, ttl {} ms)", entry.start, entry.how, entry.ttl_ms);
        match entry.fate {
            None if entry.gives_up && fate != Fate::RolledBack => {
                Err(format!("{by}: {who} is {fate:?}, but its client gave up and never sent a commit"))
            }
            None => {
                entry.fate = Some((fate, now_ns));
                Ok(())
            }
            Some((known, _)) if known == fate => Ok(()),
            Some((known, at)) => {
                let at_s = at as f64 / 1e9;
                Err(format!("{by}: {who} is {fate:?}, but was {known:?} at {at_s:.3} s; {entry:?}"))
            }
        }
    }

    /// Takes over the answer to a prewrite of keys.
    ///
    /// # Errors
    /// As [`Table::learn`].
    pub fn prewrote(&mut self, number: usize, keys: &[Bytes], min: u64, now_ns: u64) -> Result<(), String> {
        let entry = &mut self.entries[number];
        for key in keys {
            let known = entry.prewritten.entry(key.clone()).or_insert(min);
            // Locked for two phases once, it stays so.
            *known = if min == 0 { 0 } else { *known };
        }
        if entry.is_two_phase() || !entry.is_prewritten() {
            return Ok(());
        }
        let at = entry.prewritten.values().copied().max().unwrap_or_default();
        self.learn(number, Fate::Committed(at), "all keys are prewritten", now_ns)
    }

    /// Notes what a snapshot showed. The transaction that began at that timestamp has read it, if there is one.
    pub fn read(&mut self, client: u32, asked_ns: u64, at: u64, found: Vec<(Bytes, Option<Bytes>)>) {
        let found = found.into_iter().map(|(key, value)| (key, at, value));
        if let Some(number) = self.number(at) {
            self.entries[number].reads.extend(found);
            return;
        }
        self.snapshots.push(Record {
            client,
            begun: asked_ns,
            ended: u64::MAX,
            start: Timestamp(at),
            reads: found.map(|(key, at, value)| (key, Timestamp(at), value)).collect(),
            writes: Vec::new(),
            locks: Vec::new(),
            outcome: Outcome::Unknown,
            options: TxnOptions::default(),
        });
    }

    /// Notes a read of the newest value.
    pub fn read_newest(&mut self, key: Bytes, asked_ns: u64, value: Option<Bytes>) {
        self.newest.push(Newest { key, asked_ns, value });
    }

    /// Notes that a lock request is sent. Returns its number.
    pub fn waits(&mut self, start: u64, key: Bytes, now_ns: u64) -> usize {
        self.waits.push(Wait { start, key, from_ns: now_ns, to_ns: u64::MAX });
        self.waits.len() - 1
    }

    /// Notes that a lock request was answered.
    pub fn answered(&mut self, wait: usize, now_ns: u64) {
        self.waits[wait].to_ns = now_ns;
    }

    /// Notes that a transaction has committed keys: it has no locks on them any more. Rollbacks do not count: a late
    /// request may lock such a key again.
    pub fn release(&mut self, entry: &Entry, keys: &[Bytes], now_ns: u64) {
        let forces = entry.locks.is_some_and(|locks| locks.forced);
        for key in keys {
            self.released.entry((entry.start, key.clone())).or_insert((now_ns, forces));
        }
    }

    /// Checks that a request which waited for a lock in vain was told of one that stood when its time was over.
    ///
    /// # Errors
    /// A description of a lock that had been released long before.
    pub fn waited_in_vain(&self, wait: usize, limit_ms: i64, lock: &LockInfo) -> Result<(), String> {
        let Wait { start, key, from_ns, .. } = &self.waits[wait];
        // Nodes' clocks may run fast.
        let least_ns = u64::try_from(limit_ms).unwrap_or_default() * 1_000_000 / 2;
        let Some((released_ns, forces)) = self.released.get(&(lock.lock_version, key.clone())) else { return Ok(()) };
        // A late request that forces its lock takes one even after its own transaction's commit.
        let is_late = *forces && lock.lock_type() == Op::PessimisticLock;
        if *released_ns < from_ns + least_ns && lock.key == key && !is_late && lock.shared_lock_infos.is_empty() {
            let (released_s, from_s) = (*released_ns as f64 / 1e9, *from_ns as f64 / 1e9);
            return Err(format!(
                "the transaction {start} waited {limit_ms} ms from {from_s:.3} s for key {}, and was told that {} has \
                 locked it, which had released it at {released_s:.3} s",
                show(key),
                lock.lock_version
            ));
        }
        Ok(())
    }

    /// Checks that the waits of a circle can have stood at one moment.
    ///
    /// # Errors
    /// A description of a circle that never was.
    pub fn circle(&self, chain: &[WaitForEntry]) -> Result<(), String> {
        let of = |edge: &WaitForEntry| {
            let (txn, key) = (edge.txn, edge.key.clone());
            self.waits.iter().filter(move |wait| wait.start == txn && wait.key == key)
        };
        let moments = chain.iter().flat_map(of).map(|wait| wait.from_ns);
        let stood = |at: &u64| chain.iter().all(|edge| of(edge).any(|wait| wait.from_ns <= *at && *at <= wait.to_ns));
        let closed = chain.iter().zip(chain.iter().cycle().skip(1)).all(|(one, next)| one.wait_for_txn == next.txn);
        if closed && moments.into_iter().any(|at| stood(&at)) {
            return Ok(());
        }
        let edges: Vec<_> =
            chain.iter().map(|one| format!("{} for {} at {}", one.txn, one.wait_for_txn, show(&one.key))).collect();
        Err(format!("a deadlock was told of waits that never stood at one moment: {}", edges.join(", ")))
    }

    /// Returns all transactions and snapshots, for the judgement of the whole history.
    pub fn records(&self) -> Vec<Record> {
        self.entries.iter().map(Entry::record).chain(self.snapshots.iter().cloned()).collect()
    }

    /// Checks that transactions which a prewrite said to have committed have a record, as `has_record` knows by start
    /// timestamp and key.
    ///
    /// # Errors
    /// A description of one that has none.
    pub fn check_accepted(&self, has_record: impl Fn(u64, &Bytes) -> bool) -> Result<(), String> {
        let accepted = self.entries.iter().filter(|entry| entry.must_be_committed);
        for entry in accepted {
            if !entry.writes.iter().any(|(key, _)| has_record(entry.start, key)) {
                return Err(format!("a prewrite below the safe point of the collection was accepted: {entry:?}"));
            }
        }
        Ok(())
    }

    /// Returns how many transactions have begun, and how many have committed.
    pub fn counts(&self) -> (u64, u64) {
        let committed = self.entries.iter().filter(|entry| entry.committed().is_some()).count();
        (self.entries.len() as u64, committed as u64)
    }

    /// Checks that a read of the newest value saw all that was known to have committed before it was asked for.
    ///
    /// # Errors
    /// A description of a read that did not.
    pub fn check_newest(&self) -> Result<(), String> {
        for read in &self.newest {
            let written = |entry: &'_ Entry| {
                entry.writes.iter().find(|(key, _)| *key == read.key).map(|(_, value)| value.clone())
            };
            let before = self.entries.iter().filter(|entry| entry.fate.is_some_and(|(_, at)| at < read.asked_ns));
            let acked = before.filter_map(|entry| written(entry).and(entry.committed())).max().unwrap_or_default();
            let may = |entry: &Entry| match entry.fate {
                Some((Fate::Committed(at), _)) => at >= acked,
                Some((Fate::RolledBack, _)) => false,
                None => true,
            };
            let fits = self.entries.iter().any(|entry| may(entry) && written(entry) == Some(read.value.clone()));
            if !fits && (acked != 0 || read.value.is_some()) {
                let (key, at_s) = (show(&read.key), read.asked_ns as f64 / 1e9);
                let value = read.value.as_ref().map_or("nothing".into(), |value| show(value));
                return Err(format!(
                    "a read of the newest value of key {key} at {at_s:.3} s saw {value}, although a transaction had \
                     committed at {acked}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: contradictions are seen, and only those. Method: answers by hand.
    use super::*;

    fn entry(start: u64, how: How) -> Entry {
        Entry {
            client: 1,
            begun_ns: 0,
            start,
            writes: vec![("a".into(), Some(format!("{start}").into())), ("b".into(), None)],
            shared: None,
            absent: None,
            how,
            ttl_ms: 10,
            min_commit: 0,
            max_commit: 0,
            locks: None,
            held: BTreeMap::new(),
            frozen: None,
            prewritten: BTreeMap::new(),
            commits: Vec::new(),
            refused: false,
            gives_up: false,
            lives_ms: 0,
            fate: None,
            must_be_committed: false,
            reads: Vec::new(),
        }
    }

    #[test]
    fn fates() {
        let mut table = Table::default();
        let one = table.begin(entry(5, How::Async));
        table.prewrote(one, &["a".into()], 7, 1).unwrap();
        assert_eq!(table.entries[one].fate, None);
        table.prewrote(one, &["b".into()], 9, 2).unwrap();
        assert_eq!(table.entries[one].committed(), Some(9));
        assert!(table.learn(one, Fate::Committed(9), "x", 3).is_ok());
        assert!(table.learn(one, Fate::Committed(8), "x", 3).is_err());
        assert!(table.learn(one, Fate::RolledBack, "x", 3).is_err());
        let other = table.begin(entry(6, How::Async));
        table.prewrote(other, &["a".into()], 0, 1).unwrap();
        table.prewrote(other, &["b".into()], 9, 2).unwrap();
        assert!(table.entries[other].fate.is_none() && table.entries[other].may_choose());
        table.entries[other].gives_up = true;
        assert!(table.learn(other, Fate::Committed(9), "x", 3).is_err());
        assert!(table.learn(other, Fate::RolledBack, "x", 3).is_ok());
    }

    #[test]
    fn newest_reads() {
        let mut table = Table::default();
        for start in [5, 15] {
            let number = table.begin(entry(start, How::TwoPhase));
            table.learn(number, Fate::Committed(start + 5), "x", start * 10).unwrap();
        }
        table.read_newest("a".into(), 10, None);
        table.read_newest("a".into(), 60, Some("5".into()));
        table.read_newest("a".into(), 60, Some("15".into()));
        table.read_newest("b".into(), 200, None);
        assert_eq!(table.check_newest(), Ok(()));
        table.read_newest("a".into(), 151, Some("5".into()));
        assert!(table.check_newest().is_err());
    }

    #[test]
    fn waits_in_vain() {
        let mut table = Table::default();
        let wait = table.waits(7, "a".into(), 1_000_000_000);
        let lock = LockInfo { lock_version: 5, key: "a".into(), ..LockInfo::default() };
        assert!(table.waited_in_vain(wait, 200, &lock).is_ok());
        table.release(&entry(5, How::TwoPhase), &["a".into()], 1_150_000_000);
        assert!(table.waited_in_vain(wait, 200, &lock).is_ok());
        assert!(table.waited_in_vain(wait, 400, &lock).is_err());
        assert!(table.waited_in_vain(wait, -1, &lock).is_ok());
    }

    #[test]
    fn circles() {
        let mut table = Table::default();
        let edge = |txn, wait_for_txn, key: &'static str| WaitForEntry {
            txn,
            wait_for_txn,
            key: key.into(),
            ..WaitForEntry::default()
        };
        let chain = [edge(1, 2, "a"), edge(2, 1, "b")];
        let first = table.waits(1, "a".into(), 10);
        table.answered(first, 20);
        table.waits(2, "b".into(), 21);
        assert!(table.circle(&chain).is_err());
        table.waits(1, "a".into(), 30);
        assert!(table.circle(&chain).is_ok());
        assert!(table.circle(&chain[..1]).is_err());
    }
}
