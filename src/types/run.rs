//! Runs of a store's process, and which of two processes that claim to be the same store is the current one.
//!
//! A data directory counts its starts. It also remembers the number and the nonce of each run that was reported to
//! others, so that a run can name its predecessors. Two runs have the same history if the later one knows the earlier
//! one's nonce. A store whose disk was replaced by an older copy counts the same numbers again, but with other nonces,
//! however often it starts.

use crate::proto::armilla::raft::Incarnation;

use super::limits::EARLIER_RUNS_MAX;

/// A run, and the runs before it on the same data directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// This run.
    pub run: Incarnation,
    /// The earlier runs that were reported to others, newest first, at most [`EARLIER_RUNS_MAX`].
    pub earlier: Vec<Incarnation>,
}

/// Returns the reason, as a sentence, why `new` cannot be the current run of a store that was last known to be `known`;
/// `None` if it can be. Compares only the numbers: see [`not_later`].
pub fn older(store: u64, known: &Incarnation, new: &Incarnation) -> Option<String> {
    if new == known || new.boot > known.boot {
        return None;
    }
    let what = if new.boot == known.boot {
        "two processes run on copies of its data directory: stop one of them for good"
    } else {
        OLDER_COPY
    };
    Some(format!(
        "store {store} was last known as start {} of its data directory, this is start {}: {what}",
        known.boot, new.boot
    ))
}

/// Returns the reason, as a sentence, why `new` is neither `known` nor a later run of the same history; `None` if it
/// is.
pub fn not_later(store: u64, known: &Incarnation, new: &History) -> Option<String> {
    let History { run, earlier } = new;
    if let Some(why) = older(store, known, run) {
        return Some(why);
    }
    // A run reports a bounded number of predecessors; `known` may be older than all of them, which cannot be checked.
    let forgotten = earlier.len() >= EARLIER_RUNS_MAX && earlier.last().is_some_and(|oldest| known.boot < oldest.boot);
    if run == known || forgotten || earlier.contains(known) {
        return None;
    }
    Some(format!(
        "store {store} was known as start {} of its data directory, but start {} does not know that run: {OLDER_COPY}",
        known.boot, run.boot
    ))
}

const OLDER_COPY: &str = "this is an older copy of its data directory, which lacks acknowledged writes: bring back the \
                          newer copy, or start a new store with an empty data directory";

#[cfg(test)]
mod tests {
    //! Goal: later runs of the same history are accepted, and an older copy is not, however often it starts. Method: by
    //! hand.
    use super::*;

    fn run(boot: u64, nonce: u64) -> Incarnation {
        Incarnation { boot, nonce }
    }

    fn history(own: Incarnation, earlier: &[Incarnation]) -> History {
        History { run: own, earlier: earlier.to_vec() }
    }

    #[test]
    fn a_later_run_knows_the_earlier_one() {
        let known = run(5, 50);
        assert_eq!(not_later(1, &known, &history(known, &[run(4, 40)])), None);
        assert_eq!(not_later(1, &known, &history(run(6, 60), &[known, run(4, 40)])), None);
        // Start 6 was reported to no other node.
        assert_eq!(not_later(1, &known, &history(run(7, 70), &[known])), None);
        let why = not_later(1, &known, &history(run(4, 40), &[])).unwrap();
        assert!(why.contains("last known as start 5") && why.contains("this is start 4"), "{why}");
        let why = not_later(1, &known, &history(run(5, 51), &[run(4, 40)])).unwrap();
        assert!(why.contains("two processes"), "{why}");
        // The older copy was brought back, ran as the fifth start again, and starts once more.
        let why = not_later(1, &known, &history(run(6, 61), &[run(5, 51), run(4, 40)])).unwrap();
        assert!(why.contains("start 6 does not know that run"), "{why}");
        assert!(not_later(1, &known, &history(run(6, 61), &[run(4, 40)])).is_some());
        assert!(not_later(1, &known, &history(run(6, 61), &[])).is_some());
    }

    #[test]
    fn what_is_too_far_back_is_trusted() {
        let earlier: Vec<_> = (0..EARLIER_RUNS_MAX as u64).map(|n| run(100 - n, n)).collect();
        let oldest = earlier.last().unwrap().boot;
        let late = history(run(101, 1), &earlier);
        assert_eq!(not_later(1, &run(oldest - 1, 9), &late), None);
        assert!(not_later(1, &run(oldest, 999), &late).is_some());
    }
}
