//! A newborn region gets a leader almost at once: the peer beside its parent's leader campaigns when it is born.
//!
//! Source: none in the literature; keys that change their region should be unavailable for a few round trips, not for
//! an election timeout.
//!
//! Judged while nothing has been wrong for some election timeouts: then all stores apply the split within a round trip.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::probe::Event;

use super::Violation;

/// How many election timeouts earlier faults may still have an effect.
const SETTLE_ELECTIONS: u64 = 4;
/// Added to that for the start of processes, ns.
const SETTLE_NS: u64 = 3_000_000_000;

/// The oracle.
#[derive(Debug, Default)]
pub struct Births {
    election_ns: u64,
    slack_ns: u64,
    /// Since when (true ns) nothing is wrong.
    quiet_since_ns: Option<u64>,
    /// By region without a leader: when (true ns) a peer of it was born that campaigns, and its node.
    waiting: BTreeMap<u64, (u64, u64)>,
    /// Regions that have had a leader. Where an old leader of the parent applies the split late, its peer of the
    /// newborn campaigns in vain.
    led: BTreeSet<u64>,
    /// The number of judged births.
    pub judged: u64,
}

impl Births {
    /// Sets the plan's election timeout, and the duration of some round trips and fsyncs, ns.
    pub fn begin(&mut self, election_ns: u64, slack_ns: u64) {
        (self.election_ns, self.slack_ns) = (election_ns, slack_ns);
    }

    /// Reports a change of the faults, or that a node is told to stop. With `quiet`, nothing is wrong from now on.
    pub fn judge(&mut self, now_ns: u64, quiet: bool) {
        self.quiet_since_ns = quiet.then_some(now_ns);
        self.waiting.clear();
    }

    /// Reports a change of the faults: the nodes that are dead, or `None` if something else is wrong.
    pub fn regime(&mut self, now_ns: u64, dead: Option<&BTreeSet<u64>>) {
        self.judge(now_ns, dead.is_some_and(BTreeSet::is_empty));
    }

    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Note { what: "born", a: group, b: 1, .. } => {
                let rest_ns = SETTLE_ELECTIONS * self.election_ns + SETTLE_NS;
                if self.quiet_since_ns.is_some_and(|since_ns| now_ns >= since_ns + rest_ns) && !self.led.contains(group)
                {
                    self.judged += 1;
                    self.waiting.insert(*group, (now_ns, node));
                }
            }
            Event::Note { what: "halted" | "absorbed", a: group, .. } | Event::Accepts { group, accepts: true, .. } => {
                self.led.insert(*group);
                self.waiting.remove(group);
            }
            Event::Poisoned { .. } => self.judge(now_ns, self.quiet_since_ns.is_some()),
            _ => {}
        }
        // Before the first peer that does not campaign at once may do so.
        let bound_ns = self.election_ns * 8 / 10 + self.slack_ns;
        let late = self.waiting.iter().find(|(_, (since_ns, _))| now_ns > since_ns + bound_ns);
        let Some((group, (since_ns, born))) = late else { return Ok(()) };
        let what = format!(
            "region {group} was born {} ms ago beside its parent's leader and still has none, although nothing is wrong",
            (now_ns - since_ns) / 1_000_000
        );
        Err(Violation::new("births", now_ns, *born, what))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a newborn without a leader is found, unless a fault explains it. Method: handmade events.
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn judge(quiet_at: u64, events: &[(u64, Event)]) -> bool {
        let mut births = Births::default();
        births.begin(SECOND, 0);
        births.judge(quiet_at, true);
        events.iter().all(|(at, event)| births.observe(*at, 1, event).is_ok())
    }

    #[test]
    fn a_newborn_without_a_leader() {
        let born = Event::Note { store: 1, what: "born", a: 7, b: 1, data: Default::default() };
        let tick = Event::Note { store: 1, what: "tick", a: 0, b: 0, data: Default::default() };
        let leads = Event::Accepts { store: 2, group: 7, peer: 2, term: 6, accepts: true };
        assert!(!judge(0, &[(10 * SECOND, born.clone()), (11 * SECOND, tick.clone())]));
        assert!(judge(0, &[(10 * SECOND, born.clone()), (10 * SECOND + 1, leads), (11 * SECOND, tick.clone())]));
        assert!(judge(5 * SECOND, &[(10 * SECOND, born), (11 * SECOND, tick)]), "a fault ended a moment ago");
    }
}
