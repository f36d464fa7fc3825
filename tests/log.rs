//! The raft log over real files: golden scripts, a model with random batches, and damage.
//!
//! Goal: reads return what was written, before and after a restart. Damage is reported with file and offset, or
//! discarded where it can only be a write that was in progress. Power losses and planted bugs are tested in the
//! simulator (`sim/src/scenario/log_crash_tests.rs`).

#![allow(clippy::disallowed_methods, reason = "a test over real files")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use armilla::replica::log::{LogBatch, LogOptions, RaftLog};
use armilla::rt::disk::Disk;
use armilla::rt::rng::Rng;
use armilla::types::{Error, GroupId};
use raft::eraftpb::{Entry, HardState};

mod log_model;

use log_model::{State, contents, difference, draw};

fn options(dir: &Path) -> LogOptions {
    LogOptions {
        dir: dir.join("log"),
        segment_bytes: 64 << 10,
        spare_segments_max: 2,
        live_bytes_soft_max: 128 << 10,
        boot: 0,
        boot_min: 0,
    }
}

async fn open(dir: &Path) -> Result<RaftLog, Error> {
    RaftLog::open(Disk::real(), options(dir)).await
}

fn entries(first: u64, term: u64, data: &[&str]) -> Vec<Entry> {
    let entry = |(i, data): (usize, &&str)| {
        let mut entry = Entry::default();
        (entry.index, entry.term, entry.data) = (first + i as u64, term, data.as_bytes().to_vec().into());
        entry
    };
    data.iter().enumerate().map(entry).collect()
}

/// Returns the segment files, ascending.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Runs one command of a script and returns its output.
async fn command(dir: &Path, log: &mut RaftLog, batch: &mut LogBatch, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |i: usize| words[i].parse::<u64>().unwrap_or_else(|_| panic!("a number: {line}"));
    let group = || GroupId(number(1));
    let mut out = String::new();
    match words[0] {
        "append" => batch.append(group(), &entries(number(2), number(3), &words[4..])),
        "hard-state" => {
            let mut state = HardState::default();
            (state.term, state.vote, state.commit) = (number(2), number(3), number(4));
            batch.hard_state(group(), &state);
        }
        "truncate" => batch.truncate_to(group(), number(2), number(3)),
        "reset" => batch.reset(group(), number(2), number(3)),
        "remove" => batch.remove(group()),
        "write" | "write-unsynced" => {
            if let Err(error) = log.write(batch, words[0] == "write").await {
                writeln!(out, "{error}").unwrap();
            }
            batch.clear();
        }
        "fill" => {
            // Writes batches of one 3,000-byte entry for a separate group until this many more segments are begun.
            let until = log.stats().created + log.stats().recycled + number(2);
            let data = "x".repeat(3000);
            while log.stats().created + log.stats().recycled < until {
                let next = log.group(group()).map_or(1, |group| group.last_index + 1);
                let mut batch = LogBatch::new();
                batch.append(group(), &entries(next, 1, &[&data]));
                log.write(&batch, false).await.unwrap();
            }
        }
        "drop-all" => {
            let last = log.group(group()).expect("a group").last_index;
            batch.truncate_to(group(), last, log.term(group(), last).expect("its term"));
        }
        "maintain" => {
            let mut steps = 1;
            while log.maintain().await.unwrap() {
                steps += 1;
            }
            writeln!(out, "{steps} steps").unwrap();
        }
        "files" => {
            let stats = log.stats();
            writeln!(out, "{} segments, {} spares, {} recycled", stats.segments, stats.spare_segments, stats.recycled)
                .unwrap();
        }
        "reopen" => match open(dir).await {
            Ok(opened) => *log = opened,
            Err(error) => writeln!(out, "{error}").unwrap(),
        },
        "dump" => {
            for id in log.groups() {
                let meta = log.group(id).unwrap().clone();
                let hs = &meta.hard_state;
                write!(out, "{id}: term {} vote {} commit {}, ", hs.term, hs.vote, hs.commit).unwrap();
                write!(out, "[{}, {}] after term {}:", meta.first_index, meta.last_index, meta.truncated_term).unwrap();
                if meta.first_index <= meta.last_index {
                    for entry in log.read(id, meta.first_index, meta.last_index + 1, usize::MAX).await.unwrap() {
                        let text = String::from_utf8_lossy(&entry.data);
                        let text = if text.len() > 20 { format!("{} bytes", text.len()) } else { text.into_owned() };
                        write!(out, " {}@{}={text}", entry.index, entry.term).unwrap();
                    }
                }
                out.push('\n');
            }
        }
        "read" => match log.read(group(), number(2), number(3), number(4) as usize).await {
            Ok(entries) => {
                let list: Vec<String> = entries.iter().map(|entry| format!("{}@{}", entry.index, entry.term)).collect();
                writeln!(out, "{}", list.join(" ")).unwrap();
            }
            Err(error) => writeln!(out, "{error}").unwrap(),
        },
        "term" => writeln!(out, "{:?}", log.term(group(), number(2))).unwrap(),
        other => panic!("unknown command {other}"),
    }
    out
}

/// Runs every script in `tests/scripts/log`: blocks of commands, `----`, the expected output, an empty line.
#[tokio::test]
async fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/log");
    let rewrite = std::env::var_os("ARMILLA_REWRITE").is_some();
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 5, "scripts are missing");
    for path in paths {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path()).await.unwrap();
        let mut batch = LogBatch::new();
        let text = fs::read_to_string(&path).unwrap();
        let mut actual = Vec::new();
        for block in text.trim_end().split("\n\n") {
            let commands = block.split("----\n").next().unwrap();
            let mut output = String::new();
            for line in commands.lines().filter(|line| !line.starts_with('#') && *line != "----") {
                output += &command(dir.path(), &mut log, &mut batch, line).await;
            }
            let output = output.replace(&dir.path().display().to_string(), "DIR");
            let commands = commands.trim_end().trim_end_matches("----").trim_end();
            actual.push(format!("{commands}\n----\n{}", output.trim_end()).trim_end().to_owned());
        }
        let actual = actual.join("\n\n") + "\n";
        if rewrite {
            fs::write(&path, actual).unwrap();
        } else {
            assert_eq!(actual, text, "{}: run with ARMILLA_REWRITE=1 if the change is meant", path.display());
        }
    }
}

/// Runs random batches, housekeeping and restarts, and compares the log with the model at every step.
#[tokio::test]
async fn follows_the_model() {
    for seed in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = Rng::fork(seed, "log-model");
        let mut log = open(dir.path()).await.unwrap();
        let mut state = State::new();
        for step in 0..300 {
            let (batch, next) = draw(&mut rng, &state);
            log.write(&batch, rng.chance(0.1)).await.unwrap();
            state = next;
            if rng.chance(0.2) {
                log.maintain().await.unwrap();
            }
            if rng.chance(0.02) {
                drop(log);
                log = open(dir.path()).await.unwrap();
            }
            if rng.chance(0.1) || step == 299 {
                let read = contents(&log, &mut rng).await.unwrap();
                assert!(read == state, "seed {seed} step {step}: {}", difference(&read, &state));
            }
        }
        let stats = log.stats();
        assert!(stats.segments < 40, "seed {seed}: segments are given back: {stats:?}");
    }
}

/// Writes three records to segment 1 and returns the offsets of the last one.
async fn three_records(dir: &Path) -> Vec<u64> {
    let mut log = open(dir).await.unwrap();
    for i in 1..=3 {
        let mut batch = LogBatch::new();
        batch.append(GroupId(7), &entries(i, 1, &["some data that fills a bit of the page"]));
        log.write(&batch, true).await.unwrap();
    }
    vec![4096, 8192, 12288]
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// A flipped byte in a record that later records prove durable, or in any segment with a successor, is reported by file
/// and offset.
#[tokio::test]
async fn damage_in_the_middle_is_refused() {
    for at in [0, 70, 100] {
        let dir = tempfile::tempdir().unwrap();
        let offsets = three_records(dir.path()).await;
        let path = segments(dir.path())[0].clone();
        flip(&path, offsets[1] + at);
        let error = open(dir.path()).await.map(drop).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Corruption(_)), "{text}");
        assert!(text.contains("0000000000000001.log at offset 8192"), "{text}");
    }
    // After one more start the last record is gone, but its copy is in the next segment. The second record is still
    // there.
    let dir = tempfile::tempdir().unwrap();
    let offsets = three_records(dir.path()).await;
    drop(open(dir.path()).await.unwrap());
    let path = segments(dir.path())[0].clone();
    assert_eq!(fs::metadata(&path).unwrap().len(), offsets[2]);
    assert_eq!(open(dir.path()).await.unwrap().group(GroupId(7)).unwrap().last_index, 3);
    flip(&path, offsets[1] + 70);
    let text = open(dir.path()).await.map(drop).unwrap_err().to_string();
    assert!(text.contains("0000000000000001.log at offset 8192"), "{text}");
}

/// A cut or torn tail ends the log there, and the next records continue from it.
#[tokio::test]
async fn a_torn_tail_is_forgotten() {
    for cut in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let offsets = three_records(dir.path()).await;
        let path = segments(dir.path())[0].clone();
        let whole = fs::read(&path).unwrap();
        if cut {
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(offsets[2] + 50).unwrap();
        } else {
            flip(&path, offsets[2] + 90);
        }
        for last in 2..5 {
            let mut log = open(dir.path()).await.unwrap();
            assert_eq!(log.group(GroupId(7)).unwrap().last_index, last);
            let mut batch = LogBatch::new();
            batch.append(GroupId(7), &entries(last + 1, 2, &["again"]));
            log.write(&batch, true).await.unwrap();
        }
        // Even if the half record came back whole, it stays invalid.
        fs::write(&path, &whole).unwrap();
        let log = open(dir.path()).await.unwrap();
        assert_eq!(log.term(GroupId(7), 3), Some(2));
    }
}

/// A missing segment, a damaged header and a newer format are refused with an error.
#[tokio::test]
async fn missing_and_foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    three_records(dir.path()).await;
    drop(open(dir.path()).await.unwrap());
    drop(open(dir.path()).await.unwrap());
    let paths = segments(dir.path());
    assert_eq!(paths.len(), 3);
    let second = fs::read(&paths[1]).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    let text = open(dir.path()).await.map(drop).unwrap_err().to_string();
    assert!(text.contains("0000000000000002.log at offset 0: the segment is missing"), "{text}");
    fs::write(&paths[1], &second).unwrap();
    drop(open(dir.path()).await.unwrap());

    flip(&paths[1], 20);
    let text = open(dir.path()).await.map(drop).unwrap_err().to_string();
    assert!(text.contains("0000000000000002.log at offset 0: the header is damaged"), "{text}");
    fs::write(&paths[1], &second).unwrap();

    let newest = segments(dir.path()).pop().unwrap();
    let mut header = fs::read(&newest).unwrap();
    header[12] = 9;
    let crc = armilla::arch::crc32c(&header[12..128]);
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    fs::write(&newest, &header).unwrap();
    let error = open(dir.path()).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Invalid(text) if text.contains("has format 9, this build reads 1")), "{error}");
}

/// A start without any writes creates no files, since a supervisor may retry for days.
#[tokio::test]
async fn starts_that_get_nowhere_make_no_files() {
    let dir = tempfile::tempdir().unwrap();
    three_records(dir.path()).await;
    let mut files = Vec::new();
    for _ in 0..10 {
        drop(open(dir.path()).await.unwrap());
        files.push(segments(dir.path()).len());
    }
    assert_eq!(files[2..], [3; 8], "{files:?}");
    for next in 4..8 {
        let mut log = open(dir.path()).await.unwrap();
        assert_eq!(log.group(GroupId(7)).unwrap().last_index, next - 1);
        let mut batch = LogBatch::new();
        batch.append(GroupId(7), &entries(next, 1, &["more"]));
        log.write(&batch, true).await.unwrap();
    }
}

/// An ended segment's file ends with its records, however the segment ended, so that the files are as large as the
/// log's contents.
#[tokio::test]
async fn files_of_ended_segments_end_with_their_records() {
    let dir = tempfile::tempdir().unwrap();
    let write = async |log: &mut RaftLog, index: u64, bytes: usize| {
        let mut batch = LogBatch::new();
        batch.append(GroupId(7), &entries(index, 1, &["x".repeat(bytes).as_str()]));
        log.write(&batch, true).await.unwrap();
    };
    // Ended by a start, by a record that does not fit, and by a start that died before it cut.
    let mut log = open(dir.path()).await.unwrap();
    write(&mut log, 1, 10).await;
    drop(log);
    let mut log = open(dir.path()).await.unwrap();
    write(&mut log, 2, 20 << 10).await;
    write(&mut log, 3, options(dir.path()).segment_bytes as usize - (20 << 10)).await;
    drop(log);
    let long = fs::OpenOptions::new().write(true).open(&segments(dir.path())[0]).unwrap();
    long.set_len(options(dir.path()).segment_bytes).unwrap();
    drop(open(dir.path()).await.unwrap());
    let lengths: Vec<u64> = segments(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).collect();
    // The files hold headers; records that nothing proves durable went into the next segment. The active one has
    // preallocated space.
    assert_eq!(lengths, [4096, 32 << 10, 4096, 64 << 10]);
}

/// Another node's log is refused before anything in it is changed.
#[tokio::test]
async fn a_log_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |id| RaftLog::open_with_id(Disk::real(), options(dir.path()), id);
    drop(open(5).await.unwrap());
    let before = fs::read(&segments(dir.path())[0]).unwrap();
    let error = open(6).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Invalid(text) if text.contains("was created by another node")), "{error}");
    assert_eq!((segments(dir.path()).len(), fs::read(&segments(dir.path())[0]).unwrap()), (1, before));
    drop(open(5).await.unwrap());
}

/// An older copy of the log is refused, also one without any record. A log that a start left before it was recorded is
/// accepted.
#[tokio::test]
async fn an_older_copy_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        |boot, boot_min| RaftLog::open_with_id(Disk::real(), LogOptions { boot, boot_min, ..options(dir.path()) }, 5);
    for boot in 1..=3 {
        // The identity records the previous start; this one has not been recorded yet.
        drop(open(boot, boot - 1).await.unwrap());
        drop(open(boot, boot).await.unwrap());
    }
    let error = open(4, 4).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Corruption(text) if text.contains("older copy")), "{error}");
    let mut log = open(4, 3).await.unwrap();
    let mut batch = LogBatch::new();
    batch.append(GroupId(7), &entries(1, 1, &["one"]));
    log.write(&batch, true).await.unwrap();
    drop(log);
    drop(open(5, 4).await.unwrap());
    assert!(open(6, 6).await.is_err());
}

/// Goal: a record that a start copied forward before it died is not found by a later start if the record was forgotten
/// in between. Method: the copy is put into the spare that the start used, the record itself is damaged, and the log is
/// opened twice.
#[tokio::test]
async fn a_copy_of_an_earlier_start_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await.unwrap();
    let next = 31;
    for index in 1..next - 1 {
        let mut batch = LogBatch::new();
        batch.append(GroupId(7), &entries(index, 1, &["x".repeat(8 << 10).as_str()]));
        log.write(&batch, true).await.unwrap();
    }
    let mut batch = LogBatch::new();
    batch.truncate_to(GroupId(7), next - 3, 1);
    log.write(&batch, true).await.unwrap();
    while log.maintain().await.unwrap() {}
    assert_eq!(log.stats().spare_segments, 2);
    let mut batch = LogBatch::new();
    batch.append(
        GroupId(7),
        &entries(next - 1, 1, &["the first in the next start's segment, where its header vouches for it"]),
    );
    log.write(&batch, true).await.unwrap();
    drop(log);
    let mut log = open(dir.path()).await.unwrap();
    let mut batch = LogBatch::new();
    batch.append(GroupId(7), &entries(next, 1, &["doubtful"]));
    log.write(&batch, true).await.unwrap();
    drop(log);
    let before: Vec<(PathBuf, Vec<u8>)> =
        segments(dir.path()).into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
    drop(open(dir.path()).await.unwrap());
    let after = segments(dir.path());
    let copy = fs::read(after.last().unwrap()).unwrap()[4096..8192].to_vec();
    let taken = before.iter().find(|(path, _)| !after.contains(path)).expect("a spare was taken").0.clone();
    // The state before that start, except for the copy, and for the record, which is torn.
    fs::remove_file(after.last().unwrap()).unwrap();
    for (path, content) in &before {
        fs::write(path, content).unwrap();
    }
    let spare = fs::OpenOptions::new().write(true).open(&taken).unwrap();
    spare.write_all_at(&copy, 4096).unwrap();
    let (last, content) = before.last().unwrap();
    let at = content.windows(8).rposition(|bytes| bytes == b"doubtful").expect("the record");
    flip(last, at as u64);
    for start in 0..2 {
        let log = open(dir.path()).await.unwrap();
        assert_eq!(log.group(GroupId(7)).unwrap().last_index, next - 1, "start {start}");
    }
}

/// Damage below entries that are read later is detected by the read.
#[tokio::test]
async fn a_read_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = three_records(dir.path()).await;
    let log = open(dir.path()).await.unwrap();
    flip(&segments(dir.path())[0], offsets[0] + 64 + 37 + 20);
    let text = log.read(GroupId(7), 1, 2, 1000).await.unwrap_err().to_string();
    assert!(text.contains("0000000000000001.log at offset 4160: entries of group 7 are damaged"), "{text}");
    assert_eq!(log.read(GroupId(7), 2, 4, 1000).await.unwrap().len(), 2);
}

/// A batch larger than a segment gets a separate segment.
#[tokio::test]
async fn a_batch_may_be_larger_than_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await.unwrap();
    let data = "y".repeat(1 << 20);
    let mut batch = LogBatch::new();
    batch.append(GroupId(3), &entries(1, 1, &["small", &data, "small"]));
    for _ in 0..2 {
        log.write(&batch, true).await.unwrap();
    }
    let mut log = open(dir.path()).await.unwrap();
    let read = log.read(GroupId(3), 2, 4, 10).await.unwrap();
    assert_eq!((read.len(), read[0].data.len()), (1, 1 << 20));
    let mut batch = LogBatch::new();
    batch.truncate_to(GroupId(3), 3, 1);
    log.write(&batch, true).await.unwrap();
    while log.maintain().await.unwrap() {}
    assert_eq!(log.stats().segments, 1);
}

/// A batch that does not continue the log is refused, and poisons the log.
#[tokio::test]
async fn a_gap_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await.unwrap();
    let mut batch = LogBatch::new();
    batch.append(GroupId(3), &entries(2, 1, &["two"]));
    let first = log.write(&batch, true).await.unwrap_err();
    assert!(matches!(first, Error::Invalid(_)));
    batch.clear();
    batch.remove(GroupId(3));
    assert_eq!(log.write(&batch, true).await.unwrap_err(), first);
    assert!(open(dir.path()).await.unwrap().groups().is_empty());
}
