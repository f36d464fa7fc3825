//! Detects that this node's clock stood still: a machine that was suspended together with its clock notices it by the
//! clocks of other stores.
//!
//! **In** comes the time that a sender's clock showed when it sent a message, and the time that this node's clock
//! shows; **out** goes the time that this node's clock lost. A message that was long in transit makes the sender's
//! clock look late, never early, so each message is compared with the recent one whose sender's clock looked earliest.
//! **Never**: a verdict on the sender's clock, or one based on the wall clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::rt::clock::Instant;
use crate::types::limits::CLOCK_DRIFT_PERMILLE;

/// The duration of one comparison window, after which a new one begins, because drift adds up.
const WINDOW_NS: u64 = 5_000_000_000;
/// A loss of time up to this, in addition to drift, is ignored.
const LOST_NS_MIN: u64 = 50_000_000;

/// The times that two clocks showed at about the same moment.
#[derive(Clone, Copy, Debug)]
struct Pair {
    theirs_ns: u64,
    ours_ns: u64,
}

impl Pair {
    /// Returns how much further the sender's clock advanced than this node's since `before`, in nanoseconds.
    fn ahead_of(&self, before: &Pair) -> i128 {
        i128::from(self.theirs_ns)
            - i128::from(before.theirs_ns)
            - (i128::from(self.ours_ns) - i128::from(before.ours_ns))
    }
}

#[derive(Clone, Copy, Debug)]
struct Compared {
    /// The nonce of the sender's run.
    nonce: u64,
    /// The pair to compare with, and the pair that looked earliest since the window began.
    before: Pair,
    best: Pair,
    since_ns: u64,
}

/// The clocks of other stores, by store ID.
#[derive(Debug, Default)]
pub(super) struct Clocks(BTreeMap<u64, Compared>);

impl Clocks {
    /// Handles the arrival of a message that a store's run (`nonce`) sent when its clock showed `theirs_ns`. Returns
    /// the time that this node's clock lost since the last messages, if it lost any.
    pub fn hear(&mut self, store: u64, nonce: u64, theirs_ns: u64, now: Instant) -> Option<Duration> {
        let pair = Pair { theirs_ns, ours_ns: now.0 };
        let begin = Compared { nonce, before: pair, best: pair, since_ns: now.0 };
        let of = self.0.entry(store).or_insert(begin);
        if of.nonce != nonce {
            *of = begin;
            return None;
        }
        let gone_ns = now.0.saturating_sub(of.before.ours_ns);
        let lost_ns = pair.ahead_of(&of.before);
        let drift_ns = 2 * gone_ns * CLOCK_DRIFT_PERMILLE / 1000;
        if lost_ns > i128::from(LOST_NS_MIN + drift_ns) {
            *of = begin;
            return Some(Duration::from_nanos(u64::try_from(lost_ns).unwrap_or(u64::MAX)));
        }
        if pair.ahead_of(&of.best) >= 0 {
            of.best = pair;
        }
        if now.0 >= of.since_ns + WINDOW_NS {
            (of.before, of.best, of.since_ns) = (of.best, pair, now.0);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    //! Goal: lost time is detected by the first message, and nothing else is mistaken for it. Method: by hand.
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_clock_that_stood_still_is_seen() {
        let mut clocks = Clocks::default();
        let mut hear = |theirs_ms: u64, ours_ms: u64| clocks.hear(2, 7, theirs_ms * MS, Instant(ours_ms * MS));
        assert_eq!(hear(1000, 50_000), None);
        assert_eq!(hear(1100, 50_100), None);
        assert_eq!(hear(1200, 52_200), None, "it was long on its way");
        assert_eq!(hear(3300, 52_301), None, "as soon as usual again");
        assert_eq!(hear(9300, 52_401), Some(Duration::from_millis(5899)));
        assert_eq!(hear(9400, 52_501), None, "once");
    }

    #[test]
    fn drift_and_restarts_are_none() {
        let mut clocks = Clocks::default();
        for second in 1..100 {
            let now = Instant(second * 1000 * MS);
            assert_eq!(clocks.hear(2, 7, second * 1200 * MS, now), None, "a fast clock, after {second} s");
        }
        assert_eq!(clocks.hear(2, 8, 900_000 * MS, Instant(101_000 * MS)), None, "another run's clock");
        assert_eq!(clocks.hear(3, 7, 5 * MS, Instant(101_000 * MS)), None);
    }
}
