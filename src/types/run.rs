//! Runs of a store's process, and which of two that claim to be one store is the living one.
//!
//! A data directory counts its starts, and remembers the runs that were told to others: number and nonce of each. So a run names its
//! predecessors. Two runs belong to one history if the later one knows the earlier one by its nonce. A store whose disk was replaced
//! by an older copy counts the same numbers again, with other nonces, however often it starts.

use crate::proto::armilla::raft::Incarnation;

use super::limits::EARLIER_RUNS_MAX;

/// A run, and those before it on the same data directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// This run.
    pub run: Incarnation,
    /// The ones before it that were told to others, the newest first, at most [`EARLIER_RUNS_MAX`].
    pub earlier: Vec<Incarnation>,
}

/// Why `new` is not the living run of a store of which `known` was heard, as a sentence; nothing if it may be. Only numbers are
/// compared: see [`not_later`].
pub fn older(store: u64, known: &Incarnation, new: &Incarnation) -> Option<String> {
    if new == known || new.boot > known.boot {
        return None;
    }
    let what = if new.boot == known.boot {
        "two processes run with copies of its data directory: stop one of them, for good"
    } else {
        OLDER_COPY
    };
    Some(format!(
        "store {store} was last heard as start {} of its data directory, this is start {}: {what}",
        known.boot, new.boot
    ))
}

/// Why `new` is neither `known` nor a later run of the same history, as a sentence; nothing if it is.
pub fn not_later(store: u64, known: &Incarnation, new: &History) -> Option<String> {
    let History { run, earlier } = new;
    if let Some(why) = older(store, known, run) {
        return Some(why);
    }
    // What is further back than a run can tell of is taken on trust.
    let forgotten = earlier.len() >= EARLIER_RUNS_MAX && earlier.last().is_some_and(|oldest| known.boot < oldest.boot);
    if run == known || forgotten || earlier.contains(known) {
        return None;
    }
    Some(format!(
        "store {store} was heard as start {} of its data directory, of which start {} of it does not know: {OLDER_COPY}",
        known.boot, run.boot
    ))
}

const OLDER_COPY: &str = "this is an older copy of its data directory, which lacks what the store has acknowledged since: bring the \
                          newer one back, or start with an empty data directory as a new store";

#[cfg(test)]
mod tests {
    //! Goal: a history goes on, an older copy does not become a part of it by starting often. Method: by hand.
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
        // Start 6 told nobody.
        assert_eq!(not_later(1, &known, &history(run(7, 70), &[known])), None);
        let why = not_later(1, &known, &history(run(4, 40), &[])).unwrap();
        assert!(why.contains("last heard as start 5") && why.contains("this is start 4"), "{why}");
        let why = not_later(1, &known, &history(run(5, 51), &[run(4, 40)])).unwrap();
        assert!(why.contains("two processes"), "{why}");
        // The copy was brought back, ran as the fifth start again, and starts once more.
        let why = not_later(1, &known, &history(run(6, 61), &[run(5, 51), run(4, 40)])).unwrap();
        assert!(why.contains("start 6 of it does not know"), "{why}");
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
