//! Access to the store's log: a single lane writes it in line, several lanes share a writer.
//!
//! ```text
//!   lane 0 --batch--+                        +--> lane 0: written
//!   lane 1 --batch--+--> one write, one sync +--> lane 1: written
//!   lane 2 --batch--+    (what came while    +--> lane 2: written
//!                         the last one ran)
//! ```
//!
//! **In** come batches, requests to cut groups' logs, and requests for old entries; **out** go the confirmations that
//! batches are durable, in the order of each lane's batches, the indexes up to which logs may be cut, and entries.
//!
//! **Never**: a lane that waits for the disk if there are several lanes; a batch that is reported durable before it and
//! all batches before it are.

use crate::raft::output::Fetch;
use crate::rt::sync::{mpsc, oneshot};
use crate::rt::task;
use crate::types::limits::{
    LOG_JOINED_BYTES_MAX, LOG_KEPT_WITHOUT_ROOM_MAX, LOG_UPKEEP_BYTES_MIN, LOG_UPKEEP_STEPS_MAX,
};
use crate::types::{Error, GroupId, Result};

use super::handle::{Handle, Room};
use super::log::{LogBatch, RaftLog};
use super::message::Message;

/// How much of the log is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    /// The number of entries before the applied index that are kept for followers.
    pub keep_entries: u64,
    /// Maximum number of entries that are kept for a lagging follower.
    pub lag_entries_max: u64,
    /// Maximum bytes of entries that a group keeps for a lagging follower.
    pub group_bytes_max: u64,
    /// Maximum bytes of entries that all groups keep; the largest logs are cut if there are more.
    pub store_bytes_max: u64,
}

/// The position of a group, from which follows how far its log may be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// The group's ID.
    pub group: GroupId,
    /// The index up to which the group is applied.
    pub applied: u64,
    /// The index up to which the group is durable in the engine.
    pub durable: u64,
    /// The index up to which the slowest follower has the log.
    pub slowest: u64,
    /// The lowest index from which a follower continues after a snapshot in flight; `u64::MAX` if there is none.
    pub snapshots: u64,
    /// The index up to which the log is truncated.
    pub truncated: u64,
}

/// The log, and the limits of what is kept of it.
pub(super) struct LogKeeper {
    pub log: RaftLog,
    pub retention: Retention,
    pub handle: Handle,
}

/// The receiver of the confirmation that a batch is durable.
#[derive(Debug)]
pub(super) enum Done {
    /// A lane, which gets a message.
    Lane(usize),
    /// A caller that waits for it.
    Caller(oneshot::Sender<Result<()>>),
    /// None: the batch need not even be durable.
    Ignored,
}

/// A request to the writer.
#[derive(Debug)]
pub(super) enum Job {
    /// Write a batch.
    Write(LogBatch, Done),
    /// Tell this lane how far the logs of these groups may be cut.
    Cut(usize, Vec<Standing>),
    /// Read old entries of a group.
    Fetch(GroupId, Fetch),
    /// Free segments and show statistics, including this number of engine flushes.
    Keep(u64),
}

impl LogKeeper {
    /// Writes a batch and makes it durable.
    ///
    /// # Errors
    /// Like [`RaftLog::write`].
    pub async fn write(&mut self, batch: &LogBatch) -> Result<()> {
        self.log.write(batch, true).await
    }

    /// Returns how far the logs of these groups may be cut, for those groups for which a mark is worth writing.
    pub fn cuts(&self, standings: &[Standing]) -> Vec<(GroupId, u64)> {
        let Retention { keep_entries, lag_entries_max, group_bytes_max, store_bytes_max } = self.retention;
        let over = self.log.live_bytes().saturating_sub(store_bytes_max);
        let largest = if over > 0 { self.largest(over) } else { Vec::new() };
        // Nothing is kept for followers while little disk space is left: they can get snapshots.
        let room = self.handle.room() == Room::Enough || crate::mutant!("replica.log-kept-without-room");
        let cut = |at: &Standing| {
            let Standing { group, applied, durable, slowest, snapshots, truncated } = *at;
            let durable = if crate::mutant!("replica.truncate-before-flush") { applied } else { durable };
            let by_bytes = match group_bytes_max {
                max if self.log.bytes_of(group) > max => self.log.first_within(group, max).saturating_sub(1),
                _ => 0,
            };
            let index = if !room || largest.contains(&group) {
                durable
            } else {
                // The entries that a follower needs after a snapshot in flight are bounded in bytes only: without them,
                // it would need another snapshot at once.
                let snapshots = if crate::mutant!("replica.cut-behind-a-snapshot") { u64::MAX } else { snapshots };
                let by_entries = applied.saturating_sub(lag_entries_max).min(snapshots);
                let keep = slowest.max(by_entries).max(by_bytes).min(applied);
                durable.min(keep.saturating_sub(keep_entries).max(by_bytes))
            };
            // Truncation writes a mark, which is not worth it for a few entries unless their bytes are over a limit.
            let over = largest.contains(&group)
                || (!room && index > truncated + LOG_KEPT_WITHOUT_ROOM_MAX)
                || (by_bytes > truncated && !crate::mutant!("replica.log-over-its-bound"))
                || crate::buggify!("driver.truncate-eagerly");
            let worth = index > truncated + keep_entries / 2 || (over && index > truncated);
            worth.then_some((group, index))
        };
        standings.iter().filter_map(cut).collect()
    }

    /// Returns the groups with the most bytes, as many as must be cut to free `bytes`.
    fn largest(&self, bytes: u64) -> Vec<GroupId> {
        let mut sizes: Vec<(u64, GroupId)> =
            self.log.groups().into_iter().map(|group| (self.log.bytes_of(group), group)).collect();
        sizes.sort_unstable_by(|left, right| right.cmp(left));
        let mut freed = 0;
        let enough = |(size, group): (u64, GroupId)| {
            let more = freed < bytes;
            freed += size;
            more.then_some(group)
        };
        sizes.into_iter().map_while(enough).collect()
    }

    /// Reads old entries in a task of their own, which sends them to the group's lane.
    pub fn fetch(&self, group: GroupId, fetch: Fetch) {
        let Fetch { low, high, max_bytes, context } = fetch;
        let max_bytes =
            if crate::buggify!("driver.tiny-fetch") { 1 } else { usize::try_from(max_bytes).unwrap_or(usize::MAX) };
        let handle = self.handle.clone();
        // If the entries are gone, the result is empty, and raft sends a snapshot.
        let read = self.log.prepare_read(group, low, high, max_bytes);
        task::spawn(async move {
            let entries = match read {
                Some(read) => {
                    crate::reach!("driver.entries-read-from-the-log");
                    read.run().await
                }
                None => Ok(Vec::new()),
            };
            handle.send(group, Message::Fetched { group, context, entries });
        });
    }

    /// Frees segments, and shows the log's statistics.
    ///
    /// # Errors
    /// Like [`RaftLog::maintain`].
    pub async fn keep(&mut self, engine_flushes: u64) -> Result<()> {
        for _ in 0..LOG_UPKEEP_STEPS_MAX {
            if crate::buggify!("driver.upkeep-later") {
                break;
            }
            let before = self.log.stats().rewritten_bytes;
            if !self.log.maintain().await? {
                break;
            }
            // A step that moved little can wait, unless the disk is nearly full: many such steps would move the same
            // entries again and again.
            let moved = self.log.stats().rewritten_bytes - before;
            if moved < LOG_UPKEEP_BYTES_MIN && self.handle.room() == Room::Enough {
                break;
            }
        }
        let stats = self.log.stats();
        let values = [
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
            ("engine_flushes", engine_flushes),
        ];
        self.handle.show_log(values.into());
        Ok(())
    }

    /// Serves several lanes until they have ended.
    pub async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let (mut next, mut batch, mut waiting, mut keep) = (Some(first), LogBatch::default(), Vec::new(), None);
            while let Some(job) = next.take() {
                match job {
                    Job::Write(more, done) => {
                        batch.join(more);
                        waiting.push(done);
                    }
                    Job::Cut(lane, standings) => {
                        self.handle.send_to(lane, Message::Cut(self.cuts(&standings)));
                    }
                    Job::Fetch(group, fetch) => self.fetch(group, fetch),
                    Job::Keep(engine_flushes) => keep = Some(engine_flushes),
                }
                if batch.bytes() < LOG_JOINED_BYTES_MAX {
                    next = jobs.try_recv().ok();
                }
            }
            let early = crate::mutant!("replica.writer-tells-early");
            if early {
                self.confirm(std::mem::take(&mut waiting), Ok(()));
            }
            let sync = early || waiting.iter().any(|done| !matches!(done, Done::Ignored));
            let written = self.log.write(&batch, sync).await;
            let failed = written.is_err();
            self.confirm(waiting, written);
            if let Some(engine_flushes) = keep
                && !failed
                && let Err(error) = self.keep(engine_flushes).await
            {
                self.handle.stop_serving(error.to_string());
            }
        }
    }

    fn confirm(&self, waiting: Vec<Done>, written: Result<()>) {
        for done in waiting {
            match done {
                Done::Lane(lane) => drop(self.handle.send_to(lane, Message::Written(written.clone()))),
                Done::Caller(caller) => drop(caller.send(written.clone())),
                Done::Ignored => {
                    if let Err(error) = &written {
                        self.handle.stop_serving(error.to_string());
                    }
                }
            }
        }
    }
}

/// A lane's access to the log.
pub(super) enum Log {
    /// Not open yet: groups are still being restored.
    Closed,
    /// The lane writes the log itself and waits, because it is the only one of its store.
    InLine(Box<LogKeeper>),
    /// A writer combines what the lanes write.
    Writer(mpsc::UnboundedSender<Job>),
}

impl Log {
    /// Writes a batch and waits until it is durable.
    ///
    /// # Errors
    /// Like [`RaftLog::write`].
    pub async fn write_now(&mut self, batch: LogBatch) -> Result<()> {
        match self {
            Log::Closed => Err(Error::Stopped("the raft log is not open yet".into())),
            Log::InLine(keeper) => keeper.write(&batch).await,
            Log::Writer(_) => {
                let (done, written) = oneshot::channel();
                self.ask(Job::Write(batch, Done::Caller(done)));
                written.await.unwrap_or_else(|_| Err(Error::Stopped("the raft log's writer is gone".into())))
            }
        }
    }

    /// Sends a request to the writer. A writer that is gone has told its lanes why.
    pub fn ask(&self, job: Job) {
        if let Log::Writer(jobs) = self {
            let _ = jobs.send(job);
        }
    }
}
