//! Flushes of the engine, which make applied entries durable so that the log can drop them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft::eraftpb::Entry;

use crate::engine::KvEngine;
use crate::raft::frame;
use crate::rt::{cpu, task};
use crate::types::{Error, GroupId, Result};

use super::Driver;
use crate::replica::handle::Handle;
use crate::replica::message::Message;

/// The state of a store's flushes, shared by its lanes.
#[derive(Debug)]
pub(in crate::replica) struct Flushes {
    /// Bytes of log written since the last flush began.
    log_bytes: u64,
    /// Whether anything was applied since the last flush began.
    unflushed: bool,
    under_way: bool,
    /// The number of flushes begun.
    count: u64,
    /// When the last flush began (node clock, ns).
    begun_ns: u64,
}

impl Flushes {
    /// Creates the state before the first flush.
    pub(in crate::replica) fn new(now_ns: u64) -> Flushes {
        Flushes { log_bytes: 0, unflushed: false, under_way: false, count: 0, begun_ns: now_ns }
    }

    /// Counts entries that were written to the log.
    pub(super) fn note_logged(&mut self, entries: &[Entry]) {
        self.log_bytes += entries.iter().map(|entry| frame::bytes(entry) as u64 + 64).sum::<u64>();
    }

    /// Notes that entries were applied.
    pub(super) fn note_applied(&mut self) {
        self.unflushed = true;
    }

    /// Returns the number of flushes begun.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Begins the next flush if it is due. Returns whether it has begun.
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

/// Reports the end of a flush to the lanes, even if it ended without a result.
struct FlushEnd {
    handle: Handle,
    flushes: Arc<Mutex<Flushes>>,
    number: u64,
    reported: bool,
}

impl FlushEnd {
    fn report(&mut self, applied: Vec<(GroupId, u64)>, result: Result<()>) {
        self.reported = true;
        self.flushes.lock().expect("no holder panics").under_way = false;
        let (number, applied) = (self.number, Arc::new(applied));
        self.handle.send_all(|| Message::Flushed { number, applied: applied.clone(), result: result.clone() });
    }
}

impl Drop for FlushEnd {
    fn drop(&mut self) {
        if !self.reported {
            self.report(Vec::new(), Err(Error::Stopped("a flush of the engine ended without a result".into())));
        }
    }
}

impl Driver {
    pub(super) fn maybe_flush(&mut self) {
        let now_ns = self.clock.now().0;
        let number = {
            let mut flushes = self.flushes.lock().expect("no holder panics");
            if !flushes.begin(self.options.flush_bytes, self.options.flush_interval, now_ns) {
                return;
            }
            flushes.count()
        };
        // Taken before the flush begins, because what is applied while it runs may or may not be in it. The views have
        // the groups of all lanes, and their applied entries are in the engine.
        let applied: Vec<(GroupId, u64)> =
            self.handle.views().iter().map(|view| (view.group, view.applied())).collect();
        let (handle, flushes) = (self.handle.clone(), self.flushes.clone());
        task::spawn(async move {
            let engine = handle.engine().clone();
            // A flush that panics must stop the store, which would otherwise wait for its end while the log grows.
            let mut end = FlushEnd { handle: handle.clone(), flushes, number, reported: false };
            let result = cpu::run_long(move || engine.flush()).await;
            let applied = if crate::mutant!("replica.flush-marks-late-applies") {
                handle.views().iter().map(|view| (view.group, view.applied())).collect()
            } else {
                applied
            };
            end.report(applied, result);
        });
    }

    pub(super) fn flushed(&mut self, number: u64, applied: &[(GroupId, u64)]) {
        for (group, index) in applied {
            if let Some(peer) = self.peers.get_mut(group) {
                peer.note_durable(*index);
            }
        }
        self.remove_buried(number);
        let groups: Vec<GroupId> = self.peers.keys().copied().collect();
        self.truncate(&groups);
    }
}
