//! A lane looks for messages again after a bounded time, however much the groups have to do.
//!
//! Source: a system with limits on everything stays up under load; heartbeats and votes wait for the end of a round.
//!
//! A lane may take up groups for as long as a pass may last, from the last moment at which a round may begin a pass. Both are
//! `ROUND_TIME_MAX`, by the node's clock, which may be slow. Judged where the simulator makes turns of groups take long: only those
//! are reported.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;
use armilla::types::limits::ROUND_TIME_MAX;

use super::Violation;

/// The oracle.
#[derive(Debug, Default)]
pub struct Rounds {
    /// By store and lane: the round, and when its first slow turn began (true ns).
    began: BTreeMap<(u64, u64), (u64, u64)>,
}

/// How long after a round's begin a turn may begin, ns: two bounds by a clock that is slow by a tenth or more, and two ticks of timers.
const TURN_NS_MAX: u64 = 2 * ROUND_TIME_MAX.as_nanos() as u64 * 9 / 8 + 2_000_000;

impl Rounds {
    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        let (store, lane, round) = match *event {
            Event::Note { store, what: "slow-turn", a: lane, b: round, .. } => (store, lane, round),
            // Another process counts anew.
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
            "lane {lane} of store {store} takes up a group {} ms after the first of a round, without a look for messages",
            after_ns / 1_000_000
        );
        Err(Violation::new("rounds", now_ns, node, what))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a late turn of a round is found, one of the next round is not. Method: by hand.
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
