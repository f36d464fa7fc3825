//! What the log lets go of, and its upkeep.
//!
//! A group's log keeps what its followers lack, up to a bound in entries and one in bytes; what lags further gets a snapshot. When
//! the logs of all groups together are over the store's bound, the largest are cut to what is durable, whoever lags.
//!
//! **Never**: an entry gone from the log whose effect no flush has made durable.

use crate::types::{GroupId, Result};

use super::Driver;

/// Steps of the log's upkeep in one tick, each at most 1 MiB of entries moved.
const UPKEEP_STEPS_MAX: usize = 16;
/// Bytes that a step must have moved for another one to follow in the same tick.
const UPKEEP_BYTES_MIN: u64 = 512 << 10;

impl Driver {
    /// Cuts every group's log below what is durable in the engine, leaving something for followers that lag a little.
    pub(super) fn truncate(&mut self) {
        let over = self.log.live_bytes().saturating_sub(self.options.log_store_bytes_max);
        let largest = if over > 0 { self.largest(over) } else { Vec::new() };
        for (group, peer) in &mut self.peers {
            let applied = peer.group.log().applied().0;
            let durable = if crate::mutant!("replica.truncate-before-flush") { applied } else { peer.durable() };
            let by_bytes = match self.options.log_group_bytes_max {
                max if self.log.bytes_of(*group) > max => self.log.first_within(*group, max).saturating_sub(1),
                _ => 0,
            };
            let index = if largest.contains(group) {
                durable
            } else {
                let by_entries = applied.saturating_sub(self.options.log_lag_entries_max);
                let keep = peer.group.slowest_follower().max(by_entries).max(by_bytes).min(applied);
                durable.min(keep.saturating_sub(self.options.log_keep_entries).max(by_bytes))
            };
            // Truncating writes a mark; not worth it for a handful of entries, unless their bytes are over a bound.
            let truncated = peer.group.log().truncated().0;
            let over = largest.contains(group)
                || (by_bytes > truncated && !crate::mutant!("replica.log-over-its-bound"))
                || crate::buggify!("driver.truncate-eagerly");
            let worth = index > truncated + self.options.log_keep_entries / 2 || (over && index > truncated);
            if worth {
                crate::reach!("driver.log-truncated");
                let term = peer.group.log_mut().truncate_to(index);
                self.batch.truncate_to(*group, index, term);
                if let Some(state) = peer.group.take_unsaved() {
                    self.batch.hard_state(*group, &state);
                }
            }
        }
    }

    /// The groups with the most bytes, as many as it takes to let go of `bytes`.
    fn largest(&self, bytes: u64) -> Vec<GroupId> {
        let mut sizes: Vec<(u64, GroupId)> =
            self.peers.keys().map(|group| (self.log.bytes_of(*group), *group)).collect();
        sizes.sort_unstable_by(|left, right| right.cmp(left));
        let mut freed = 0;
        let enough = |(size, group): (u64, GroupId)| {
            let more = freed < bytes;
            freed += size;
            more.then_some(group)
        };
        sizes.into_iter().map_while(enough).collect()
    }

    /// Writes what truncation marked, gives segments back, and shows the log's figures.
    pub(super) async fn keep_log(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            self.log.write(&self.batch, false).await?;
            self.batch.clear();
        }
        for _ in 0..UPKEEP_STEPS_MAX {
            if crate::buggify!("driver.upkeep-later") {
                break;
            }
            let before = self.log.stats().rewritten_bytes;
            // A step that moved little can wait: many of them would move the same entries again and again.
            if !self.log.maintain().await? || self.log.stats().rewritten_bytes - before < UPKEEP_BYTES_MIN {
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
            ("engine_flushes", self.flushes.count()),
        ];
        self.handle.show_log(figures.into());
        Ok(())
    }
}
