//! Truncation of the groups' logs.
//!
//! A group's log keeps what its followers lack, up to a limit in entries and one in bytes; a follower that lags further
//! gets a snapshot. What a follower needs after its snapshot has arrived is limited in bytes only. If the logs of all
//! groups together are over the store's limit, the largest are cut to what is durable, even if followers lag. The log's
//! keeper, which knows sizes, decides how far; the lane, which knows the group, does it.
//!
//! **Never**: an entry dropped from the log before a flush has made its effect durable.

use crate::types::{GroupId, Result};

use super::{Driver, Job, Log};
use crate::replica::keeper::{Done, Standing};
use crate::replica::peer::Peer;

impl Driver {
    /// Cuts these groups' logs below what is durable in the engine, but keeps entries for followers that lag a little.
    pub(super) fn truncate(&mut self, groups: &[GroupId]) {
        let standing = |group: GroupId, peer: &mut Peer| Standing {
            group,
            applied: peer.group.log().applied().0,
            durable: peer.durable(),
            slowest: peer.group.slowest_follower(),
            snapshots: peer.group.snapshots_under_way(),
            truncated: peer.group.log().truncated().0,
        };
        let of = |group: &GroupId| self.peers.get_mut(group).map(|peer| standing(*group, peer));
        let standings: Vec<Standing> = groups.iter().filter_map(of).collect();
        match &self.log {
            Log::InLine(keeper) => {
                let cuts = keeper.cuts(&standings);
                self.cut(cuts);
            }
            log => log.ask(Job::Cut(self.lane, standings)),
        }
    }

    /// Cuts groups' logs up to the indexes from the keeper. A log that was cut further meanwhile stays so.
    pub(super) fn cut(&mut self, cuts: Vec<(GroupId, u64)>) {
        for (group, index) in cuts {
            let Some(peer) = self.peers.get_mut(&group) else { continue };
            if index <= peer.group.log().truncated().0 {
                continue;
            }
            assert!(index <= peer.group.log().applied().0, "group {group}: only what is applied leaves the log");
            crate::reach!("driver.log-truncated");
            let term = peer.group.log_mut().truncate_to(index);
            self.batch.truncate_to(group, index, term);
            if let Some(state) = peer.group.take_unsaved() {
                self.batch.hard_state(group, &state);
            }
        }
    }

    /// Writes the truncation marks, frees segments, and shows the log's statistics.
    pub(super) async fn keep_log(&mut self) -> Result<()> {
        let flushes = self.flushes.lock().expect("no holder panics").count();
        let batch = std::mem::take(&mut self.batch);
        match &mut self.log {
            Log::Closed => Ok(()),
            Log::InLine(keeper) => {
                if !batch.is_empty() {
                    keeper.log.write(&batch, false).await?;
                }
                keeper.keep(flushes).await
            }
            log => {
                if !batch.is_empty() {
                    log.ask(Job::Write(batch, Done::Ignored));
                }
                if self.lane == 0 {
                    log.ask(Job::Keep(flushes));
                }
                Ok(())
            }
        }
    }
}
