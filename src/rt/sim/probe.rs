//! The record of everything that happened, in order: every fact of the protocol, every delivery of the network, every
//! operation of a disk, every fault. All of it goes into one running digest, by which two runs of a seed are compared,
//! to the online oracles (sinks) and, if requested, into a trace.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::sync::Mutex;

use crate::rt::event::Event;
use crate::rt::rng::mix;

/// One record.
#[derive(Debug)]
pub struct ProbeRecord<'a> {
    /// The record's number in the run, from 1.
    pub ordinal: u64,
    /// Nanoseconds of true (simulated) time.
    pub at_ns: u64,
    /// The node on which it happened; 0 for the simulator.
    pub node: u64,
    /// What happened.
    pub what: What<'a>,
}

/// The content of a record.
#[derive(Debug)]
pub enum What<'a> {
    /// A fact of the protocol.
    Event(&'a Event),
    /// A packet of a stream arrived at the record's node.
    Deliver {
        /// The node that sent it.
        from: u64,
        /// The stream, unique in the run.
        stream: u64,
        /// Bytes, as they would be on the wire.
        len: usize,
        /// Hash of the contents.
        hash: u64,
    },
    /// An operation on the disk of the record's node.
    Disk {
        /// The operation's name.
        op: &'static str,
        /// The file's number, or a hash of the name.
        file: u64,
        /// Offset in the file.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Hash of the contents.
        hash: u64,
    },
    /// The simulator did something to a node, a link or a disk.
    Fault(&'a str),
}

/// The digest after a certain record, where two runs can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The record's number in the run.
    pub ordinal: u64,
    /// Simulated nanoseconds.
    pub at_ns: u64,
    /// The digest's first half.
    pub digest: u64,
}

/// An online oracle, or any other consumer of records.
pub type Sink = Box<dyn FnMut(&ProbeRecord<'_>) + Send>;

/// Number of records between two checkpoints.
pub const CHECKPOINT_EVERY: u64 = 512;

#[derive(Default)]
struct State {
    ordinal: u64,
    digest: (u64, u64),
    checkpoints: Vec<Checkpoint>,
    sinks: Vec<Sink>,
    trace: Option<Trace>,
}

struct Trace {
    out: Box<dyn std::io::Write + Send>,
    from: u64,
    to: u64,
}

/// Receives the records of a world.
pub struct Probe {
    state: Mutex<State>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probe")
    }
}

impl Probe {
    pub(super) fn new() -> Probe {
        Probe { state: Mutex::new(State::default()) }
    }

    /// Returns the running digest: 128 bits over all records so far, as 32 hexadecimal digits.
    pub fn digest(&self) -> String {
        let state = self.state.lock().unwrap();
        format!("{:016x}{:016x}", state.digest.0, state.digest.1)
    }

    /// Returns the number of records so far.
    pub fn ordinal(&self) -> u64 {
        self.state.lock().unwrap().ordinal
    }

    /// Returns the digest at every [`CHECKPOINT_EVERY`]th record.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        self.state.lock().unwrap().checkpoints.clone()
    }

    /// Adds a `sink` that receives every record from now on. It must not report events itself, and it must not await.
    pub fn add_sink(&self, sink: impl FnMut(&ProbeRecord<'_>) + Send + 'static) {
        self.state.lock().unwrap().sinks.push(Box::new(sink));
    }

    /// Writes a line for each record whose ordinal lies in `from..=to`.
    pub fn trace(&self, out: Box<dyn std::io::Write + Send>, from: u64, to: u64) {
        self.state.lock().unwrap().trace = Some(Trace { out, from, to });
    }

    /// Flushes the trace's buffer.
    pub fn flush(&self) {
        if let Some(trace) = &mut self.state.lock().unwrap().trace {
            let _ = trace.out.flush();
        }
    }

    pub(super) fn record(&self, at_ns: u64, node: u64, what: What<'_>) {
        let mut state = self.state.lock().unwrap();
        state.ordinal += 1;
        let mut hash = Mixer(at_ns ^ node.rotate_left(48));
        match &what {
            What::Event(event) => {
                hash.write_u64(1);
                event.hash(&mut hash);
            }
            What::Deliver { from, stream, len, hash: data } => {
                for word in [2, *from, *stream, *len as u64, *data] {
                    hash.write_u64(word);
                }
            }
            What::Disk { op, file, offset, len, hash: data } => {
                hash.write(op.as_bytes());
                for word in [3, *file, *offset, *len, *data] {
                    hash.write_u64(word);
                }
            }
            What::Fault(text) => {
                hash.write_u64(4);
                hash.write(text.as_bytes());
            }
        }
        let word = hash.finish();
        state.digest.0 = mix(state.digest.0 ^ word);
        state.digest.1 = mix(state.digest.1.rotate_left(23).wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (ordinal, digest) = (state.ordinal, state.digest.0);
        if ordinal.is_multiple_of(CHECKPOINT_EVERY) {
            state.checkpoints.push(Checkpoint { ordinal, at_ns, digest });
        }
        let record = ProbeRecord { ordinal, at_ns, node, what };
        if let Some(trace) = &mut state.trace
            && (trace.from..=trace.to).contains(&ordinal)
        {
            let mut line = String::with_capacity(160);
            let _ = write!(line, "{ordinal} {}.{:09} n{node} ", at_ns / 1_000_000_000, at_ns % 1_000_000_000);
            let _ = match &record.what {
                What::Event(event) => write!(line, "event {event:?}"),
                What::Deliver { from, stream, len, hash } => {
                    write!(line, "deliver from n{from} stream {stream} len {len} hash {hash:016x}")
                }
                What::Disk { op, file, offset, len, hash } => {
                    write!(line, "disk {op} file {file:x} offset {offset} len {len} hash {hash:016x}")
                }
                What::Fault(text) => write!(line, "fault {text}"),
            };
            let _ = writeln!(trace.out, "{line}");
        }
        if !state.sinks.is_empty() {
            let mut sinks = std::mem::take(&mut state.sinks);
            drop(state);
            for sink in &mut sinks {
                sink(&record);
            }
            let mut state = self.state.lock().unwrap();
            // Sinks that were added meanwhile go to the end.
            let added = std::mem::replace(&mut state.sinks, sinks);
            state.sinks.extend(added);
        }
    }
}

/// A hasher that gives the same result on every platform and in every process; hashes eight bytes per step.
pub(super) struct Mixer(pub(super) u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.write_u64(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let mut last = [0; 8];
        let rest = words.remainder();
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        let product = u128::from(self.0 ^ n ^ 0xa076_1d64_78bd_642f) * u128::from(n ^ 0xe703_7ed1_a0b4_28db | 1);
        self.0 = self.0.rotate_left(29) ^ (product as u64) ^ ((product >> 64) as u64);
    }
}

/// Hashes a buffer.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut mixer = Mixer(bytes.len() as u64);
    mixer.write(bytes);
    mixer.finish()
}
