//! RocksDB and the simulator's engine side by side. Goal: no read can tell them apart. Method: random batches, flushes,
//! snapshots, restarts and crashes on both; after each step both must return the same for the same reads, from the
//! engine and from every snapshot.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Op>),
    Flush,
    Snapshot,
    Release,
    Reopen,
    Crash,
}

/// Generates keys from a small alphabet with awkward bytes, so that keys often coincide.
fn key() -> impl Strategy<Value = Bytes> {
    let byte = prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(0xff)];
    proptest::collection::vec(byte, 0..4).prop_map(Bytes::from)
}

fn op() -> impl Strategy<Value = Op> {
    let cf = proptest::sample::select(&Cf::ALL[..]);
    let value = proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    // In this column family, keys that begin so are the engine's own.
    let allowed = |op: &Op| {
        let (Op::Put(cf, key, _) | Op::Delete(cf, key) | Op::DeleteRange(cf, key, _)) = op;
        *cf != Cf::Meta || key.first() != Some(&0xff)
    };
    let op = prop_oneof![
        8 => (cf.clone(), key(), value).prop_map(|(cf, key, value)| Op::Put(cf, key, value)),
        3 => (cf.clone(), key()).prop_map(|(cf, key)| Op::Delete(cf, key)),
        1 => (cf, key(), key()).prop_map(|(cf, start, end)| Op::DeleteRange(cf, start, end)),
    ];
    op.prop_filter("a key of the engine", allowed)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => proptest::collection::vec(op(), 0..8).prop_map(Step::Write),
        3 => Just(Step::Flush),
        3 => Just(Step::Snapshot),
        2 => Just(Step::Release),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// Makes every kind of cursor move, and returns where each of them led.
fn walk(
    read: &dyn Read,
    cf: Cf,
    (start, end): (&[u8], &[u8]),
    (key, to): (&[u8], &[u8]),
) -> Vec<Option<(Bytes, Bytes)>> {
    type Move = fn(&mut dyn Cursor, &[u8], &[u8]) -> Result<bool>;
    let moves: [Move; 14] = [
        |cursor, _, _| cursor.next(),
        |cursor, key, _| cursor.seek(key),
        |cursor, _, _| cursor.next(),
        |cursor, _, _| cursor.next(),
        |cursor, _, _| cursor.back(),
        |cursor, _, to| cursor.seek_before(to),
        |cursor, _, _| cursor.back(),
        |cursor, _, _| cursor.back(),
        |cursor, _, _| cursor.next(),
        |cursor, _, _| cursor.seek_last(),
        |cursor, _, _| cursor.next(),
        |cursor, _, _| cursor.back(),
        |cursor, _, to| cursor.seek(to),
        |cursor, _, _| cursor.back(),
    ];
    let options = if key.len() % 2 == 0 { CursorOptions::default() } else { CursorOptions::once(cf) };
    let mut cursor = read.cursor(cf, start, end, options).unwrap();
    let mut step = |go: &Move| {
        let found = go(&mut *cursor, key, to).unwrap();
        let pair = cursor.pair().map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        assert_eq!(found, pair.is_some());
        pair
    };
    moves.iter().map(&mut step).collect()
}

fn assert_alike(ours: &dyn Read, rocks: &dyn Read, bounds: &[(Bytes, Bytes)]) {
    for cf in Cf::ALL {
        for (start, end) in bounds {
            assert_eq!(ours.get(cf, start).unwrap(), rocks.get(cf, start).unwrap(), "{cf:?} {start:?}");
            let (ours, rocks) = (pairs(ours, cf, start, end).unwrap(), pairs(rocks, cf, start, end).unwrap());
            assert_eq!(ours, rocks, "{cf:?} {start:?}..{end:?}");
        }
        for (start, end) in bounds {
            for (key, to) in bounds {
                let walks = [walk(ours, cf, (start, end), (key, to)), walk(rocks, cf, (start, end), (key, to))];
                assert_eq!(walks[0], walks[1], "{cf:?} {start:?}..{end:?} from {key:?} to {to:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn no_read_tells_the_engines_apart(
        steps in proptest::collection::vec(step(), 1..40),
        mut bounds in proptest::collection::vec((key(), key()), 4),
        mut values_apart: bool,
    ) {
        bounds.push((Bytes::new(), Bytes::new()));
        let (mut home, mut rocks_home) = (SimStorage::new(), RocksHome::new());
        rocks_home.separate_from = u64::from(values_apart);
        let (mut ours, mut rocks) = (home.open().unwrap(), rocks_home.open().unwrap());
        let mut snapshots = Vec::new();
        for step in steps {
            match step {
                Step::Write(ops) => {
                    let mut batch = WriteBatch::new();
                    for op in ops {
                        match op {
                            Op::Put(cf, key, value) => batch.put(cf, key, value),
                            Op::Delete(cf, key) => batch.delete(cf, key),
                            Op::DeleteRange(cf, start, end) => batch.delete_range(cf, start, end),
                        }
                    }
                    ours.write(&batch).unwrap();
                    rocks.write(&batch).unwrap();
                }
                Step::Flush => {
                    ours.flush().unwrap();
                    rocks.flush().unwrap();
                }
                Step::Snapshot => snapshots.push((ours.snapshot(), rocks.snapshot())),
                Step::Release if snapshots.is_empty() => {}
                Step::Release => drop(snapshots.remove(0)),
                Step::Reopen => {
                    snapshots.clear();
                    // RocksDB flushes at an orderly shutdown; the simulator's engine does not, as the contract allows.
                    ours.flush().unwrap();
                    drop((ours, rocks));
                    // Each start may have another configuration.
                    values_apart = !values_apart;
                    rocks_home.separate_from = u64::from(values_apart);
                    (ours, rocks) = (home.open().unwrap(), rocks_home.open().unwrap());
                }
                Step::Crash => {
                    Home::crash(&mut home);
                    rocks_home.crash();
                    // The snapshots of the dead processes remain readable in both engines.
                    (ours, rocks) = (home.open().unwrap(), rocks_home.open().unwrap());
                }
            }
            assert_alike(&ours, &rocks, &bounds);
            snapshots.iter().for_each(|(ours, rocks)| assert_alike(ours, rocks, &bounds));
        }
    }
}
