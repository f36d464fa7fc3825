//! Applying committed entries: many entries of many groups in one write batch.
//!
//! An engine that stalls writes (it has too much to compact, or its disk is slow) must not make the lane wait, which
//! would cost every group its leader; nor must a command that reads keys that are on the disk (`warm`). The batch is
//! handed to a thread that may wait. Entries that are committed meanwhile are queued, while heartbeats, votes and
//! appends continue. A store whose engine stalls for long transfers its leadership and refuses proposals.
//!
//! **Never**: two batches in the wrong order; a reply before its batch is in the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType};

use crate::engine::{Engine, KvEngine, WriteBatch};
use crate::raft::frame::{self, Kind};
use crate::raft::machine::{ApplyContext, Effect};
use crate::rt::clock::Clock;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::{cpu, task};
use crate::types::{GroupId, Result};

use super::absorb::{Reshape, put_reshape};
use super::birth::{Split, put_split};
use super::install::Ingest;
use super::members::{Move, put_move};
use super::{Driver, ENGINE_RETRY};
use crate::replica::effects::StoreEffect;
use crate::replica::group_state;
use crate::replica::handle::Handle;
use crate::replica::message::Message;
use crate::replica::peer::Peer;
use crate::types::limits::APPLY_BATCH_BYTES_FULL;

/// Returns a number that two entries share only if they are equal.
pub(super) fn entry_hash(entry: &Entry) -> u64 {
    let parts: [&[u8]; 4] = [&entry.index.to_be_bytes(), &entry.term.to_be_bytes(), &entry.data, &entry.context];
    crate::arch::crc64(&parts) ^ (frame::bytes(entry) as u64).rotate_left(32)
}

/// Entries that are applied in memory, and go into the next write.
#[derive(Default)]
struct Pending {
    batch: WriteBatch,
    /// The applied index and term of each group.
    applied: BTreeMap<GroupId, (u64, u64)>,
    /// Replies to send once the batch is written: (group, index, term, replies).
    replies: Vec<(GroupId, u64, u64, Vec<Bytes>)>,
    /// Effects to report to the store once the batch is written.
    effects: Vec<(GroupId, Effect)>,
    /// Groups that gave up a part of their range.
    splits: Vec<Split>,
    /// Groups whose members changed.
    moves: Vec<Move>,
    /// Groups of which a merge made something else.
    reshapes: Vec<Reshape>,
    /// Probe events to emit once the batch is written.
    probes: Vec<Probe>,
}

/// What waits while the engine stalls writes.
#[derive(Default)]
pub(super) struct Stall {
    /// When the batch began to wait for the engine in a thread of its own (node clock, ns); none if no batch waits.
    since_ns: Option<u64>,
    /// The batch that waits.
    written: Option<Pending>,
    /// Snapshots that the engine ingests after the batch.
    installs: Vec<(GroupId, Ingest)>,
}

impl Stall {
    /// Returns how long writes have been waiting, in nanoseconds.
    pub(super) fn age_ns(&self, now_ns: u64) -> u64 {
        self.since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns))
    }

    /// Returns whether a batch waits for the engine. Nothing is applied meanwhile.
    pub(super) fn waits(&self) -> bool {
        self.since_ns.is_some()
    }

    /// Keeps a snapshot until the batch that waits is written. Returns it if no batch waits.
    pub(super) fn hold(&mut self, group: GroupId, ingest: Ingest) -> Option<Ingest> {
        if self.since_ns.is_none() {
            return Some(ingest);
        }
        self.installs.push((group, ingest));
        None
    }
}

/// Whether a batch was written to the engine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    /// The batch waits for the engine. Nothing more is applied until it is written.
    Waits,
}

impl Driver {
    /// Applies entries of several groups, and answers their callers. While the engine stalls writes, the entries are
    /// queued.
    pub(super) fn apply(&mut self, committed: Vec<(GroupId, Vec<Entry>)>) -> Result<()> {
        for (group, entries) in committed {
            entries.into_iter().for_each(|entry| self.backlog.push(group, entry));
        }
        if self.stall.waits() { Ok(()) } else { self.apply_backlog() }
    }

    pub(super) fn apply_backlog(&mut self) -> Result<()> {
        let mut pending = Pending::default();
        while let Some((group, entry)) = self.backlog.pop() {
            let stands_alone = frame::stands_alone(frame::payload(&entry));
            let alone = (stands_alone || crate::buggify!("driver.small-batch")) && !pending.applied.is_empty();
            if (alone || pending.batch.bytes() > APPLY_BATCH_BYTES_FULL)
                && self.write_applied(&mut pending)? == Written::Waits
            {
                self.backlog.put_back(group, entry);
                self.start_warm_ups();
                return Ok(());
            }
            if stands_alone && self.must_wait_for_source(group, &entry) {
                self.backlog.wait(group, entry, self.clock.now().0);
                continue;
            }
            if stands_alone && self.must_wait_for_keys(group, &entry)? {
                self.backlog.hold(group, entry, self.clock.now().0);
                continue;
            }
            self.apply_entry(group, entry, &mut pending)?;
        }
        self.start_warm_ups();
        self.write_applied(&mut pending).map(|_| ())
    }

    fn apply_entry(&mut self, group: GroupId, entry: Entry, pending: &mut Pending) -> Result<()> {
        let (index, term) = (entry.index, entry.term);
        let hash = if probe::LISTENING { entry_hash(&entry) } else { 0 };
        // A peer that is destroyed with an earlier entry of the batch applies nothing more.
        if pending.moves.iter().any(|moved| moved.is_end_of(group)) {
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(&group) else { return Ok(()) };
        let (before, _) = pending.applied.get(&group).copied().unwrap_or(peer.group.log().applied());
        assert_eq!(index, before + 1, "group {group}: entries are applied one after the other");
        let replies = apply_payload(peer, &self.engine, &self.handle, entry, pending)?;
        pending.applied.insert(group, (index, term));
        pending.replies.push((group, index, term, replies));
        let (store, id) = (self.store, peer.group.peer());
        if probe::LISTENING {
            pending.probes.push(Probe::Apply { store, group: group.0, peer: id, index, term, hash });
        }
        Ok(())
    }

    fn write_applied(&mut self, pending: &mut Pending) -> Result<Written> {
        let ended = |group: &GroupId| pending.moves.iter().any(|moved| moved.is_end_of(*group));
        for (&group, &(index, term)) in pending.applied.iter().filter(|(group, _)| !ended(group)) {
            let stored = if crate::mutant!("replica.applied-index-lags") { index - 1 } else { index };
            group_state::put_applied(&mut pending.batch, group, (stored, term));
        }
        if pending.batch.is_empty() {
            return Ok(Written::Yes);
        }
        if self.engine.try_write(&pending.batch)? {
            let written = std::mem::take(pending);
            self.note_applied(written);
            return Ok(Written::Yes);
        }
        crate::reach!("driver.engine-makes-writes-wait");
        let waits = std::mem::take(pending);
        let batch = waits.batch.clone();
        assert!(self.stall.since_ns.is_none(), "one batch at a time waits for the engine");
        self.stall.since_ns = Some(self.clock.now().0);
        self.stall.written = Some(waits);
        let (handle, engine, clock) = (self.handle.clone(), self.engine.clone(), self.clock.clone());
        let lane = self.lane;
        task::spawn(async move {
            let result = write_waiting(engine, clock, batch).await;
            handle.send_to(lane, Message::Applied(result));
        });
        Ok(Written::Waits)
    }

    /// Continues after the batch that waited was written.
    pub(super) fn stall_ended(&mut self) -> Result<()> {
        let now_ns = self.clock.now().0;
        let waited_ms = self.stall.age_ns(now_ns) / 1_000_000;
        if waited_ms >= 100 {
            tracing::warn!(store = self.store, waited_ms, "the engine stalled writes");
        }
        assert!(self.stall.since_ns.is_some(), "only a batch that waited is written late");
        self.stall.since_ns = None;
        self.backlog.cool_down();
        if let Some(written) = self.stall.written.take() {
            self.note_applied(written);
        }
        for (group, ingest) in std::mem::take(&mut self.stall.installs) {
            self.start_install(group, ingest);
        }
        self.apply_backlog()
    }

    /// Tells raft, the callers and the store that the engine holds a batch.
    fn note_applied(&mut self, written: Pending) {
        self.flushes.lock().expect("no holder panics").note_applied();
        for event in written.probes {
            probe::emit(|| event);
        }
        // A range is shown before anything is served by what was applied with it.
        written.splits.into_iter().for_each(|split| self.note_split(split));
        written.moves.iter().for_each(|moved| self.note_move(moved));
        written.reshapes.into_iter().for_each(|reshape| self.note_reshape(reshape));
        for (group, (index, term)) in written.applied {
            // A snapshot that is being installed may be ahead of the batch.
            if let Some(peer) = self.peers.get_mut(&group).filter(|peer| peer.group.log().applied().0 < index) {
                peer.group.applied(index, term);
                peer.view.set_applied(index);
            }
        }
        for (group, index, term, replies) in written.replies {
            if let Some(peer) = self.peers.get_mut(&group) {
                peer.settle(index, term, replies);
            }
            self.touch(group);
        }
        for moved in written.moves {
            self.note_end(&moved);
        }
        // One effect per group is enough for everything that the batch did.
        let mut effects = written.effects;
        effects.dedup();
        for (group, effect) in effects {
            self.effects.send(StoreEffect::Applied(group, effect));
        }
    }
}

/// Applies the commands of an entry, and returns a reply for each. What cannot be decoded is skipped: every replica has
/// the same bytes, and a replica that stopped would stop at every start.
fn apply_payload(
    peer: &mut Peer,
    engine: &Engine,
    handle: &Handle,
    entry: Entry,
    pending: &mut Pending,
) -> Result<Vec<Bytes>> {
    let group = peer.view.group;
    let context = ApplyContext { index: entry.index, term: entry.term };
    let mut replies = Vec::new();
    let mut payload = frame::payload(&entry).clone();
    let mut unknown = None;
    let changes_members = entry.get_entry_type() == EntryType::EntryConfChangeV2;
    if !changes_members && entry.get_entry_type() != EntryType::EntryNormal {
        unknown = Some("an entry of a kind that this version does not know".to_owned());
        payload.clear();
    }
    loop {
        match frame::next(&mut payload) {
            Ok(None) => break,
            // What the command reads would depend on how entries were batched, which differs between replicas.
            Ok(Some(command)) if command.kind.stands_alone() && (!replies.is_empty() || !payload.is_empty()) => {
                unknown = Some("a command that needs an entry of its own shares one".to_owned());
                break;
            }
            // Raft allows one change of members at a time only if it knows of them.
            Ok(Some(command)) if (command.kind == Kind::Members) != changes_members => {
                unknown = Some("a command in an entry of the wrong kind".to_owned());
                break;
            }
            Ok(Some(command)) => {
                let before = changes_members.then(|| peer.machine.region().clone());
                let applied = peer.machine.apply(context, command, engine, &mut pending.batch)?;
                let at = (entry.index, entry.term);
                if !applied.born.is_empty() {
                    pending.splits.push(put_split(peer, at, &applied, handle, &mut pending.batch));
                }
                if applied.reshaped {
                    pending.reshapes.push(put_reshape(peer, at, applied.absorbed, &mut pending.batch));
                }
                if let Some(before) = before.filter(|before| before != peer.machine.region()) {
                    pending.moves.push(put_move(peer, at, before, &mut pending.batch));
                }
                replies.push(applied.reply);
                pending.effects.extend(applied.effect.map(|effect| (group, effect)));
            }
            Err(why) => {
                unknown = Some(why);
                break;
            }
        }
    }
    if let Some(why) = unknown {
        let (store, index) = (peer.view.store, entry.index);
        tracing::error!(store, %group, index, why, "skipped an entry that a newer version must have written: upgrade this node");
        replies.push(peer.machine.refusal(&why));
    }
    Ok(replies)
}

/// Writes a batch, however long the engine stalls.
async fn write_waiting(engine: Engine, clock: Clock, batch: WriteBatch) -> Result<()> {
    let batch = Arc::new(batch);
    loop {
        let (engine, batch) = (engine.clone(), batch.clone());
        if cpu::run_long(move || engine.write_waiting(&batch)).await? {
            return Ok(());
        }
        clock.sleep(ENGINE_RETRY).await;
    }
}
