//! Applying committed entries: many groups and entries, one write batch.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType};

use crate::engine::{Cf, KvEngine, WriteBatch};
use crate::raft::frame;
use crate::raft::machine::ApplyContext;
use crate::rt::probe::{self, Event as Probe};
use crate::types::{Error, GroupId, Result};

use super::driver::Driver;

/// The key of a group's state in [`Cf::Meta`].
pub fn state_key(group: GroupId) -> Bytes {
    let mut key = b"g".to_vec();
    key.extend_from_slice(&group.0.to_be_bytes());
    key.into()
}

/// A number that two entries share only if they are the same.
pub fn entry_hash(entry: &Entry) -> u64 {
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
}

/// Writes that a batch gathers before it is written all the same.
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
        if entry.get_entry_type() != EntryType::EntryNormal {
            return Err(Error::Corruption(format!(
                "group {group}: entry {index} changes the membership, which this version never proposes"
            )));
        }
        let hash = if probe::LISTENING { entry_hash(&entry) } else { 0 };
        let mut payload = entry.data;
        let mut replies = Vec::new();
        while let Some(command) = frame::next(&mut payload)? {
            let peer = self.peers.get(&group).expect("it has committed entries");
            if peer.machine.reads(&command) && !pending.applied.is_empty() {
                self.write_applied(pending)?;
            }
            let engine = self.engine.clone();
            let peer = self.peers.get_mut(&group).expect("just seen");
            let context = ApplyContext { region: &peer.region, index, term };
            replies.push(peer.machine.apply(context, command, &engine, &mut pending.batch)?);
        }
        pending.applied.insert(group, (index, term));
        pending.replies.push((group, index, term, replies));
        let peer = self.peers.get(&group).expect("just seen");
        let (store, id) = (self.store, peer.group.peer());
        probe::emit(|| Probe::Apply { store, group: group.0, peer: id, index, term, hash });
        Ok(())
    }

    fn write_applied(&mut self, pending: &mut Pending) -> Result<()> {
        let mut states = Vec::new();
        for (group, (index, term)) in std::mem::take(&mut pending.applied) {
            let peer = self.peers.get(&group).expect("it was applied to");
            let state = peer.encode_state(index, term);
            let stored = if crate::mutant!("replica.applied-index-lags") {
                peer.encode_state(index - 1, term)
            } else {
                state.clone()
            };
            pending.batch.put(Cf::Meta, state_key(group), stored);
            states.push((group, index, term, state));
        }
        if pending.batch.is_empty() {
            return Ok(());
        }
        self.engine.write(&pending.batch)?;
        pending.batch.clear();
        self.housekeeping.unflushed = true;
        for (group, index, term, state) in states {
            let peer = self.peers.get_mut(&group).expect("it was applied to");
            peer.group.applied(index, term, state);
            peer.view.set_applied(index);
        }
        for (group, index, term, replies) in pending.replies.drain(..) {
            self.peers.get_mut(&group).expect("it was applied to").settle(index, term, replies);
            self.touch(group);
        }
        Ok(())
    }
}
