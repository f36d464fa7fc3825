//! Regions do not refuse writes for longer than the faults excuse.
//!
//! Source: Raft's election timeout (Ongaro's dissertation, chapter 9) and leadership transfer (section 3.10).
//!
//! A peer reports when it begins and when it ceases to accept proposals. For each group, the oracle sums up the time
//! during which no peer accepts proposals, as long as the faults are *plain*: nodes are dead, paused or cut off, but
//! most nodes of the group are not, and nothing else is wrong. The sum starts again when a plain fault begins or ends
//! ([`Pauses::regime`]). There is no sum during other faults (slow links and disks, lost packets, partial partitions),
//! for which no bound can be given.
//!
//! These rules are judged, by the group's sum since the last change:
//! - after a fault it stays below some election timeouts ([`Bounds::election_ns`] each): the other nodes elect a leader
//!   once;
//! - it stays below one election timeout if the only event was that a node was told to stop: the node hands over;
//! - no leader is transferred to a node that has been dead for long, and no order names such a node; a node that was
//!   away itself (paused, cut off) can know this only after its return.
//!
//! **Never**: judging by what the store knows. The nemesis reports which nodes are dead.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::probe::Event;

use super::Violation;

/// How many election rounds a loss may take. A round fails if two peers campaign at once, or a peer that lacks entries.
const ROUNDS_MAX: u64 = 4;
/// How much the start of a process and the recovery of its data may add, ns.
const START_NS: u64 = 1_000_000_000;
/// The maximum drift of a clock in either direction, thousandths.
const DRIFT_PERMILLE: u64 = 115;

/// The times that a plan's knobs allow, ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// The election timeout.
    pub election_ns: u64,
    /// How long a peer may have been silent when leadership is transferred to it.
    pub silence_ns: u64,
    /// How long a store's heartbeats may have been missing when leadership is ordered to move to it.
    pub late_ns: u64,
    /// A round trip and an fsync, with some reserve.
    pub slack_ns: u64,
}

impl Bounds {
    fn drifted(ns: u64) -> u64 {
        ns + ns * DRIFT_PERMILLE / 1000
    }

    fn pause(&self, why: Since) -> u64 {
        // A campaign begins up to half an election timeout late.
        let round = Bounds::drifted(self.election_ns * 3 / 2) + self.slack_ns;
        match why {
            Since::Fault => ROUNDS_MAX * round + START_NS,
            Since::Stop => (self.election_ns - self.election_ns * DRIFT_PERMILLE / 1000) * 9 / 10,
        }
    }
}

/// The node of a voter that was lost with its disk.
pub const NOWHERE: u64 = 0;

/// The event that started the present sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// A fault began or ended.
    Fault,
    /// A node was told to stop after a time without faults.
    Stop,
}

/// The present faults, all of them plain.
#[derive(Clone, Debug)]
struct Regime {
    since_ns: u64,
    why: Since,
    dead: BTreeSet<u64>,
}

/// The oracle.
#[derive(Debug, Default)]
pub struct Pauses {
    bounds: Bounds,
    /// By group: the nodes that have a peer of it.
    members: BTreeMap<u64, BTreeSet<u64>>,
    regime: Option<Regime>,
    /// Nodes whose process has ended and has not started again.
    gone: BTreeSet<u64>,
    /// By node that is dead, paused or cut off now: since when (true ns).
    dead: BTreeMap<u64, u64>,
    /// By node that was dead, paused or cut off: when (true ns) it came back. Messages that other nodes sent before
    /// they died may reach it only then.
    back: BTreeMap<u64, u64>,
    /// The peers that accept proposals, as (group, node).
    accepting: BTreeSet<(u64, u64)>,
    /// By group: the sum (ns), and up to when (true ns) it is complete.
    paused: BTreeMap<u64, (u64, u64)>,
    /// By newborn group: when (true ns) its first peer was born.
    born: BTreeMap<u64, u64>,
    /// The node whose disk was lost, if one was. It counts as dead for the groups that had peers there, until they have
    /// other members.
    pub lost: Option<u64>,
    /// Groups that became part of others.
    merged: BTreeSet<u64>,
    /// Groups whose members changed, and are known from a descriptor.
    changed: BTreeSet<u64>,
    /// The largest sums after a fault and after a node was told to stop, in thousandths of an election timeout.
    pub worst_permille: (u64, u64),
}

impl Pauses {
    /// Sets the bounds.
    pub fn begin(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Reports a change of the faults: the nodes that are dead, paused or cut off, or `None` if the faults are not
    /// plain.
    pub fn regime(&mut self, now_ns: u64, dead: Option<BTreeSet<u64>>) {
        let now_dead = dead.clone().unwrap_or_default();
        let back = self.dead.keys().filter(|node| !now_dead.contains(*node)).map(|node| (*node, now_ns));
        self.back.extend(back.collect::<Vec<_>>());
        self.dead.retain(|node, _| now_dead.contains(node));
        for node in &now_dead {
            self.dead.entry(*node).or_insert(now_ns);
        }
        self.regime = dead.map(|dead| Regime { since_ns: now_ns, why: Since::Fault, dead });
        self.restart(now_ns);
    }

    /// Reports that messages which a node sent while it was cut off may arrive until `until_ns` (true time). If the
    /// node is dead for another reason by then, other nodes can know this only afterwards.
    pub fn may_arrive(&mut self, node: u64, until_ns: u64) {
        if let Some(since_ns) = self.dead.get_mut(&node) {
            *since_ns = until_ns.max(*since_ns);
        }
    }

    /// Reports that a node is told to stop.
    pub fn stop(&mut self, now_ns: u64) {
        let rest_ns = 4 * Bounds::drifted(self.bounds.election_ns) + 3 * START_NS;
        let rested = |regime: &Regime| regime.dead.is_empty() && now_ns >= regime.since_ns + rest_ns;
        let whole = self.paused.keys().all(|group| self.accepting.iter().any(|(of, _)| of == group));
        if let Some(regime) = &mut self.regime {
            regime.why = if rested(regime) && whole { Since::Stop } else { Since::Fault };
            regime.since_ns = now_ns;
            self.restart(now_ns);
        }
    }

    /// Reports that a node's process has ended: none of its peers accepts proposals.
    pub fn ended(&mut self, now_ns: u64, node: u64) -> Result<(), Violation> {
        let judged = self.look(now_ns);
        self.accepting.retain(|(_, at)| *at != node);
        self.gone.insert(node);
        judged
    }

    /// Reports a group that was born by a split, or was split itself, and the nodes that have peers of it.
    pub fn born(&mut self, now_ns: u64, group: u64, nodes: BTreeSet<u64>) {
        if self.merged.contains(&group) {
            return;
        }
        self.paused.entry(group).or_insert_with(|| {
            self.born.insert(group, now_ns);
            (0, now_ns)
        });
        if !self.changed.contains(&group) {
            self.members.entry(group).or_default().extend(nodes);
        }
    }

    /// Reports a group's new voters, each by its node; [`NOWHERE`] is the node of a voter that was lost with its disk.
    pub fn members_changed(&mut self, group: u64, nodes: BTreeSet<u64>) {
        self.members.insert(group, nodes);
        self.changed.insert(group);
    }

    fn restart(&mut self, now_ns: u64) {
        self.paused.values_mut().for_each(|sum| *sum = (0, now_ns));
    }

    /// Judges one event of a node.
    pub fn observe(
        &mut self,
        now_ns: u64,
        node: u64,
        event: &Event,
        node_of: &BTreeMap<u64, u64>,
    ) -> Result<(), Violation> {
        match event {
            Event::Start { group, .. } => {
                self.gone.remove(&node);
                if !self.changed.contains(group) {
                    self.members.entry(*group).or_default().insert(node);
                }
                Ok(())
            }
            // It is decided that another group takes over its range.
            Event::Note { what: "halted" | "absorbed", a: group, .. } => {
                self.merged.insert(*group);
                self.accepting.retain(|(of, _)| of != group);
                self.paused.remove(group);
                Ok(())
            }
            Event::Accepts { group, .. } if self.merged.contains(group) => Ok(()),
            Event::Accepts { group, accepts, .. } => {
                self.paused.entry(*group).or_insert((0, now_ns));
                let judged = self.look(now_ns);
                if *accepts {
                    self.accepting.insert((*group, node));
                } else {
                    self.accepting.remove(&(*group, node));
                }
                judged
            }
            Event::Poisoned { .. } => self.ended(now_ns, node),
            Event::Transfer { group, to_store, .. } => {
                let to = node_of.get(to_store).copied().unwrap_or(0);
                let allowed_ns = Bounds::drifted(self.bounds.silence_ns) + self.bounds.slack_ns;
                self.must_live(now_ns, node, to, allowed_ns, &format!("group {group} is handed over"))
            }
            Event::Order { region, to_store, .. } => {
                let to = node_of.get(to_store).copied().unwrap_or(0);
                let allowed_ns = Bounds::drifted(self.bounds.late_ns) + self.bounds.slack_ns;
                self.must_live(now_ns, node, to, allowed_ns, &format!("region {region}'s leadership is ordered"))
            }
            _ => Ok(()),
        }
    }

    fn must_live(&self, now_ns: u64, by: u64, to: u64, allowed_ns: u64, what: &str) -> Result<(), Violation> {
        // A node always reaches itself, and what a node does while it is dead or cut off affects no other node.
        if self.regime.is_none() || by == to || self.dead.contains_key(&by) || self.lost == Some(to) {
            return Ok(());
        }
        match self.dead.get(&to) {
            Some(since_ns)
                if now_ns > self.back.get(&by).map_or(*since_ns, |back| *since_ns.max(back)) + allowed_ns =>
            {
                let gone_ms = (now_ns - since_ns) / 1_000_000;
                Err(Violation::new(
                    "pause",
                    now_ns,
                    by,
                    format!("{what} to node {to}, which has been gone for {gone_ms} ms"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Adds the time since the last call to the sums and judges them.
    pub fn look(&mut self, now_ns: u64) -> Result<(), Violation> {
        let Some(regime) = &self.regime else {
            self.restart(now_ns);
            return Ok(());
        };
        let election_ns = self.bounds.election_ns.max(1);
        for (group, (sum, upto)) in &mut self.paused {
            let lost = self.lost.filter(|_| !self.changed.contains(group));
            let is_dead = |node: &u64| regime.dead.contains(node) || lost == Some(*node) || *node == NOWHERE;
            let takes = |(of, node): &(u64, u64)| of == group && !is_dead(node);
            let members = self.members.get(group).map_or(0, BTreeSet::len);
            let lives = |node: &&u64| !is_dead(node) && !self.gone.contains(node);
            let alive = self.members.get(group).map_or(0, |members| members.iter().filter(lives).count());
            if !self.accepting.iter().any(takes) && alive * 2 > members {
                *sum += now_ns.saturating_sub(*upto);
            }
            *upto = now_ns;
            // Nobody could hand over a group that was born afterwards.
            let later = self.born.get(group).is_some_and(|born_ns| *born_ns >= regime.since_ns);
            let why = if later { Since::Fault } else { regime.why };
            let allowed_ns = self.bounds.pause(why);
            let worst = match why {
                Since::Fault => &mut self.worst_permille.0,
                Since::Stop => &mut self.worst_permille.1,
            };
            *worst = (*worst).max(*sum * 1000 / election_ns);
            if *sum > allowed_ns {
                let what = format!(
                    "group {group} accepted no writes for {} ms of the {} ms since {}, while most nodes were up; at most {} ms are allowed",
                    *sum / 1_000_000,
                    (now_ns - regime.since_ns) / 1_000_000,
                    if why == Since::Stop { "a node was told to stop" } else { "the last fault" },
                    allowed_ns / 1_000_000,
                );
                return Err(Violation::new("pause", now_ns, 0, what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a pause that nothing excuses is found, one that an election explains is not. Method: handmade events, with
    //! an election timeout of one second.
    use super::*;

    const MS: u64 = 1_000_000;

    fn pauses() -> Pauses {
        let mut pauses = Pauses::default();
        let bounds = Bounds { election_ns: 1000 * MS, silence_ns: 300 * MS, late_ns: 2000 * MS, slack_ns: 50 * MS };
        pauses.begin(bounds);
        for node in 1..=3 {
            let event =
                Event::Start { store: node, group: 7, peer: node, term: 0, vote: 0, commit: 0, base: 0, last_index: 0 };
            pauses.observe(0, node, &event, &BTreeMap::new()).unwrap();
        }
        pauses.regime(0, Some(BTreeSet::new()));
        pauses
    }

    fn accepts(pauses: &mut Pauses, at_ms: u64, node: u64, accepts: bool) -> bool {
        let event = Event::Accepts { store: node, group: 7, peer: node, term: 1, accepts };
        pauses.observe(at_ms * MS, node, &event, &BTreeMap::new()).is_ok()
    }

    #[test]
    fn an_election_is_excused_and_pauses_without_end_are_not() {
        let mut pauses = pauses();
        assert!(accepts(&mut pauses, 100, 1, true));
        pauses.regime(1000 * MS, Some([1].into()));
        pauses.ended(1000 * MS, 1).unwrap();
        assert!(accepts(&mut pauses, 2500, 2, true), "an election");
        // The new leader stops accepting proposals again and again; no single pause is long.
        let mut at = 3000;
        let found = std::iter::repeat_with(|| {
            at += 1000;
            !accepts(&mut pauses, at - 800, 2, false) || !accepts(&mut pauses, at, 2, true)
        });
        assert!(found.take(12).any(|found| found));
    }

    #[test]
    fn a_stop_must_hand_over() {
        let judge = |pause_ms: u64| {
            let mut pauses = pauses();
            assert!(accepts(&mut pauses, 100, 1, true));
            pauses.stop(9000 * MS);
            assert!(accepts(&mut pauses, 9010, 1, false));
            accepts(&mut pauses, 9010 + pause_ms, 2, true)
        };
        assert!(judge(100) && !judge(900));
    }

    #[test]
    fn nobody_hands_over_to_the_dead() {
        let mut pauses = pauses();
        let node_of = BTreeMap::from([(12, 2)]);
        let transfer = Event::Transfer { store: 11, group: 7, peer: 1, to_store: 12 };
        let order = Event::Order { store: 11, region: 7, to_store: 12 };
        assert!(pauses.observe(MS, 1, &transfer, &node_of).is_ok());
        pauses.regime(1000 * MS, Some([2].into()));
        assert!(pauses.observe(1300 * MS, 1, &transfer, &node_of).is_ok(), "it could not know yet");
        assert!(pauses.observe(1500 * MS, 1, &transfer, &node_of).is_err());
        assert!(pauses.observe(1500 * MS, 1, &order, &node_of).is_ok());
        assert!(pauses.observe(3400 * MS, 1, &order, &node_of).is_err());
        // A node that was away itself receives earlier messages only now.
        pauses.regime(3500 * MS, Some([1, 2].into()));
        pauses.regime(4500 * MS, Some([2].into()));
        assert!(pauses.observe(4700 * MS, 1, &order, &node_of).is_ok());
        assert!(pauses.observe(6900 * MS, 1, &order, &node_of).is_err());
        // Messages that a node sent before it was paused arrive once the earlier partition is healed.
        pauses.may_arrive(2, 8000 * MS);
        assert!(pauses.observe(9900 * MS, 1, &order, &node_of).is_ok());
        assert!(pauses.observe(10_400 * MS, 1, &order, &node_of).is_err());
        pauses.regime(7000 * MS, None);
        assert!(pauses.observe(9000 * MS, 1, &order, &node_of).is_ok(), "the faults are not plain");
    }

    #[test]
    fn other_faults_and_a_lost_majority_excuse() {
        for faults in [None, Some(BTreeSet::from([1, 2]))] {
            let mut pauses = pauses();
            assert!(accepts(&mut pauses, 100, 1, true) && accepts(&mut pauses, 200, 1, false));
            pauses.regime(300 * MS, faults);
            assert!(pauses.look(60_000 * MS).is_ok());
            pauses.regime(60_000 * MS, Some(BTreeSet::new()));
            assert!(pauses.look(62_000 * MS).is_ok() && pauses.look(90_000 * MS).is_err());
        }
    }
}
