//! Measures the engine against the bare `rocksdb` crate with the same relevant options (no write-ahead log, lz4, bloom
//! filters), and the simulator's engine beside them: write batches of 1, 32 and 256 puts of 256 bytes, point gets that
//! hit and miss, scans of 1,000 pairs. `cargo bench --bench engine`. Only the ratios within one run are comparable.
//!
//! `cargo bench --bench engine -- ingest [GIB]` stages and ingests pairs of 272 bytes with sparse keys, and copies the
//! same files with a sync for comparison, each once: into an empty engine, then over the old keys.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "benches of the real world")]

#[cfg(madsim)]
fn main() {}

#[cfg(not(madsim))]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if args.first().is_some_and(|mode| mode == "ingest") {
        return real::ingest(args.get(1).map_or(1.0, |gib| gib.parse().expect("GiB")));
    }
    real::benches();
    criterion::Criterion::default().configure_from_args().final_summary();
}

#[cfg(not(madsim))]
mod real {
    use std::hint::black_box;

    use std::time::{Duration, Instant};

    use armilla::engine::{
        Cf, CfRange, KvEngine, Read, RocksEngine, RocksOptions, SimEngine, SimStorage, Stager, Visit, WriteBatch,
    };
    use criterion::measurement::WallTime;
    use criterion::{BenchmarkGroup, Criterion, Throughput};

    const PAIRS: u64 = 100_000;
    const VALUE_BYTES: usize = 256;
    const CF: Cf = Cf::RawDefault;

    /// Numbers in a scattered order, each once in `PAIRS` (the step and `PAIRS` have no common factor).
    struct Keys(u64);

    impl Keys {
        fn next(&mut self) -> [u8; 16] {
            self.0 = (self.0 + 61_803) % PAIRS;
            key(self.0, 0)
        }
    }

    /// Returns a key whose last byte distinguishes existing keys (0) from missing ones.
    fn key(number: u64, last: u8) -> [u8; 16] {
        let mut key = *b"key-00000000000\0";
        key[4..12].copy_from_slice(&number.to_be_bytes());
        key[15] = last;
        key
    }

    fn value(number: u64) -> Vec<u8> {
        let mut state = number;
        (0..VALUE_BYTES)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    }

    fn fill(engine: &impl KvEngine) {
        for chunk in 0..PAIRS / 1000 {
            let mut batch = WriteBatch::new();
            (chunk * 1000..(chunk + 1) * 1000).for_each(|n| batch.put(CF, key(n, 0).to_vec(), value(n)));
            engine.write(&batch).expect("a write");
        }
        engine.flush().expect("a flush");
    }

    fn engine_benches(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, engine: &impl KvEngine) {
        let mut keys = Keys(0);
        let value = bytes::Bytes::from(value(7));
        for puts in [1u64, 32, 256] {
            group.throughput(Throughput::Elements(puts));
            group.bench_function(format!("write_{puts}/{name}"), |b| {
                b.iter(|| {
                    let mut batch = WriteBatch::new();
                    (0..puts).for_each(|_| batch.put(CF, keys.next().to_vec(), value.clone()));
                    engine.write(&batch).expect("a write");
                });
            });
        }
        engine.flush().expect("a flush");
        let snapshot = engine.snapshot();
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("get_hit/{name}"), |b| {
            b.iter(|| assert!(black_box(snapshot.get(CF, &keys.next())).expect("a get").is_some()));
        });
        group.bench_function(format!("get_miss/{name}"), |b| {
            b.iter(|| {
                let mut key = keys.next();
                key[15] = 1;
                assert!(black_box(snapshot.get(CF, &key)).expect("a get").is_none());
            });
        });
        group.bench_function(format!("snapshot/{name}"), |b| b.iter(|| engine.snapshot()));
        group.throughput(Throughput::Elements(1000));
        group.bench_function(format!("scan_1000/{name}"), |b| {
            b.iter(|| {
                let (mut pairs, mut bytes) = (0, 0);
                let mut visit = |key: &[u8], value: &[u8]| {
                    pairs += 1;
                    bytes += key.len() + value.len();
                    if pairs == 1000 { Visit::Stop } else { Visit::More }
                };
                snapshot.scan(CF, &keys.next(), b"", &mut visit).expect("a scan");
                black_box(bytes)
            });
        });
    }

    fn bare_benches(group: &mut BenchmarkGroup<'_, WallTime>, db: &rocksdb::DB) {
        let cf = db.cf_handle(CF.name()).expect("the column family");
        let mut keys = Keys(0);
        let value = value(7);
        let mut unlogged = rocksdb::WriteOptions::default();
        unlogged.disable_wal(true);
        for puts in [1u64, 32, 256] {
            group.throughput(Throughput::Elements(puts));
            group.bench_function(format!("write_{puts}/bare_rocksdb"), |b| {
                b.iter(|| {
                    let mut batch = rocksdb::WriteBatch::default();
                    (0..puts).for_each(|_| batch.put_cf(cf, keys.next(), &value));
                    db.write_opt(batch, &unlogged).expect("a write");
                });
            });
        }
        db.flush_cf(cf).expect("a flush");
        let snapshot = db.snapshot();
        group.throughput(Throughput::Elements(1));
        group.bench_function("get_hit/bare_rocksdb", |b| {
            b.iter(|| assert!(black_box(snapshot.get_cf(cf, keys.next())).expect("a get").is_some()));
        });
        group.bench_function("get_miss/bare_rocksdb", |b| {
            b.iter(|| {
                let mut key = keys.next();
                key[15] = 1;
                assert!(black_box(snapshot.get_cf(cf, key)).expect("a get").is_none());
            });
        });
        group.bench_function("snapshot/bare_rocksdb", |b| b.iter(|| drop(db.snapshot())));
        group.throughput(Throughput::Elements(1000));
        group.bench_function("scan_1000/bare_rocksdb", |b| {
            b.iter(|| {
                let (mut pairs, mut bytes) = (0, 0);
                let mut iterator = snapshot.raw_iterator_cf(cf);
                iterator.seek(keys.next());
                while let Some((key, value)) = iterator.item() {
                    pairs += 1;
                    bytes += key.len() + value.len();
                    if pairs == 1000 {
                        break;
                    }
                    iterator.next();
                }
                black_box(bytes)
            });
        });
    }

    /// Stages and ingests this many GiB of pairs, twice, and copies the staged files with a sync in between.
    pub(super) fn ingest(gib: f64) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        let engine = RocksEngine::open(RocksOptions { path: data.clone(), ..RocksOptions::default() });
        let engine = engine.expect("an engine");
        let pair_bytes = 16 + VALUE_BYTES as u64;
        let pairs = (gib * f64::from(1 << 30)) as u64 / pair_bytes;
        let mib = (pairs * pair_bytes) as f64 / f64::from(1 << 20);
        let tell = |what: &str, took: Duration| {
            println!("{what:<40} {:7.2} s {:8.0} MiB/s", took.as_secs_f64(), mib / took.as_secs_f64());
        };
        let sparse = |number: u64| key(number * (u64::MAX / pairs), 0);
        println!("{pairs} pairs, {mib:.0} MiB of keys and values");
        let begun = Instant::now();
        (0..pairs).for_each(|number| drop(black_box((sparse(number), value(number)))));
        tell("making the pairs (part of staging)", begun.elapsed());
        for over in ["into an empty engine", "over the old keys"] {
            let begun = Instant::now();
            let mut stager = engine.stager().expect("a stager");
            (0..pairs).for_each(|number| stager.put(CF, &sparse(number), &value(number)).expect("a put"));
            let staged = stager.finish().expect("staged files");
            let staging = begun.elapsed();
            tell("staging", staging);
            let copies = directory.path().join("copies");
            std::fs::create_dir(&copies).expect("a folder");
            let copying = copy(&data.join("staging"), &copies);
            std::fs::remove_dir_all(&copies).expect("a folder");
            let mut meta = WriteBatch::new();
            meta.put(Cf::Meta, "applied", "1");
            let range = CfRange { cf: CF, start: bytes::Bytes::new(), end: bytes::Bytes::new() };
            let begun = Instant::now();
            assert!(engine.ingest(&[range], &staged, &meta).expect("an ingest"));
            let ingesting = begun.elapsed();
            tell(&format!("ingesting {over}"), ingesting);
            tell("both", staging + ingesting);
            tell("cp and fsync of the same files", copying);
        }
        let figures: std::collections::BTreeMap<_, _> = engine.stats().into_iter().collect();
        println!("files in level 0: {}", figures["level0_files"]);
    }

    /// Copies the files of a directory one by one, each with a sync.
    fn copy(from: &std::path::Path, to: &std::path::Path) -> Duration {
        let begun = Instant::now();
        for entry in std::fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            let target = to.join(entry.file_name());
            std::fs::copy(entry.path(), &target).expect("a copy");
            std::fs::File::open(&target).and_then(|file| file.sync_all()).expect("a sync");
        }
        begun.elapsed()
    }

    pub(super) fn benches() {
        let mut criterion = Criterion::default()
            .sample_size(20)
            .warm_up_time(std::time::Duration::from_millis(500))
            .measurement_time(std::time::Duration::from_secs(1))
            .configure_from_args();
        let mut group = criterion.benchmark_group("engine");

        let ours = tempfile::tempdir().expect("a temporary directory");
        let engine = RocksEngine::open(RocksOptions { path: ours.path().to_owned(), ..RocksOptions::default() });
        let engine = engine.expect("an engine");
        fill(&engine);
        engine_benches(&mut group, "rocks", &engine);
        drop(engine);

        // A directory that our engine filled, opened with separate options of the bare crate.
        let bare = tempfile::tempdir().expect("a temporary directory");
        let engine = RocksEngine::open(RocksOptions { path: bare.path().to_owned(), ..RocksOptions::default() });
        let engine = engine.expect("an engine");
        fill(&engine);
        drop(engine);
        let mut table = rocksdb::BlockBasedOptions::default();
        table.set_block_cache(&rocksdb::Cache::new_lru_cache(256 << 20));
        table.set_bloom_filter(10.0, false);
        let mut options = rocksdb::Options::default();
        options.set_block_based_table_factory(&table);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        let cfs = Cf::ALL.map(|cf| (cf.name(), options.clone()));
        let db = rocksdb::DB::open_cf_with_opts(&options, bare.path(), cfs).expect("a database");
        bare_benches(&mut group, &db);
        drop(db);

        let engine = SimEngine::open(&SimStorage::new()).expect("an engine");
        fill(&engine);
        engine_benches(&mut group, "sim", &engine);
        group.finish();
    }
}
