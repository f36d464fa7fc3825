//! Applying committed entries: many groups and entries, one write batch.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType};

use crate::engine::{KvEngine, WriteBatch};
use crate::raft::frame;
use crate::raft::machine::{ApplyContext, Effect};
use crate::rt::probe::{self, Event as Probe};
use crate::types::{GroupId, Result};

use super::Driver;
use crate::replica::effects::StoreEffect;
use crate::replica::group_state;

/// A number that two entries share only if they are the same.
pub(super) fn entry_hash(entry: &Entry) -> u64 {
    let crc = crate::arch::crc64(&[&entry.index.to_be_bytes(), &entry.term.to_be_bytes(), &entry.data]);
    crc ^ (entry.data.len() as u64).rotate_left(32)
}

/// What is applied in memory and goes into the next write.
#[derive(Default)]
struct Pending {
    batch: WriteBatch,
    /// Where each group stands: index and term.
    applied: BTreeMap<GroupId, (u64, u64)>,
    /// Replies that may leave once it is written: (group, index, term, replies).
    replies: Vec<(GroupId, u64, u64, Vec<Bytes>)>,
    /// What the store is told once it is written.
    effects: Vec<(GroupId, Effect)>,
}

/// Bytes that a batch gathers before it is written all the same.
const BATCH_BYTES_MAX: usize = 4 << 20;

impl Driver {
    /// Applies entries of several groups and answers those who wait for them.
    pub(super) fn apply(&mut self, committed: Vec<(GroupId, Vec<Entry>)>) -> Result<()> {
        let mut pending = Pending::default();
        for (group, entries) in committed {
            for entry in entries {
                self.apply_entry(group, entry, &mut pending)?;
                if pending.batch.bytes() > BATCH_BYTES_MAX {
                    self.write_applied(&mut pending)?;
                }
            }
        }
        self.write_applied(&mut pending)
    }

    fn apply_entry(&mut self, group: GroupId, entry: Entry, pending: &mut Pending) -> Result<()> {
        let (index, term) = (entry.index, entry.term);
        let hash = if probe::LISTENING { entry_hash(&entry) } else { 0 };
        let replies = self.apply_payload(group, &entry, pending)?;
        let Some(peer) = self.peers.get(&group) else { return Ok(()) };
        pending.applied.insert(group, (index, term));
        pending.replies.push((group, index, term, replies));
        let (store, id) = (self.store, peer.group.peer());
        probe::emit(|| Probe::Apply { store, group: group.0, peer: id, index, term, hash });
        Ok(())
    }

    /// Applies the commands of an entry; the replies, one for each. What cannot be understood is skipped: every replica has the
    /// same bytes, and one that stopped would stop at every start.
    fn apply_payload(&mut self, group: GroupId, entry: &Entry, pending: &mut Pending) -> Result<Vec<Bytes>> {
        let mut replies = Vec::new();
        let mut payload = entry.data.clone();
        let mut unknown = None;
        if entry.get_entry_type() != EntryType::EntryNormal {
            unknown = Some("changes of the membership are unknown to this version".to_owned());
            payload.clear();
        }
        loop {
            match frame::next(&mut payload) {
                Ok(None) => break,
                Ok(Some(command)) => {
                    if command.kind.stands_alone() && !pending.applied.is_empty() {
                        self.write_applied(pending)?;
                    }
                    let Some(peer) = self.peers.get_mut(&group) else { return Ok(replies) };
                    let context = ApplyContext { index: entry.index, term: entry.term };
                    let applied = peer.machine.apply(context, command, &self.engine, &mut pending.batch)?;
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
            let (store, index) = (self.store, entry.index);
            tracing::error!(store, %group, index, why, "skipped an entry that a newer version must have written: upgrade this node");
            let Some(peer) = self.peers.get_mut(&group) else { return Ok(replies) };
            replies.push(peer.machine.refusal(&why));
        }
        Ok(replies)
    }

    fn write_applied(&mut self, pending: &mut Pending) -> Result<()> {
        let applied = std::mem::take(&mut pending.applied);
        for (&group, &(index, term)) in &applied {
            let stored = if crate::mutant!("replica.applied-index-lags") { index - 1 } else { index };
            group_state::put_applied(&mut pending.batch, group, (stored, term));
        }
        if pending.batch.is_empty() {
            return Ok(());
        }
        self.engine.write(&pending.batch)?;
        pending.batch.clear();
        self.flushes.note_applied();
        for (group, (index, term)) in applied {
            if let Some(peer) = self.peers.get_mut(&group) {
                peer.group.applied(index, term);
                peer.view.set_applied(index);
            }
        }
        for (group, index, term, replies) in pending.replies.drain(..) {
            if let Some(peer) = self.peers.get_mut(&group) {
                peer.settle(index, term, replies);
            }
            self.touch(group);
        }
        // One word a group is enough for all that a batch did.
        pending.effects.dedup();
        for (group, effect) in pending.effects.drain(..) {
            self.effects.tell(StoreEffect::Applied(group, effect));
        }
        Ok(())
    }
}
