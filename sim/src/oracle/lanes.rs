//! A store whose engine makes writers or readers wait continues with everything else: each of its lanes handles ticks.
//!
//! Source: none in the literature; a lane that waits costs every group that it drives its leader.
//!
//! Judged while the engine of a node stalls or reads slowly from the disk, and nothing else is wrong with the node's
//! processor and log. Turns that the simulator makes slow do not count.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::probe::Event;

use super::Violation;

/// How long a slow turn may take by the fastest clock, ns.
const SLOW_TURN_NS: u64 = 15_000_000;

/// The oracle.
#[derive(Debug, Default)]
pub struct Lanes {
    /// The longest time between two ticks of a lane, ns (true time).
    bound_ns: u64,
    /// By node: the lanes that have ticked since the node's start.
    lanes: BTreeMap<u64, BTreeSet<u64>>,
    /// By judged node and lane: when (true ns) the last tick was handled, or judging began.
    last: BTreeMap<(u64, u64), u64>,
}

impl Lanes {
    /// Sets the plan's tick, ns.
    pub fn begin(&mut self, tick_ns: u64) {
        self.bound_ns = 1_000_000_000 + 10 * tick_ns;
    }

    /// Judges these nodes from now on. The value is when the calls that a node made while its disk was slow have
    /// returned (true ns); the node is not judged before.
    pub fn judge(&mut self, now_ns: u64, nodes: &BTreeMap<u64, u64>) -> Result<(), Violation> {
        let judged = self.last.iter().try_for_each(|(at, last_ns)| self.check(now_ns, *at, *last_ns));
        self.last.retain(|(node, _), _| nodes.contains_key(node));
        for (node, calls_end_ns) in nodes {
            for lane in self.lanes.get(node).into_iter().flatten() {
                self.last.entry((*node, *lane)).or_insert(now_ns.max(*calls_end_ns));
            }
        }
        judged
    }

    /// Reports that a node's process died. The next one may have fewer lanes.
    pub fn died(&mut self, node: u64) {
        self.lanes.remove(&node);
        self.last.retain(|(of, _), _| *of != node);
    }

    fn check(&self, now_ns: u64, (node, lane): (u64, u64), last_ns: u64) -> Result<(), Violation> {
        let gap_ns = now_ns.saturating_sub(last_ns);
        if gap_ns <= self.bound_ns {
            return Ok(());
        }
        let what = format!("lane {lane} handled no tick for {} ms while its engine was slow", gap_ns / 1_000_000);
        Err(Violation::new("lanes", now_ns, node, what))
    }

    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        let lane = match event {
            // A turn of a group that takes long, as on a busy core.
            Event::Note { what: "slow-turn", a: lane, .. } => {
                if let Some(last_ns) = self.last.get_mut(&(node, *lane)) {
                    *last_ns += SLOW_TURN_NS;
                }
                return Ok(());
            }
            Event::Note { what: "tick", b, .. } => *b,
            // The store stops or starts: it is judged again when the faults change.
            Event::Poisoned { .. } | Event::Start { .. } => {
                self.died(node);
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.lanes.entry(node).or_default().insert(lane);
        let Some(last_ns) = self.last.get(&(node, lane)).copied() else { return Ok(()) };
        self.last.insert((node, lane), last_ns.max(now_ns));
        self.check(now_ns, (node, lane), last_ns)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a lane that waits is found, one that ticks is not. Method: handmade events.
    use super::*;

    #[test]
    fn a_gap_between_ticks_is_found() {
        let tick = Event::Note { store: 1, what: "tick", a: 0, b: 0, data: Default::default() };
        let mut lanes = Lanes::default();
        lanes.begin(100_000_000);
        let second = 1_000_000_000;
        assert!(lanes.observe(0, 1, &tick).is_ok());
        assert!(lanes.observe(90 * second, 1, &tick).is_ok(), "not judged");
        lanes.judge(100 * second, &[(1, 0)].into()).unwrap();
        assert!(lanes.observe(102 * second, 1, &tick).is_ok());
        assert!(lanes.observe(105 * second, 1, &tick).is_err());
        assert!(lanes.observe(106 * second, 1, &tick).is_ok());
        assert!(lanes.judge(109 * second, &[].into()).is_err(), "the stall ends without a tick");
        assert!(lanes.observe(200 * second, 1, &tick).is_ok());
        lanes.judge(300 * second, &[(1, 305 * second)].into()).unwrap();
        assert!(lanes.observe(306 * second, 1, &tick).is_ok(), "its disk was slow before");
    }

    #[test]
    fn one_lane_does_not_tick_for_another() {
        let tick = |lane| Event::Note { store: 1, what: "tick", a: 0, b: lane, data: Default::default() };
        let (mut lanes, second) = (Lanes::default(), 1_000_000_000);
        lanes.begin(100_000_000);
        assert!([0, 1].iter().all(|lane| lanes.observe(0, 1, &tick(*lane)).is_ok()));
        lanes.judge(second, &[(1, 0)].into()).unwrap();
        assert!((1..=4).all(|at| lanes.observe(at * second, 1, &tick(0)).is_ok()));
        let found = lanes.observe(5 * second, 1, &tick(1)).unwrap_err();
        assert!(found.what.contains("lane 1"), "{}", found.what);
    }
}
