//! Measures the raft log alone, against the candidates that it must beat: `cargo bench --bench log`.
//!
//! Synced writes of 272 bytes by 1, 4 and 16 writers: ours through a small group-commit loop, the crate raft-engine,
//! and RocksDB's synced WAL; for one writer also a bare write and fdatasync of a page in a prefilled file. All of them
//! run interleaved in one run of five rounds; the results are medians. Compare the ratios: absolute numbers vary with
//! the machine. `ARMILLA_BENCH_SECONDS` (1.5) is the time of one sample.
//!
//! Our writers come in two kinds: futures on the log's own lane (like raft groups in the driver), and threads that wait
//! for a reply (like the other candidates' writers).

#![allow(clippy::disallowed_methods, reason = "a bench measures the real world")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use armilla::replica::log::{LogBatch, LogOptions, RaftLog};
use armilla::rt::sync::{mpsc, oneshot};
use armilla::rt::{disk::Disk, lane};
use armilla::types::GroupId;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use raft::eraftpb::{Entry, HardState};

const BYTES: usize = 272;
const WRITERS: [u64; 3] = [1, 4, 16];

/// Returns the duration of one sample.
fn sample() -> Duration {
    let seconds = std::env::var("ARMILLA_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1.5);
    Duration::from_secs_f64(seconds)
}

fn entry(index: u64) -> Entry {
    let mut entry = Entry::default();
    (entry.index, entry.term, entry.data) = (index, 1, bytes::Bytes::from_static(&[b'v'; BYTES]));
    entry
}

/// A write that waits: its group, and the channel for the reply.
type Request = (GroupId, oneshot::Sender<()>);

/// Writes all waiting requests with one sync, replies, and repeats.
struct Committer {
    log: RaftLog,
    batch: LogBatch,
    waiting: Vec<oneshot::Sender<()>>,
    next: Vec<u64>,
    records: u64,
}

impl Committer {
    /// Creates a log in its steady state, in which new segments are recycled ones.
    async fn open(dir: &Path) -> Committer {
        let options = LogOptions {
            dir: dir.to_owned(),
            segment_bytes: 64 << 20,
            spare_segments_max: 4,
            live_bytes_soft_max: 1 << 30,
            boot: 0,
            boot_min: 0,
        };
        let mut log = RaftLog::open(Disk::real(), options).await.unwrap();
        let mut batch = LogBatch::new();
        let mut big = entry(1);
        big.data = vec![b'w'; 1 << 20].into();
        for index in 1..64 * 5 {
            batch.clear();
            big.index = index;
            batch.append(GroupId(99), std::slice::from_ref(&big));
            log.write(&batch, false).await.unwrap();
        }
        batch.clear();
        batch.remove(GroupId(99));
        log.write(&batch, true).await.unwrap();
        while log.maintain().await.unwrap() {}
        // Writes until the first segment is recycled.
        while log.stats().recycled == 0 {
            batch.clear();
            big.index = 1;
            batch.append(GroupId(98), std::slice::from_ref(&big));
            log.write(&batch, true).await.unwrap();
        }
        batch.clear();
        batch.remove(GroupId(98));
        log.write(&batch, true).await.unwrap();
        batch.clear();
        while log.maintain().await.unwrap() {}
        Committer { log, batch, waiting: Vec::new(), next: vec![1; 64], records: 0 }
    }

    fn add(&mut self, group: GroupId) {
        let next = &mut self.next[group.0 as usize];
        self.batch.append(group, &[entry(*next)]);
        *next += 1;
    }

    async fn commit(&mut self) {
        self.log.write(&self.batch, true).await.unwrap();
        self.batch.clear();
        self.records += 1;
        if self.records.is_multiple_of(4096) {
            for (group, next) in self.next.iter().enumerate().filter(|(_, next)| **next > 1) {
                self.batch.truncate_to(GroupId(group as u64), next - 1, 1);
            }
            self.log.write(&self.batch, true).await.unwrap();
            self.batch.clear();
            self.log.maintain().await.unwrap();
        }
    }

    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) -> Committer {
        while let Some(request) = requests.recv().await {
            let mut next = Some(request);
            while let Some((group, reply)) = next {
                self.add(group);
                self.waiting.push(reply);
                next = requests.try_recv().ok();
            }
            self.commit().await;
            for reply in self.waiting.drain(..) {
                let _ = reply.send(());
            }
        }
        self
    }
}

/// Returns our writes per second with futures on the lane as writers. A single writer writes directly.
async fn ours(committer: Committer, writers: u64) -> (Committer, f64) {
    lane::spawn("bench-log", async move {
        let (start, time) = (Instant::now(), sample());
        let mut committer = committer;
        let mut done = 0_u64;
        if writers == 1 {
            while start.elapsed() < time {
                committer.add(GroupId(1));
                committer.commit().await;
                done += 1;
            }
        } else {
            let (sender, receiver) = mpsc::unbounded_channel();
            let each = |group: u64| {
                let sender = sender.clone();
                async move {
                    let mut done = 0_u64;
                    while start.elapsed() < time {
                        let (reply, replied) = oneshot::channel();
                        sender.send((GroupId(group), reply)).unwrap();
                        replied.await.unwrap();
                        done += 1;
                    }
                    done
                }
            };
            let writing: FuturesUnordered<_> = (1..=writers).map(each).collect();
            drop(sender);
            let counted = writing.fold(0, |sum, done| async move { sum + done });
            (committer, done) = futures::future::join(committer.run(receiver), counted).await;
        }
        (committer, done as f64 / start.elapsed().as_secs_f64())
    })
    .await
    .expect("the lane runs")
}

/// Returns our writes per second with threads as writers.
async fn ours_threads(committer: Committer, writers: u64) -> (Committer, f64) {
    let (sender, receiver) = mpsc::unbounded_channel::<Request>();
    let looping = lane::spawn("bench-log", committer.run(receiver));
    let rate = threads(writers, move |group| {
        let (reply, replied) = oneshot::channel();
        sender.send((GroupId(group), reply)).unwrap();
        replied.blocking_recv().unwrap();
    })
    .await;
    (looping.await.expect("the lane runs"), rate)
}

/// Calls `write` from this many threads for a sample's time. Returns the calls per second.
async fn threads(writers: u64, write: impl Fn(u64) + Send + Sync + 'static) -> f64 {
    tokio::task::spawn_blocking(move || {
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for group in 1..=writers {
                let (stop, done, write) = (&stop, &done, &write);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        write(group);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            std::thread::sleep(sample());
            stop.store(true, Ordering::Relaxed);
        });
        done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
    })
    .await
    .unwrap()
}

#[derive(Clone)]
struct OfRaft;

impl raft_engine::MessageExt for OfRaft {
    type Entry = Entry;
    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

async fn raft_engine(engine: &Arc<raft_engine::Engine>, next: &Arc<Vec<AtomicU64>>, writers: u64) -> f64 {
    let (engine, next) = (engine.clone(), next.clone());
    threads(writers, move |group| {
        let mut batch = raft_engine::LogBatch::with_capacity(1);
        let index = next[group as usize].fetch_add(1, Ordering::Relaxed);
        batch.add_entries::<OfRaft>(group, &[entry(index)]).unwrap();
        engine.write(&mut batch, true).unwrap();
    })
    .await
}

async fn rocks(db: &Arc<rocksdb::DB>, counter: &Arc<AtomicU64>, writers: u64) -> f64 {
    let (db, counter) = (db.clone(), counter.clone());
    threads(writers, move |_| {
        let mut options = rocksdb::WriteOptions::default();
        options.set_sync(true);
        let key = u128::from(counter.fetch_add(1, Ordering::Relaxed)).to_be_bytes();
        db.put_opt(key, [b'v'; BYTES - 16], &options).unwrap();
    })
    .await
}

async fn raw(file: &Arc<fs::File>) -> f64 {
    let file = file.clone();
    let at = AtomicU64::new(0);
    threads(1, move |_| {
        let page = at.fetch_add(1, Ordering::Relaxed) % (64 << 8);
        file.write_all_at(&[b'v'; 4096], page * 4096).unwrap();
        file.sync_data().unwrap();
    })
    .await
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() {
    // `cargo test --benches` only checks that this builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(bench());
}

async fn bench() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = dir.path().join("ours");
    let mut committer = lane::spawn("bench-log", async move { Committer::open(&at).await }).await.unwrap();
    let config = raft_engine::Config {
        dir: dir.path().join("raft-engine").to_string_lossy().into_owned(),
        target_file_size: raft_engine::ReadableSize::mb(64),
        purge_threshold: raft_engine::ReadableSize::mb(256),
        enable_log_recycle: true,
        prefill_for_recycle: true,
        batch_compression_threshold: raft_engine::ReadableSize(0),
        ..raft_engine::Config::default()
    };
    let engine = Arc::new(raft_engine::Engine::open(config).unwrap());
    let mut batch = raft_engine::LogBatch::default();
    batch.put_message(1, b"state".to_vec(), &HardState::default()).unwrap();
    engine.write(&mut batch, true).unwrap();
    let next: Arc<Vec<AtomicU64>> = Arc::new((0..64).map(|_| AtomicU64::new(1)).collect());
    let db = Arc::new(rocksdb::DB::open_default(dir.path().join("rocks")).unwrap());
    let counter = Arc::new(AtomicU64::new(0));
    let file = fs::OpenOptions::new().create(true).truncate(true).read(true).write(true).open(dir.path().join("raw"));
    let file = Arc::new(file.unwrap());
    file.write_all_at(&vec![0; 64 << 20], 0).unwrap();
    file.sync_all().unwrap();

    let mut samples = vec![[const { Vec::<f64>::new() }; 5]; WRITERS.len()];
    for round in 0..5 {
        for (i, writers) in WRITERS.into_iter().enumerate() {
            let row = &mut samples[i];
            if writers == 1 {
                row[0].push(raw(&file).await);
            }
            let (back, rate) = ours(committer, writers).await;
            row[1].push(rate);
            let (back, rate) = ours_threads(back, writers).await;
            row[2].push(rate);
            committer = back;
            row[3].push(raft_engine(&engine, &next, writers).await);
            row[4].push(rocks(&db, &counter, writers).await);
        }
        eprintln!("round {} of 5", round + 1);
    }
    println!("synced writes of {BYTES} bytes a second, medians of 5 interleaved rounds");
    println!(
        "{:>7} {:>10} {:>10} {:>14} {:>12} {:>10} | {:>10} {:>14} {:>10}",
        "writers", "raw", "ours", "ours(threads)", "raft-engine", "rocksdb", "ours/raw", "ours/raft-eng.", "ours/rocks"
    );
    for (row, writers) in samples.iter().zip(WRITERS) {
        let of = |i: usize| if row[i].is_empty() { f64::NAN } else { median(&row[i]) };
        println!(
            "{writers:>7} {:>10.0} {:>10.0} {:>14.0} {:>12.0} {:>10.0} | {:>10.2} {:>14.2} {:>10.2}",
            of(0),
            of(1),
            of(2),
            of(3),
            of(4),
            of(1) / of(0),
            of(1) / of(3),
            of(1) / of(4)
        );
    }
    println!("log: {:?}", committer.log.stats());
}
