//! The simulator's crashes, compared with a model. Goal: after any crash the content is that of one prefix of the
//! writes, at or after the last flush, in all column families. Method: random writes and flushes; every intermediate
//! state is kept.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

type Model = [BTreeMap<Vec<u8>, Vec<u8>>; Cf::ALL.len()];

fn content(read: &dyn Read) -> Model {
    Cf::ALL.map(|cf| pairs(read, cf, &[], &[]).expect("a live engine").into_iter().collect())
}

/// Creates a batch that changes every column family and from which its number can be recognized.
fn numbered(number: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for cf in Cf::ALL {
        batch.put(cf, number.to_be_bytes().to_vec(), format!("{number}"));
        batch.put(cf, b"last".to_vec(), format!("{number}"));
        if number.is_multiple_of(5) {
            batch.delete_range(cf, number.saturating_sub(3).to_be_bytes().to_vec(), number.to_be_bytes().to_vec());
        }
    }
    batch
}

proptest! {
    #[test]
    fn a_crash_leaves_a_prefix_at_or_after_the_last_flush(
        // Some(true): flush, Some(false): crash, None: write.
        steps in proptest::collection::vec(prop_oneof![6 => Just(None), 1 => Just(Some(true)), 1 => Just(Some(false))], 1..60),
        seed: u64,
    ) {
        let home = SimStorage::new();
        let mut engine = SimEngine::open(&home).unwrap();
        let mut states = vec![content(&engine)];
        let (mut flushed, mut number, mut state) = (0, 0, seed);
        for step in steps {
            match step {
                None => {
                    number += 1;
                    engine.write(&numbered(number)).unwrap();
                    states.push(content(&engine));
                }
                Some(true) => {
                    engine.flush().unwrap();
                    flushed = states.len() - 1;
                    prop_assert_eq!(home.unflushed(), 0);
                }
                Some(false) => {
                    let certain = content(&home.durable_copy().view());
                    prop_assert_eq!(&certain, &states[flushed]);
                    let (snapshot, before) = (engine.snapshot(), states.last().unwrap().clone());
                    let crash = home.crash(&mut |bound| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        (state >> 33) % bound
                    });
                    prop_assert_eq!(crash.unflushed, states.len() - 1 - flushed);
                    // The dead process's handle can no longer write, flush or read; its earlier snapshots remain
                    // readable.
                    let stopped = |result: Result<()>| matches!(result, Err(crate::types::Error::Stopped(_)));
                    prop_assert!(stopped(engine.write(&numbered(u64::MAX))));
                    prop_assert!(stopped(engine.flush()));
                    prop_assert!(stopped(engine.get(Cf::Meta, b"last").map(drop)));
                    prop_assert!(stopped(engine.snapshot().get(Cf::Meta, b"last").map(drop)));
                    prop_assert_eq!(content(&snapshot), before);
                    engine = SimEngine::open(&home).unwrap();
                    let kept = flushed + crash.kept;
                    prop_assert_eq!(&content(&engine), &states[kept]);
                    prop_assert_eq!(content(&home.durable_copy().view()), content(&engine));
                    states.truncate(kept + 1);
                    flushed = kept;
                }
            }
        }
    }
}

/// Goal: every prefix occurs, and the two ends often. Method: count the batches kept by many crashes with ten unflushed
/// batches.
#[test]
fn a_crash_draws_every_prefix_and_the_ends_most() {
    let mut kept = BTreeMap::<usize, u32>::new();
    let mut state = 1u64;
    for _ in 0..4000 {
        let home = SimStorage::new();
        let engine = SimEngine::open(&home).unwrap();
        (0..10).for_each(|number| engine.write(&numbered(number)).unwrap());
        let crash = home.crash(&mut |bound| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            crate::engine::tree::mix(state) % bound
        });
        *kept.entry(crash.kept).or_default() += 1;
    }
    assert_eq!(kept.keys().copied().collect::<BTreeSet<_>>(), (0..=10).collect());
    assert!(kept[&0] > 800 && kept[&10] > 800 && (1..10).all(|n| (100..400).contains(&kept[&n])), "{kept:?}");
}

/// Goal: only one handle at a time, as with RocksDB's LOCK file, until a crash. Method: hold clones and snapshots, and
/// try to open.
#[test]
fn a_home_that_is_open_cannot_be_opened_again() {
    let home = SimStorage::new();
    let engine = SimEngine::open(&home).unwrap();
    let (clone, snapshot) = (engine.clone(), engine.snapshot());
    drop(engine);
    assert!(SimEngine::open(&home).is_err());
    drop(clone);
    assert!(SimEngine::open(&home).is_err());
    drop(snapshot);
    let zombie = SimEngine::open(&home).unwrap();
    home.crash_keeping(0);
    let engine = SimEngine::open(&home).unwrap();
    drop(zombie);
    assert!(SimEngine::open(&home).is_err());
    home.wipe();
    assert!(engine.write(&numbered(1)).is_err());
    home.fail_next_open(crate::types::Error::Corruption("a damaged manifest".into()));
    assert!(matches!(SimEngine::open(&home), Err(crate::types::Error::Corruption(_))));
    assert!(SimEngine::open(&home).is_ok());
}

/// Goal: the list of unflushed batches does not grow without bound. Method: write 200 MiB without a flush, then crash.
#[test]
fn many_unflushed_bytes_become_durable_by_themselves() {
    let home = SimStorage::new();
    let engine = SimEngine::open(&home).unwrap();
    for number in 0u64..200 {
        let mut batch = numbered(number);
        batch.put(Cf::RawDefault, b"large".to_vec(), vec![number as u8; 1 << 20]);
        engine.write(&batch).unwrap();
    }
    assert!(home.unflushed() <= 64);
    let crash = home.crash_keeping(0);
    let engine = SimEngine::open(&home).unwrap();
    let last = (199 - crash.unflushed as u64).to_string();
    for cf in Cf::ALL {
        assert_eq!(engine.get(cf, b"last").unwrap().unwrap(), last.as_bytes());
    }
}

/// Goal: equal contents have equal hashes, however they were written, and a change of one byte or column family changes
/// the hash.
#[test]
fn content_hash_tells_contents_apart() {
    let ranges: [(Cf, &[u8], &[u8]); 2] = [(Cf::Meta, b"b", b"y"), (Cf::RawLock, b"", b"")];
    let hash = |changes: &[(Cf, &str, &str)]| {
        let home = SimStorage::new();
        let engine = SimEngine::open(&home).unwrap();
        let mut batch = WriteBatch::new();
        changes.iter().for_each(|(cf, key, value)| batch.put(*cf, key.to_string(), value.to_string()));
        engine.write(&batch).unwrap();
        home.content_hash(&ranges)
    };
    let (c, d, l) = ((Cf::Meta, "c", "1"), (Cf::Meta, "d", "2"), (Cf::RawLock, "c", "1"));
    let base = hash(&[c, d, l]);
    assert_eq!(base, hash(&[l, (Cf::Meta, "d", "0"), d, c, (Cf::Meta, "z", "out of range"), (Cf::Meta, "a", "out")]));
    for other in [&[c, d][..], &[c, l], &[d, l], &[c, d, (Cf::RawLock, "c", "2")], &[c, (Cf::Meta, "d", "3"), l], &[]] {
        assert_ne!(base, hash(other), "{other:?}");
    }
}
