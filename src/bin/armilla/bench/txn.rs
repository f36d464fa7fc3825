//! Workloads of transactions: one client runs one transaction after the other, and again if others were in its way.
//!
//! They use the client of the store's own tools, which finds regions, batches requests for timestamps and ends locks
//! that it meets. The raw workloads do without all that, so a ratio between the two includes the clients' work. Gets
//! from snapshots are sent as raw gets are (`unary.rs`): there is nothing in their way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use armilla::client::txn::Done;
use armilla::client::{CommitBy, Error, Failed, PdClient, RawClient, RawOptions, Txn, TxnClient, TxnOptions, Why};
use armilla::rt::Env;
use armilla::rt::rng::Rng;
use armilla::types::Timestamp;
use bytes::{BufMut as _, Bytes, BytesMut};
use clap::ValueEnum;

use super::keys::{KEY_BYTES, Keys};
use super::{Args, Shared, Tally, Workload, bar, in_chunks};
use crate::failure::Failure;

/// A transaction that others prevented for so long is given up, and counted as failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an optimistic transaction waits for the locks of others before it begins again.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// What each account has at first.
const BALANCE: i64 = 1000;
/// How many pairs the last look at all accounts reads at once.
const PAGE: u32 = 2048;

/// How transactions treat keys that others may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Find out when they commit, and then run again.
    #[default]
    Optimistic,
    /// Lock keys before they read or write them.
    Pessimistic,
}

/// What the clients of transactions share.
pub struct Transactions {
    pd: PdClient,
    /// One for each connection.
    clients: Vec<TxnClient>,
    /// The number of the next key to insert.
    inserted: AtomicU64,
}

impl Transactions {
    /// Creates clients for `args.connections` connections to each store.
    pub fn new(pd: &PdClient, env: &Env, args: &Args) -> Transactions {
        let client = |n: u32| {
            let rng = Rng::fork(args.seed, &format!("connection {n}"));
            let options = RawOptions { deadline: TIMEOUT, ..RawOptions::default() };
            TxnClient::new(RawClient::new(pd.clone(), env.net.clone(), env.clock.clone(), rng, options))
        };
        let clients = (0..args.connections.min(args.clients)).map(client).collect();
        Transactions { pd: pd.clone(), clients, inserted: AtomicU64::new(0) }
    }

    /// Returns a new timestamp.
    pub async fn timestamp(&self) -> Result<Timestamp, Error> {
        self.pd.tso(1).await
    }

    /// Waits until all locks of the transactions that have committed are ended.
    pub async fn settle(&self) {
        for client in &self.clients {
            client.settle().await;
        }
    }

    fn client(&self, number: u32) -> &TxnClient {
        &self.clients[number as usize % self.clients.len()]
    }
}

/// Returns the options of the transactions of a run.
fn options(mode: Mode) -> TxnOptions {
    TxnOptions {
        pessimistic: mode == Mode::Pessimistic,
        commit_by: CommitBy::OnePhase,
        // Whoever waits with some keys locked may wait for one that waits for it: better to begin again.
        patience: if mode == Mode::Pessimistic { TIMEOUT } else { LOCK_TIMEOUT },
        in_background: true,
        ..TxnOptions::default()
    }
}

/// What one transaction does.
enum Job {
    Put(Bytes),
    Insert(Bytes),
    Change(Bytes),
    Transfer(Bytes, Bytes, i64),
    Scan(Bytes),
}

/// Runs until the time is over.
pub async fn run(shared: Arc<Shared>, number: u32) -> Tally {
    let mut tally = Tally::new();
    let mut rng = Rng::fork(shared.args.seed, &format!("client {number}"));
    let client = shared.transactions.client(number).clone();
    while !shared.is_over() {
        let Some(job) = job(&shared, &mut rng) else {
            // All keys are inserted.
            shared.over.store(true, Ordering::Relaxed);
            break;
        };
        let sent = Instant::now();
        let mut tries = 0;
        loop {
            match attempt(&client, &shared, &job).await {
                Ok(pairs) => {
                    tally.answered(&shared, sent, Instant::now(), pairs);
                    break;
                }
                Err(Failed::Aborted(abort)) if !matches!(abort.why, Why::Refused | Why::Exists) => {
                    tally.prevented(&shared, abort.why);
                    if shared.is_over() {
                        break;
                    }
                    if sent.elapsed() > TIMEOUT {
                        tally.failed(&shared, || format!("given up after {TIMEOUT:?}: {abort}"));
                        break;
                    }
                    let wait_us = rng.below(1000 << tries.min(5));
                    tokio::time::sleep(Duration::from_micros(wait_us)).await;
                    tries += 1;
                }
                Err(failed) => {
                    tally.failed(&shared, || failed.to_string());
                    break;
                }
            }
        }
    }
    tally
}

/// Returns what a client does next; `None` if nothing is left to do.
fn job(shared: &Shared, rng: &mut Rng) -> Option<Job> {
    let mut draw = || Bytes::copy_from_slice(&shared.keys.draw(rng));
    Some(match shared.args.workload {
        Workload::TxnPut => Job::Put(draw()),
        Workload::TxnRmw => Job::Change(draw()),
        Workload::TxnScan => Job::Scan(draw()),
        Workload::TxnInsert => {
            let number = shared.transactions.inserted.fetch_add(1, Ordering::Relaxed);
            let key = (number < shared.args.keys).then(|| shared.keys.key(number))?;
            Job::Insert(Bytes::copy_from_slice(&key))
        }
        _ => {
            let source = draw();
            let target = (0..100).map(|_| draw()).find(|key| *key != source)?;
            Job::Transfer(source, target, rng.between(1, 9) as i64)
        }
    })
}

/// Runs a transaction once. Returns how many pairs it has read or written.
async fn attempt(client: &TxnClient, shared: &Shared, job: &Job) -> Done<u64> {
    let mut txn = client.begin(options(shared.args.mode)).await?;
    let filled = fill(&mut txn, shared, job).await;
    match filled {
        Ok(pairs) => txn.commit().await.map(|_| pairs),
        Err(failed) => {
            txn.rollback().await;
            Err(failed)
        }
    }
}

async fn fill(txn: &mut Txn, shared: &Shared, job: &Job) -> Done<u64> {
    let pessimistic = txn.is_pessimistic();
    match job {
        Job::Put(key) => {
            if pessimistic {
                txn.lock(key, false).await?;
            }
            txn.put(key.clone(), shared.value.clone());
            Ok(1)
        }
        Job::Insert(key) => {
            if pessimistic {
                txn.lock(key, false).await?;
            }
            txn.insert(key.clone(), shared.value.clone());
            Ok(1)
        }
        Job::Change(key) => {
            let value = read(txn, key).await?;
            txn.put(key.clone(), with_balance(&shared.value, balance(value.as_ref()) + 1));
            Ok(1)
        }
        Job::Transfer(source, target, sum) => {
            // In the order of the keys, as careful applications do: so transactions do not wait for each other.
            for (key, change) in BTreeMap::from([(source, -sum), (target, *sum)]) {
                let has = balance(read(txn, key).await?.as_ref());
                txn.put(key.clone(), with_balance(&shared.value, has + change));
            }
            Ok(2)
        }
        Job::Scan(from) => {
            let found = txn.scan(from, &Bytes::new(), shared.args.scan_limit, false).await?;
            Ok(found.len() as u64)
        }
    }
}

/// Reads a key that the transaction is going to write.
async fn read(txn: &mut Txn, key: &Bytes) -> Done<Option<Bytes>> {
    // By force: the one that has waited longest gets the key, at its newest value.
    if txn.is_pessimistic() { Ok(txn.lock(key, true).await?.1) } else { txn.get(key).await }
}

/// Returns a value that begins with a balance.
fn with_balance(value: &Bytes, balance: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(value.len().max(8));
    out.put_i64(balance);
    out.put_slice(value.get(8..).unwrap_or_default());
    out.freeze()
}

/// Returns the balance at the beginning of a value; 0 if there is none.
fn balance(value: Option<&Bytes>) -> i64 {
    value.and_then(|value| value.first_chunk::<8>()).map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// Writes every key once; the workload that inserts keys deletes them instead.
pub async fn preload(shared: &Transactions, args: &Args, keys: &Keys, value: &Bytes) -> Result<(), Failure> {
    if args.workload == Workload::TxnInsert {
        return clean(shared, args, keys).await;
    }
    let per = ((256 << 10) / (u64::from(args.value_size) + 64)).clamp(1, 512);
    let value = with_balance(value, BALANCE);
    write_all(shared, args, keys, "loading keys", per, |txn, key| txn.put(key, value.clone())).await
}

/// Deletes the keys of the run, and no others.
pub async fn clean(shared: &Transactions, args: &Args, keys: &Keys) -> Result<(), Failure> {
    write_all(shared, args, keys, "removing keys", 512, |txn, key| txn.delete(key)).await
}

/// Returns the options of transactions that load or remove keys: they wait for what an earlier run has left.
fn patient() -> TxnOptions {
    TxnOptions { commit_by: CommitBy::OnePhase, patience: TIMEOUT, ..TxnOptions::default() }
}

/// Writes all keys, `per` in a transaction.
async fn write_all(
    shared: &Transactions,
    args: &Args,
    keys: &Keys,
    what: &str,
    per: u64,
    write: impl Fn(&mut Txn, Bytes),
) -> Result<(), Failure> {
    in_chunks(args, what, per, |numbers| {
        let (client, write) = (shared.client(numbers.start as u32), &write);
        async move {
            let mut txn = client.begin(patient()).await?;
            numbers.for_each(|n| write(&mut txn, Bytes::copy_from_slice(&keys.key(n))));
            txn.commit().await.map(drop)
        }
    })
    .await
}

/// Checks that transfers have neither made nor lost money.
///
/// Fails if the sum of all accounts is not what it was at first.
pub async fn check_sum(shared: &Shared) -> Result<(), Failure> {
    let txn = shared.transactions.client(0).begin(patient()).await?;
    let progress = bar(shared.args.json, shared.args.keys, "adding up {bar:30} {pos}/{len}");
    let (mut from, mut sum, mut found) = (Bytes::new(), 0i64, 0u64);
    loop {
        let page = txn.scan(&from, &Bytes::new(), PAGE, false).await?;
        for (key, value) in &page {
            if is_account(&shared.keys, shared.args.keys, key) {
                sum += balance(Some(value));
                found += 1;
            }
        }
        progress.set_position(found);
        match page.last() {
            Some((last, _)) if page.len() as u32 >= PAGE => from = [&last[..], &[0]].concat().into(),
            _ => break,
        }
    }
    progress.finish_and_clear();
    let expected = BALANCE * shared.args.keys as i64;
    if (sum, found) == (expected, shared.args.keys) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the transfers are not atomic: {found} accounts have {sum} together, not {} with {expected}",
        shared.args.keys
    )))
}

/// Returns whether a key is one of the run's.
fn is_account(keys: &Keys, count: u64, key: &Bytes) -> bool {
    let number =
        key.get(8..KEY_BYTES).and_then(|bytes| bytes.first_chunk::<8>()).map(|bytes| u64::from_be_bytes(*bytes));
    number.is_some_and(|n| n < count && keys.key(n) == **key)
}

/// How often transactions were prevented, by reason.
pub type Prevented = BTreeMap<Why, u64>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Distribution;

    #[test]
    fn balances_are_at_the_beginning_of_values() {
        for size in [0, 3, 8, 20] {
            let value = with_balance(&Bytes::from(vec![7; size]), -5);
            assert_eq!((value.len(), balance(Some(&value))), (size.max(8), -5));
        }
        assert_eq!((balance(None), balance(Some(&"short".into()))), (0, 0));
    }

    #[test]
    fn accounts_are_told_from_other_keys() {
        let keys = Keys::new(10, Distribution::Uniform);
        let key = |n| Bytes::copy_from_slice(&keys.key(n));
        assert!(is_account(&keys, 10, &key(9)) && !is_account(&keys, 10, &key(10)));
        assert!(!is_account(&keys, 10, &"0123456789abcdef".into()) && !is_account(&keys, 10, &"k".into()));
    }
}
