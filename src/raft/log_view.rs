//! raft-rs's view of the log: terms and recent entries in memory, older entries on request.

use std::cell::RefCell;
use std::collections::VecDeque;

use ::raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use ::raft::{GetEntriesContext, RaftState, Storage, StorageError};
use bytes::Bytes;

use super::output::Fetch;

/// A group's log, snapshot position and durable state, as known in memory. The driver keeps it in step with the log on
/// disk.
#[derive(Debug)]
pub struct LogView {
    hard_state: HardState,
    conf_state: ConfState,
    /// Index and term of the last truncated entry.
    truncated: (u64, u64),
    /// (first index, term) of every run of equal terms after `truncated`, in order.
    runs: VecDeque<(u64, u64)>,
    last_index: u64,
    /// The newest entries, without a gap up to `last_index`; contains every entry above the applied index.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    cache_bytes_max: usize,
    applied: (u64, u64),
    /// The data of a snapshot message: the group's encoded state as of `applied`.
    state: Bytes,
    /// Whether the hard state has changed since it was last written to the log. Only the commit index may lag, and only
    /// until the next record.
    unsaved: bool,
    /// Older entries that the driver has read from disk: (first index, entries).
    fetched: RefCell<Option<(u64, Vec<Entry>)>>,
    /// Older entries that raft-rs waits for.
    wanted: RefCell<Vec<Fetch>>,
}

/// The initial state of a view.
#[derive(Debug)]
pub struct Start {
    /// As recovered from the log, or that of a new group.
    pub hard_state: HardState,
    /// As recovered from the engine.
    pub conf_state: ConfState,
    /// Index and term of the last truncated entry.
    pub truncated: (u64, u64),
    /// The terms of the entries after `truncated`: (first index, term) of each run.
    pub runs: Vec<(u64, u64)>,
    /// The index of the last entry.
    pub last_index: u64,
    /// The entries above the applied index.
    pub unapplied: Vec<Entry>,
    /// Index and term of the last entry that the engine holds.
    pub applied: (u64, u64),
    /// The group's encoded state as of `applied`, for snapshots.
    pub state: Bytes,
    /// Maximum bytes of applied entries to keep in memory.
    pub cache_bytes_max: usize,
}

fn weight(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 64
}

impl LogView {
    /// Creates the view of a recovered log.
    ///
    /// # Panics
    /// If the parts contradict each other (a gap between applied and cached entries).
    pub fn new(start: Start) -> LogView {
        assert!(start.last_index >= start.applied.0, "the log ends before the applied index");
        if let Some(first) = start.unapplied.first() {
            assert_eq!(first.index, start.applied.0 + 1, "entries above the applied index are missing");
        }
        assert_eq!(start.applied.0 + start.unapplied.len() as u64, start.last_index);
        let mut hard_state = start.hard_state;
        // The commit index is not synced at every change; applied entries were committed.
        hard_state.commit = hard_state.commit.max(start.applied.0);
        let cache_bytes = start.unapplied.iter().map(weight).sum();
        LogView {
            hard_state,
            conf_state: start.conf_state,
            truncated: start.truncated,
            runs: start.runs.into(),
            last_index: start.last_index,
            cache: start.unapplied.into(),
            cache_bytes,
            cache_bytes_max: start.cache_bytes_max,
            applied: start.applied,
            state: start.state,
            unsaved: false,
            fetched: RefCell::new(None),
            wanted: RefCell::new(Vec::new()),
        }
    }

    /// Appends entries, overwriting from the first one's index on.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.truncated.0 && first.index <= self.last_index + 1, "a gap in the log");
        assert!(first.index > self.applied.0, "an applied entry must never be overwritten");
        while self.cache.back().is_some_and(|e| e.index >= first.index) {
            let entry = self.cache.pop_back().expect("just seen");
            self.cache_bytes -= weight(&entry);
        }
        while self.runs.back().is_some_and(|(index, _)| *index >= first.index) {
            self.runs.pop_back();
        }
        for entry in entries {
            if self.runs.back().is_none_or(|(_, term)| *term != entry.term) {
                self.runs.push_back((entry.index, entry.term));
            }
            self.cache_bytes += weight(entry);
            self.cache.push_back(entry.clone());
        }
        self.last_index = entries[entries.len() - 1].index;
    }

    pub(super) fn set_hard_state(&mut self, state: &HardState) {
        self.hard_state = state.clone();
        self.unsaved = true;
    }

    /// Replaces the group's encoded state, which has changed with the last applied entry.
    pub fn set_state(&mut self, state: Bytes) {
        self.state = state;
    }

    /// Returns the hard state if the log does not have it yet. The caller must write it with the group's next record.
    pub(super) fn take_unsaved(&mut self) -> Option<HardState> {
        std::mem::take(&mut self.unsaved).then(|| self.hard_state.clone())
    }

    /// Returns whether the group has no history: no entry, no vote, no leader (a leader's term would be durable).
    pub(super) fn is_untouched(&self) -> bool {
        let state = &self.hard_state;
        let (index, term) = super::membership::FIRST;
        self.last_index == index && state.term == term && state.vote == 0
    }

    /// Returns the applied membership.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Records another applied membership.
    pub(super) fn set_conf_state(&mut self, state: ConfState) {
        self.conf_state = state;
    }

    /// Records that the engine now holds everything up to `index`, and evicts applied entries beyond the cache's limit.
    pub(super) fn set_applied(&mut self, index: u64, term: u64) {
        assert!(index >= self.applied.0, "the applied index must not go back");
        self.applied = (index, term);
        if !crate::mutant!("raft.cache-grows") {
            self.shrink_cache(self.cache_bytes_max);
        }
    }

    /// Returns the index and term of the last applied entry.
    pub fn applied(&self) -> (u64, u64) {
        self.applied
    }

    /// Returns the index and term of the last truncated entry.
    pub fn truncated(&self) -> (u64, u64) {
        self.truncated
    }

    /// Returns the index of the last entry.
    pub fn last(&self) -> u64 {
        self.last_index
    }

    /// Returns the bytes of entries in memory.
    pub fn cached_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// Evicts applied entries from memory until at most `bytes` are left.
    pub fn shrink_cache(&mut self, bytes: usize) {
        while self.cache_bytes > bytes && self.cache.front().is_some_and(|entry| entry.index <= self.applied.0) {
            if let Some(entry) = self.cache.pop_front() {
                self.cache_bytes -= weight(&entry);
            }
        }
    }

    /// Drops entries up to `index` and returns that entry's term. The driver truncates the log on disk in the same way.
    ///
    /// # Panics
    /// If `index` is not applied yet.
    pub fn truncate_to(&mut self, index: u64) -> u64 {
        assert!(index <= self.applied.0, "only applied entries may be truncated");
        let term = self.term_of(index).expect("the index is in the log");
        if index <= self.truncated.0 {
            return term;
        }
        while self.cache.front().is_some_and(|e| e.index <= index) {
            let entry = self.cache.pop_front().expect("just seen");
            self.cache_bytes -= weight(&entry);
        }
        while self.runs.len() > 1 && self.runs[1].0 <= index + 1 {
            self.runs.pop_front();
        }
        if index >= self.last_index {
            self.runs.clear();
        } else if let Some(front) = self.runs.front_mut() {
            front.0 = front.0.max(index + 1);
        }
        self.truncated = (index, term);
        term
    }

    /// Restarts the log after an installed snapshot.
    pub(super) fn restore(&mut self, index: u64, term: u64, conf_state: ConfState, state: Bytes) {
        self.truncated = (index, term);
        self.applied = (index, term);
        self.last_index = index;
        self.runs.clear();
        self.cache.clear();
        self.cache_bytes = 0;
        self.conf_state = conf_state;
        self.state = state;
        self.hard_state.commit = self.hard_state.commit.max(index);
        self.unsaved = true;
        self.fetched.replace(None);
    }

    /// Returns the term of the entry at `index`, if that entry is in the log or is the last truncated one.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.truncated.0 {
            return Some(self.truncated.1);
        }
        if index < self.truncated.0 || index > self.last_index {
            return None;
        }
        let after = self.runs.partition_point(|(first, _)| *first <= index);
        Some(self.runs[after.checked_sub(1)?].1)
    }

    pub(super) fn wants(&self) -> bool {
        !self.wanted.borrow().is_empty()
    }

    pub(super) fn take_wanted(&mut self) -> Vec<Fetch> {
        self.wanted.take()
    }

    pub(super) fn set_fetched(&mut self, entries: Vec<Entry>) {
        let first = entries.first().map_or(0, |e| e.index);
        self.fetched.replace((first != 0).then_some((first, entries)));
    }
}

/// Takes entries up to a byte limit, but at least one.
fn within(entries: impl Iterator<Item = Entry>, max_bytes: Option<u64>) -> Vec<Entry> {
    let mut bytes = 0u64;
    let mut out = Vec::new();
    for entry in entries {
        bytes += weight(&entry) as u64;
        if !out.is_empty() && max_bytes.is_some_and(|max| bytes > max) {
            break;
        }
        out.push(entry);
    }
    out
}

impl Storage for LogView {
    fn initial_state(&self) -> ::raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> ::raft::Result<Vec<Entry>> {
        let max_size = max_size.into();
        if low <= self.truncated.0 {
            return Err(::raft::Error::Store(StorageError::Compacted));
        }
        assert!(
            high <= self.last_index + 1,
            "raft-rs requested entries up to {high}, but the log ends at {}",
            self.last_index
        );
        let cached_from = self.last_index + 1 - self.cache.len() as u64;
        if low >= cached_from {
            let skip = (low - cached_from) as usize;
            let take = (high - low) as usize;
            return Ok(within(self.cache.iter().skip(skip).take(take).cloned(), max_size));
        }
        if let Some((first, entries)) = self.fetched.take()
            && first == low
        {
            let take = (high - low) as usize;
            return Ok(within(entries.into_iter().take(take), max_size));
        }
        assert!(
            context.can_async(),
            "entries from {low} are needed at once, but memory holds only those from {cached_from}"
        );
        let fetch = Fetch { low, high: high.min(cached_from), max_bytes: max_size.unwrap_or(u64::MAX), context };
        self.wanted.borrow_mut().push(fetch);
        Err(::raft::Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    fn term(&self, index: u64) -> ::raft::Result<u64> {
        match self.term_of(index) {
            Some(term) => Ok(term),
            None if index < self.truncated.0 => Err(::raft::Error::Store(StorageError::Compacted)),
            None => Err(::raft::Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> ::raft::Result<u64> {
        Ok(self.truncated.0 + 1)
    }

    fn last_index(&self) -> ::raft::Result<u64> {
        Ok(self.last_index)
    }

    /// Returns the snapshot message: its position and the group's state. The driver reads the data from the engine when
    /// it sends the message, before it applies any further entries, so that both have the same index.
    fn snapshot(&self, request_index: u64, _to: u64) -> ::raft::Result<Snapshot> {
        if request_index > self.applied.0 {
            return Err(::raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied.0;
        metadata.term = self.applied.1;
        metadata.set_conf_state(self.conf_state.clone());
        snapshot.data = self.state.clone();
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::Range<u64>, term: u64) -> Vec<Entry> {
        range
            .map(|index| {
                let mut entry = Entry::default();
                entry.index = index;
                entry.term = term;
                entry.data = Bytes::from(vec![0; 100]);
                entry
            })
            .collect()
    }

    fn view() -> LogView {
        LogView::new(Start {
            hard_state: HardState::default(),
            conf_state: ConfState::default(),
            truncated: (1, 1),
            runs: vec![],
            last_index: 1,
            unapplied: vec![],
            applied: (1, 1),
            state: Bytes::new(),
            cache_bytes_max: 300,
        })
    }

    #[test]
    fn terms_survive_overwrites_and_truncation() {
        let mut view = view();
        view.append(&entries(2..6, 2));
        view.append(&entries(4..8, 3));
        assert_eq!(
            (1..9).map(|i| view.term_of(i)).collect::<Vec<_>>(),
            [Some(1), Some(2), Some(2), Some(3), Some(3), Some(3), Some(3), None]
        );
        view.set_applied(7, 3);
        assert_eq!(view.truncate_to(3), 2);
        assert_eq!((view.term_of(2), view.term_of(3), view.term_of(4)), (None, Some(2), Some(3)));
        assert_eq!(view.truncate_to(7), 3);
        assert_eq!((view.term_of(7), view.term_of(8)), (Some(3), None));
        view.append(&entries(8..9, 4));
        assert_eq!(view.term_of(8), Some(4));
    }

    #[test]
    fn what_left_the_cache_is_asked_for_and_served_once_fetched() {
        let mut view = view();
        view.append(&entries(2..12, 2));
        view.set_applied(10, 2);
        let context = GetEntriesContext::empty(true);
        assert!(view.entries(2, 12, None, context).is_err());
        let wanted = view.take_wanted();
        assert_eq!((wanted[0].low, wanted[0].high), (2, 11));
        view.set_fetched(entries(2..5, 2));
        assert_eq!(view.entries(2, 12, None, GetEntriesContext::empty(true)).unwrap().len(), 3);
        // Entries that are not applied stay in memory, whatever the limit.
        assert_eq!(view.entries(11, 12, None, GetEntriesContext::empty(false)).unwrap().len(), 1);
    }
}
