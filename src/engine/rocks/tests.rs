//! Values that are apart from their keys. Goal: what holds for other values holds for them; they take the space that
//! they should; and their share in sizes is right. Method: an engine that writes real files, and compactions on demand.
#![allow(clippy::disallowed_methods, reason = "tests of real files")]

use std::time::Duration;

use super::*;
use crate::engine::tests::{Home as _, RocksHome, pairs};
use crate::engine::{Stager as _, Visit};

const CF: Cf = Cf::RawDefault;
/// Bytes of a large value.
const LARGE: usize = 64 << 10;

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// Returns bytes that do not compress, and that differ for each number. The last one is 0, as of a value that never
/// expires.
fn value(number: u32, bytes: usize) -> Vec<u8> {
    let word = |at: usize| crate::engine::tree::mix(at as u64 ^ u64::from(number) << 32);
    let mut value: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|at| word(at).to_be_bytes()).take(bytes).collect();
    *value.last_mut().expect("no empty value") = 0;
    value
}

fn put(engine: &RocksEngine, cf: Cf, keys: impl Iterator<Item = u32>, bytes: usize) {
    for number in keys {
        let mut batch = WriteBatch::new();
        batch.put(cf, key(number).to_vec(), value(number, bytes));
        engine.write(&batch).unwrap();
    }
}

fn figure(engine: &RocksEngine, name: &str) -> u64 {
    engine.stats().into_iter().find(|(of, _)| *of == name).expect("a figure").1
}

fn compact(engine: &RocksEngine) {
    engine.flush().unwrap();
    engine.inner.db.compact_range_cf(engine.inner.cf(CF), None::<&[u8]>, None::<&[u8]>);
}

/// Waits for something that RocksDB does in the background.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}");
}

fn near(bytes: u64, expected: u64) -> bool {
    bytes.abs_diff(expected) <= expected / 10
}

#[test]
fn large_values_are_apart_and_read_like_all_others() {
    let mut home = RocksHome::new();
    let mut engine = home.open().unwrap();
    put(&engine, CF, 0..100, LARGE);
    put(&engine, CF, 100..200, 100);
    put(&engine, Cf::RawWrite, 0..10, LARGE);
    for round in 0..2 {
        engine.flush().unwrap();
        let blobs = figure(&engine, "blob_bytes");
        assert!(near(blobs, 100 * LARGE as u64), "{blobs} bytes in blob files");
        assert!(home.file_bytes(".blob") == blobs && figure(&engine, "blob_live_bytes") == blobs);
        // Those of another column family are in its tables.
        let tables = home.file_bytes(".sst");
        assert!((10 * LARGE as u64..11 * LARGE as u64).contains(&tables), "{tables} bytes in tables");
        for number in [0, 99, 100, 199] {
            let expected = value(number, if number < 100 { LARGE } else { 100 });
            assert_eq!(engine.get(CF, &key(number)).unwrap().unwrap(), expected);
        }
        assert_eq!(engine.get(Cf::RawWrite, &key(7)).unwrap().unwrap(), value(7, LARGE));
        // Upwards and downwards.
        let all = pairs(&engine, CF, &key(50), &key(150)).unwrap();
        assert_eq!(all.len(), 100);
        for (at, (found, stored)) in all.iter().enumerate() {
            let number = at as u32 + 50;
            assert!(found[..] == key(number) && *stored == value(number, if number < 100 { LARGE } else { 100 }));
        }
        if round == 0 {
            drop(engine);
            engine = home.open().unwrap();
        }
    }
}

#[test]
fn a_snapshot_keeps_values_whose_blob_file_is_replaced() {
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    put(&engine, CF, 0..50, LARGE);
    engine.flush().unwrap();
    let snapshot = engine.snapshot();
    let cursor_before = engine.snapshot();
    let mut cursor = cursor_before.cursor(CF, b"", b"", CursorOptions::once(CF)).unwrap();
    assert!(cursor.seek(&key(10)).unwrap());
    let mut batch = WriteBatch::new();
    batch.delete_range(CF, key(0).to_vec(), key(50).to_vec());
    engine.write(&batch).unwrap();
    compact(&engine);
    assert_eq!(snapshot.get(CF, &key(49)).unwrap().unwrap(), value(49, LARGE));
    assert!(cursor.next().unwrap() && cursor.pair().unwrap().1 == value(11, LARGE));
    assert_eq!(engine.get(CF, &key(49)).unwrap(), None);
    drop(cursor);
    // RocksDB looks again when a snapshot is released that is older than the last write.
    put(&engine, Cf::RawLock, 0..1, 10);
    drop((snapshot, cursor_before));
    drop(engine.snapshot());
    eventually("the blobs of deleted values stay", || home.file_bytes(".blob") == 0);
}

#[test]
fn what_is_in_memory_is_read_without_waiting() {
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    put(&engine, CF, 0..2, LARGE);
    engine.flush().unwrap();
    drop(engine);
    let engine = home.open().unwrap();
    assert_eq!(engine.get_cached(CF, &key(0)).unwrap(), Cached::OnDisk);
    let scan = |engine: &RocksEngine| {
        let how = CursorOptions::in_memory();
        engine.scan_with(CF, (b"", b""), false, how, &mut |_, _| Visit::More).unwrap()
    };
    assert!(!scan(&engine));
    let whole = engine.get(CF, &key(0)).unwrap();
    assert_eq!(engine.get_cached(CF, &key(0)).unwrap(), Cached::Known(whole), "the cache has values of blob files too");
    assert!(!scan(&engine), "the second value is on the disk alone");
    engine.get(CF, &key(1)).unwrap();
    assert!(scan(&engine));
}

/// The second half is checked after each step: the setting applies to what is written from then on.
#[test]
fn it_can_be_switched_off_and_on_for_data_that_exist() {
    let mut home = RocksHome { separate_from: 0, ..RocksHome::new() };
    let engine = home.open().unwrap();
    put(&engine, CF, 0..20, LARGE);
    engine.flush().unwrap();
    assert_eq!(home.file_bytes(".blob"), 0);
    drop(engine);
    let check = |engine: &RocksEngine, count: u32| {
        let all = pairs(engine, CF, b"", b"").unwrap();
        let expected = (0..count).map(|number| (key(number).to_vec(), value(number, LARGE)));
        assert!(all.into_iter().eq(expected), "not the {count} values that were written");
    };

    home.separate_from = 32 << 10;
    let engine = home.open().unwrap();
    check(&engine, 20);
    assert_eq!(home.file_bytes(".blob"), 0, "a start rewrites nothing");
    put(&engine, CF, 20..40, LARGE);
    engine.flush().unwrap();
    let blobs = home.file_bytes(".blob");
    assert!(near(blobs, 20 * LARGE as u64), "the new values are apart: {blobs} bytes");
    check(&engine, 40);
    // Two keys, because RocksDB moves a file that shares only one with another.
    put(&engine, CF, 0..2, LARGE);
    compact(&engine);
    eventually("compaction does not put old values into blob files", || {
        near(figure(&engine, "blob_live_bytes"), 40 * LARGE as u64)
    });
    check(&engine, 40);
    drop(engine);

    home.separate_from = 0;
    let engine = home.open().unwrap();
    check(&engine, 40);
    assert!(near(figure(&engine, "blob_live_bytes"), 40 * LARGE as u64), "a start rewrites nothing");
    let before = home.file_bytes(".blob");
    put(&engine, CF, 40..60, LARGE);
    engine.flush().unwrap();
    assert_eq!(home.file_bytes(".blob"), before, "the new values are in tables");
    check(&engine, 60);
    put(&engine, CF, 0..2, LARGE);
    compact(&engine);
    eventually("compaction does not take old values out of blob files", || home.file_bytes(".blob") == 0);
    check(&engine, 60);
    drop(engine);
    check(&home.open().unwrap(), 60);
}

#[test]
fn garbage_of_overwritten_values_is_collected() {
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    let live = 100 * LARGE as u64;
    for round in 0..12 {
        // Each file has values that are overwritten in the next round, and some that stay for several.
        put(&engine, CF, (0..100).filter(|number| round == 0 || number % 4 != round % 4), LARGE);
        engine.flush().unwrap();
    }
    eventually("more garbage than data", || {
        home.file_bytes(".blob") <= 2 * live && figure(&engine, "blob_live_bytes") >= live
    });
    for number in 0..100 {
        assert_eq!(engine.get(CF, &key(number)).unwrap().unwrap(), value(number, LARGE));
    }
}

#[test]
fn space_of_deleted_ranges_returns() {
    let mut home = RocksHome { reclaim_after: Duration::from_millis(50), ..RocksHome::new() };
    let engine = home.open().unwrap();
    let range = |from: u32, to: u32| {
        let mut batch = WriteBatch::new();
        batch.delete_range(CF, key(from).to_vec(), if to == 0 { Vec::new() } else { key(to).to_vec() });
        batch
    };
    for from in [0, 100, 200] {
        put(&engine, CF, from..from + 100, LARGE);
        compact(&engine);
    }
    let of = |values: u64| values * LARGE as u64;
    assert!(near(home.file_bytes(".blob"), of(300)));
    // A region that moves away: nothing else is written.
    engine.write(&range(100, 200)).unwrap();
    engine.flush().unwrap();
    eventually("the space of a deleted range does not return", || near(home.file_bytes(".blob"), of(200)));
    // An ingest that replaces a range, as a snapshot does.
    let mut stager = engine.stager().unwrap();
    stager.put(CF, &key(0), &value(0, LARGE)).unwrap();
    let replaced = CfRange { cf: CF, start: key(0).to_vec().into(), end: key(100).to_vec().into() };
    engine.ingest(&[replaced], &stager.finish().unwrap(), &WriteBatch::new()).unwrap();
    eventually("the space of a replaced range does not return", || home.file_bytes(".blob") <= of(102));
    // A range without an end, in the memtable only.
    engine.write(&range(0, 0)).unwrap();
    eventually("the space of everything does not return", || home.file_bytes(".blob") == 0);
    assert_eq!(pairs(&engine, CF, b"", b"").unwrap(), []);
    // A pending range does not hold up the end of the engine.
    engine.write(&range(0, 0)).unwrap();
    drop(engine);
    home.open().unwrap();
}

#[test]
fn ingested_values_are_in_tables_until_a_compaction() {
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    let mut stager = engine.stager().unwrap();
    (0..50).for_each(|number| stager.put(CF, &key(number), &value(number, LARGE)).unwrap());
    let held = engine.snapshot();
    engine.ingest(&[], &stager.finish().unwrap(), &WriteBatch::new()).unwrap();
    assert_eq!(home.file_bytes(".blob"), 0, "while the snapshot below it is held, RocksDB does not rewrite it");
    let whole = |engine: &RocksEngine| {
        let all = pairs(engine, CF, b"", b"").unwrap();
        all.into_iter().eq((0..50).map(|number| (key(number).to_vec(), value(number, LARGE))))
    };
    assert!(whole(&engine));
    let bytes = engine.approximate_bytes(CF, &key(10), &key(20)).unwrap();
    assert!(near(bytes, 10 * LARGE as u64), "{bytes} bytes");
    // An ingested file has a number in the sequence of writes, of which RocksDB frees it with the next chance.
    put(&engine, Cf::RawLock, 0..1, 10);
    drop(held);
    drop(engine.snapshot());
    eventually("ingested values are never put into blob files", || {
        near(figure(&engine, "blob_live_bytes"), 50 * LARGE as u64)
    });
    assert!(whole(&engine));
    let bytes = engine.approximate_bytes(CF, &key(10), &key(20)).unwrap();
    assert!(near(bytes, 10 * LARGE as u64), "{bytes} bytes");
}

/// Ranges with small values, with large ones, and with both, beside each other: RocksDB's own estimate would give most
/// of the large values' bytes to the range with the small ones.
#[test]
fn sizes_of_ranges_include_their_values_in_blob_files_and_no_others() {
    let mut home = RocksHome { separate_from: 4 << 10, ..RocksHome::new() };
    let mut engine = home.open().unwrap();
    const SMALL: usize = 400;
    put(&engine, CF, 0..20_000, SMALL);
    put(&engine, CF, 100_000..100_200, LARGE);
    put(&engine, CF, 200_000..204_000, SMALL);
    put(&engine, CF, (200_000..204_000).step_by(10), 8 << 10);
    // More keys than are counted one by one.
    put(&engine, CF, 300_000..340_000, SMALL);
    put(&engine, CF, (300_000..340_000).step_by(20), 8 << 10);
    let small = SMALL as u64 + 8;
    let expected = [
        (0, 100_000, 20_000 * small),
        (100_000, 200_000, 200 * LARGE as u64),
        (200_000, 300_000, 3600 * small + 400 * (8 << 10)),
        (300_000, 400_000, 38_000 * small + 2000 * (8 << 10)),
    ];
    for round in 0..3 {
        match round {
            0 => engine.flush().unwrap(),
            1 => compact(&engine),
            _ => {
                drop(engine);
                engine = home.open().unwrap();
            }
        }
        let size = |from: u32, to: u32| engine.approximate_bytes(CF, &key(from), &key(to)).unwrap();
        for (from, to, bytes) in expected {
            assert!(near(size(from, to), bytes), "round {round}, {from}: {} instead of {bytes}", size(from, to));
        }
        let all: u64 = expected.iter().map(|(.., bytes)| bytes).sum();
        let whole = engine.approximate_bytes(CF, b"", b"").unwrap();
        assert!(near(whole, all), "round {round}: {whole} of {all}");
        // Parts of a range that is known, which is what a search for split keys asks for.
        for part in 1..4 {
            let bytes = size(100_000, 100_000 + 50 * part);
            assert!(near(bytes, u64::from(part) * 50 * LARGE as u64), "round {round}, {part} quarters: {bytes}");
            let (bytes, of) = (size(300_000, 300_000 + 10_000 * part), u64::from(part) * expected[3].2 / 4);
            assert!(near(bytes, of), "round {round}, {part} quarters: {bytes} instead of {of}");
        }
        let before = |to: &[u8]| engine.approximate_bytes(CF, &key(100_000), to);
        let how = CursorOptions::keys_only();
        let mut cursor = engine.cursor(CF, &key(100_000), &key(200_000), how).unwrap();
        let middle = crate::engine::key_at(&mut *cursor, &key(100_000), 100 * LARGE as u64, before).unwrap().unwrap();
        let place = u32::from_be_bytes(middle[..].try_into().unwrap());
        assert!(place.abs_diff(100_100) <= 10, "round {round}: the middle is {place}");
        let keys = engine.approximate_keys(CF, &key(300_000), &key(400_000)).unwrap();
        assert!((20_000..80_000).contains(&keys), "{keys} keys");
        assert_eq!(size(500_000, 600_000), 0);
    }
    // Deleted values no longer count.
    let mut batch = WriteBatch::new();
    batch.delete_range(CF, key(100_000).to_vec(), key(100_100).to_vec());
    engine.write(&batch).unwrap();
    compact(&engine);
    let bytes = engine.approximate_bytes(CF, &key(100_000), &key(200_000)).unwrap();
    assert!(near(bytes, 100 * LARGE as u64), "{bytes} bytes");
}

#[test]
fn a_cursor_over_keys_leaves_large_values_out() {
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    put(&engine, CF, 0..10, LARGE);
    put(&engine, CF, 10..20, 100);
    engine.flush().unwrap();
    let snapshot = engine.snapshot();
    for reverse in [false, true] {
        let mut found = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            found.push((u32::from_be_bytes(key.try_into().unwrap()), value.to_vec()));
            Visit::More
        };
        assert!(snapshot.scan_with(CF, (b"", b""), reverse, CursorOptions::keys_only(), &mut visit).unwrap());
        found.sort();
        let expected = (0..20).map(|number| (number, if number < 10 { Vec::new() } else { value(number, 100) }));
        assert!(found.into_iter().eq(expected));
    }
}

/// Goal: a view that says that it has no large value with an expiry has none, however such values come and whatever is
/// lost in a crash.
#[test]
fn a_read_of_keys_knows_whether_it_needs_large_values() {
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    let plain = |engine: &RocksEngine| engine.snapshot().left_out_are_plain(true).unwrap();
    assert!(plain(&engine), "an engine without data");
    put(&engine, CF, 0..10, LARGE);
    let mut small = WriteBatch::new();
    small.put(CF, key(10).to_vec(), [7; 1023].to_vec());
    small.put(Cf::RawWrite, key(10).to_vec(), [7; 2000].to_vec());
    engine.write(&small).unwrap();
    assert!(plain(&engine), "small values, and those of other column families, are never left out");
    engine.flush().unwrap();
    drop(engine);
    let engine = home.open().unwrap();
    assert!(plain(&engine));
    let before = engine.snapshot();
    let mut batch = WriteBatch::new();
    batch.put(CF, key(11).to_vec(), [7; 1024].to_vec());
    assert!(engine.try_write(&batch).unwrap());
    assert!(!plain(&engine) && before.left_out_are_plain(true).unwrap());
    drop((before, engine));
    home.crash();
    let engine = home.open().unwrap();
    assert_eq!(plain(&engine), engine.get(CF, &key(11)).unwrap().is_none(), "both or neither survived");
    drop(engine);

    // By an ingest, also one that a crash interrupts before its last step.
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    let mut stager = engine.stager().unwrap();
    stager.put(CF, &key(1), &[7; LARGE]).unwrap();
    engine.ingest(&[], &stager.finish().unwrap(), &WriteBatch::new()).unwrap();
    assert!(!plain(&engine));
    drop(engine);
    assert!(!plain(&home.open().unwrap()));

    // Data of a version that did not know the mark.
    let mut home = RocksHome::new();
    let engine = home.open().unwrap();
    put(&engine, CF, 0..1, 10);
    let mut batch = WriteBatch::new();
    batch.delete(Cf::Meta, &b"\xffplain"[..]);
    engine.write(&batch).unwrap();
    drop(engine);
    assert!(!plain(&home.open().unwrap()));
}

#[test]
fn damaged_and_missing_blob_files_are_found() {
    for damage in [true, false] {
        let mut home = RocksHome::new();
        let engine = home.open().unwrap();
        put(&engine, CF, 0..10, LARGE);
        engine.flush().unwrap();
        drop(engine);
        let entries = std::fs::read_dir(&home.options().path).unwrap().map(|entry| entry.unwrap().path());
        let blob = entries.into_iter().find(|path| path.extension().is_some_and(|end| end == "blob")).unwrap();
        if damage {
            let mut bytes = std::fs::read(&blob).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&blob, bytes).unwrap();
        } else {
            std::fs::remove_file(&blob).unwrap();
        }
        let read = home.open().and_then(|engine| pairs(&engine, CF, b"", b"").map(|pairs| pairs.len()));
        assert!(matches!(read, Err(Error::Corruption(_) | Error::Io(_))), "{read:?}");
        assert!(!damage || matches!(read, Err(Error::Corruption(_))), "{read:?}");
    }
}
