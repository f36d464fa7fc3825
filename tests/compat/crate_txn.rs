//! Transactions of crates.io's `tikv-client`: every call in every mode against a model, and a bank whose leader dies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tikv_client::{CheckLevel, Key, Result, Transaction, TransactionClient, TransactionOptions};

use super::{Cluster, kill_leader, runtime, starts, steadfast, turn};

const ACCOUNTS: usize = 10;
const FIRST: i64 = 100;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// All modes: how a transaction locks, and how it commits.
fn modes() -> Vec<(String, TransactionOptions)> {
    let kinds =
        [("optimistic", TransactionOptions::new_optimistic()), ("pessimistic", TransactionOptions::new_pessimistic())];
    let mut all = Vec::new();
    for (name, kind) in kinds {
        let kind = kind.drop_check(CheckLevel::None);
        all.push((format!("{name}, two phases"), kind.clone()));
        all.push((format!("{name}, async"), kind.clone().use_async_commit()));
        all.push((format!("{name}, one phase"), kind.use_async_commit().try_one_pc()));
    }
    all
}

async fn begin(client: &TransactionClient, options: &TransactionOptions) -> Transaction {
    steadfast("begin", || client.begin_with_options(options.clone())).await
}

/// Reads keys in each of the ways that there are, in a snapshot of now.
async fn read(client: &TransactionClient, keys: &[Vec<u8>]) -> Model {
    let now = steadfast("timestamp", || client.current_timestamp()).await;
    let mut snapshot = client.snapshot(now, TransactionOptions::new_optimistic().drop_check(CheckLevel::None));
    let mut one = Model::new();
    for key in keys {
        let value = snapshot.get(key.clone()).await.expect("get");
        assert_eq!(snapshot.key_exists(key.clone()).await.expect("key_exists"), value.is_some());
        one.extend(value.map(|value| (key.clone(), value)));
    }
    let pairs = snapshot.batch_get(keys.to_vec()).await.expect("batch_get");
    let many: Model = pairs.map(|pair| (Vec::from(Key::clone(pair.key())), pair.into_value())).collect();
    assert_eq!(one, many, "get and batch_get");
    let range = || keys[0].clone()..=keys[keys.len() - 1].clone();
    let asked = |key: &Vec<u8>| keys.contains(key);
    let up: Model = snapshot
        .scan(range(), 1000)
        .await
        .expect("scan")
        .map(|pair| (Vec::from(Key::clone(pair.key())), pair.into_value()))
        .filter(|(key, _)| asked(key))
        .collect();
    assert_eq!(one, up, "get and scan");
    let down: Vec<Vec<u8>> = snapshot
        .scan_keys_reverse(range(), 1000)
        .await
        .expect("scan_keys_reverse")
        .map(Vec::from)
        .filter(asked)
        .collect();
    assert_eq!(down, one.keys().rev().cloned().collect::<Vec<_>>(), "scan_keys_reverse");
    one
}

async fn every_call(client: &TransactionClient, regions: &[Vec<u8>], (name, options): &(String, TransactionOptions)) {
    let tag = name.replace([' ', ','], "");
    let key = |start: &Vec<u8>, n: usize| [start.as_slice(), format!("\x04crate/{tag}/{n}").as_bytes()].concat();
    let mut keys: Vec<Vec<u8>> = regions.iter().flat_map(|start| (0..3).map(move |n| key(start, n))).collect();
    keys.sort();
    let mut model = Model::new();
    let mut txn = begin(client, options).await;
    for (n, key) in keys.iter().enumerate() {
        let value = format!("{name} {n}{}", ".".repeat(n % 2 * 400)).into_bytes();
        txn.put(key.clone(), value.clone()).await.expect("put");
        model.insert(key.clone(), value);
    }
    assert_eq!(txn.get(keys[1].clone()).await.expect("get"), model.get(&keys[1]).cloned(), "its own value");
    txn.commit().await.expect("commit");
    assert_eq!(read(client, &keys).await, model, "{name}: written");

    let mut txn = begin(client, options).await;
    txn.lock_keys([keys[3].clone()]).await.expect("lock_keys");
    txn.delete(keys[0].clone()).await.expect("delete");
    txn.put(keys[1].clone(), "again".to_owned()).await.expect("put");
    assert_eq!(txn.get(keys[0].clone()).await.expect("get"), None, "its own delete");
    txn.commit().await.expect("commit");
    model.remove(&keys[0]);
    model.insert(keys[1].clone(), b"again".to_vec());
    assert_eq!(read(client, &keys).await, model, "{name}: changed");

    let mut txn = begin(client, options).await;
    txn.put(keys[2].clone(), "never".to_owned()).await.expect("put");
    txn.rollback().await.expect("rollback");
    let mut txn = begin(client, options).await;
    let inserted = async {
        txn.insert(keys[1].clone(), "never".to_owned()).await?;
        txn.commit().await
    }
    .await;
    assert!(inserted.is_err(), "{name}: a key that exists is not inserted");
    let _ = txn.rollback().await;
    let mut txn = begin(client, options).await;
    txn.insert(keys[0].clone(), "inserted".to_owned()).await.expect("insert");
    txn.commit().await.expect("commit");
    model.insert(keys[0].clone(), b"inserted".to_vec());
    assert_eq!(read(client, &keys).await, model, "{name}: inserted");

    if options.is_pessimistic() {
        let mut txn = begin(client, options).await;
        assert_eq!(txn.get_for_update(keys[0].clone()).await.expect("get_for_update"), Some(b"inserted".to_vec()));
        let two = txn.batch_get_for_update([keys[0].clone(), keys[1].clone()]).await.expect("batch_get_for_update");
        assert_eq!(two.len(), 2);
        assert!(txn.send_heart_beat().await.expect("send_heart_beat") > 0);
        txn.rollback().await.expect("rollback");
    } else {
        let (mut one, mut other) = (begin(client, options).await, begin(client, options).await);
        one.put(keys[2].clone(), "first".to_owned()).await.expect("put");
        other.put(keys[2].clone(), "second".to_owned()).await.expect("put");
        other.commit().await.expect("commit");
        assert!(one.commit().await.is_err(), "{name}: the later commit is refused");
        let _ = one.rollback().await;
        model.insert(keys[2].clone(), b"second".to_vec());
        assert_eq!(read(client, &keys).await, model, "{name}: after a conflict");
    }
}

/// Moves an amount between two accounts.
async fn transfer(client: &TransactionClient, options: &TransactionOptions, n: usize, keys: &[Vec<u8>]) -> Result<()> {
    let mut txn = client.begin_with_options(options.clone()).await?;
    let moved = async {
        let amount = (n % 9 + 1) as i64;
        let (from, further) = (n % ACCOUNTS, 1 + n / 7 % (ACCOUNTS - 1));
        for (at, change) in [(from, -amount), ((from + further) % ACCOUNTS, amount)] {
            let key = keys[at].clone();
            let value = match options.is_pessimistic() {
                true => txn.get_for_update(key.clone()).await?,
                false => txn.get(key.clone()).await?,
            };
            let balance: i64 = String::from_utf8(value.unwrap_or_default()).unwrap_or_default().parse().unwrap_or(0);
            txn.put(key, (balance + change).to_string()).await?;
        }
        txn.commit().await
    };
    let moved = moved.await.map(drop);
    if moved.is_err() {
        let _ = txn.rollback().await;
    }
    moved
}

async fn sum(client: &TransactionClient, keys: &[Vec<u8>]) -> Result<i64> {
    let now = client.current_timestamp().await?;
    let mut snapshot = client.snapshot(now, TransactionOptions::new_optimistic().drop_check(CheckLevel::None));
    let pairs = snapshot.batch_get(keys.to_vec()).await?;
    Ok(pairs
        .map(|pair| String::from_utf8(pair.into_value()).expect("a number").parse::<i64>().expect("a number"))
        .sum())
}

#[test]
fn crate_tikv_client_transactions() {
    let _turn = turn();
    let runtime = runtime();
    let mut cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let mut regions = starts(&runtime, &cluster);
    regions.pop();
    let client = runtime.block_on(steadfast("connect", || TransactionClient::new(cluster.addrs())));
    for mode in &modes() {
        runtime.block_on(every_call(&client, &regions, mode));
    }

    let account = |n: usize| [regions[n % regions.len()].as_slice(), format!("\x04account/{n}").as_bytes()].concat();
    let keys: Arc<Vec<Vec<u8>>> = Arc::new((0..ACCOUNTS).map(account).collect());
    runtime.block_on(async {
        let mut txn = begin(&client, &modes()[0].1).await;
        for key in keys.iter() {
            txn.put(key.clone(), FIRST.to_string()).await.expect("put");
        }
        txn.commit().await.expect("commit");
    });
    let client = Arc::new(client);
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    // Of this client's async commits an undetermined one may be rolled back although it has committed: two phases.
    let kinds = [modes().remove(0).1, modes().remove(3).1];
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let (client, over, done, keys) = (client.clone(), over.clone(), done.clone(), keys.clone());
            let options = kinds[worker % 2].clone();
            runtime.spawn(async move {
                for n in (worker..).step_by(4) {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    if transfer(&client, &options, n, &keys).await.is_ok() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let watch = |count: u32| {
        let (wanted, began) = (done.load(Ordering::Relaxed) + count, Instant::now());
        while done.load(Ordering::Relaxed) < wanted {
            assert!(began.elapsed() < Duration::from_secs(90), "transfers go on");
            if let Ok(total) = runtime.block_on(sum(&client, &keys)) {
                assert_eq!(total, FIRST * ACCOUNTS as i64, "in a snapshot");
            }
        }
    };
    watch(30);
    let killed = kill_leader(&runtime, &mut cluster, &keys[1]);
    watch(30);
    cluster.restart(killed);
    cluster.wait_ready();
    watch(30);
    over.store(true, Ordering::Relaxed);
    for worker in workers {
        runtime.block_on(worker).expect("a worker does not panic");
    }
    let total = runtime.block_on(steadfast("sum", || sum(&client, &keys)));
    assert_eq!(total, FIRST * ACCOUNTS as i64, "at the end");
}
