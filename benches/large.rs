//! Measures what blob files change for large values: `cargo bench --bench large [-- GIB]` writes this many GiB (4) of
//! values of 64 KiB over a fourth as many keys, in random order, into two engines: one with large values apart from
//! their keys, as `values.separate_from` has them by default, and one with all values in tables. The engines take
//! turns, 64 MiB at a time; each is left alone until it has flushed and compacted. Then it prints
//!
//! - the bytes that each wrote to its files for every byte of values, from the process's own count (`/proc/self/io`);
//! - the bytes that their files take, for every byte of live values;
//! - the time of a scan over all keys, of one over all pairs, and of a random get, as medians of nine turns.
//!
//! Only the ratios within one run are comparable.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "benches of the real world")]

#[cfg(madsim)]
fn main() {}

#[cfg(not(madsim))]
fn main() {
    let gib = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(4.0);
    real::run(gib);
}

#[cfg(not(madsim))]
mod real {
    use std::hint::black_box;
    use std::time::{Duration, Instant};

    use armilla::engine::{Cf, CursorOptions, KvEngine, Read, RocksEngine, RocksOptions, Visit, WriteBatch};

    const CF: Cf = Cf::RawDefault;
    const VALUE_BYTES: usize = 64 << 10;
    /// Values between two flushes: a store flushes after 64 MiB of log.
    const FLUSH_VALUES: u64 = (64 << 20) / VALUE_BYTES as u64;
    const ROUNDS: usize = 9;

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0 >> 33
        }

        fn value(&mut self) -> Vec<u8> {
            // Bytes that do not compress. The last one is that of a value that never expires.
            let mut value: Vec<u8> = (0..VALUE_BYTES / 4).flat_map(|_| (self.next() as u32).to_be_bytes()).collect();
            value.push(0);
            value
        }
    }

    fn key(number: u64) -> Vec<u8> {
        format!("key-{number:012}").into_bytes()
    }

    struct Side {
        name: &'static str,
        engine: RocksEngine,
        home: tempfile::TempDir,
        written: u64,
    }

    impl Side {
        fn new(name: &'static str, separate_from: u64) -> Side {
            let home = tempfile::tempdir().expect("a temporary directory");
            let options = RocksOptions { path: home.path().to_owned(), separate_from, ..RocksOptions::default() };
            Side { name, engine: RocksEngine::open(options).expect("an engine"), home, written: 0 }
        }

        fn figure(&self, name: &str) -> u64 {
            self.engine.stats().into_iter().find(|(of, _)| *of == name).expect("a figure").1
        }

        /// Waits until nothing runs in the background.
        fn rest(&self) {
            let mut calm = 0;
            while calm < 5 {
                std::thread::sleep(Duration::from_millis(20));
                let running = self.figure("compactions_running") + self.figure("flushes_running");
                calm = if running == 0 { calm + 1 } else { 0 };
            }
        }

        fn write(&mut self, pairs: &[(Vec<u8>, Vec<u8>)]) {
            let before = written_bytes();
            for (key, value) in pairs {
                let mut batch = WriteBatch::new();
                batch.put(CF, key.clone(), value.clone());
                self.engine.write(&batch).expect("a write");
            }
            self.engine.flush().expect("a flush");
            self.rest();
            self.written += written_bytes() - before;
        }

        fn disk_bytes(&self) -> u64 {
            let files = std::fs::read_dir(self.home.path()).expect("a folder");
            files.filter_map(|entry| entry.ok()?.metadata().ok()).map(|data| data.len()).sum()
        }

        fn scan(&self, how: CursorOptions, keys: u64) -> Duration {
            let begun = Instant::now();
            let mut found = 0;
            let mut visit = |key: &[u8], value: &[u8]| {
                black_box((key, value));
                found += 1;
                Visit::More
            };
            let snapshot = self.engine.snapshot();
            snapshot.scan_with(CF, (b"", b""), false, how, &mut visit).expect("a scan");
            assert_eq!(found, keys);
            begun.elapsed() / keys as u32
        }

        fn gets(&self, random: &mut Random, keys: u64) -> Duration {
            const GETS: u32 = 500;
            let begun = Instant::now();
            for _ in 0..GETS {
                let key = key(random.next() % keys);
                assert!(black_box(self.engine.get(CF, &key)).expect("a get").is_some());
            }
            begun.elapsed() / GETS
        }
    }

    /// Returns how many bytes this process has written to files.
    fn written_bytes() -> u64 {
        let text = std::fs::read_to_string("/proc/self/io").expect("Linux counts a process's writes");
        let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("the count of bytes");
        line.trim().parse().expect("a number")
    }

    fn median(mut times: Vec<Duration>) -> Duration {
        times.sort_unstable();
        times[times.len() / 2]
    }

    fn show(what: &str, unit: &str, [apart, inline]: [f64; 2]) {
        println!("| {what} | {apart:.2} {unit} | {inline:.2} {unit} | {:.2} |", apart / inline);
    }

    pub(super) fn run(gib: f64) {
        let values = ((gib * f64::from(1 << 30)) as u64 / VALUE_BYTES as u64).max(4 * FLUSH_VALUES);
        let keys = values / 4;
        let (mut apart, mut inline) = (Side::new("apart", 32 << 10), Side::new("in tables", 0));
        println!("{values} values of {VALUE_BYTES} bytes over {keys} keys");
        let mut random = Random(1);
        // First each key once, then at random.
        let mut numbers: Vec<u64> = (0..keys).collect();
        (1..keys as usize).for_each(|at| numbers.swap(at, random.next() as usize % (at + 1)));
        numbers.extend((keys..values).map(|_| random.next() % keys));
        for chunk in numbers.chunks(FLUSH_VALUES as usize) {
            let pairs: Vec<_> = chunk.iter().map(|number| (key(*number), random.value())).collect();
            apart.write(&pairs);
            inline.write(&pairs);
        }
        let sides = [&apart, &inline];
        println!("| what | {} | {} | ratio |\n|---|---|---|---|", apart.name, inline.name);
        let total = (values * VALUE_BYTES as u64) as f64;
        show("bytes written to files, per byte of values", "", sides.map(|side| side.written as f64 / total));
        let live = (keys * VALUE_BYTES as u64) as f64;
        show("bytes of files, per byte of live values", "", sides.map(|side| side.disk_bytes() as f64 / live));
        let mut times: [[Vec<Duration>; 3]; 2] = Default::default();
        for round in 0..ROUNDS {
            for at in [round % 2, 1 - round % 2] {
                times[at][0].push(sides[at].scan(CursorOptions::keys_only(), keys));
                times[at][1].push(sides[at].scan(CursorOptions::default(), keys));
                times[at][2].push(sides[at].gets(&mut random, keys));
            }
        }
        for (at, what) in ["scan of keys, per key", "scan of pairs, per pair", "get"].into_iter().enumerate() {
            let of = |side: usize| median(times[side][at].clone()).as_secs_f64() * 1e6;
            show(what, "us", [of(0), of(1)]);
        }
    }
}
