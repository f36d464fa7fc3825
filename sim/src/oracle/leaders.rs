//! A slow engine or disk costs its own store its leaders at most: groups that others lead go on under them.
//!
//! Source: none in the literature; one slow store that moves leaders elsewhere makes a whole cluster slow.
//!
//! Judged while nothing is wrong but slow engines and disks, and was not for some election timeouts. A leader may always be handed
//! over by an order of the placement driver.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::probe::Event;

use super::Violation;

/// Election timeouts after which what was wrong before has no effect any more.
const SETTLE_ELECTIONS: u64 = 10;
/// What starting processes adds to that, ns.
const SETTLE_NS: u64 = 5_000_000_000;

/// The oracle.
#[derive(Debug, Default)]
pub struct Leaders {
    election_ns: u64,
    /// Slow nodes, and since when (true ns) nothing else is wrong.
    slow: Option<(u64, BTreeSet<u64>)>,
    /// By group: the node whose peer takes proposals, and when an order to hand it over was last given.
    led_by: BTreeMap<u64, u64>,
    ordered: BTreeMap<u64, u64>,
}

impl Leaders {
    /// Judges by the plan's election timeout, ns.
    pub fn begin(&mut self, election_ns: u64) {
        self.election_ns = election_ns;
    }

    /// From now on nothing is wrong but that these nodes are slow; or something else is.
    pub fn judge(&mut self, now_ns: u64, slow: Option<BTreeSet<u64>>) {
        self.slow = slow.map(|nodes| match self.slow.take() {
            // One that was slow a moment ago may still hand over.
            Some((since_ns, before)) if nodes.is_superset(&before) => (since_ns, nodes),
            _ => (now_ns, nodes),
        });
    }

    fn settle_ns(&self) -> u64 {
        SETTLE_ELECTIONS * self.election_ns + SETTLE_NS
    }

    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        match *event {
            Event::Order { region, .. } => drop(self.ordered.insert(region, now_ns)),
            // A process came up, or ended: what was before counts no more.
            Event::Start { .. } | Event::Poisoned { .. } => {
                if let Some((since_ns, _)) = &mut self.slow {
                    *since_ns = now_ns;
                }
            }
            Event::Accepts { group, accepts: true, .. } => {
                let before = self.led_by.insert(group, node).filter(|before| *before != node);
                return before
                    .map_or(Ok(()), |before| self.check(now_ns, before, group, "has another leader than the one"));
            }
            Event::Accepts { group, accepts: false, .. } if self.led_by.get(&group) == Some(&node) => {
                self.led_by.remove(&group);
                return self.check(now_ns, node, group, "lost its leader");
            }
            Event::Transfer { group, .. } => return self.check(now_ns, node, group, "is handed over"),
            _ => {}
        }
        Ok(())
    }

    fn check(&self, now_ns: u64, leader: u64, group: u64, what: &str) -> Result<(), Violation> {
        let settle_ns = self.settle_ns();
        let judged = |(since_ns, slow): &&(u64, BTreeSet<u64>)| {
            now_ns >= since_ns + settle_ns && !slow.is_empty() && !slow.contains(&leader)
        };
        let Some((_, slow)) = self.slow.as_ref().filter(judged) else { return Ok(()) };
        if self.ordered.get(&group).is_some_and(|at_ns| now_ns < at_ns + settle_ns) {
            return Ok(());
        }
        let what = format!("group {group} {what} on node {leader} although only nodes {slow:?} are slow");
        Err(Violation::new("leaders", now_ns, leader, what))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a leader that moves is found, if it is another's than the slow node's and nobody ordered it. Method: by hand.
    use super::*;

    #[test]
    fn whose_leaders_may_move() {
        let leader = Event::Accepts { store: 1, group: 7, peer: 1, term: 1, accepts: true };
        let ends = Event::Accepts { store: 1, group: 7, peer: 1, term: 1, accepts: false };
        let second = 1_000_000_000;
        let mut leaders = Leaders::default();
        leaders.begin(second);
        leaders.observe(0, 1, &leader).unwrap();
        leaders.judge(0, Some([2].into()));
        leaders.observe(10 * second, 3, &leader).unwrap();
        assert!(leaders.observe(20 * second, 1, &leader).is_err(), "node 3 is not slow");
        leaders.judge(21 * second, Some([2, 1].into()));
        assert!(leaders.observe(22 * second, 3, &leader).is_ok(), "node 1 is slow");
        leaders.observe(30 * second, 3, &Event::Order { store: 1, region: 7, to_store: 1 }).unwrap();
        assert!(leaders.observe(31 * second, 2, &leader).is_ok(), "it was ordered");
        leaders.judge(40 * second, None);
        assert!(leaders.observe(60 * second, 1, &leader).is_ok());
        leaders.judge(70 * second, Some([2].into()));
        assert!(leaders.observe(90 * second, 1, &ends).is_err(), "nobody need follow");
        assert!(leaders.observe(91 * second, 3, &leader).is_ok(), "it was lost already");
    }
}
