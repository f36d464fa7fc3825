//! Groups that begin because another group of this lane gave them a part of its range.
//!
//! The engine receives a newborn in the batch of its parent's split. The record that carries it into the log also
//! carries the parent's commit index, so a restart that finds the newborn in the log applies its birth again. The
//! newborn sends nothing before that record is durable. Its first messages from other stores may arrive before it is
//! born here: a few are kept for it.
//!
//! **In** come descriptors of applied splits; **out** go running groups. **Never**: a newborn's vote before its record;
//! a newborn's log that starts over because its birth is applied a second time.

use std::collections::BTreeMap;

use super::Driver;
use crate::engine::WriteBatch;
use crate::proto::armilla::raft::Merges;
use crate::raft::machine::Applied;
use crate::raft::membership;
use crate::replica::claims::Claim;
use crate::replica::group_state::GroupState;
use crate::replica::handle::Handle;
use crate::replica::log::{LogBatch, RaftLog};
use crate::replica::message::{Message, PeerMessage, Sender};
use crate::replica::peer::Peer;
use crate::rt::probe::{self, Event as Probe};
use crate::types::limits::{HELD_GROUPS_MAX, HELD_MESSAGES_MAX};
use crate::types::{Error, GroupId, Region, Result, region};

use super::install::{emit_region, encode_state};

/// A change of a group's range that the engine does not hold yet.
#[derive(Debug)]
pub(super) struct Split {
    /// The group, with its new descriptor.
    parent: Region,
    merges: Merges,
    born: Vec<Region>,
}

/// A group that is about to begin.
#[derive(Debug)]
pub(super) struct Newborn {
    pub(super) region: Region,
    pub(super) merges: Merges,
    /// Keeps its range from other groups until it runs; `None` while the store starts.
    pub(super) claim: Option<Claim>,
    /// Whether it campaigns at once: its parent leads here.
    pub(super) campaigns: bool,
}

/// Newborns whose record is still to be written.
#[derive(Debug, Default)]
pub(super) struct Births {
    record: LogBatch,
    newborns: Vec<Newborn>,
    /// Set while the store starts: the log may already hold records of newborns.
    restoring: bool,
}

impl Births {
    /// Creates the births of a store that is starting.
    pub(super) fn restoring() -> Births {
        Births { restoring: true, ..Births::default() }
    }

    /// Returns whether the store is starting.
    pub(super) fn is_restoring(&self) -> bool {
        self.restoring
    }

    /// Adds the records to a batch of the log. Returns the newborns, which may begin once the batch is durable.
    pub(super) fn join(&mut self, batch: &mut LogBatch) -> Vec<Newborn> {
        if self.restoring {
            return Vec::new();
        }
        batch.join(std::mem::take(&mut self.record));
        std::mem::take(&mut self.newborns)
    }
}

/// Adds the descriptors of all pieces to the engine's batch in which the split is applied. A newborn whose peer here
/// was destroyed before does not begin: its keys are removed.
pub(super) fn put_split(
    peer: &Peer,
    at: (u64, u64),
    applied: &Applied,
    handle: &Handle,
    batch: &mut WriteBatch,
) -> Split {
    let (store, parent) = (peer.view.store, peer.machine.region().clone());
    let (id, mut born) = (peer.group.peer(), applied.born.clone());
    let mut buried = Vec::new();
    for region in &born {
        let here = region::peer_on(region, store).map_or(0, |here| here.id);
        if handle.peer_id_min(GroupId(region.id)) > here {
            buried.push(region.id);
            peer.machine
                .ranges(region)
                .into_iter()
                .for_each(|range| batch.delete_range(range.cf, range.start, range.end));
        }
    }
    born.retain(|region| !buried.contains(&region.id));
    let merges = peer.machine.merges().clone();
    GroupState { region: parent.clone(), peer: id, applied: at, merges: merges.clone(), ..GroupState::default() }
        .put(batch);
    for region in &born {
        let here = region::peer_on(region, store).expect("a newborn has peers where its parent has");
        let (region, merges) = (region.clone(), inherited(&merges));
        GroupState { region, peer: here.id, applied: membership::FIRST, merges, ..GroupState::default() }.put(batch);
    }
    Split { parent, merges, born }
}

/// Returns what a newborn has of its parent's state.
fn inherited(parent: &Merges) -> Merges {
    let marks = if crate::mutant!("region.marks-not-inherited") { None } else { parent.marks };
    Merges { marks, ..Merges::default() }
}

/// Messages to groups that are not here yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    groups: BTreeMap<GroupId, HeldGroup>,
}

#[derive(Debug)]
struct HeldGroup {
    since_ns: u64,
    messages: Vec<(Sender, PeerMessage)>,
}

impl Held {
    /// Keeps a message for a group that may be born here soon, if there is room.
    fn keep(&mut self, sender: Sender, message: PeerMessage) {
        // Groups that never were part of another have the first version.
        if message.epoch.version <= 1 || crate::mutant!("replica.newborns-messages-dropped") {
            return;
        }
        let known = self.groups.contains_key(&message.group);
        if !known && self.groups.len() >= HELD_GROUPS_MAX {
            return;
        }
        let group = self.groups.entry(message.group);
        let group = group.or_insert_with(|| HeldGroup { since_ns: sender.arrived.0, messages: Vec::new() });
        if group.messages.len() < HELD_MESSAGES_MAX {
            group.messages.push((sender, message));
        }
    }

    fn take(&mut self, group: GroupId) -> Vec<(Sender, PeerMessage)> {
        self.groups.remove(&group).map(|held| held.messages).unwrap_or_default()
    }

    /// Drops messages that have waited for longer than `age_ns`.
    pub(super) fn expire(&mut self, age_ns: u64, now_ns: u64) {
        self.groups.retain(|_, group| now_ns.saturating_sub(group.since_ns) <= age_ns);
    }
}

impl Driver {
    /// Handles that the engine holds a split: the parent publishes its new range, and the newborns need a log record.
    pub(super) fn note_split(&mut self, Split { parent, merges, born }: Split) {
        let group = GroupId(parent.id);
        let store = self.store;
        let Some(peer) = self.peers.get_mut(&group) else { return };
        // The newborns' ranges are never free, not even until the newborns run.
        let claim = |region: &Region| (!self.births.restoring).then(|| self.handle.reserve(region));
        let claims: Vec<Option<Claim>> = born.iter().map(claim).collect();
        peer.view.set_state(parent.clone(), merges.clone());
        emit_region(store, &parent);
        peer.group.log_mut().set_state(encode_state(&parent, &merges));
        let campaigns = peer.group.leads();
        tracing::info!(store, %group, pieces = born.len() + 1, "split");
        if !self.births.restoring {
            for region in &born {
                let newborn = GroupId(region.id);
                self.births.record.reset(newborn, membership::FIRST.0, membership::FIRST.1);
                self.births.record.hard_state(newborn, &membership::first_hard_state());
            }
            if let Some(state) = peer.group.take_unsaved()
                && !crate::mutant!("replica.birth-without-parents-commit")
            {
                self.births.record.hard_state(group, &state);
            }
        }
        let newborns = born.into_iter().zip(claims);
        let merges = inherited(&merges);
        let newborn = |(region, claim)| Newborn { region, merges: merges.clone(), claim, campaigns };
        self.births.newborns.extend(newborns.map(newborn));
    }

    /// Starts newborns whose record is durable, each on its own lane.
    pub(super) fn begin_newborns(&mut self, newborns: Vec<Newborn>) -> Result<()> {
        for newborn in newborns {
            let lane = self.handle.lane_of(GroupId(newborn.region.id));
            if lane == self.lane {
                self.begin_newborn(newborn)?;
            } else {
                let Newborn { region, merges, claim, campaigns } = newborn;
                self.handle.send_to(lane, Message::Born { region: Box::new(region), merges, claim, campaigns });
            }
        }
        Ok(())
    }

    /// Starts a group of this lane whose state is in the engine and whose record is in the log.
    pub(super) fn begin_newborn(&mut self, Newborn { region, merges, claim, campaigns }: Newborn) -> Result<()> {
        let group = GroupId(region.id);
        if self.peers.contains_key(&group) {
            return Err(Error::Corruption(format!("group {group} was born twice: its ID was given out twice")));
        }
        self.register_peer(&region, &merges, self.untouched_log(&region, &merges))?;
        drop(claim);
        crate::reach!("driver.group-born");
        let store = self.store;
        probe::emit(|| Probe::Note {
            store,
            what: "born",
            a: group.0,
            b: u64::from(campaigns),
            data: bytes::Bytes::new(),
        });
        if campaigns && let Some(peer) = self.peers.get_mut(&group) {
            peer.group.campaign();
        }
        for (sender, message) in self.held.take(group) {
            crate::reach!("driver.message-held-for-newborn");
            self.step(sender, message)?;
        }
        Ok(())
    }

    /// Keeps a message to a group that is not here.
    pub(super) fn hold(&mut self, sender: Sender, message: PeerMessage) {
        self.held.keep(sender, message);
    }

    /// Restores a newborn whose birth was applied again at start: its log continues where it ended, or begins.
    ///
    /// # Errors
    /// If the log cannot be written, or the descriptor has no peer here.
    pub(in crate::replica) async fn restore_newborn(
        &mut self,
        log: &mut RaftLog,
        (region, merges): (Region, Merges),
    ) -> Result<()> {
        let group = GroupId(region.id);
        if log.group(group).is_none() || crate::mutant!("replica.birth-restarts-log") {
            let mut record = LogBatch::default();
            record.reset(group, membership::FIRST.0, membership::FIRST.1);
            record.hard_state(group, &membership::first_hard_state());
            log.write(&record, true).await?;
        }
        let here = region::peer_on(&region, self.store).map(|peer| peer.id);
        let peer = here.ok_or_else(|| Error::Corruption(format!("group {group} was born without a peer here")))?;
        let state = GroupState { region, peer, applied: membership::FIRST, merges, ..GroupState::default() };
        self.restore(log, state).await
    }

    /// Returns the newborns whose birth was applied while the store starts.
    pub(in crate::replica) fn take_restored(&mut self) -> Vec<(Region, Merges)> {
        std::mem::take(&mut self.births.newborns).into_iter().map(|newborn| (newborn.region, newborn.merges)).collect()
    }
}
