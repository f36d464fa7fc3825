//! A lane checks for messages within a bounded time, however much work the groups have.
//!
//! Source: a system with limits on everything stays up under load; heartbeats and votes wait for the end of a round.
//!
//! A round may start its last pass up to `ROUND_TIME_MAX` after its begin, and the pass may start work on groups for
//! another `ROUND_TIME_MAX`, both by the node's clock, which may be slow. Judged where the simulator makes turns of
//! groups slow: only those are reported.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;
use armilla::types::limits::ROUND_TIME_MAX;

use super::Violation;

/// The oracle.
#[derive(Debug, Default)]
pub struct Rounds {
    /// By store and lane: the round, and when (true ns) its first slow turn began.
    began: BTreeMap<(u64, u64), (u64, u64)>,
}

/// How long after a round's begin a turn may begin, ns: twice `ROUND_TIME_MAX` by a clock that is slow by 11 %, plus
/// two ticks of the timers.
const TURN_NS_MAX: u64 = 2 * ROUND_TIME_MAX.as_nanos() as u64 * 9 / 8 + 2_000_000;

impl Rounds {
    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        let (store, lane, round) = match *event {
            Event::Note { store, what: "slow-turn", a: lane, b: round, .. } => (store, lane, round),
            // A new process starts counting from 0.
            Event::Start { store, .. } => {
                self.began.retain(|(own, _), _| *own != store);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let began = self.began.entry((store, lane)).or_insert((round, now_ns));
        if began.0 != round {
            *began = (round, now_ns);
        }
        let after_ns = now_ns - began.1;
        if after_ns <= TURN_NS_MAX {
            return Ok(());
        }
        let what = format!(
            "lane {lane} of store {store} starts a group's turn {} ms after the first of the round, without checking for messages",
            after_ns / 1_000_000
        );
        Err(Violation::new("rounds", now_ns, node, what))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a late turn of a round is detected, a turn of the next round is not. Method: a few events by hand.
    use super::*;

    #[test]
    fn turns_of_a_round() {
        let turn =
            |lane, round| Event::Note { store: 1, what: "slow-turn", a: lane, b: round, data: Default::default() };
        let (mut rounds, ms) = (Rounds::default(), 1_000_000);
        assert!(rounds.observe(100 * ms, 1, &turn(0, 1)).is_ok());
        assert!(rounds.observe(120 * ms, 1, &turn(0, 1)).is_ok());
        assert!(rounds.observe(150 * ms, 1, &turn(0, 2)).is_ok());
        assert!(rounds.observe(150 * ms, 1, &turn(1, 1)).is_ok(), "another lane");
        assert!(rounds.observe(175 * ms, 1, &turn(0, 2)).is_err());
    }
}
