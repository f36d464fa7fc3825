//! Tests that apply only to RocksDB: a directory with files that can be locked, damaged, too new or missing.

use super::*;
use crate::types::Error;

fn put(engine: &RocksEngine, cf: Cf, keys: std::ops::Range<u32>, bytes: usize) {
    let mut batch = WriteBatch::new();
    for key in keys {
        // Bytes that do not compress.
        let value: Vec<u8> =
            (0..bytes as u64).map(|at| crate::engine::tree::mix(at ^ u64::from(key) << 32) as u8).collect();
        batch.put(cf, key.to_be_bytes().to_vec(), value);
    }
    engine.write(&batch).unwrap();
}

#[test]
fn a_second_process_is_refused() {
    let mut home = RocksHome::new();
    let first = home.open().unwrap();
    let error = home.open().unwrap_err();
    assert!(matches!(&error, Error::Io(text) if text.contains("another process uses this data directory")), "{error}");
    // A snapshot keeps the directory open; dropping the last handle closes it.
    let snapshot = first.snapshot();
    drop(first);
    assert!(home.open().is_err());
    drop(snapshot);
    home.open().unwrap();
}

#[test]
fn a_column_family_of_a_newer_version_is_refused() {
    let mut home = RocksHome::new();
    drop(home.open().unwrap());
    let names = Cf::ALL.map(Cf::name);
    let mut db = rocksdb::DB::open_cf(&rocksdb::Options::default(), &home.options().path, names).unwrap();
    db.create_cf("newer_version", &rocksdb::Options::default()).unwrap();
    drop(db);
    let error = home.open().unwrap_err();
    assert!(matches!(&error, Error::Invalid(text) if text.contains("newer_version")), "{error}");
}

#[test]
fn a_column_family_that_an_older_version_lacked_is_made() {
    let mut home = RocksHome::new();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    drop(rocksdb::DB::open(&options, &home.options().path).unwrap());
    let engine = home.open().unwrap();
    put(&engine, Cf::RawWrite, 0..1, 10);
    assert!(engine.get(Cf::RawWrite, &[0; 4]).unwrap().is_some());
}

#[test]
fn what_is_on_disk_alone_is_not_waited_for() {
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    put(&engine, Cf::RawDefault, 0..1000, 100);
    let (there, absent) = (7_u32.to_be_bytes(), [7; 9]);
    let value = engine.get(Cf::RawDefault, &there).unwrap();
    assert!(value.is_some());
    assert_eq!(engine.get_cached(Cf::RawDefault, &there).unwrap(), Cached::Known(value.clone()), "just written");
    engine.flush().unwrap();
    drop(engine);
    let engine = home.open().unwrap();
    let snapshot = engine.snapshot();
    assert_eq!(snapshot.get_cached(Cf::RawDefault, &there).unwrap(), Cached::OnDisk, "never read since the start");
    let whole = |reverse| {
        let mut pairs = 0;
        let mut visit = |_: &[u8], _: &[u8]| {
            pairs += 1;
            Visit::More
        };
        let how = CursorOptions::in_memory();
        let ended = snapshot.scan_with(Cf::RawDefault, (&[], &[]), reverse, how, &mut visit).unwrap();
        (ended, pairs)
    };
    assert_eq!((whole(false), whole(true)), ((false, 0), (false, 0)), "nor scanned");
    assert_eq!(snapshot.get(Cf::RawDefault, &there).unwrap(), value);
    assert_eq!(
        snapshot.get_cached(Cf::RawDefault, &there).unwrap(),
        Cached::Known(value.clone()),
        "its block is in memory now"
    );
    assert_eq!(engine.get_cached(Cf::RawDefault, &there).unwrap(), Cached::Known(value));
    assert_eq!(engine.get_cached(Cf::RawDefault, &absent).unwrap(), Cached::Known(None), "the filter is in memory");
    assert!(!whole(false).0 && whole(false).1 > 0, "one block of several");
    snapshot.scan(Cf::RawDefault, &[], &[], &mut |_, _| Visit::More).unwrap();
    assert_eq!((whole(false), whole(true)), ((true, 1000), (true, 1000)));
}

#[test]
fn an_engine_is_made_only_when_asked_for() {
    let home = RocksHome::new();
    let options = RocksOptions { create: false, path: home.directory.path().join("a/b"), ..home.options() };
    assert!(matches!(RocksEngine::open(options.clone()), Err(Error::Io(_))));
    assert!(!options.path.exists());
    drop(RocksEngine::open(RocksOptions { create: true, ..options.clone() }).unwrap());
    RocksEngine::open(options).unwrap();
}

/// Goal: a flipped byte is reported, never returned. Method: damage each table file in its middle and read everything.
#[test]
fn damage_is_corruption() {
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    put(&engine, Cf::RawDefault, 0..1000, 100);
    engine.flush().unwrap();
    drop(engine);
    let mut tables = 0;
    for entry in std::fs::read_dir(home.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&path).unwrap();
            if bytes.len() < 10_000 {
                // The engine's own mark.
                continue;
            }
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            tables += 1;
        }
    }
    assert_eq!(tables, 1);
    let read = home.open().and_then(|engine| pairs(&engine, Cf::RawDefault, &[], &[]).map(|pairs| pairs.len()));
    assert!(matches!(read, Err(Error::Corruption(_))), "{read:?}");
}

#[test]
fn approximate_sizes_see_memory_and_disk() {
    let mut home = RocksHome::new();
    let mut engine = home.open().unwrap();
    assert_eq!(engine.approximate_bytes(Cf::RawDefault, b"", b"").unwrap(), 0);
    put(&engine, Cf::RawDefault, 0..4000, 500);
    let near = |bytes: u64, expected: u64| (expected / 2..expected * 2).contains(&bytes);
    for round in 0..3 {
        if round == 2 {
            // The size of earlier files is also known after a restart.
            drop(engine);
            engine = home.open().unwrap();
        }
        let all = engine.approximate_bytes(Cf::RawDefault, b"", b"").unwrap();
        let half = engine.approximate_bytes(Cf::RawDefault, &2000u32.to_be_bytes(), b"").unwrap();
        assert!(near(all, 2_000_000), "{all} bytes");
        assert!(near(half, 1_000_000), "{half} bytes of the upper half");
        let keys = |start: &[u8], end: &[u8]| engine.approximate_keys(Cf::RawDefault, start, end).unwrap();
        assert!(near(keys(b"", b""), 4000), "{} keys", keys(b"", b""));
        let upper = keys(&3000u32.to_be_bytes(), b"");
        assert!(near(upper, 1000), "{upper} keys of the upper quarter");
        assert_eq!(keys(b"b", b"a"), 0);
        assert_eq!(engine.approximate_keys(Cf::RawLock, b"", b"").unwrap(), 0);
        assert_eq!(engine.approximate_bytes(Cf::RawLock, b"", b"").unwrap(), 0);
        assert_eq!(engine.approximate_bytes(Cf::RawDefault, b"b", b"a").unwrap(), 0);
        engine.flush().unwrap();
    }
    let stats: std::collections::BTreeMap<_, _> = engine.stats().into_iter().collect();
    assert!(stats["sst_bytes"] > 1_000_000 && stats["background_errors"] == 0, "{stats:?}");
}

/// Goal: a range deletion without an end deletes exactly what was written before it, although others write at the same
/// time. Method: one thread writes numbers in order, every other one under an ever larger key, while the test deletes
/// everything. The remaining numbers must always be consecutive: if a deletion missed a large key but deleted the small
/// one after it, a number would be missing.
#[test]
fn an_endless_range_deletion_is_one_point_among_other_writes() {
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    std::thread::scope(|scope| {
        let writer = engine.clone();
        scope.spawn(move || {
            for number in 0..20_000u32 {
                let mut batch = WriteBatch::new();
                let first = if number % 2 == 0 { 1 } else { 0 };
                batch.put(Cf::RawDefault, [&[first], &number.to_be_bytes()[..]].concat(), "value");
                writer.write(&batch).unwrap();
            }
        });
        for round in 0..200u32 {
            let mut batch = WriteBatch::new();
            batch.put(Cf::RawLock, vec![0xff; 12], "gone");
            batch.delete_range(Cf::RawLock, Vec::new(), Vec::new());
            batch.put(Cf::RawLock, "round", round.to_be_bytes().to_vec());
            batch.delete_range(Cf::RawDefault, Vec::new(), Vec::new());
            engine.write(&batch).unwrap();
            let snapshot = engine.snapshot();
            let own = vec![(b"round".to_vec(), round.to_be_bytes().to_vec())];
            assert_eq!(pairs(&snapshot, Cf::RawLock, &[], &[]).unwrap(), own);
            let left = pairs(&snapshot, Cf::RawDefault, &[], &[]).unwrap();
            let mut numbers: Vec<u32> =
                left.iter().map(|(key, _)| u32::from_be_bytes(key[1..].try_into().expect("four bytes"))).collect();
            numbers.sort_unstable();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a hole in {numbers:?}");
        }
    });
}

/// Goal: when a flush returns, everything is flushed, even if RocksDB started one of its own just before. Method: fill
/// the write buffer, so that the next write makes RocksDB flush both column families; that write goes to only one of
/// them, which then has one more memtable; flush, crash and look for the write. RocksDB's own wait ends with its first
/// flush (see `src/docs`).
#[test]
fn a_flush_behind_one_of_rocksdbs_own_has_flushed_when_it_returns() {
    let mut home = RocksHome::new();
    let mut behind = 0;
    for round in 1..=10 {
        let engine = home.open().unwrap();
        for cf in [Cf::RawDefault, Cf::RawLock] {
            put(&engine, cf, 0..37, 100 << 10);
        }
        put(&engine, Cf::RawDefault, 100..100 + round, 10);
        behind += u32::from(engine.stats().iter().any(|(name, value)| *name == "immutable_memtables" && *value > 0));
        engine.flush().unwrap();
        home.crash();
        drop(engine);
        let engine = home.open().unwrap();
        assert!(engine.get(Cf::RawDefault, &(99 + round).to_be_bytes()).unwrap().is_some(), "lost in round {round}");
    }
    assert!(behind > 0, "no flush of RocksDB's own was ever in progress");
}
