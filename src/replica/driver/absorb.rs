//! A group takes over the range of another one: the *source*'s peer here stops, and ends in the same step in which the
//! *target*'s peer gets the range.
//!
//! The two may belong to different lanes. The target's lane, when the next entry to be applied takes over a source, or
//! a snapshot covers one, asks the source's lane to stop it; its group waits meanwhile. The source is applied up to the
//! entry that froze it, for which it needs nobody: its log holds that, and the target's log says that it is committed.
//! Then its peer is no longer driven, but its range stays taken and its log stays, until the engine holds the end.
//!
//! **In** come entries and snapshots of targets; **out** go groups that stop, and groups with a larger range.
//! **Never**: two peers here with a common key; a source's log that is gone while the engine could still come back with
//! the source; a target that goes on without what its source had acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType};

use super::Driver;
use super::install::{Ingest, emit_region, encode_state};
use crate::engine::WriteBatch;
use crate::proto::armilla::raft::Merges;
use crate::raft::frame;
use crate::raft::machine::Absorbs;
use crate::replica::effects::StoreEffect;
use crate::replica::group_state::{self, GroupState, Tombstone};
use crate::replica::message::{Halted, MergeMessage};
use crate::replica::peer::Peer;
use crate::rt::probe::{self, Event as Probe};
use crate::types::{Error, GroupId, Region, Result};

/// What groups of this lane wait for, and which of them stop.
#[derive(Debug, Default)]
pub(super) struct Absorbing {
    /// Groups that take over others.
    targets: BTreeMap<GroupId, Target>,
    /// Groups that have to stop, and those who ask for it.
    asked: BTreeMap<GroupId, Vec<(Absorbs, GroupId)>>,
    /// Groups that have stopped, and whose end the engine does not hold yet.
    halted: BTreeMap<GroupId, Halted>,
}

/// A group that takes over others.
#[derive(Debug, Default)]
struct Target {
    /// Groups that have not stopped yet.
    waits: BTreeSet<GroupId>,
    stopped: Vec<Halted>,
    /// The snapshot that covers them; `None` if it is an entry that takes over one.
    ingest: Option<Ingest>,
}

impl Absorbing {
    /// Returns whether a group is about to take over another one.
    pub(super) fn is_target(&self, group: GroupId) -> bool {
        self.targets.contains_key(&group)
    }
}

/// A group of which a merge made something else, or whose marks have risen.
#[derive(Debug)]
pub(super) struct Reshape {
    region: Region,
    merges: Merges,
    /// The group whose range it took over.
    absorbed: Option<GroupId>,
}

/// Adds the group's new state to the engine's batch in which a step of a merge is applied, or the marks rise, and the
/// end of the group that it took over.
pub(super) fn put_reshape(peer: &Peer, at: (u64, u64), absorbed: Option<GroupId>, batch: &mut WriteBatch) -> Reshape {
    let (region, merges) = (peer.machine.region().clone(), peer.machine.merges().clone());
    peer.view.raise_marks(merges.marks.unwrap_or_default());
    if let Some(source) = absorbed {
        group_state::bury(batch, source, Tombstone::merged(peer.view.group));
    }
    let id = peer.group.peer();
    GroupState { region: region.clone(), peer: id, applied: at, merges: merges.clone(), ..GroupState::default() }
        .put(batch);
    Reshape { region, merges, absorbed }
}

/// Returns what applying an entry next would take over.
fn absorbs(peer: &Peer, entry: &Entry) -> Option<Absorbs> {
    if entry.get_entry_type() != EntryType::EntryNormal || !frame::changes_group(&entry.data) {
        return None;
    }
    // An entry that cannot be decoded is skipped when it is applied.
    let command = frame::next(&mut entry.data.clone()).ok().flatten()?;
    peer.machine.absorbs(entry.term, &command)
}

impl Driver {
    /// Returns whether an entry takes over a group that has not stopped yet, and asks that group to stop.
    pub(super) fn must_wait_for_source(&mut self, group: GroupId, entry: &Entry) -> bool {
        let Some(absorbs) = self.peers.get(&group).and_then(|peer| absorbs(peer, entry)) else { return false };
        let target = self.absorbing.targets.entry(group).or_default();
        if target.stopped.iter().any(|source| source.absorbs.source == absorbs.source) {
            return false;
        }
        if target.waits.insert(absorbs.source) {
            self.handle.send_of_merge(absorbs.source, MergeMessage::Halt { absorbs, target: group });
        }
        true
    }

    /// Waits until the groups that a group's snapshot covers have stopped, and lets the engine ingest it then.
    pub(super) fn ingest_over(&mut self, group: GroupId, sources: Vec<GroupId>, ingest: Ingest) {
        crate::reach!("driver.snapshot-covers-a-source");
        // If an entry waited for a source, the snapshot is ahead of it.
        let target = Target { waits: sources.iter().copied().collect(), stopped: Vec::new(), ingest: Some(ingest) };
        self.absorbing.targets.insert(group, target);
        for source in sources {
            self.handle
                .send_of_merge(source, MergeMessage::Halt { absorbs: Absorbs { source, at: None }, target: group });
        }
    }

    /// Handles that a group of this lane has to stop.
    pub(super) fn halt(&mut self, absorbs: Absorbs, target: GroupId) {
        let source = absorbs.source;
        if let Some(halted) = self.absorbing.halted.get(&source) {
            self.handle.send_of_merge(target, MergeMessage::Halted { target, source: Box::new(halted.clone()) });
            return;
        }
        self.absorbing.asked.entry(source).or_default().push((absorbs, target));
        self.halt_those_who_can();
    }

    /// Stops groups that have to, and are applied as far as they must be.
    pub(super) fn halt_those_who_can(&mut self) {
        let asked: Vec<(GroupId, Vec<Absorbs>)> = self
            .absorbing
            .asked
            .iter()
            .map(|(source, by)| (*source, by.iter().map(|(one, _)| *one).collect()))
            .collect();
        for (source, by) in asked {
            let Some(absorbs) = by.into_iter().find(|absorbs| self.can_halt(*absorbs)) else { continue };
            self.halt_now(source, absorbs);
        }
    }

    /// Returns whether a group may stop now; lets it go on to where it has to stop.
    fn can_halt(&mut self, Absorbs { source, at }: Absorbs) -> bool {
        // A batch that waits for the engine may have entries of the group.
        if self.stall.waits() {
            return false;
        }
        // The group may be about to begin.
        let Some(peer) = self.peers.get_mut(&source).filter(|peer| peer.install.is_idle() && !peer.newcomer) else {
            return false;
        };
        let Some((index, term)) = at else { return true };
        if peer.group.log().applied().0 >= index {
            return true;
        }
        let before = peer.group.committed();
        if peer.group.commit_to(index, term) {
            if before < index {
                self.touch(source);
            }
        } else {
            tracing::warn!(store = self.store, group = %source, index, "the log lacks what a merge needs of it");
        }
        false
    }

    fn halt_now(&mut self, source: GroupId, absorbs: Absorbs) {
        let Some(mut peer) = self.peers.remove(&source) else { return };
        self.sleepers.remove(source);
        // What was proposed after the command that froze the group is refused wherever it is applied.
        peer.end(|| Error::RegionNotFound(source));
        peer.view.end();
        self.backlog.forget(source);
        self.absorbing.targets.remove(&source);
        let region = peer.region().clone();
        let (store, applied) = (self.store, peer.group.log().applied().0);
        tracing::info!(store, group = %source, index = applied, "stopped, to become part of another group");
        probe::emit(|| Probe::Note { store, what: "halted", a: source.0, b: applied, data: Bytes::new() });
        if crate::mutant!("replica.source-log-removed-early") {
            self.batch.remove(source);
        }
        let ranges = peer.machine.ranges(&region);
        let halted = Halted { absorbs, region, ranges };
        for (_, target) in self.absorbing.asked.remove(&source).unwrap_or_default() {
            self.handle.send_of_merge(target, MergeMessage::Halted { target, source: Box::new(halted.clone()) });
        }
        self.absorbing.halted.insert(source, halted);
    }

    /// Continues a group that takes over others when one of those has stopped.
    pub(super) fn halted(&mut self, group: GroupId, source: Halted) -> Result<()> {
        // The group may have been stopped itself.
        let Some(target) = self.absorbing.targets.get_mut(&group) else { return Ok(()) };
        if !target.waits.remove(&source.absorbs.source) {
            return Ok(());
        }
        target.stopped.push(source);
        if !target.waits.is_empty() {
            return Ok(());
        }
        let Some(mut ingest) = target.ingest.take() else {
            self.backlog.release(group);
            return if self.stall.waits() { Ok(()) } else { self.apply_backlog() };
        };
        for source in &target.stopped {
            let more = source.ranges.iter().filter(|range| !ingest.ranges.contains(range));
            let more: Vec<_> = more.cloned().collect();
            ingest.ranges.extend(more);
            group_state::bury(&mut ingest.meta, GroupId(source.region.id), Tombstone::merged(group));
            tell_end(self.store, GroupId(source.region.id), group);
        }
        self.ingest(group, ingest);
        Ok(())
    }

    /// Handles that the engine holds a step of a merge, or risen marks.
    pub(super) fn note_reshape(&mut self, Reshape { region, merges, absorbed }: Reshape) {
        let group = GroupId(region.id);
        let Some(peer) = self.peers.get_mut(&group) else { return };
        if let Some(source) = absorbed {
            crate::reach!("driver.took-over-by-log");
            tell_end(self.store, source, group);
            // What the source held may have to be collected.
            self.effects.send(StoreEffect::Replaced(group));
        }
        if absorbed.is_some() || peer.view.is_merging() != merges.merging.is_some() {
            tracing::info!(store = self.store, %group, merging = ?merges.merging, absorbed = ?absorbed, "a step of a merge");
        }
        peer.view.set_state(region.clone(), merges.clone());
        emit_region(self.store, &region);
        peer.group.log_mut().set_state(encode_state(&region, &merges));
        self.note_frozen(group, merges.merging.is_some());
        self.took_over(group);
    }

    /// Ends the groups whose range a group has taken over: the engine holds that.
    pub(super) fn took_over(&mut self, group: GroupId) {
        let Some(target) = self.absorbing.targets.remove(&group) else { return };
        for source in target.stopped {
            let source = GroupId(source.region.id);
            self.handle.bury(source, Tombstone::merged(group));
            self.handle.remove(source);
            self.handle.send_of_merge(source, MergeMessage::Absorbed { source });
        }
    }

    /// Handles that the engine holds the end of a group of this lane that had stopped.
    pub(super) fn absorbed(&mut self, source: GroupId) {
        if self.absorbing.halted.remove(&source).is_some() {
            // Its log goes after a flush that begins from now on.
            self.bury(source);
        }
    }

    /// Returns whether a group of this lane has stopped, or has to.
    pub(super) fn is_stopping(&self, source: GroupId) -> bool {
        self.absorbing.halted.contains_key(&source) || self.absorbing.asked.contains_key(&source)
    }

    /// Checks, when all that is committed should be applied, that no group waits for another one.
    ///
    /// # Errors
    /// [`Error::Corruption`]: that group, or its log, was lost.
    pub(in crate::replica) fn check_nothing_waits(&self) -> Result<()> {
        let waiting = self.absorbing.targets.iter().find_map(|(group, target)| Some((group, target.waits.first()?)));
        waiting.map_or(Ok(()), |(group, source)| {
            Err(Error::Corruption(format!(
                "group {group} takes over group {source}, but that group, or a part of its log, is not here: it was \
                 lost. Restore it, or start with an empty data directory as a new store"
            )))
        })
    }
}

/// Reports that a peer here ended with the step in which another group's peer took over its range.
fn tell_end(store: u64, source: GroupId, target: GroupId) {
    let data = Bytes::copy_from_slice(&target.0.to_be_bytes());
    probe::emit(|| Probe::Note { store, what: "absorbed", a: source.0, b: target.0, data });
}
