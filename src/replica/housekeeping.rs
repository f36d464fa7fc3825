//! Flushes of the engine, truncation and upkeep of the log.

use std::time::Duration;

use crate::engine::KvEngine;
use crate::rt::probe::Event as Probe;
use crate::rt::{cpu, task};
use crate::types::{Error, GroupId, Result};

use super::driver::Driver;
use super::handle::Handle;
use super::mailbox::Mail;

/// What the driver remembers for its upkeep.
#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    /// Bytes of log written since the last flush began.
    pub log_bytes: u64,
    /// Whether anything was applied since the last flush began.
    pub unflushed: bool,
    /// A flush is under way.
    pub flushing: bool,
    /// Flushes begun.
    pub flushes: u64,
    /// When the last flush began (node clock, ns).
    pub flushed_at: u64,
    /// Facts to report when the log is written.
    pub probes: Vec<Probe>,
}

/// Tells the driver that a flush ended, also if it did so without a result.
struct FlushEnds {
    handle: Handle,
    told: bool,
}

impl Drop for FlushEnds {
    fn drop(&mut self) {
        if !self.told {
            let result = Err(Error::Stopped("a flush of the engine died".into()));
            let _ = self.handle.mail.send(Mail::Flushed { applied: Vec::new(), result });
        }
    }
}

impl Driver {
    /// A bounded step of upkeep, once a tick.
    pub(super) async fn housekeep(&mut self) -> Result<()> {
        self.maybe_flush();
        self.truncate();
        if !self.batch.is_empty() {
            self.log.write(&self.batch, false).await?;
            self.batch.clear();
        }
        self.log.maintain().await?;
        let stats = self.log.stats();
        *self.handle.log_figures.write().expect("no reader panics") = [
            ("segments", stats.segments as u64),
            ("spare_segments", stats.spare_segments as u64),
            ("live_bytes", stats.live_bytes),
            ("dead_bytes", stats.dead_bytes),
            ("syncs", stats.syncs),
            ("bytes_written", stats.bytes_written),
            ("records", stats.records),
            ("recycled", stats.recycled),
            ("created", stats.created),
            ("rewritten_bytes", stats.rewritten_bytes),
            ("engine_flushes", self.housekeeping.flushes),
        ]
        .into();
        Ok(())
    }

    fn maybe_flush(&mut self) {
        let now = self.clock.now().0;
        let age = Duration::from_nanos(now.saturating_sub(self.housekeeping.flushed_at));
        let due = self.housekeeping.log_bytes >= self.options.flush_bytes || age >= self.options.flush_interval;
        if self.housekeeping.flushing || !self.housekeeping.unflushed || !due {
            return;
        }
        self.housekeeping.flushing = true;
        self.housekeeping.flushes += 1;
        self.housekeeping.unflushed = false;
        self.housekeeping.flushed_at = now;
        self.housekeeping.log_bytes = 0;
        // Taken before the flush begins: what is applied while it runs may or may not be in it.
        let applied = self.applied();
        let handle = self.handle.clone();
        task::spawn(async move {
            let engine = handle.engine.clone();
            // A flush that panics must stop the store, not leave it waiting for the flush's end with a log that grows.
            let mut ended = FlushEnds { handle: handle.clone(), told: false };
            let result = cpu::run_long(move || engine.flush()).await;
            let applied = if crate::mutant!("replica.flush-marks-late-applies") {
                handle.views().iter().map(|view| (view.group, view.applied())).collect()
            } else {
                applied
            };
            ended.told = true;
            let _ = handle.mail.send(Mail::Flushed { applied, result });
        });
    }

    fn applied(&self) -> Vec<(GroupId, u64)> {
        self.peers.iter().map(|(group, peer)| (*group, peer.group.log().applied().0)).collect()
    }

    pub(super) fn flushed(&mut self, applied: Vec<(GroupId, u64)>) {
        self.housekeeping.flushing = false;
        for (group, index) in applied {
            if let Some(peer) = self.peers.get_mut(&group) {
                peer.durable = peer.durable.max(index);
            }
        }
    }

    /// The last flush, so that the next start has nothing to replay.
    pub(super) async fn flush_at_stop(&mut self) -> Result<()> {
        let engine = self.engine.clone();
        cpu::run_long(move || engine.flush()).await
    }

    /// Cuts every group's log below what is durable in the engine, leaving something for followers that lag a little.
    fn truncate(&mut self) {
        for (group, peer) in &mut self.peers {
            let applied = peer.group.log().applied().0;
            let durable = if crate::mutant!("replica.truncate-before-flush") { applied } else { peer.durable };
            let lag_floor = applied.saturating_sub(self.options.log_lag_entries_max);
            let keep = peer.group.slowest_follower().max(lag_floor).min(applied);
            let index = durable.min(keep.saturating_sub(self.options.log_keep_entries));
            // Truncating writes a mark; not worth it for a handful of entries.
            if index > peer.group.log().truncated().0 + self.options.log_keep_entries / 2 {
                let term = peer.group.log_mut().truncate_to(index);
                self.batch.truncate_to(*group, index, term);
            }
        }
    }
}
