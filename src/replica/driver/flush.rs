//! Flushes of the engine: what makes applied entries durable, so that the log can let go of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft::eraftpb::Entry;

use crate::engine::KvEngine;
use crate::rt::{cpu, task};
use crate::types::{Error, GroupId, Result};

use super::Driver;
use crate::replica::handle::Handle;
use crate::replica::message::Message;

/// What the lanes of a store know of its flushes.
#[derive(Debug)]
pub(in crate::replica) struct Flushes {
    /// Bytes of log written since the last flush began.
    log_bytes: u64,
    /// Whether anything was applied since the last flush began.
    unflushed: bool,
    under_way: bool,
    /// Flushes begun.
    count: u64,
    /// When the last flush began (node clock, ns).
    begun_ns: u64,
}

impl Flushes {
    /// None so far.
    pub(in crate::replica) fn new(now_ns: u64) -> Flushes {
        Flushes { log_bytes: 0, unflushed: false, under_way: false, count: 0, begun_ns: now_ns }
    }

    /// Entries went into the log.
    pub(super) fn note_logged(&mut self, entries: &[Entry]) {
        self.log_bytes += entries.iter().map(|entry| entry.data.len() as u64 + 64).sum::<u64>();
    }

    /// Entries were applied.
    pub(super) fn note_applied(&mut self) {
        self.unflushed = true;
    }

    /// Flushes begun.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the next one begins now.
    fn begin(&mut self, bytes_max: u64, interval: Duration, now_ns: u64) -> bool {
        let age = Duration::from_nanos(now_ns.saturating_sub(self.begun_ns));
        let due = self.log_bytes >= bytes_max || age >= interval || crate::buggify!("driver.flush-early");
        if self.under_way || !self.unflushed || !due || crate::buggify!("driver.flush-late") {
            return false;
        }
        *self = Flushes { under_way: true, count: self.count + 1, ..Flushes::new(now_ns) };
        true
    }
}

/// Tells the lanes that a flush ended, also if it did so without a result.
struct FlushEnds {
    handle: Handle,
    flushes: Arc<Mutex<Flushes>>,
    told: bool,
}

impl FlushEnds {
    fn tell(&mut self, applied: Vec<(GroupId, u64)>, result: Result<()>) {
        self.told = true;
        self.flushes.lock().expect("no holder panics").under_way = false;
        let applied = Arc::new(applied);
        self.handle.send_all(|| Message::Flushed { applied: applied.clone(), result: result.clone() });
    }
}

impl Drop for FlushEnds {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Vec::new(), Err(Error::Stopped("a flush of the engine ended without a result".into())));
        }
    }
}

impl Driver {
    pub(super) fn maybe_flush(&mut self) {
        let now_ns = self.clock.now().0;
        let due = {
            let mut flushes = self.flushes.lock().expect("no holder panics");
            flushes.begin(self.options.flush_bytes, self.options.flush_interval, now_ns)
        };
        if !due {
            return;
        }
        // Taken before the flush begins: what is applied while it runs may or may not be in it. The groups of all lanes: what they
        // show is in the engine.
        let applied: Vec<(GroupId, u64)> =
            self.handle.views().iter().map(|view| (view.group, view.applied())).collect();
        let (handle, flushes) = (self.handle.clone(), self.flushes.clone());
        task::spawn(async move {
            let engine = handle.engine().clone();
            // A flush that panics must stop the store, not leave it waiting for the flush's end with a log that grows.
            let mut ends = FlushEnds { handle: handle.clone(), flushes, told: false };
            let result = cpu::run_long(move || engine.flush()).await;
            let applied = if crate::mutant!("replica.flush-marks-late-applies") {
                handle.views().iter().map(|view| (view.group, view.applied())).collect()
            } else {
                applied
            };
            ends.tell(applied, result);
        });
    }

    pub(super) fn flushed(&mut self, applied: &[(GroupId, u64)]) {
        for (group, index) in applied {
            if let Some(peer) = self.peers.get_mut(group) {
                peer.note_durable(*index);
            }
        }
        self.truncate();
    }
}
