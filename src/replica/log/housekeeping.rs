//! Frees segments: dead ones become spares, and a few live entries that keep an old segment in use are moved to the
//! tail.

use super::read::{entries_of, read_span};
use super::{LogBatch, RaftLog};
use crate::types::limits::{LOG_MOVE_BYTES_MAX, LOG_MOVE_SEGMENTS_MAX};
use crate::types::{GroupId, Result};

impl RaftLog {
    /// Does one bounded step of housekeeping: frees segments in which no group has entries, or moves at most 1 MiB of
    /// entries out of the oldest ones if the segments hold more than `live_bytes_soft_max` bytes and most of them are
    /// dead. Returns true if there is more to do right away.
    ///
    /// # Errors
    /// Like [`RaftLog::write`]; also [`crate::types::Error::Corruption`] if entries to be moved are damaged.
    pub async fn maintain(&mut self) -> Result<bool> {
        self.begin()?;
        let result = self.step().await;
        self.end(result)
    }

    async fn step(&mut self) -> Result<bool> {
        let needed = |(number, segment): &(&u64, &super::Segment)| {
            **number == self.active || self.index.live_in(**number) > 0 || segment.is_read()
        };
        let dead_below = *self.segments.iter().find(needed).expect("the active segment is there").0;
        if dead_below > self.first_live {
            self.free_below(dead_below).await?;
            return Ok(self.move_is_due());
        }
        if self.move_is_due() {
            self.move_oldest().await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Frees the segments below `number`. State of groups that exists only there goes into the record that declares
    /// them dead.
    async fn free_below(&mut self, number: u64) -> Result<()> {
        let limit = u32::try_from(number).expect("far fewer than 2^32 segments in a log's life");
        let mut batch = LogBatch::new();
        if !crate::mutant!("log.free-segment-too-early") {
            for (id, group) in self.index.groups.iter().filter(|(_, group)| group.state_below(limit)) {
                batch.state(*id, &group.log.hard_state, group.log.first_index - 1, group.log.truncated_term);
            }
        }
        self.append(batch.payload(), number, true).await?;
        while let Some(entry) = self.segments.first_entry().filter(|entry| *entry.key() < number) {
            self.spares.push(*entry.key());
            entry.remove();
        }
        self.trim_spares().await
    }

    /// Removes spare files beyond the number to keep. The removal need not be durable.
    pub(super) async fn trim_spares(&mut self) -> Result<()> {
        let most = if crate::buggify!("log.no-spares") { 0 } else { self.options.spare_segments_max };
        while self.spares.len() > most {
            let spare = self.spares.remove(0);
            let removed = self.disk.remove(&self.path(spare)).await;
            removed.map_err(|error| self.failed("removing", spare, &error))?;
        }
        Ok(())
    }

    /// Returns whether the segments hold more than twice `live_bytes_soft_max` bytes, of which over three quarters are
    /// dead: then a byte that is moved frees at least three.
    fn is_behind(&self) -> bool {
        let held = self.held();
        held > 2 * self.options.live_bytes_soft_max && self.index.live() < held / 4
    }

    fn held(&self) -> u64 {
        self.segments.values().map(|segment| segment.end).sum()
    }

    fn move_is_due(&self) -> bool {
        let held = self.held();
        // At least as many bytes are freed as are moved, so each byte is moved once on average.
        let soft_max = if crate::buggify!("log.move-early") { 0 } else { self.options.live_bytes_soft_max };
        self.segments.len() > 1 && held > soft_max && self.index.live() < held / 2
    }

    /// Returns the last of the segments out of which one step moves entries: the oldest, or several of them if segments
    /// are filled faster than one a step.
    fn last_to_move(&self) -> u64 {
        let oldest = self.first_live;
        if !self.is_behind() || crate::mutant!("replica.log-upkeep-falls-behind") {
            return oldest;
        }
        crate::reach!("log.upkeep-catches-up");
        let old = self.segments.range(oldest..self.active).take(LOG_MOVE_SEGMENTS_MAX);
        old.last().map_or(oldest, |(number, _)| *number)
    }

    /// Moves some entries of the oldest segments to the tail without a sync: the segments are freed only after a later
    /// sync.
    async fn move_oldest(&mut self) -> Result<()> {
        let last = self.last_to_move() as u32;
        let mut picked: Vec<(GroupId, super::Run)> = Vec::new();
        let mut bytes = 0;
        'groups: for (id, group) in &self.index.groups {
            for run in group.runs.iter().filter(|run| run.segment <= last) {
                if bytes > 0 && bytes + u64::from(run.bytes) > LOG_MOVE_BYTES_MAX {
                    break 'groups;
                }
                bytes += u64::from(run.bytes);
                picked.push((*id, *run));
            }
        }
        crate::reach!("log.entries-moved");
        let mut batch = LogBatch::new();
        for (id, run) in picked {
            let start = u64::from(run.offset);
            let number = u64::from(run.segment);
            let (path, file) = (self.path(number), &self.segments.get(&number).expect("a run's segment is held").file);
            let span = read_span(file, &path, start, super::run_end(&run)).await?;
            batch.moved(id, &entries_of(id, &run, &path, &span, start)?);
        }
        self.stats.rewritten_bytes += bytes;
        self.append(batch.payload(), self.first_live, false).await
    }
}
