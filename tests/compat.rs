//! Tests of unmodified third-party TiKV clients against three real processes.
//!
//! **Goal**: every raw call that each of them offers, and the transactions of PyPI's and crates.io's `tikv-client`,
//! work over several regions, and after the leader's process is killed; while regions are split, merged and moved and
//! leaders are transferred, no error reaches the application and nothing is lost; a file system of JuiceFS, which uses
//! the Go client's transactions, keeps all its files. **Method**: PyPI's `tikv-client` and `tikv-python` run scripts
//! (`tests/compat/*.py`) that compare every result with a model and request faults from this test; crates.io's
//! `tikv-client` is called from here, call by call.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

mod common;
#[path = "compat/crate_txn.rs"]
mod crate_txn;
#[path = "compat/keyspaces.rs"]
mod keyspaces;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use common::{Cluster, Storm, converse, kill_leader, run, starts};
use tikv_client::{BoundRange, ColumnFamily, Key, KvPair, RawClient};

/// Each test starts three nodes, which is enough load for two cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

// ---------------------------------------------------------------------------------------------------------------------
// Python

/// Returns the Python with both clients, which is installed if it is missing (registry: PyPI).
fn python() -> PathBuf {
    let (venv, installed) = installed("compat-venv", include_str!("compat/requirements.txt"), "requirements.txt");
    installed.unwrap_or_else(|why| panic!("{why}"));
    venv.join("bin/python")
}

/// Returns JuiceFS, which is installed if it is missing (registry: PyPI, 124 MB), or why it cannot be had.
fn juicefs() -> Result<PathBuf, String> {
    let (venv, installed) = installed("juicefs-venv", include_str!("compat/juicefs.txt"), "juicefs.txt");
    installed.map(|()| venv.join("bin/juicefs"))
}

/// Makes a virtual environment with what a file of `tests/compat` lists. Returns its folder, and why it is not there.
fn installed(name: &str, wanted: &str, list: &str) -> (PathBuf, Result<(), String>) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let venv = target.join(name);
    let stamp = venv.join("armilla-requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return (venv, Ok(()));
    }
    std::fs::remove_dir_all(&venv).ok();
    let step = |program: &Path, args: &[&std::ffi::OsStr]| {
        let mut command = Command::new(program);
        command.args(args);
        let finished = run(command, Duration::from_secs(300));
        match finished.code {
            Some(0) => Ok(()),
            _ => Err(format!("{program:?} {args:?} (.ci/setup installs python3-venv):\n{}", finished.text)),
        }
    };
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat").join(list);
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"].map(std::ffi::OsStr::new);
    let made = step(Path::new("python3"), &["-m".as_ref(), "venv".as_ref(), venv.as_os_str()])
        .and_then(|()| step(&venv.join("bin/python"), &[&pip[..], &[requirements.as_os_str()]].concat()));
    if made.is_ok() {
        std::fs::write(stamp, wanted).expect("writable");
    }
    (venv, made)
}

/// Runs one script to its end and carries out the faults that it requests.
fn script(name: &str) {
    script_with(name, None);
}

/// Does the same; the script finds the program `other` in an environment variable.
fn script_with(name: &str, other: Option<(&str, &Path)>) {
    let _turn = turn();
    let python = python();
    let runtime = runtime();
    let mut cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat").join(name);
    let mut command = Command::new(python);
    command.arg("-B").arg(path).envs(other);
    converse(name, command, &runtime, &mut cluster);
}

#[test]
fn pypi_tikv_client() {
    script("tikv_client_raw.py");
}

#[test]
fn pypi_tikv_client_transactions() {
    script("tikv_client_txn.py");
}

#[test]
fn juicefs_keeps_its_files_while_a_leader_is_killed() {
    match juicefs() {
        Ok(program) => script_with("juicefs.py", Some(("ARMILLA_JUICEFS", &program))),
        Err(why) => println!("juicefs: skipped: {why}"),
    }
}

#[test]
fn pypi_tikv_python() {
    script("tikv_python_raw.py");
}

/// Starts four nodes, so that replicas can move, and returns keys at which their regions can be split.
fn four_nodes(runtime: &tokio::runtime::Runtime) -> (Cluster, Vec<Vec<u8>>) {
    let mut cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let starts = starts(runtime, &cluster);
    cluster.join();
    let inside =
        |start: &Vec<u8>| (0..4).map(|n| [start, format!("storm/{n}/050").as_bytes()].concat()).collect::<Vec<_>>();
    (cluster, starts[..starts.len() - 1].iter().flat_map(inside).collect())
}

/// Runs a client while regions are split, merged and moved, and leaders are transferred: it must not notice.
fn storm(client: &str) {
    let _turn = turn();
    let python = python();
    let runtime = runtime();
    let (mut cluster, keys) = four_nodes(&runtime);
    let storm = Storm::begin(&cluster, &keys);
    let mut command = Command::new(python);
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/storm.py"));
    command.env("ARMILLA_CLIENT", client);
    converse(client, command, &runtime, &mut cluster);
    storm.end();
}

#[test]
fn pypi_tikv_client_in_a_storm() {
    storm("tikv-client");
}

#[test]
fn pypi_tikv_python_in_a_storm() {
    storm("tikv-python");
}

// ---------------------------------------------------------------------------------------------------------------------
// Rust

/// The crate gives up after about 1.5 s of retries, so the test retries.
async fn steadfast<T, F>(what: &str, mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = tikv_client::Result<T>>,
{
    let began = Instant::now();
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) => {
                assert!(began.elapsed() < Duration::from_secs(60), "{what}: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Compares every raw call of the crate with a model. `tag` keeps two runs apart.
async fn every_raw_call(client: &RawClient, regions: &[Vec<u8>], tag: &str) {
    let key = |start: &[u8], name: &str| [start, format!("crate/{tag}/{name}").as_bytes()].concat();
    let keys =
        |pairs: Vec<KvPair>| -> Vec<Vec<u8>> { pairs.into_iter().map(|pair| Vec::from(pair.into_key())).collect() };
    let plain = |pairs: Vec<KvPair>| -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.into_iter().map(|pair| (Vec::from(pair.key().clone()), pair.into_value())).collect()
    };

    // Single keys.
    for start in regions {
        let k = key(start, "one");
        assert_eq!(client.get(k.clone()).await.unwrap(), None);
        client.put(k.clone(), "1".to_owned()).await.unwrap();
        assert_eq!(client.get(k.clone()).await.unwrap(), Some(b"1".to_vec()));
        client.put(k.clone(), Vec::new()).await.unwrap();
        assert_eq!(client.get(k.clone()).await.unwrap(), Some(Vec::new()), "an empty value is a value");
        client.delete(k.clone()).await.unwrap();
        assert_eq!(client.get(k.clone()).await.unwrap(), None);
    }

    // Column families are separate.
    let k = key(&regions[0], "cf");
    let families = [ColumnFamily::Default, ColumnFamily::Lock, ColumnFamily::Write];
    for (n, family) in families.iter().enumerate() {
        client.with_cf(family.clone()).put(k.clone(), vec![n as u8]).await.unwrap();
    }
    for (n, family) in families.iter().enumerate() {
        let client = client.with_cf(family.clone());
        assert_eq!(client.get(k.clone()).await.unwrap(), Some(vec![n as u8]));
        client.delete(k.clone()).await.unwrap();
        assert_eq!(client.get(k.clone()).await.unwrap(), None);
    }

    // Time to live.
    let k = key(&regions[0], "ttl");
    assert_eq!(client.get_key_ttl_secs(k.clone()).await.unwrap(), None, "an absent key");
    client.put_with_ttl(k.clone(), "v".to_owned(), 1000).await.unwrap();
    let left = client.get_key_ttl_secs(k.clone()).await.unwrap().expect("a ttl");
    assert!((900..=1000).contains(&left), "{left}");
    client.put(k.clone(), "v".to_owned()).await.unwrap();
    assert_eq!(client.get_key_ttl_secs(k.clone()).await.unwrap(), Some(0), "a put without a ttl clears it");
    client.put_with_ttl(k.clone(), "v".to_owned(), 1).await.unwrap();
    let began = Instant::now();
    while client.get(k.clone()).await.unwrap().is_some() {
        assert!(began.elapsed() < Duration::from_secs(60), "a key with a ttl of 1 s does not expire");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(client.get_key_ttl_secs(k.clone()).await.unwrap(), None, "an expired key");

    // Batches over all regions.
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for start in regions {
        for n in 0..30 {
            let k = key(start, &format!("batch/{n:03}"));
            model.insert(k.clone(), [b"v".as_slice(), &k].concat());
        }
    }
    client.batch_put(model.clone()).await.unwrap();
    let sorted = |pairs: Vec<KvPair>| plain(pairs).into_iter().collect::<BTreeMap<_, _>>();
    assert_eq!(sorted(client.batch_get(model.keys().cloned()).await.unwrap()), model);
    let ttls: Vec<u64> = model.keys().map(|_| 500).collect();
    client.batch_put_with_ttl(model.clone(), ttls).await.unwrap();
    for k in model.keys().step_by(11) {
        let left = client.get_key_ttl_secs(k.clone()).await.unwrap().expect("a ttl");
        assert!((400..=500).contains(&left), "{left}");
    }
    client.batch_put(model.clone()).await.unwrap();
    let gone: Vec<Vec<u8>> = model.keys().step_by(3).cloned().collect();
    client.batch_delete(gone.clone()).await.unwrap();
    for k in &gone {
        model.remove(k);
    }
    let asked: Vec<Vec<u8>> = model.keys().cloned().chain(gone).collect();
    assert_eq!(sorted(client.batch_get(asked).await.unwrap()), model, "missing keys are left out");

    // Scans.
    let all: Vec<(Vec<u8>, Vec<u8>)> = model.clone().into_iter().collect();
    for start in regions {
        let (low, high) = (key(start, "batch/"), key(start, "batch0"));
        let inside: Vec<_> = all.iter().filter(|(k, _)| low <= *k && *k < high).cloned().collect();
        let inside_keys: Vec<Vec<u8>> = inside.iter().map(|(k, _)| k.clone()).collect();
        assert_eq!(plain(client.scan(low.clone()..high.clone(), 1000).await.unwrap()), inside);
        assert_eq!(plain(client.scan(low.clone()..high.clone(), 7).await.unwrap()), inside[..7]);
        let (first, last) = (inside_keys[0].clone(), inside_keys[inside_keys.len() - 1].clone());
        assert_eq!(plain(client.scan(first.clone()..=last.clone(), 1000).await.unwrap()), inside);
        let seen: Vec<Vec<u8>> =
            client.scan_keys(low.clone()..high.clone(), 1000).await.unwrap().into_iter().map(Vec::from).collect();
        assert_eq!(seen, inside_keys);
        // In reverse the crate is correct inside one region only (it walks the regions upwards).
        let down: Vec<_> = inside.iter().rev().cloned().collect();
        assert_eq!(plain(client.scan_reverse(low.clone()..high.clone(), 1000).await.unwrap()), down);
        assert_eq!(plain(client.scan_reverse(low.clone()..high.clone(), 5).await.unwrap()), down[..5]);
        let seen: Vec<Vec<u8>> =
            client.scan_keys_reverse(low..high, 1000).await.unwrap().into_iter().map(Vec::from).collect();
        assert_eq!(seen, inside_keys.into_iter().rev().collect::<Vec<_>>());
    }
    let (first, last) = (all[0].0.clone(), all[all.len() - 1].0.clone());
    let across = plain(client.scan(first.clone()..=last.clone(), 10_000).await.unwrap());
    let across: Vec<_> = across.into_iter().filter(|(k, _)| model.contains_key(k)).collect();
    assert_eq!(across, all, "a scan over all regions");
    let ranges: Vec<_> =
        regions.iter().map(|start| BoundRange::from(key(start, "batch/")..key(start, "batch0"))).collect();
    let mut seen = plain(client.batch_scan(ranges.clone(), 1000).await.unwrap());
    seen.sort();
    assert_eq!(seen, all, "batch_scan");
    let mut seen: Vec<Vec<u8>> =
        client.batch_scan_keys(ranges, 1000).await.unwrap().into_iter().map(Vec::from).collect();
    seen.sort();
    assert_eq!(seen, model.keys().cloned().collect::<Vec<_>>(), "batch_scan_keys");
    assert!(client.scan(first.clone()..=last.clone(), 10_241).await.is_err(), "the crate's own limit");

    // Compare and swap.
    assert!(
        client.compare_and_swap(b"k".to_vec(), None, b"v".to_vec()).await.is_err(),
        "the crate wants an atomic client"
    );
    let atomic = client.with_atomic_for_cas();
    assert!(atomic.batch_delete(vec![b"k".to_vec()]).await.is_err(), "not offered by the crate's atomic client");
    for start in regions {
        let k = key(start, "swap");
        let swap = async |before: Option<&str>, new: &str| {
            let before = before.map(|text| text.as_bytes().to_vec());
            atomic.compare_and_swap(k.clone(), before, new.as_bytes().to_vec()).await.unwrap()
        };
        assert_eq!(swap(Some("x"), "y").await, (None, false));
        assert_eq!(swap(None, "1").await, (None, true));
        assert_eq!(swap(None, "2").await, (Some(b"1".to_vec()), false));
        assert_eq!(swap(Some("1"), "2").await, (Some(b"1".to_vec()), true));
        assert_eq!(atomic.get(k.clone()).await.unwrap(), Some(b"2".to_vec()));
        atomic.put(k.clone(), "3".to_owned()).await.unwrap();
        assert_eq!(swap(Some("3"), "4").await, (Some(b"3".to_vec()), true));
        atomic.delete(k.clone()).await.unwrap();
        assert_eq!(swap(None, "5").await, (None, true));
    }

    // A coprocessor that does not exist is an error, and nothing else.
    let ranges = vec![key(&regions[0], "a")..key(&regions[0], "b")];
    assert!(client.coprocessor("none", "0.1.0", ranges, |_, _| Vec::new()).await.is_err());

    // Ranges are deleted across regions.
    let (low, high) = (all[4].0.clone(), all[all.len() - 4].0.clone());
    client.delete_range(low.clone()..high.clone()).await.unwrap();
    model.retain(|k, _| !(low <= *k && *k < high));
    let left = keys(client.batch_get(all.iter().map(|(k, _)| k.clone())).await.unwrap());
    let mut left: Vec<Vec<u8>> = left;
    left.sort();
    assert_eq!(left, model.keys().cloned().collect::<Vec<_>>(), "delete_range");
}

#[test]
fn crate_tikv_client() {
    let _turn = turn();
    let runtime = runtime();
    let mut cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let mut regions = starts(&runtime, &cluster);
    // The last region is the sentinel; clients' keys are before it.
    regions.pop();
    let client = runtime.block_on(steadfast("connect", || RawClient::new(cluster.addrs())));
    runtime.block_on(every_raw_call(&client, &regions, "whole"));

    // The leader dies while eight writers write, and every acknowledged write must survive.
    let keys: Vec<Vec<u8>> = regions
        .iter()
        .flat_map(|start| {
            (0..60).map(move |n| [start.as_slice(), format!("crate/failover/{n:03}").as_bytes()].concat())
        })
        .collect();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let client = client.clone();
            let mine: Vec<Vec<u8>> = keys.iter().skip(writer).step_by(8).cloned().collect();
            runtime.spawn(async move {
                for k in mine {
                    steadfast("put", || client.put(k.clone(), k.clone())).await;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(20));
    let killed = kill_leader(&runtime, &mut cluster, &keys[0]);
    for writer in writers {
        runtime.block_on(writer).expect("a writer does not panic");
    }
    let expected: BTreeMap<Vec<u8>, Vec<u8>> = keys.iter().map(|k| (k.clone(), k.clone())).collect();
    let read = async || {
        let pairs = steadfast("batch_get", || client.batch_get(keys.clone())).await;
        pairs.into_iter().map(|p| (Vec::from(Key::clone(p.key())), p.into_value())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(runtime.block_on(read()), expected, "with one node dead");
    cluster.restart(killed);
    cluster.wait_ready();
    assert_eq!(runtime.block_on(read()), expected, "with the node back");
    // Every call again. A leader may just have moved back, so the client first finds it.
    runtime.block_on(steadfast("get", || client.get(keys[0].clone())));
    runtime.block_on(every_raw_call(&client, &regions, "again"));
}

#[test]
fn crate_tikv_client_in_a_storm() {
    let _turn = turn();
    let runtime = runtime();
    let (mut cluster, keys) = four_nodes(&runtime);
    let client = runtime.block_on(steadfast("connect", || RawClient::new(cluster.addrs())));
    let storm = Storm::begin(&cluster, &keys);
    let until = Instant::now() + Duration::from_secs(40);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (client, keys) = (client.clone(), keys.clone());
            runtime.spawn(async move {
                let mut model = BTreeMap::new();
                for turn in 0_u64.. {
                    if Instant::now() >= until {
                        break;
                    }
                    let start = &keys[turn as usize % keys.len()];
                    let key = [start, format!("/{writer}/{:02}", turn % 50).as_bytes()].concat();
                    // No error may reach the application.
                    client.put(key.clone(), turn.to_string()).await.expect("put");
                    let seen = client.get(key.clone()).await.expect("get");
                    assert_eq!(seen, Some(turn.to_string().into_bytes()));
                    model.insert(key, turn.to_string().into_bytes());
                }
                model
            })
        })
        .collect();
    let models: Vec<_> =
        writers.into_iter().map(|writer| runtime.block_on(writer).expect("a writer does not panic")).collect();
    storm.end();
    for (key, value) in models.into_iter().flatten() {
        assert_eq!(runtime.block_on(client.get(key)).expect("get"), Some(value), "a write was lost");
    }
    cluster.assert_alive();
}

/// Queries JSON through the crate's `coprocessor()` and merges the pages of every region, as a user would.
#[test]
fn crates_io_tikv_client_asks_the_coprocessor() {
    use armilla::query::{Aggregate, Merge, Next, Query};

    let _turn = turn();
    let runtime = runtime();
    let cluster = Cluster::start(3, &["--initial-regions", "4"]);
    let regions = starts(&runtime, &cluster);
    let client = runtime.block_on(steadfast("connect", || RawClient::new(cluster.addrs())));
    // Every region has 50 values of one shape, and one that is not JSON.
    let key = |start: &Vec<u8>, n: u64| [start.as_slice(), format!("copr/{n:03}").as_bytes()].concat();
    let doc = |region: usize, n: u64| format!("{{\"n\":{n},\"region\":{region},\"tag\":\"t{}\"}}", n % 3).into_bytes();
    let mut pairs = Vec::new();
    for (region, start) in regions.iter().enumerate() {
        pairs.extend((0..50).map(|n| KvPair::new(key(start, n), doc(region, n))));
        pairs.push(KvPair::new(key(start, 50), b"no JSON".to_vec()));
    }
    runtime.block_on(steadfast("batch_put", || client.batch_put(pairs.clone())));

    // One range per region; each is queried again from where its page ends.
    let ask = async |query: Query| {
        let mut merge = Merge::new(query).expect("a query");
        let mut calls = 0;
        for start in &regions {
            let mut from = key(start, 0);
            let end = key(start, 999);
            'pages: loop {
                let data = merge.request().to_vec();
                let range = BoundRange::from(from.clone()..end.clone());
                let replies = steadfast("coprocessor", || {
                    let data = data.clone();
                    client.coprocessor("json", "^1.0", [range.clone()], move |_, _| data.clone())
                });
                calls += 1;
                for (_, page) in replies.await {
                    match merge.take(&page).expect("a page") {
                        Next::From(key) => {
                            from = key.to_vec();
                            continue 'pages;
                        }
                        Next::Beyond => {}
                        Next::Enough => return (merge.finish(), calls),
                    }
                }
                break;
            }
        }
        (merge.finish(), calls)
    };
    let query = Query {
        filter: Some("$.n >= 10 and $.tag in [\"t0\", \"t1\"]".into()),
        aggregate: Some(vec![Aggregate::Count("*".into()), Aggregate::Sum("$.n".into()), Aggregate::Avg("$.n".into())]),
        group_by: Some("$.tag".into()),
        page_rows: Some(20),
        ..Query::default()
    };
    let (answer, calls) = runtime.block_on(ask(query));
    let many = regions.len() as u64;
    assert_eq!(calls, 3 * regions.len(), "51 rows a region in pages of 20");
    let of = |tag: u64| (10..50).filter(move |n| n % 3 == tag);
    for (group, tag) in answer.groups.iter().zip(0..) {
        let (count, sum) = (of(tag).count() as u64 * many, of(tag).sum::<u64>() * many);
        let mean = sum as f64 / count as f64;
        assert_eq!(*group, [serde_json::json!(format!("t{tag}")), count.into(), sum.into(), mean.into()]);
    }
    assert_eq!((answer.groups.len(), answer.scanned.rows), (2, 51 * many));
    let rows = Query { filter: Some("$.n = 7".into()), select: Some(vec!["$.region".into()]), ..Query::default() };
    let (answer, _) = runtime.block_on(ask(rows));
    let shown: Vec<_> = answer.rows.iter().map(|row| row.values[0].as_u64().expect("a number")).collect();
    assert_eq!(shown, (0..many).collect::<Vec<_>>());
    assert_eq!(answer.scanned.not_json, 0, "a value without the name is not parsed");

    // All regions in one call; each page comes with the ranges that it covers.
    let all = runtime.block_on(steadfast("coprocessor", || {
        let count = br#"{"aggregate":[{"count":"$.n"}]}"#.to_vec();
        client.coprocessor("json", "*", [BoundRange::from(..)], move |_, _| count.clone())
    }));
    assert!(all.len() >= regions.len(), "{} pages", all.len());
    let count = |page: &[u8]| -> u64 {
        let page: serde_json::Value = serde_json::from_slice(page).expect("JSON");
        page["groups"][0]["values"][0]["count"].as_u64().expect("a count")
    };
    assert_eq!(all.iter().map(|(_, page)| count(page)).sum::<u64>(), 50 * many);

    // A wrong request gets an error once, and is not retried forever.
    let refused = |name: &'static str, version: &'static str, data: &'static str| {
        let range = BoundRange::from(key(&regions[0], 0)..key(&regions[0], 9));
        let reply = client.coprocessor(name, version, [range], move |_, _| data.as_bytes().to_vec());
        runtime.block_on(reply).expect_err("a refusal").to_string()
    };
    for (error, want) in [
        (refused("jsonb", "1", "{}"), "unknown coprocessor"),
        (refused("json", "2", "{}"), "version 1.0.0"),
        (refused("json", "1", "{\"where\": \"$.n >\"}"), "line 1, column 6"),
    ] {
        assert!(error.contains(want), "{error:?} does not say {want:?}");
    }
}
