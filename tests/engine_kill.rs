//! Tests of RocksDB in a process that dies: `kill -9` at random moments, a full disk, few file descriptors.
//!
//! The test starts its own program again as a child. The child writes numbered batches over all column families,
//! flushes from time to time, and prints the number that the last completed flush covers. After the kill, the parent
//! opens the directory and checks the engine's contract: the content is that of the batches `1..=n` for one `n`, in
//! every column family, and `n` is at or after the last reported flush. Some batches are ingested as files, which is as
//! durable as a flush when it returns.
//!
//! The test shows that RocksDB without its write-ahead log recovers one prefix, that its own flushes are atomic over
//! the column families, and that a flush that returned had handed its data to the operating system. It does not show
//! that the data reached the disk: a killed process leaves its page cache behind, so a missing fsync is not detected
//! here. That would take a power failure.
#![cfg(not(madsim))]
// Real processes take real time.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use armilla::engine::{Cf, CfRange, KvEngine, Read, RocksEngine, RocksOptions, Stager, Visit, WriteBatch};
use armilla::types::Error;

const ROUNDS: u64 = 10;
/// Number of keys: batch `n` writes key `n % KEYS` and deletes a later one, so that the content determines `n` in many
/// ways.
const KEYS: u64 = 500;
/// One batch out of this many is an ingest.
const INGEST_EVERY: u64 = 53;
/// The end of a mode in which values are apart from their keys.
const APART: &str = "-apart";

/// Options of the engine: with all values in tables, or with some apart from their keys.
fn options(path: &Path, apart: bool) -> RocksOptions {
    // Small, so that RocksDB also flushes by itself several times in each round.
    let write_buffer_bytes = 1 << 20;
    RocksOptions {
        path: path.to_owned(),
        write_buffer_bytes,
        block_cache_bytes: 1 << 20,
        // Some values are longer, and some are not.
        separate_from: if apart { 100 } else { 0 },
        reclaim_after: Duration::ZERO,
        ..RocksOptions::default()
    }
}

fn key(number: u64) -> Vec<u8> {
    (number % KEYS).to_be_bytes().to_vec()
}

/// Returns an incompressible value that differs for each column family and number.
fn value(cf: Cf, number: u64) -> Vec<u8> {
    let mut state = number << 8 | cf as u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    (0..16 + number % 32).flat_map(|_| word().to_be_bytes()).collect()
}

fn batch(number: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for cf in Cf::ALL {
        batch.put(cf, "number", number.to_be_bytes().to_vec());
        batch.put(cf, key(number), value(cf, number));
        match number % 10 {
            3 => batch.delete(cf, key(number + KEYS / 2)),
            7 => batch.delete_range(cf, key(number + KEYS / 3), key(number + KEYS / 3 + 4)),
            _ => {}
        }
    }
    batch
}

/// Applies [`batch`] as an ingest: the pairs of all column families but one in files.
fn ingest(engine: &RocksEngine, number: u64) {
    let (mut stager, mut meta, mut ranges) = (engine.stager().unwrap(), WriteBatch::new(), Vec::new());
    for cf in Cf::ALL {
        let pairs = [(key(number), value(cf, number)), (b"number".to_vec(), number.to_be_bytes().to_vec())];
        for (key, value) in pairs {
            match cf {
                Cf::Meta => meta.put(cf, key, value),
                _ => stager.put(cf, &key, &value).unwrap(),
            }
        }
        match number % 10 {
            3 => meta.delete(cf, key(number + KEYS / 2)),
            7 => {
                let (start, end) = (key(number + KEYS / 3).into(), key(number + KEYS / 3 + 4).into());
                ranges.push(CfRange { cf, start, end });
            }
            _ => {}
        }
    }
    assert!(engine.ingest(&ranges, &stager.finish().unwrap(), &meta).unwrap());
}

/// Returns the content of a column family after the batches `1..=number`.
fn expected(cf: Cf, number: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut content = BTreeMap::new();
    // Older writes have been overwritten: within KEYS batches every key is put once, or deleted by a later batch.
    for n in number.saturating_sub(2 * KEYS).max(1)..=number {
        content.insert(key(n), value(cf, n));
        match n % 10 {
            3 => drop(content.remove(&key(n + KEYS / 2))),
            7 => {
                let (start, end) = (key(n + KEYS / 3), key(n + KEYS / 3 + 4));
                content.retain(|key, _| !(start <= *key && *key < end));
            }
            _ => {}
        }
    }
    if number > 0 {
        content.insert(b"number".to_vec(), number.to_be_bytes().to_vec());
    }
    content
}

fn last_number(engine: &RocksEngine) -> u64 {
    let number = engine.get(Cf::Meta, b"number").unwrap();
    number.map_or(0, |number| u64::from_be_bytes(number[..].try_into().unwrap()))
}

/// Checks that the content is that of the batches `1..=n` and returns `n`.
fn check(engine: &RocksEngine) -> u64 {
    let number = last_number(engine);
    for cf in Cf::ALL {
        let mut content = BTreeMap::new();
        engine
            .scan(cf, b"", b"", &mut |key, value| {
                content.insert(key.to_vec(), value.to_vec());
                Visit::More
            })
            .unwrap();
        assert!(content == expected(cf, number), "{cf:?} is not at batch {number}");
    }
    number
}

/// The child process. Without the parent's variable this test does nothing.
#[test]
fn child() {
    let Some(path) = std::env::var_os("ARMILLA_ENGINE_KILL_PATH") else { return };
    let mode = std::env::var("ARMILLA_ENGINE_KILL_MODE").unwrap();
    let (mode, apart) = mode.strip_suffix(APART).map_or((&mode[..], false), |mode| (mode, true));
    match mode {
        "descriptors" => limit(libc::RLIMIT_NOFILE, 64),
        "full" => {
            // SAFETY: ignoring a signal touches no memory; writes beyond the limit then fail with EFBIG.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        }
        _ => {}
    }
    let engine = RocksEngine::open(options(Path::new(&path), apart)).unwrap();
    let mut number = last_number(&engine);
    println!("open {number}");
    if mode == "descriptors" {
        // A table file per column family and flush; compaction reads many at once.
        for round in 0..40 {
            for _ in 0..100 {
                number += 1;
                engine.write(&batch(number)).unwrap();
            }
            engine.flush().unwrap();
            assert_eq!(check(&engine), number, "in round {round}");
        }
        println!("flushed {number}");
        return;
    }
    loop {
        number += 1;
        if mode == "kill" && number.is_multiple_of(INGEST_EVERY) {
            ingest(&engine, number);
            println!("flushed {number}");
            continue;
        }
        match engine.write(&batch(number)) {
            Ok(()) => {}
            Err(error) => {
                println!("write-failed {error}");
                break;
            }
        }
        // Alternates between periods with flushes and periods in which only RocksDB flushes by itself.
        if number.is_multiple_of(97) && (mode == "full" || number / 97 % 50 < 25) {
            match engine.flush() {
                Ok(()) => println!("flushed {number}"),
                Err(error) => {
                    println!("flush-failed {error}");
                    break;
                }
            }
            if mode == "full" && number > 500 {
                limit(libc::RLIMIT_FSIZE, 4096);
            }
        }
    }
    assert_eq!(mode, "full", "only a full disk stops the child");
    // The engine stays stopped, and reads continue.
    assert!(matches!(engine.write(&batch(number + 1)), Err(Error::Stopped(_))));
    assert!(matches!(engine.flush(), Err(Error::Stopped(_))));
    engine.get(Cf::Meta, b"number").unwrap();
    println!("stopped {number}");
    // Ends the process, which must not write any more.
    std::process::abort();
}

fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the pointer is to a live rlimit for the length of the call.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

fn start(path: &Path, mode: &str, apart: bool) -> Child {
    let mode = format!("{mode}{}", if apart { APART } else { "" });
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("ARMILLA_ENGINE_KILL_PATH", path)
        .env("ARMILLA_ENGINE_KILL_MODE", mode)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns the last number after `word` in the child's output.
fn last_said(lines: &[String], word: &str) -> Option<u64> {
    // The test harness may have begun the line with its own words.
    lines.iter().rev().find_map(|line| line.split(word).nth(1)?.trim().parse().ok())
}

fn lines(child: &mut Child) -> Vec<String> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).collect()
}

#[test]
fn after_kill_9_the_content_is_a_prefix_at_or_after_the_last_flush() {
    kills(false);
}

#[test]
fn after_kill_9_values_that_are_apart_from_their_keys_are_of_the_same_prefix() {
    kills(true);
}

fn kills(apart: bool) {
    let directory = tempfile::tempdir().unwrap();
    let (mut beyond_flush, mut with_data, mut staged) = (0, 0, 0);
    let mut state = u64::from(std::process::id());
    for round in 0..ROUNDS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut child = start(directory.path(), "kill", apart);
        let (opened, is_open) = std::sync::mpsc::channel();
        let reader = {
            let stdout = child.stdout.take().unwrap();
            let heard = move |line: &String| {
                if line.contains("open ") {
                    let _ = opened.send(());
                }
            };
            std::thread::spawn(move || {
                BufReader::new(stdout).lines().map_while(Result::ok).inspect(heard).collect::<Vec<_>>()
            })
        };
        // A slow or emulated machine may take long before it writes anything.
        is_open.recv_timeout(Duration::from_secs(60)).expect("the child opens the engine");
        std::thread::sleep(Duration::from_micros(50_000 + (state >> 33) % 250_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = reader.join().unwrap();
        let flushed = last_said(&said, "flushed ").or_else(|| last_said(&said, "open ")).unwrap_or(0);
        let staging = directory.path().join("staging");
        let files = || std::fs::read_dir(&staging).map_or(0, Iterator::count);
        staged += u32::from(files() > 0);
        let engine = RocksEngine::open(options(directory.path(), apart)).unwrap();
        assert_eq!(files(), 0, "staged files are removed or ingested at open");
        let blobs = engine.stats().into_iter().find(|(name, _)| *name == "blob_bytes").map_or(0, |(_, bytes)| bytes);
        assert!(if apart { flushed == 0 || blobs > 0 } else { blobs == 0 }, "{blobs} bytes in blob files");
        let number = check(&engine);
        assert!(number >= flushed, "round {round}: flushed up to {flushed}, found {number}");
        beyond_flush += u32::from(number > flushed);
        with_data += u32::from(number > 0);
    }
    assert!(with_data > 0, "no child got as far as a flush");
    println!("{beyond_flush} of {ROUNDS} kills found more than the acknowledged flush, {staged} staged files");
}

#[test]
fn a_full_disk_stops_the_engine_and_loses_nothing_flushed() {
    for apart in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = start(directory.path(), "full", apart);
        let said = lines(&mut child);
        child.wait().unwrap();
        let flushed = last_said(&said, "flushed ").expect("a flush before the disk was full");
        assert!(last_said(&said, "stopped ").is_some(), "the engine did not stop: {said:?}");
        let number = check(&RocksEngine::open(options(directory.path(), apart)).unwrap());
        assert!(number >= flushed, "flushed up to {flushed}, found {number}");
    }
}

#[test]
fn few_file_descriptors_are_enough() {
    for apart in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = start(directory.path(), "descriptors", apart);
        let said = lines(&mut child);
        assert!(child.wait().unwrap().success(), "{said:?}");
        assert_eq!(last_said(&said, "flushed "), Some(4000));
        assert_eq!(check(&RocksEngine::open(options(directory.path(), apart)).unwrap()), 4000);
    }
}
