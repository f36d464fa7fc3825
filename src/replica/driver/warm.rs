//! Commands that read keys when they are applied: if the engine does not have the keys in memory, a task reads them
//! first while the group waits. The command then reads them again, from wherever they are: its effect never depends on
//! what is in memory.
//!
//! **Never**: a group that waits for another group's keys.

use raft::eraftpb::{Entry, EntryType};

use crate::engine::{Cached, Cf, Engine, Read};
use crate::raft::frame;
use crate::rt::{cpu, task};
use crate::types::limits::STALL_HAND_OVER;
use crate::types::{GroupId, Result};

use bytes::Bytes;

use super::Driver;
use super::backlog::WarmUp;
use crate::replica::message::Message;
use crate::replica::peer::Peer;

/// Returns the keys that applying an entry reads.
fn reads(peer: &Peer, entry: &Entry) -> Vec<(Cf, Bytes)> {
    if entry.get_entry_type() != EntryType::EntryNormal || !frame::stands_alone(&entry.data) {
        return Vec::new();
    }
    // An entry that cannot be decoded is skipped when it is applied.
    let command = frame::next(&mut entry.data.clone()).ok().flatten();
    command.map_or_else(Vec::new, |command| peer.machine.reads(&command))
}

/// Returns whether one of the keys is not in memory.
fn is_cold(engine: &Engine, keys: &[(Cf, Bytes)]) -> Result<bool> {
    for (cf, key) in keys {
        if engine.get_cached(*cf, key)? == Cached::OnDisk {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Driver {
    /// Returns whether applying an entry now would wait for the disk. Everything before it is in the engine.
    pub(super) fn must_wait_for_keys(&mut self, group: GroupId, entry: &Entry) -> Result<bool> {
        let Some(peer) = self.peers.get(&group) else { return Ok(false) };
        if self.backlog.is_warm(group, entry.index) || crate::mutant!("replica.swap-reads-in-the-lane") {
            return Ok(false);
        }
        is_cold(&self.engine, &reads(peer, entry))
    }

    /// Begins to read the keys that groups wait for, as long as another read may run.
    pub(super) fn start_warm_ups(&mut self) {
        let peers = &self.peers;
        let of = |group, entry: &Entry| peers.get(&group).map_or_else(Vec::new, |peer| reads(peer, entry));
        while let Some(WarmUp { group, number, keys }) = self.backlog.begin(of) {
            crate::reach!("driver.keys-are-read-before-the-apply");
            let (handle, engine) = (self.handle.clone(), self.engine.clone());
            task::spawn(async move {
                let result =
                    cpu::run_long(move || keys.iter().try_for_each(|(cf, key)| engine.get(*cf, key).map(drop)));
                let result = result.await;
                handle.send(group, Message::Warmed { group, number, result });
            });
        }
    }

    /// Continues a group whose keys have been read, unless its state was replaced meanwhile.
    pub(super) fn warmed(&mut self, group: GroupId, number: u64, result: Result<()>) -> Result<()> {
        if self.backlog.end(group, number) {
            result?;
            if !self.stall.waits() {
                return self.apply_backlog();
            }
        }
        self.start_warm_ups();
        Ok(())
    }

    /// Transfers groups that have waited for the disk for long to stores that need not wait.
    pub(super) fn hand_over_cold_groups(&mut self, now_ns: u64) {
        let cold = self.backlog.cold_since(now_ns.saturating_sub(STALL_HAND_OVER.as_nanos() as u64));
        if !cold.is_empty() {
            self.hand_over(|group| cold.contains(&group));
        }
    }
}
