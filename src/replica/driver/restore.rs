//! Restoring groups at start, from what the engine and the log hold.
//!
//! **Never**: a group that continues without something that it promised or acknowledged. If the engine and the log
//! contradict each other, the store does not start and reports which of the two lost something.

use crate::raft::{LogView, log_view, membership};
use crate::types::{Error, GroupId, Result, region};

use super::install::encode_state;
use super::{Driver, Log};
use crate::replica::group_state::GroupState;
use crate::replica::keeper::LogKeeper;
use crate::replica::log::{GroupLog, LogBatch, RaftLog};
use crate::replica::message::Message;
use crate::rt::sync::mpsc;
use crate::types::limits::RESTORE_READ_BYTES_MAX;

impl Driver {
    /// Restores a group where the engine and the log left it.
    ///
    /// # Errors
    /// If they contradict each other, or cannot be read.
    pub async fn restore(&mut self, log: &mut RaftLog, state: GroupState) -> Result<()> {
        let GroupState { region, peer, installed, applied, newcomer, merges } = state;
        let group = GroupId(region.id);
        let here = region::peer_on(&region, self.store).map(|peer| peer.id);
        if here != Some(peer) {
            return Err(Error::Corruption(format!(
                "group {group}: its state is that of peer {peer}, but its descriptor has {} on store {}",
                here.map_or("no peer".to_owned(), |id| format!("peer {id}")),
                self.store
            )));
        }
        // A group is in the log before it is in the engine, and never leaves the log.
        let stored = log.group(group).cloned();
        let (stored, installed) = if stored.is_none() && crate::mutant!("replica.lost-log-not-noticed") {
            (Some(GroupLog::default()), applied.0)
        } else {
            (stored, installed)
        };
        // The engine may have flushed a newborn before the record that begins its log was durable: it is written again.
        // If the whole log were lost, the parent would notice, because it has applied more.
        // The same goes for a group that began here with a snapshot.
        let unrecorded = newcomer || applied == membership::FIRST && region::epoch(&region).version > 1;
        let stored = if stored.is_none() && unrecorded {
            crate::reach!("driver.newborn-without-record");
            let mut record = LogBatch::default();
            record.reset(group, applied.0, applied.1);
            let mut hard_state = membership::first_hard_state();
            (hard_state.term, hard_state.commit) = (applied.1, applied.0);
            record.hard_state(group, &hard_state);
            log.write(&record, true).await?;
            log.group(group).cloned()
        } else {
            stored
        };
        let stored = stored.ok_or_else(|| {
            Error::Corruption(format!(
                "group {group}: the engine holds it but the raft log in {} does not: the log was lost, emptied or another one is \
                 mounted there. What this store promised and acknowledged is gone with it: restore the log, or start with \
                 an empty data directory as a new store",
                log.dir().display()
            ))
        })?;
        if stored.first_index > applied.0 + 1 {
            return Err(Error::Corruption(format!(
                "group {group}: the log begins at {} but the engine holds only what was applied up to {}",
                stored.first_index, applied.0
            )));
        }
        let stored = follow_installed(log, group, stored, applied, installed).await?;
        let mut unapplied = Vec::new();
        while applied.0 + 1 + (unapplied.len() as u64) <= stored.last_index {
            let low = applied.0 + 1 + unapplied.len() as u64;
            unapplied.extend(log.read(group, low, stored.last_index + 1, RESTORE_READ_BYTES_MAX).await?);
        }
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for index in stored.first_index..=stored.last_index {
            let term = log.term(group, index).expect("within the log");
            if runs.last().is_none_or(|(_, last)| *last != term) {
                runs.push((index, term));
            }
        }
        let view = LogView::new(log_view::Start {
            hard_state: stored.hard_state.clone(),
            conf_state: membership::conf_state(&region),
            truncated: (stored.first_index - 1, stored.truncated_term),
            runs,
            last_index: stored.last_index,
            unapplied,
            applied,
            state: encode_state(&region, &merges),
            cache_bytes_max: self.options.cache_bytes_max,
        });
        self.register_peer(&region, &merges, view)
    }
}

impl Driver {
    /// Applies the committed entries of all groups, as far as they do not wait for groups of other lanes, and writes to
    /// the log through `keeper`. Called before the lanes run. Returns the keeper, and whether there was anything to do.
    ///
    /// # Errors
    /// If the log or the engine fails.
    pub async fn replay(
        &mut self,
        keeper: Box<LogKeeper>,
        messages: &mut mpsc::UnboundedReceiver<Message>,
    ) -> Result<(Box<LogKeeper>, bool)> {
        self.log = Log::InLine(keeper);
        let mut moved = false;
        loop {
            while !self.dirty.is_empty() {
                moved = true;
                self.rounds += 1;
                self.pass().await?;
            }
            let message = if self.stall.waits() || self.backlog.is_busy() {
                // The engine makes writes or reads wait; a message arrives when it continues.
                Some(messages.recv().await.expect("the handle sends"))
            } else {
                messages.try_recv().ok()
            };
            let Some(message) = message else { break };
            moved = true;
            self.receive(message).await?;
        }
        match std::mem::replace(&mut self.log, Log::Closed) {
            Log::InLine(keeper) => Ok((keeper, moved)),
            Log::Closed | Log::Writer(_) => unreachable!("it was given the log's keeper"),
        }
    }
}

/// Starts the log over after an installed snapshot, if the node stopped before the log had done so. Entries are applied
/// only once they are in the log, so nothing but an installed snapshot can put the engine ahead of it.
async fn follow_installed(
    log: &mut RaftLog,
    group: GroupId,
    stored: GroupLog,
    applied: (u64, u64),
    installed: u64,
) -> Result<GroupLog> {
    let (index, term) = applied;
    if stored.last_index >= index && log.term(group, index) == Some(term) {
        return Ok(stored);
    }
    if index != installed {
        return Err(Error::Corruption(format!(
            "group {group}: the engine holds entries applied up to {index} of term {term}, but the raft log in {} ends at {} or \
             has others: the log lost what it had acknowledged, or an older copy was put in its place. Restore the log, \
             or start with an empty data directory as a new store",
            log.dir().display(),
            stored.last_index
        )));
    }
    let mut hard_state = stored.hard_state;
    hard_state.term = hard_state.term.max(term);
    hard_state.commit = index;
    let mut batch = LogBatch::default();
    batch.reset(group, index, term);
    batch.hard_state(group, &hard_state);
    log.write(&batch, true).await?;
    log.group(group)
        .cloned()
        .ok_or_else(|| Error::Corruption(format!("group {group}: the log does not hold what was just written to it")))
}

/// Checks, after all groups of the engine are restored, that the log has no history of a group that the engine does not
/// hold.
///
/// # Errors
/// If it has: the engine lost that group.
pub(in crate::replica) fn check_nothing_missing(log: &RaftLog, is_here: impl Fn(GroupId) -> bool) -> Result<()> {
    let (index, term) = membership::FIRST;
    let used =
        |group: &GroupLog| group.last_index > index || group.hard_state.term > term || group.hard_state.vote != 0;
    for group in log.groups() {
        let noticed = !crate::mutant!("node.lost-engine-not-noticed");
        if !is_here(group) && log.group(group).is_some_and(used) && noticed {
            return Err(Error::Corruption(format!(
                "group {group}: the raft log in {} has its history but the engine does not hold it: the engine's data was \
                 lost. Restore it, or start with an empty data directory as a new store",
                log.dir().display()
            )));
        }
    }
    Ok(())
}
