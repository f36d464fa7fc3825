//! A slow engine or disk may cost only its own store its leaders: all other groups keep their leaders.
//!
//! Source: none in the literature; a slow store that makes leaders of other stores move slows down a whole cluster.
//!
//! Judged while, for at least some election timeouts, nothing but slow engines and disks has been wrong, on less than
//! half of the nodes: a leader steps down if most others answer nothing, as stores do whose disk completes no write.
//! The placement driver may always order a leader to hand over.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::probe::Event;

use super::Violation;

/// How many election timeouts earlier faults may still have an effect.
const SETTLE_ELECTIONS: u64 = 10;
/// Added to that for the start of processes, ns.
const SETTLE_NS: u64 = 5_000_000_000;

/// The oracle.
#[derive(Debug, Default)]
pub struct Leaders {
    election_ns: u64,
    nodes: usize,
    /// Since when (true ns) nothing else is wrong, and the slow nodes.
    slow: Option<(u64, BTreeSet<u64>)>,
    /// By group: the node whose peer accepts proposals.
    led_by: BTreeMap<u64, u64>,
    /// By group: when (true ns) an order to hand it over was last given.
    ordered: BTreeMap<u64, u64>,
}

impl Leaders {
    /// Sets the plan's election timeout, ns, and the number of nodes.
    pub fn begin(&mut self, election_ns: u64, nodes: usize) {
        (self.election_ns, self.nodes) = (election_ns, nodes);
    }

    /// Reports a change of the faults: the slow nodes if nothing else is wrong, or `None` if something else is.
    pub fn judge(&mut self, now_ns: u64, slow: Option<BTreeSet<u64>>) {
        self.slow = slow.map(|nodes| match self.slow.take() {
            // A node that was slow a moment ago may still hand over, so removing one starts the wait again.
            Some((since_ns, before)) if nodes.is_superset(&before) => (since_ns, nodes),
            _ => (now_ns, nodes),
        });
    }

    /// Reports that a node's process died, and with it its leaders.
    pub fn died(&mut self, node: u64) {
        self.led_by.retain(|_, leader| *leader != node);
    }

    fn settle_ns(&self) -> u64 {
        SETTLE_ELECTIONS * self.election_ns + SETTLE_NS
    }

    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        match *event {
            Event::Order { region, .. } => drop(self.ordered.insert(region, now_ns)),
            // A process started or ended: the wait starts again.
            Event::Start { .. } | Event::Poisoned { .. } => {
                self.died(node);
                if let Some((since_ns, _)) = &mut self.slow {
                    *since_ns = now_ns;
                }
            }
            Event::Accepts { group, accepts: true, .. } => {
                let before = self.led_by.insert(group, node).filter(|before| *before != node);
                return before
                    .map_or(Ok(()), |before| self.check(now_ns, before, group, "has a new leader instead of the one"));
            }
            Event::Accepts { group, accepts: false, .. } if self.led_by.get(&group) == Some(&node) => {
                self.led_by.remove(&group);
                return self.check(now_ns, node, group, "lost its leader");
            }
            Event::Transfer { group, .. } => return self.check(now_ns, node, group, "is transferred from its leader"),
            _ => {}
        }
        Ok(())
    }

    fn check(&self, now_ns: u64, leader: u64, group: u64, what: &str) -> Result<(), Violation> {
        let settle_ns = self.settle_ns();
        let judged = |(since_ns, slow): &&(u64, BTreeSet<u64>)| {
            let few = !slow.is_empty() && 2 * slow.len() < self.nodes;
            now_ns >= since_ns + settle_ns && few && !slow.contains(&leader)
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
    //! Goal: a leader that moves is found if its node is not slow and the move was not ordered. Method: handmade
    //! events.
    use super::*;

    #[test]
    fn whose_leaders_may_move() {
        let leader = Event::Accepts { store: 1, group: 7, peer: 1, term: 1, accepts: true };
        let ends = Event::Accepts { store: 1, group: 7, peer: 1, term: 1, accepts: false };
        let second = 1_000_000_000;
        let mut leaders = Leaders::default();
        leaders.begin(second, 5);
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
        assert!(leaders.observe(90 * second, 1, &ends).is_err(), "even without a new leader");
        assert!(leaders.observe(91 * second, 3, &leader).is_ok(), "it was lost already");
        leaders.died(3);
        assert!(leaders.observe(92 * second, 1, &leader).is_ok(), "its node died");
    }
}
