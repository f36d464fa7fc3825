//! A store that is told that its log lost what it had acknowledged stops, before it does anything else.
//!
//! Source: Ongaro's dissertation, section 11.7.3: a server that lost its log must not go on as the same server. A leader's heartbeat
//! tells at most what the leader has the follower's word for.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;

use super::Violation;

/// The oracle.
#[derive(Debug, Default)]
pub struct Losses {
    /// By node: the group, and up to where its leader has the peer's word for entries that its log does not hold.
    told: BTreeMap<u64, (u64, u64)>,
}

impl Losses {
    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        let told = self.told.remove(&node);
        match (told, event) {
            (_, Event::Note { what: "word-for-more", a: group, b: index, .. }) if told.is_none() => {
                self.told.insert(node, (*group, *index));
                Ok(())
            }
            // It stops, or was ended before it could.
            (None, _) | (_, Event::Poisoned { .. } | Event::Start { .. }) => Ok(()),
            (Some((group, index)), _) => {
                let what = format!(
                    "the store goes on although the leader of group {group} has its word for entries up to {index}, which its log \
                     does not hold"
                );
                Err(Violation::new("losses", now_ns, node, what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a store that goes on is found, one that stops is not. Method: by hand.
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
        assert!(losses.observe(5, 1, &note("tick")).is_err());
    }
}
