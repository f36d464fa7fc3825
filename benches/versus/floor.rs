//! Measures the quorum floor: three replicas over raw TCP, which write into a prewritten file with an fdatasync; a
//! write is acknowledged when two of three have it. Without raft, gRPC and engine, this is the limit for a replicated
//! put with one client on this machine.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Size of a record, bytes: a 256 byte value, a key and a little more.
const RECORD: usize = 272;
/// Size of each replica's file.
const FILE_BYTES: usize = 16 << 20;

/// Creates a file whose blocks are all written, so that a sync has no metadata to write.
fn prewritten(dir: &Path, replica: usize) -> File {
    let path = dir.join(format!("replica{replica}"));
    std::fs::write(&path, vec![0u8; FILE_BYTES]).expect("a file");
    let file = File::options().write(true).open(path).expect("a file");
    file.sync_all().expect("synced");
    file
}

fn append(file: &File, offset: &mut usize, record: &[u8]) {
    if *offset + record.len() > FILE_BYTES {
        *offset = 0;
    }
    file.write_all_at(record, *offset as u64).expect("written");
    file.sync_data().expect("synced");
    *offset += record.len();
}

/// Runs a follower behind a socket: it reads a record and sends a byte back once the record is synced.
fn follower(dir: &Path, replica: usize, acks: Sender<usize>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    stream.set_nodelay(true).expect("a socket");
    let (mut served, _) = listener.accept().expect("accepted");
    served.set_nodelay(true).expect("a socket");
    let file = prewritten(dir, replica);
    std::thread::spawn(move || {
        let (mut record, mut offset) = (vec![0u8; RECORD], 0);
        while served.read_exact(&mut record).is_ok() {
            append(&file, &mut offset, &record);
            if served.write_all(&[1]).is_err() {
                break;
            }
        }
    });
    let mut answers = stream.try_clone().expect("a handle");
    std::thread::spawn(move || {
        let mut byte = [0];
        while answers.read_exact(&mut byte).is_ok() && acks.send(replica).is_ok() {}
    });
    stream
}

/// Returns the median.
fn second(mut counts: [u64; 3]) -> u64 {
    counts.sort_unstable();
    counts[1]
}

/// Runs the leader, which serves one client until it disconnects.
fn leader(mut client: TcpStream, dir: &Path) {
    let (acks, acked) = channel();
    let mut followers = [follower(dir, 1, acks.clone()), follower(dir, 2, acks.clone())];
    let (own, records) = channel::<Vec<u8>>();
    let file = prewritten(dir, 0);
    std::thread::spawn(move || {
        let mut offset = 0;
        while let Ok(record) = records.recv() {
            append(&file, &mut offset, &record);
            if acks.send(0).is_err() {
                break;
            }
        }
    });
    let mut record = vec![0u8; RECORD];
    let (mut sent, mut synced) = (0u64, [0u64; 3]);
    while client.read_exact(&mut record).is_ok() {
        for follower in &mut followers {
            follower.write_all(&record).expect("sent");
        }
        own.send(record.clone()).expect("the writer lives");
        sent += 1;
        // Each replica acknowledges in order, so two of three have the record when the second-highest count reaches it.
        while second(synced) < sent {
            synced[acked.recv().expect("the replicas live")] += 1;
        }
        if client.write_all(&[1]).is_err() {
            break;
        }
    }
}

/// Returns the median latency in ms of one client over `secs` seconds.
pub fn p50_ms(dir: &Path, time: Duration) -> f64 {
    std::fs::create_dir_all(dir).expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    client.set_nodelay(true).expect("a socket");
    let (served, _) = listener.accept().expect("accepted");
    served.set_nodelay(true).expect("a socket");
    let home = dir.to_owned();
    let serving = std::thread::spawn(move || leader(served, &home));
    let (record, mut byte) = (vec![7u8; RECORD], [0]);
    let mut latencies = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time {
        let sent = Instant::now();
        client.write_all(&record).expect("sent");
        client.read_exact(&mut byte).expect("answered");
        latencies.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    drop(client);
    serving.join().expect("the leader does not panic");
    std::fs::remove_dir_all(dir).ok();
    // The first tenth is warm-up.
    let warm = latencies.len() / 10;
    super::median(latencies.split_off(warm))
}
