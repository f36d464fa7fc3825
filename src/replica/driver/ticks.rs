//! Handling of clock ticks, by which time passes for every group.
//!
//! A group without work costs one tick of raft's counters and nothing more: only groups that have something to do are
//! processed. A group that sleeps costs nothing.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::replica::message::{Beats, GroupBeat};
use crate::rt::probe::{self, Event as Probe};
use crate::types::limits::{STALL_HAND_OVER, STALL_REFUSE, STORE_CACHE_BYTES_MAX, UNAPPLIED_BYTES_MAX};
use crate::types::{Error, GroupId, Result, region};

use super::Driver;

/// The number of ticks between two truncations, in addition to those after each flush.
const TRUNCATE_TICKS: u64 = 16;

impl Driver {
    pub(super) async fn tick(&mut self) -> Result<()> {
        self.tick_waiting.begin();
        self.ticks += 1;
        let (store, ticks) = (self.store, self.ticks);
        let lane = self.lane as u64;
        probe::emit(|| Probe::Note { store, what: "tick", a: ticks, b: lane, data: Bytes::new() });
        let now_ns = self.clock.now().0;
        let limit_ns = self.options.raft.election_ns();
        let beat = self.ticks.is_multiple_of(self.options.raft.heartbeat_ticks as u64)
            && !crate::buggify!("driver.skip-heartbeat");
        self.watch_sleepers(now_ns);
        let (mut busy, mut joint, mut frozen): (Vec<GroupId>, Vec<GroupId>, Vec<GroupId>) = Default::default();
        let mut beats: BTreeMap<u64, Beats> = BTreeMap::new();
        if beat {
            self.give_sign(now_ns, &mut beats);
        }
        for group in &self.sleepers.awake() {
            if let Some(peer) = self.peers.get_mut(group) {
                peer.group.tick(now_ns);
            }
            let hushed = beat && self.seek_sleep(*group, now_ns, &mut beats);
            let Some(peer) = self.peers.get_mut(group) else { continue };
            for said in if beat && !hushed { peer.group.beats() } else { Vec::new() } {
                let (epoch, to) = (region::epoch(peer.region()), region::peer_by_id(peer.region(), said.to));
                if let Some(to) = to {
                    let heartbeats = &mut beats.entry(to.store_id).or_default().heartbeats;
                    heartbeats.push(GroupBeat { group: *group, epoch, beat: said });
                }
            }
            let leads = peer.group.leads();
            let lost = || Error::Unknown("leadership was lost while the write was in flight".into());
            peer.proposals.fail_lost(leads, now_ns, limit_ns, lost);
            peer.forget_given_up_reads();
            if peer.has_work() {
                busy.push(*group);
            }
            if beat && (peer.group.should_leave_joint() || peer.group.is_leaving()) {
                joint.push(*group);
            }
            if beat {
                peer.view.show_alone(peer.group.is_alone());
                frozen.extend(peer.machine.merges().merging.map(|_| *group));
            }
        }
        self.leave_joint(joint);
        self.halt_those_who_can();
        frozen.into_iter().for_each(|group| self.note_frozen(group, true));
        self.advance_merges();
        for (store, beats) in beats {
            self.outbox.send_beats(store, beats);
        }
        busy.into_iter().for_each(|group| self.touch(group));
        self.held.expire(2 * limit_ns, now_ns);
        self.handle_stall(now_ns);
        self.maybe_flush();
        if self.ticks.is_multiple_of(TRUNCATE_TICKS) {
            self.truncate(&self.sleepers.awake());
            self.shrink_caches();
        }
        self.keep_log().await
    }

    /// Limits the bytes of applied entries that all groups together keep in memory.
    fn shrink_caches(&mut self) {
        let cached: usize = self.peers.values().map(|peer| peer.group.log().cached_bytes()).sum();
        self.handle.show_memory(self.lane, cached, self.backlog.bytes() + self.unwritten.bytes());
        let share = STORE_CACHE_BYTES_MAX / self.handle.lanes();
        let tiny = crate::buggify!("driver.tiny-cache");
        if cached > share || tiny {
            let each = if tiny { 0 } else { share / self.peers.len().max(1) };
            self.peers.values_mut().for_each(|peer| peer.group.log_mut().shrink_cache(each));
        }
    }

    /// Returns whether as many bytes wait for the engine or the log as may wait.
    pub(super) fn is_full(&self) -> bool {
        self.backlog.bytes().max(self.unwritten.bytes()) > UNAPPLIED_BYTES_MAX
    }

    /// If the engine or the log stalls writes, refuses new ones, and transfers leadership to stores that are not
    /// stalled.
    fn handle_stall(&mut self, now_ns: u64) {
        // A log that accepts nothing is as bad, and raft would not notice: followers can commit without it.
        let age_ns = self.stall.age_ns(now_ns).max(self.unwritten.age_ns(now_ns));
        let over = self.is_full();
        self.handle.show_stall(self.lane, over || age_ns >= STALL_REFUSE.as_nanos() as u64);
        if age_ns >= STALL_HAND_OVER.as_nanos() as u64 {
            self.hand_over(|group| group != GroupId::PD);
            self.hand_over(|group| group == GroupId::PD);
        } else {
            self.hand_over_cold_groups(now_ns);
        }
    }
}
