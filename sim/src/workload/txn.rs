//! The transactional clients: transfers between accounts, blind writes, inserts, deletes, snapshots of everything. Each
//! transaction draws how it commits, how long it lives without a heartbeat, and after how many requests its client
//! dies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use armilla::client::txn::Done;
use armilla::client::{CommitBy, Failed, PdClient, RawClient, RawOptions, Txn, TxnClient, TxnOptions};
use armilla::proto::kvrpcpb::MvccInfo;
use armilla::rt::rng::Rng;
use armilla::rt::sim::World;
use armilla::types::Timestamp;
use bytes::Bytes;

use crate::cluster::monitor::Monitor;
use crate::oracle::Violation;
use crate::plan::{Plan, key};
use crate::workload::history::show;
use crate::workload::txn_barrier;
use crate::workload::txn_ranges::Ranges;
use crate::workload::txn_stale;

/// Number of clients that run transactions.
pub const CLIENTS: u32 = 3;
/// Number of accounts, between which transfers take place.
const ACCOUNTS: u32 = 5;
/// Number of keys that are written without being read, inserted and deleted.
const REGISTERS: u32 = 3;
/// What every account has at first.
pub const FIRST_BALANCE: i64 = 100;
/// The longest life of a transaction without a heartbeat, ms.
pub const TTL_MS_MAX: u64 = 4000;

/// Returns the keys of transactions, spread over the key space.
pub fn all_keys(plan: &Plan) -> Vec<Bytes> {
    let count = ACCOUNTS + REGISTERS;
    let name = |n: u32| if n < ACCOUNTS { "account" } else { "register" };
    let near =
        |n: u32| key(u64::from(plan.workload.keys).saturating_mul(u64::from(n)).div_ceil(u64::from(count)) as u32);
    let mut keys: Vec<Bytes> = (0..count).map(|n| [&near(n)[..], b"~", name(n).as_bytes()].concat().into()).collect();
    keys.dedup();
    keys
}

/// Returns whether a key is an account.
pub fn is_account(key: &[u8]) -> bool {
    key.ends_with(b"~account")
}

/// Returns the balance in an account's value.
pub fn balance(value: Option<&Bytes>) -> i64 {
    let Some(value) = value else { return FIRST_BALANCE };
    let text = String::from_utf8_lossy(value);
    text.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(i64::MIN / 2)
}

/// What a transaction's client knows about its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It committed at this timestamp; 0 if it wrote nothing.
    Committed(Timestamp),
    /// It did not commit and never will.
    Aborted,
    /// It may have committed.
    Unknown,
}

/// One transaction, as its client saw it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The client's number.
    pub client: u32,
    /// True time before it asked for its start timestamp, ns.
    pub begun: u64,
    /// True time when its end was known, ns.
    pub ended: u64,
    /// Its start timestamp.
    pub start: Timestamp,
    /// What it read, at which timestamp.
    pub reads: Vec<(Bytes, Timestamp, Option<Bytes>)>,
    /// What it wrote; `None` deletes.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
    /// The keys that it locked before it committed, and at which timestamp.
    pub locks: Vec<(Bytes, Timestamp)>,
    /// How it ended.
    pub outcome: Outcome,
    /// Its settings, for people.
    pub options: TxnOptions,
}

impl Record {
    /// Describes the transaction in one line.
    pub fn summary(&self) -> String {
        let keys: Vec<_> = self.writes.iter().map(|(key, _)| show(key)).collect();
        let locks: Vec<_> = self.locks.iter().map(|(key, at)| format!("{} at {at}", show(key))).collect();
        let (from, to) = (self.begun as f64 / 1e9, self.ended as f64 / 1e9);
        let TxnOptions { pessimistic, commit_by, ttl_ms, .. } = &self.options;
        let kind = if *pessimistic { "pessimistic" } else { "optimistic" };
        let (outcome, client) = (&self.outcome, self.client);
        format!(
            "client {client}, {from:.3}-{to:.3}s, {kind} {commit_by:?} ttl {ttl_ms}, {outcome:?}, keys {keys:?}, locks {locks:?}"
        )
    }
}

/// All transactions.
pub type Records = Arc<Mutex<Vec<Record>>>;

/// One client.
pub struct TxnWorker {
    number: u32,
    client: TxnClient,
    world: World,
    plan: Arc<Plan>,
    records: Records,
    ranges: Ranges,
    pd: PdClient,
    monitor: Monitor,
}

/// Returns the transactional client over another client's connections.
pub fn over(raw: &RawClient) -> TxnClient {
    let options = RawOptions { retry_unknown: true, ..raw.options().clone() };
    TxnClient::new(raw.with_options(options))
}

impl TxnWorker {
    /// Creates the client with this number.
    pub fn new(
        number: u32,
        raw: &RawClient,
        world: &World,
        plan: &Arc<Plan>,
        (records, monitor): (&Records, &Monitor),
    ) -> TxnWorker {
        let client = over(raw);
        let ranges = Ranges::new(number, client.clone(), plan, monitor);
        let (pd, monitor, plan) = (raw.pd().clone(), monitor.clone(), plan.clone());
        TxnWorker { number, client, world: world.clone(), plan, records: records.clone(), ranges, pd, monitor }
    }

    /// Runs transactions until `until_ns` (true time).
    pub async fn run(mut self, until_ns: u64) {
        let mut rng = Rng::fork(self.plan.workload.seed ^ u64::from(self.number), "transactions");
        let keys = all_keys(&self.plan);
        let mut slow = Rng::fork(self.plan.workload.seed ^ u64::from(self.number), "slow transactions");
        let mut away = Rng::fork(self.plan.workload.seed ^ u64::from(self.number), "reads of replicas");
        for n in 0.. {
            self.world.sleep_ns(rng.between(1, self.plan.workload.txn_ms * 2) * 1_000_000).await;
            if self.world.now_ns() >= until_ns {
                return;
            }
            if slow.chance(0.04) {
                let world = self.world.clone();
                self.ranges.step(&mut slow, || world.now_ns()).await;
            }
            if slow.chance(0.015) {
                let (name, clients) = (format!("reader-{}", self.number), (&self.client, &self.pd));
                txn_barrier::read(&name, clients, (&self.world, &self.monitor), &keys, &mut slow).await;
            }
            if self.plan.workload.replica_reads && away.chance(0.5) {
                self.read_past(&keys, &mut away).await;
            }
            // Some take long to think, before they read or between that and the commit.
            let thinks_ms = if slow.chance(0.06) { slow.between(100, 5000) } else { 0 };
            let anywhere = self.plan.workload.replica_reads && away.chance(0.4);
            let client = if anywhere { self.client.reading_anywhere() } else { self.client.clone() };
            self.one((&client, &mut rng), &keys, n, thinks_ms).await;
        }
    }

    /// Reads as of a moment that has passed, and records what was seen.
    async fn read_past(&self, keys: &[Bytes], rng: &mut Rng) {
        let begun = self.world.now_ns();
        let Some(seen) = txn_stale::read((&self.client, &self.pd), keys, rng).await else { return };
        let record = Record {
            client: self.number,
            begun,
            ended: self.world.now_ns(),
            start: seen.start,
            reads: seen.reads,
            writes: Vec::new(),
            locks: Vec::new(),
            outcome: Outcome::Committed(Timestamp(0)),
            options: TxnOptions::default(),
        };
        self.records.lock().expect("nothing panics while holding it").push(record);
    }

    fn options(&self, rng: &mut Rng) -> TxnOptions {
        let commit_by = *rng.pick(&[CommitBy::TwoPhase, CommitBy::TwoPhase, CommitBy::Async, CommitBy::OnePhase]);
        TxnOptions {
            pessimistic: rng.chance(0.5),
            commit_by,
            ttl_ms: if rng.chance(0.4) { rng.between(20, 400) } else { rng.between(1500, TTL_MS_MAX) },
            causal: rng.chance(0.7),
            commit_within: rng.chance(0.2).then(|| Duration::from_millis(rng.between(0, 2000))),
            patience: Duration::from_millis(rng.between(200, 3000)),
            in_background: rng.chance(0.3),
            heartbeats: rng.chance(0.5),
        }
    }

    /// Runs one transaction and records it.
    async fn one(&self, (client, rng): (&TxnClient, &mut Rng), keys: &[Bytes], n: u64, thinks_ms: u64) {
        let options = self.options(rng);
        let client = if rng.chance(0.12) { client.dying_after(rng.between(1, 14) as u32) } else { client.clone() };
        let begun = self.world.now_ns();
        let Ok(mut txn) = client.begin(options.clone()).await else { return };
        let mut record = Record {
            client: self.number,
            begun,
            ended: 0,
            start: txn.start(),
            reads: Vec::new(),
            writes: Vec::new(),
            locks: Vec::new(),
            outcome: Outcome::Unknown,
            options: options.clone(),
        };
        let number = {
            let mut records = self.records.lock().expect("nothing panics while holding it");
            records.push(record.clone());
            records.len() - 1
        };
        // Half of those that think do so before they read.
        if !thinks_ms.is_multiple_of(2) {
            self.world.sleep_ns(thinks_ms * 1_000_000).await;
        }
        let filled = self.fill(&mut txn, &options, rng, keys, n, &mut record).await;
        // What may have been written is known before anything is sent.
        self.records.lock().expect("nothing panics while holding it")[number] = record.clone();
        if thinks_ms > 0 && thinks_ms.is_multiple_of(2) {
            self.world.sleep_ns(thinks_ms * 1_000_000).await;
        }
        let filled = match filled {
            Ok(()) if !options.pessimistic && options.commit_by == CommitBy::TwoPhase => {
                self.flush(&mut txn, &record, &mut Rng::fork(record.start.0, "flushes")).await
            }
            filled => filled,
        };
        record.outcome = match filled {
            Ok(()) => match txn.commit().await {
                Ok(at) => Outcome::Committed(at),
                Err(Failed::Aborted(_)) => Outcome::Aborted,
                Err(Failed::Unknown(_)) => Outcome::Unknown,
            },
            Err(_) => {
                txn.rollback().await;
                Outcome::Aborted
            }
        };
        record.ended = self.world.now_ns();
        self.records.lock().expect("nothing panics while holding it")[number] = record;
    }

    /// Reads and writes within a transaction.
    async fn fill(
        &self,
        txn: &mut Txn,
        options: &TxnOptions,
        rng: &mut Rng,
        keys: &[Bytes],
        n: u64,
        record: &mut Record,
    ) -> Done<()> {
        let value = |text: &str, rng: &mut Rng| {
            let mut value = format!("{text}.{}.{n}", self.number).into_bytes();
            if rng.chance(0.15) {
                value.resize(300, b'.');
            }
            Bytes::from(value)
        };
        let accounts: Vec<&Bytes> = keys.iter().filter(|key| is_account(key)).collect();
        let registers: Vec<&Bytes> = keys.iter().filter(|key| !is_account(key)).collect();
        match rng.below(10) {
            0..=4 if accounts.len() > 1 => {
                let from = rng.below(accounts.len() as u64) as usize;
                let to = (from + 1 + rng.below(accounts.len() as u64 - 1) as usize) % accounts.len();
                let mut found = Vec::new();
                for key in [accounts[from], accounts[to]] {
                    found.push(self.read(txn, options, rng, key, record).await?);
                }
                if options.pessimistic {
                    let other = accounts[(to.max(from) + 1) % accounts.len()];
                    self.share(txn, other, &mut Rng::fork(record.start.0, "shared locks"), record).await?;
                }
                let sum = rng.between(1, 9) as i64;
                for (key, (found, change)) in
                    [accounts[from], accounts[to]].into_iter().zip(found.iter().zip([-sum, sum]))
                {
                    let value = value(&(balance(found.as_ref()) + change).to_string(), rng);
                    record.writes.push((key.clone(), Some(value.clone())));
                    txn.put(key.clone(), value);
                }
            }
            0..=6 if !registers.is_empty() => {
                for key in registers {
                    if !rng.chance(0.6) {
                        continue;
                    }
                    if options.pessimistic && rng.chance(0.8) {
                        self.read(txn, options, rng, key, record).await?;
                    }
                    match rng.below(5) {
                        0 => {
                            record.writes.push((key.clone(), None));
                            txn.delete(key.clone());
                        }
                        1 if !options.pessimistic => {
                            let value = value("insert", rng);
                            record.writes.push((key.clone(), Some(value.clone())));
                            txn.insert(key.clone(), value);
                        }
                        _ => {
                            let value = value("put", rng);
                            record.writes.push((key.clone(), Some(value.clone())));
                            txn.put(key.clone(), value);
                        }
                    }
                }
            }
            _ => self.snapshot(txn, rng, keys, record).await?,
        }
        Ok(())
    }

    /// In some transactions, sends the servers other values first, then those that count, and reads them back.
    async fn flush(&self, txn: &mut Txn, record: &Record, rng: &mut Rng) -> Done<()> {
        if !rng.chance(0.35) {
            return Ok(());
        }
        for _ in 0..rng.between(1, 2) {
            for (key, _) in &record.writes {
                match rng.below(4) {
                    0 => txn.delete(key.clone()),
                    1 => txn.put(key.clone(), vec![b'd'; 300].into()),
                    2 => txn.put(key.clone(), "draft".into()),
                    _ => {}
                }
            }
            txn.flush().await?;
        }
        for (key, value) in &record.writes {
            match value {
                Some(value) => txn.put(key.clone(), value.clone()),
                None => txn.delete(key.clone()),
            }
        }
        if rng.chance(0.7) {
            txn.flush().await?;
        }
        for (key, value) in &record.writes {
            let found = txn.get(key).await?;
            if found != *value {
                let what =
                    format!("the transaction {} wrote {value:?} to {} and reads {found:?}", txn.start(), show(key));
                self.monitor.report(Violation::new("transactions", self.world.now_ns(), 0, what));
            }
        }
        Ok(())
    }

    /// Reads a key, in a pessimistic transaction by locking it.
    async fn read(
        &self,
        txn: &mut Txn,
        options: &TxnOptions,
        rng: &mut Rng,
        key: &Bytes,
        record: &mut Record,
    ) -> Done<Option<Bytes>> {
        if options.pessimistic {
            let (at, value) = txn.lock(key, rng.chance(0.3)).await?;
            record.locks.push((key.clone(), at));
            record.reads.push((key.clone(), at, value.clone()));
            return Ok(value);
        }
        let value = txn.get(key).await?;
        record.reads.push((key.clone(), txn.start(), value.clone()));
        Ok(value)
    }

    /// In some transactions, reads another key by locking it in shared mode.
    async fn share(&self, txn: &mut Txn, key: &Bytes, rng: &mut Rng, record: &mut Record) -> Done<()> {
        if !rng.chance(0.4) || record.locks.iter().any(|(locked, _)| locked == key) {
            return Ok(());
        }
        let (at, value) = txn.lock_shared(key).await?;
        record.locks.push((key.clone(), at));
        record.reads.push((key.clone(), at, value));
        Ok(())
    }

    /// Reads all keys as they were at the transaction's start.
    async fn snapshot(&self, txn: &Txn, rng: &mut Rng, keys: &[Bytes], record: &mut Record) -> Done<()> {
        let (first, last) = (keys[0].clone(), [&keys[keys.len() - 1][..], b"\0"].concat().into());
        let found = txn.scan(&first, &last, 1000, rng.chance(0.4)).await?;
        for key in keys {
            let value = found.iter().find(|(of, _)| of == key).map(|(_, value)| value.clone());
            record.reads.push((key.clone(), txn.start(), value));
        }
        Ok(())
    }
}

/// Everything that is stored of each key at the end.
pub type Dump = Vec<(Bytes, MvccInfo)>;
