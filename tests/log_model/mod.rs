//! The expected contents of a raft log in the simplest form, random batches, and a function that reads a log back. Used
//! by `tests/log.rs` over real files and by the simulator's crash test.

use std::collections::BTreeMap;

use armilla::replica::log::{LogBatch, RaftLog};
use armilla::rt::rng::Rng;
use armilla::types::{Error, GroupId};
use raft::eraftpb::{Entry, HardState};

/// One group's log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    pub hard_state: (u64, u64, u64),
    pub truncated: (u64, u64),
    /// Term and data of each entry after the truncated index.
    pub entries: Vec<(u64, Vec<u8>)>,
}

impl Group {
    fn last(&self) -> u64 {
        self.truncated.0 + self.entries.len() as u64
    }
    fn term(&self, index: u64) -> u64 {
        if index == self.truncated.0 {
            self.truncated.1
        } else {
            self.entries[(index - self.truncated.0 - 1) as usize].0
        }
    }
}

/// The groups, by id.
pub type State = BTreeMap<u64, Group>;

/// Describes the groups in which two states differ, with entries as index, term and length.
pub fn difference(found: &State, wanted: &State) -> String {
    let brief = |group: Option<&Group>| match group {
        None => "no group".to_owned(),
        Some(group) => {
            let entries: Vec<(u64, usize)> = group.entries.iter().map(|(term, data)| (*term, data.len())).collect();
            format!("{:?} truncated at {:?}, (term, bytes): {entries:?}", group.hard_state, group.truncated)
        }
    };
    let ids = found.keys().chain(wanted.keys()).filter(|id| found.get(id) != wanted.get(id));
    let ids: std::collections::BTreeSet<u64> = ids.copied().collect();
    let lines = ids.iter().map(|id| format!("group {id}: {}; wanted {}", brief(found.get(id)), brief(wanted.get(id))));
    lines.collect::<Vec<_>>().join("\n")
}

/// Draws a batch. Returns it with the state after it.
pub fn draw(rng: &mut Rng, state: &State) -> (LogBatch, State) {
    let (mut batch, mut next) = (LogBatch::new(), state.clone());
    for _ in 0..rng.between(1, 4) {
        // Group 1 is busy, the highest groups are nearly idle.
        let id = 1 + rng.below(6).min(rng.below(6)).min(rng.below(6));
        let group = next.entry(id).or_default();
        let gid = GroupId(id);
        match rng.below(100) {
            0..60 => {
                let from = if rng.chance(0.1) {
                    rng.between(group.truncated.0 + 1, group.last() + 1)
                } else {
                    group.last() + 1
                };
                let mut term = group.term(from - 1).max(1);
                group.entries.truncate((from - group.truncated.0 - 1) as usize);
                let mut entries = Vec::new();
                for index in from..from + rng.between(1, 5) {
                    term += u64::from(rng.chance(0.1));
                    let longest = if rng.chance(0.05) { 9000 } else { 300 };
                    let data: Vec<u8> = (0..rng.below(longest)).map(|_| rng.next_u64() as u8).collect();
                    let mut entry = Entry::default();
                    (entry.index, entry.term, entry.data) = (index, term, data.clone().into());
                    entries.push(entry);
                    group.entries.push((term, data));
                }
                batch.append(gid, &entries);
            }
            60..80 => {
                group.hard_state = (group.hard_state.0 + rng.below(2), rng.below(4), group.hard_state.2 + rng.below(9));
                let mut hard_state = HardState::default();
                (hard_state.term, hard_state.vote, hard_state.commit) = group.hard_state;
                batch.hard_state(gid, &hard_state);
            }
            80..97 => {
                let index = rng.between(group.truncated.0, group.last());
                let term = group.term(index);
                group.entries.drain(..(index - group.truncated.0) as usize);
                group.truncated = (index, term);
                batch.truncate_to(gid, index, term);
            }
            97..99 => {
                let to = (group.last() + rng.below(9), group.term(group.last()) + rng.below(2));
                group.entries.clear();
                group.truncated = to;
                batch.reset(gid, to.0, to.1);
            }
            _ => {
                next.remove(&id);
                batch.remove(gid);
            }
        }
    }
    (batch, next)
}

/// Reads the log's contents back, entry by entry.
pub async fn contents(log: &RaftLog, rng: &mut Rng) -> Result<State, Error> {
    let mut state = State::new();
    for id in log.groups() {
        let meta = log.group(id).expect("a listed group").clone();
        let hard_state = (meta.hard_state.term, meta.hard_state.vote, meta.hard_state.commit);
        let mut group =
            Group { hard_state, truncated: (meta.first_index - 1, meta.truncated_term), entries: Vec::new() };
        let mut low = meta.first_index;
        while low <= meta.last_index {
            let high = rng.between(low + 1, meta.last_index + 1);
            for entry in log.read(id, low, high, rng.below(2000) as usize).await? {
                assert_eq!(entry.index, low);
                assert_eq!(log.term(id, low), Some(entry.term));
                group.entries.push((entry.term, entry.data.to_vec()));
                low += 1;
            }
        }
        state.insert(id.0, group);
    }
    Ok(state)
}
