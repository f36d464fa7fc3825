//! A store that is told that its log lost entries which it had acknowledged stops before it does anything else.
//!
//! Source: Ongaro's dissertation, section 11.7.3: a server that lost its log must not continue as the same server. The
//! commit index of a leader's heartbeat is at most the index that the follower has acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::probe::Event;

use super::Violation;

/// The oracle.
#[derive(Debug, Default)]
pub struct Losses {
    /// By node: the group, and the acknowledged index, known to its leader, that the peer's log does not reach.
    told: BTreeMap<u64, (u64, u64)>,
    /// Nodes whose store has stopped and has not started again. Its other lanes may still be told.
    stopped: BTreeSet<u64>,
}

impl Losses {
    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        let told = self.told.remove(&node);
        match event {
            Event::Poisoned { .. } => drop(self.stopped.insert(node)),
            Event::Start { .. } => drop(self.stopped.remove(&node)),
            _ if self.stopped.contains(&node) => return Ok(()),
            _ => {}
        }
        match (told, event) {
            (_, Event::Note { what: "word-for-more", a: group, b: index, .. }) if told.is_none() => {
                self.told.insert(node, (*group, *index));
                Ok(())
            }
            // The store stops, or its process was ended before it could.
            (None, _) | (_, Event::Poisoned { .. } | Event::Start { .. }) => Ok(()),
            (Some((group, index)), _) => {
                let what = format!(
                    "the store continues although it acknowledged entries of group {group} up to {index} to the leader, which its \
                     log does not have"
                );
                Err(Violation::new("losses", now_ns, node, what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a store that continues is detected, a store that stops is not. Method: a few events by hand.
    use super::*;

    #[test]
    fn a_store_that_is_told() {
        let note = |what| Event::Note { store: 1, what, a: 2, b: 9, data: Default::default() };
        let mut losses = Losses::default();
        assert!(losses.observe(0, 1, &note("tick")).is_ok());
        losses.observe(1, 1, &note("word-for-more")).unwrap();
        assert!(losses.observe(2, 2, &note("tick")).is_ok(), "another node");
        assert!(losses.observe(3, 1, &Event::Poisoned { store: 1, why: "it lost something".into() }).is_ok());
        losses.observe(4, 1, &note("word-for-more")).unwrap();
        assert!(losses.observe(5, 1, &note("tick")).is_ok(), "another lane of a store that has stopped");
        let start = Event::Start { store: 1, group: 2, peer: 3, term: 5, vote: 0, commit: 5, base: 5, last_index: 5 };
        losses.observe(6, 1, &start).unwrap();
        losses.observe(7, 1, &note("word-for-more")).unwrap();
        assert!(losses.observe(8, 1, &note("tick")).is_err());
    }
}
