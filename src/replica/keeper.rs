//! Who writes the store's log: its only lane in line, or a writer of its own for several lanes.
//!
//! ```text
//!   lane 0 --batch--+                        +--> lane 0: written
//!   lane 1 --batch--+--> one write, one sync +--> lane 1: written
//!   lane 2 --batch--+    (what came while    +--> lane 2: written
//!                         the last one ran)
//! ```
//!
//! **In** come batches, wishes to cut groups' logs, and wishes for old entries; **out** goes the word that a batch is durable, in the
//! order of the batches of each lane, where logs may be cut, and entries.
//!
//! **Never**: a lane that waits for the disk, where there are several; a batch called durable before it and those before it are.

use crate::raft::output::Fetch;
use crate::rt::sync::{mpsc, oneshot};
use crate::rt::task;
use crate::types::limits::{LOG_JOINED_BYTES_MAX, LOG_UPKEEP_BYTES_MIN, LOG_UPKEEP_STEPS_MAX};
use crate::types::{Error, GroupId, Result};

use super::handle::Handle;
use super::log::{LogBatch, RaftLog};
use super::message::Message;

/// How much of the log is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    /// Entries behind the applied index that are kept for followers.
    pub keep_entries: u64,
    /// Entries that are kept for a follower that lags.
    pub lag_entries_max: u64,
    /// Bytes of entries that a group keeps for a follower that lags.
    pub group_bytes_max: u64,
    /// Bytes of entries that all groups keep; the largest are cut beyond them.
    pub store_bytes_max: u64,
}

/// Where a group stands, for the question how far its log may be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// The group.
    pub group: GroupId,
    /// Up to here it is applied.
    pub applied: u64,
    /// Up to here it is durable in the engine.
    pub durable: u64,
    /// Up to here the slowest follower has its log.
    pub slowest: u64,
    /// Followers go on from here when the snapshots under way have arrived; the largest index if there are none.
    pub snapshots: u64,
    /// Up to here its log is cut.
    pub truncated: u64,
}

/// The log, and what is kept of it.
pub(super) struct LogKeeper {
    pub log: RaftLog,
    pub retention: Retention,
    pub handle: Handle,
}

/// Whom to tell that a batch is durable.
#[derive(Debug)]
pub(super) enum Done {
    /// A lane, by message.
    Lane(usize),
    /// Whoever waits for it.
    Caller(oneshot::Sender<Result<()>>),
    /// Nobody: it need not even be durable.
    Nobody,
}

/// What a writer is asked for.
#[derive(Debug)]
pub(super) enum Job {
    /// Write a batch.
    Write(LogBatch, Done),
    /// Say where the logs of these groups may be cut.
    Cut(usize, Vec<Standing>),
    /// Read old entries of a group.
    Fetch(GroupId, Fetch),
    /// Give segments back and show figures; the engine's flushes so far go with them.
    Keep(u64),
}

impl LogKeeper {
    /// Writes a batch and makes it durable.
    ///
    /// # Errors
    /// As [`RaftLog::write`].
    pub async fn write(&mut self, batch: &LogBatch) -> Result<()> {
        self.log.write(batch, true).await
    }

    /// How far the logs of these groups may be cut: those for which it is worth a mark.
    pub fn cuts(&self, standings: &[Standing]) -> Vec<(GroupId, u64)> {
        let Retention { keep_entries, lag_entries_max, group_bytes_max, store_bytes_max } = self.retention;
        let over = self.log.live_bytes().saturating_sub(store_bytes_max);
        let largest = if over > 0 { self.largest(over) } else { Vec::new() };
        let cut = |at: &Standing| {
            let Standing { group, applied, durable, slowest, snapshots, truncated } = *at;
            let durable = if crate::mutant!("replica.truncate-before-flush") { applied } else { durable };
            let by_bytes = match group_bytes_max {
                max if self.log.bytes_of(group) > max => self.log.first_within(group, max).saturating_sub(1),
                _ => 0,
            };
            let index = if largest.contains(&group) {
                durable
            } else {
                // What a snapshot under way needs next is bounded in bytes only: without it the follower needs another one at once.
                let snapshots = if crate::mutant!("replica.cut-behind-a-snapshot") { u64::MAX } else { snapshots };
                let by_entries = applied.saturating_sub(lag_entries_max).min(snapshots);
                let keep = slowest.max(by_entries).max(by_bytes).min(applied);
                durable.min(keep.saturating_sub(keep_entries).max(by_bytes))
            };
            // Truncating writes a mark; not worth it for a handful of entries, unless their bytes are over a bound.
            let over = largest.contains(&group)
                || (by_bytes > truncated && !crate::mutant!("replica.log-over-its-bound"))
                || crate::buggify!("driver.truncate-eagerly");
            let worth = index > truncated + keep_entries / 2 || (over && index > truncated);
            worth.then_some((group, index))
        };
        standings.iter().filter_map(cut).collect()
    }

    /// The groups with the most bytes, as many as it takes to let go of `bytes`.
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

    /// Reads old entries in a task of their own; the group's lane hears of the end by message.
    pub fn fetch(&self, group: GroupId, fetch: Fetch) {
        let Fetch { low, high, max_bytes, context } = fetch;
        let max_bytes =
            if crate::buggify!("driver.tiny-fetch") { 1 } else { usize::try_from(max_bytes).unwrap_or(usize::MAX) };
        let handle = self.handle.clone();
        // Entries that are gone are answered with none: raft sends a snapshot.
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

    /// Gives segments back, and shows the log's figures.
    ///
    /// # Errors
    /// As [`RaftLog::maintain`].
    pub async fn keep(&mut self, engine_flushes: u64) -> Result<()> {
        for _ in 0..LOG_UPKEEP_STEPS_MAX {
            if crate::buggify!("driver.upkeep-later") {
                break;
            }
            let before = self.log.stats().rewritten_bytes;
            // A step that moved little can wait: many of them would move the same entries again and again.
            if !self.log.maintain().await? || self.log.stats().rewritten_bytes - before < LOG_UPKEEP_BYTES_MIN {
                break;
            }
        }
        let stats = self.log.stats();
        let figures = [
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
        self.handle.show_log(figures.into());
        Ok(())
    }

    /// Serves several lanes until they are gone.
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
                self.tell(std::mem::take(&mut waiting), Ok(()));
            }
            let sync = early || waiting.iter().any(|done| !matches!(done, Done::Nobody));
            let written = self.log.write(&batch, sync).await;
            let failed = written.is_err();
            self.tell(waiting, written);
            if let Some(engine_flushes) = keep
                && !failed
                && let Err(error) = self.keep(engine_flushes).await
            {
                self.handle.stop_serving(error.to_string());
            }
        }
    }

    fn tell(&self, waiting: Vec<Done>, written: Result<()>) {
        for done in waiting {
            match done {
                Done::Lane(lane) => drop(self.handle.send_to(lane, Message::Written(written.clone()))),
                Done::Caller(caller) => drop(caller.send(written.clone())),
                Done::Nobody => {
                    if let Err(error) = &written {
                        self.handle.stop_serving(error.to_string());
                    }
                }
            }
        }
    }
}

/// How a lane reaches the log.
pub(super) enum Log {
    /// Not yet: groups are still being restored.
    Closed,
    /// The lane writes itself and waits: it is the only one of its store.
    InLine(Box<LogKeeper>),
    /// A writer joins what the lanes write.
    Writer(mpsc::UnboundedSender<Job>),
}

impl Log {
    /// Writes a batch, and waits until it is durable.
    ///
    /// # Errors
    /// As [`RaftLog::write`].
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

    /// Asks the writer. One that is gone has said why to its lanes.
    pub fn ask(&self, job: Job) {
        if let Log::Writer(jobs) = self {
            let _ = jobs.send(job);
        }
    }
}
