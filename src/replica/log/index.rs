//! The location of everything in the log: for each group its raft state and the runs of its entries, for each segment
//! the bytes that are still needed. The same code handles writes and, at start, the replay.

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::HardState;

use super::batch::Item;
use crate::types::{Error, GroupId, Result};

/// The log's state of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupLog {
    /// The last hard state written.
    pub hard_state: HardState,
    /// The first entry's index, or what it would be: one above the truncated index.
    pub first_index: u64,
    /// The term of the entry before the first.
    pub truncated_term: u64,
    /// The last entry's index; `first_index - 1` if there is none.
    pub last_index: u64,
}

/// Some entries of one term that lie together in a segment: 32 bytes describe up to thousands of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The index of the first live entry.
    pub first: u64,
    /// The term of the entries.
    pub term: u64,
    /// The segment.
    pub segment: u32,
    /// The offset of the run's item in the segment.
    pub offset: u32,
    /// The length of the item in bytes.
    pub bytes: u32,
    /// The number of entries at the start of the item that are no longer live.
    pub skip: u16,
    /// The number of live entries.
    pub count: u16,
}

impl Run {
    /// Returns the index after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// The value if no segment holds the group's hard state or mark.
const UNPINNED: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Group {
    pub log: GroupLog,
    /// Sorted by index; without gaps, except during a replay.
    pub runs: VecDeque<Run>,
    /// The bytes of the runs.
    pub bytes: u64,
    /// The segment of the current hard state.
    hard_state_segment: u32,
    /// The segment of the current truncation mark, or of the group's first item.
    mark_segment: u32,
}

impl Group {
    /// Creates a group whose first item is in `segment`, which must be kept because nothing else records the group.
    fn new(segment: u32) -> Group {
        Group {
            log: GroupLog { first_index: 1, ..GroupLog::default() },
            runs: VecDeque::new(),
            bytes: 0,
            hard_state_segment: UNPINNED,
            mark_segment: segment,
        }
    }

    /// Returns whether the group's hard state or mark is in a segment below `segment`.
    pub(super) fn state_below(&self, segment: u32) -> bool {
        self.hard_state_segment.min(self.mark_segment) < segment
    }

    fn settle(&mut self) {
        self.log.last_index = self.runs.back().map_or(self.log.first_index - 1, |run| run.end() - 1);
    }
}

/// For each segment, the bytes of entries that the index refers to.
#[derive(Debug, Default)]
struct Live(BTreeMap<u32, u64>);

impl Live {
    fn add(&mut self, run: &Run) {
        *self.0.entry(run.segment).or_default() += u64::from(run.bytes);
    }
    fn sub(&mut self, run: &Run) {
        let bytes = self.0.get_mut(&run.segment).expect("a run's segment has live bytes");
        assert!(*bytes >= u64::from(run.bytes), "segment {}: more bytes are freed than are live", run.segment);
        *bytes -= u64::from(run.bytes);
        if *bytes == 0 {
            self.0.remove(&run.segment);
        }
    }
}

/// The index of all groups.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub groups: BTreeMap<GroupId, Group>,
    live: Live,
}

/// Whether an item must continue the index exactly (a write), or may lack what came before it (a replay from the first
/// live segment on).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    Write,
    Replay,
}

impl Index {
    /// Returns the bytes of live entries in segment `segment`.
    pub(super) fn live_in(&self, segment: u64) -> u64 {
        u32::try_from(segment).ok().and_then(|segment| self.live.0.get(&segment)).copied().unwrap_or(0)
    }

    /// Returns the bytes of live entries in all segments.
    pub(super) fn live(&self) -> u64 {
        self.live.0.values().sum()
    }

    /// Returns the term of the entry at `index`, or of the last truncated entry.
    pub(super) fn term(&self, group: GroupId, index: u64) -> Option<u64> {
        let group = self.groups.get(&group)?;
        if index + 1 == group.log.first_index {
            return Some(group.log.truncated_term);
        }
        let at = group.runs.partition_point(|run| run.end() <= index);
        group.runs.get(at).filter(|run| run.first <= index).map(|run| run.term)
    }

    /// Applies one item, whose bytes begin at `offset` of `segment`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a write does not continue the group's log; the index must not be used after that.
    pub(super) fn apply(&mut self, item: &Item, segment: u32, offset: u32, follow: Follow) -> Result<()> {
        match *item {
            Item::Nothing => {}
            Item::Entries { group: id, first, term, count, bytes, moved } => {
                let group = self.groups.entry(id).or_insert_with(|| Group::new(segment));
                let run = Run { first, term, segment, offset, bytes, skip: 0, count };
                if follow == Follow::Write {
                    let log = &group.log;
                    if first < log.first_index
                        || first > log.last_index + 1
                        || (moved && run.end() > log.last_index + 1)
                    {
                        return Err(Error::Invalid(format!(
                            "group {id}: entries from {first} on do not continue a log of [{}, {}]",
                            log.first_index, log.last_index
                        )));
                    }
                }
                if moved {
                    replace(group, &mut self.live, run);
                } else {
                    cut_tail(group, &mut self.live, first);
                    self.live.add(&run);
                    group.bytes += u64::from(run.bytes);
                    group.runs.push_back(run);
                }
                group.settle();
            }
            Item::HardState { group, term, vote, commit } => {
                let group = self.groups.entry(group).or_insert_with(|| Group::new(segment));
                set_hard_state(group, term, vote, commit, segment);
            }
            Item::Truncate { group: id, index, term } => {
                let group = self.groups.entry(id).or_insert_with(|| Group::new(segment));
                if follow == Follow::Write && index > group.log.last_index {
                    return Err(Error::Invalid(format!(
                        "group {id}: truncation to {index} is beyond the last entry {}",
                        group.log.last_index
                    )));
                }
                if index >= group.log.first_index {
                    truncate(group, &mut self.live, index, term, segment);
                }
            }
            Item::Reset { group, index, term } => {
                let group = self.groups.entry(group).or_insert_with(|| Group::new(segment));
                cut_tail(group, &mut self.live, 0);
                group.log.first_index = index + 1;
                group.log.truncated_term = term;
                group.mark_segment = segment;
                group.settle();
            }
            Item::Remove { group } => {
                if let Some(mut group) = self.groups.remove(&group) {
                    cut_tail(&mut group, &mut self.live, 0);
                }
            }
            Item::State { group, term, vote, commit, truncated_index, truncated_term } => {
                let group = self.groups.entry(group).or_insert_with(|| Group::new(segment));
                set_hard_state(group, term, vote, commit, segment);
                if truncated_index + 1 >= group.log.first_index {
                    truncate(group, &mut self.live, truncated_index, truncated_term, segment);
                }
            }
        }
        Ok(())
    }

    /// Returns a description of the first hole in a group's log after a replay, if there is one.
    pub(super) fn find_hole(&self) -> Option<String> {
        for (id, group) in &self.groups {
            let mut next = group.log.first_index;
            for run in &group.runs {
                if run.first != next {
                    return Some(format!("group {id}: entries [{next}, {}) are missing", run.first));
                }
                next = run.end();
            }
        }
        None
    }
}

fn set_hard_state(group: &mut Group, term: u64, vote: u64, commit: u64, segment: u32) {
    group.log.hard_state.term = term;
    group.log.hard_state.vote = vote;
    group.log.hard_state.commit = commit;
    group.hard_state_segment = segment;
}

fn truncate(group: &mut Group, live: &mut Live, index: u64, term: u64, segment: u32) {
    let upto = if crate::mutant!("log.truncate-wrong-index") { index + 1 } else { index };
    cut_head(group, live, upto);
    group.log.first_index = upto + 1;
    group.log.truncated_term = term;
    group.mark_segment = segment;
    group.settle();
}

/// Drops the entries from `from` on.
fn cut_tail(group: &mut Group, live: &mut Live, from: u64) {
    while let Some(run) = group.runs.back_mut() {
        if run.end() <= from {
            break;
        }
        if run.first < from {
            run.count = (from - run.first) as u16;
            break;
        }
        live.sub(run);
        group.bytes -= u64::from(run.bytes);
        group.runs.pop_back();
    }
}

/// Drops the entries up to and including `upto`.
fn cut_head(group: &mut Group, live: &mut Live, upto: u64) {
    while let Some(run) = group.runs.front_mut() {
        if run.first > upto {
            break;
        }
        if run.end() > upto + 1 {
            let gone = (upto + 1 - run.first) as u16;
            run.first += u64::from(gone);
            run.skip += gone;
            run.count -= gone;
            break;
        }
        live.sub(run);
        group.bytes -= u64::from(run.bytes);
        group.runs.pop_front();
    }
}

/// Puts `new` in the place of the runs that cover the same indexes.
fn replace(group: &mut Group, live: &mut Live, new: Run) {
    let mut runs = VecDeque::with_capacity(group.runs.len() + 1);
    let mut placed = false;
    live.add(&new);
    for run in group.runs.drain(..) {
        if run.end() <= new.first {
            runs.push_back(run);
            continue;
        }
        if !placed && run.first >= new.end() {
            runs.push_back(new);
            placed = true;
        }
        if run.first >= new.end() {
            runs.push_back(run);
            continue;
        }
        if run.first < new.first {
            let head = Run { count: (new.first - run.first) as u16, ..run };
            live.add(&head);
            runs.push_back(head);
        }
        if !placed {
            runs.push_back(new);
            placed = true;
        }
        if run.end() > new.end() {
            let gone = (new.end() - run.first) as u16;
            let tail = Run { first: new.end(), skip: run.skip + gone, count: run.count - gone, ..run };
            live.add(&tail);
            runs.push_back(tail);
        }
        live.sub(&run);
    }
    if !placed {
        runs.push_back(new);
    }
    group.bytes = runs.iter().map(|run| u64::from(run.bytes)).sum();
    group.runs = runs;
}
