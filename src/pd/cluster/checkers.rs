//! Checkers that are paused for a while, under the names that PD gives them.
//!
//! PD looks at regions with several checkers, Armilla with one function each for replicas and merges. A pause stops the
//! part that a checker stands for; what has begun is finished. It is not replicated: as PD's, it ends when another
//! member leads. **Never**: a pause without an end.

use std::collections::BTreeMap;

use super::Cluster;

/// A checker of PD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checker {
    /// Makes learners voters. Armilla's replicas become voters in [`Checker::Rule`].
    Learner,
    /// Replaces replicas where there are no placement rules.
    Replica,
    /// Replaces replicas as the placement rule says.
    Rule,
    /// Splits regions at the boundaries of placement rules. Armilla's one rule has none.
    Split,
    /// Merges regions with little data.
    Merge,
    /// Ends joint memberships. Armilla's leaders do so themselves.
    JointState,
}

impl Checker {
    /// All checkers.
    pub const ALL: [Checker; 6] =
        [Checker::Learner, Checker::Replica, Checker::Rule, Checker::Split, Checker::Merge, Checker::JointState];

    /// Returns PD's name of the checker.
    pub fn name(self) -> &'static str {
        match self {
            Checker::Learner => "learner",
            Checker::Replica => "replica",
            Checker::Rule => "rule",
            Checker::Split => "split",
            Checker::Merge => "merge",
            Checker::JointState => "joint-state",
        }
    }
}

/// Checkers, and when their pauses end (ms of the leader's clock).
pub(super) type Pauses = BTreeMap<Checker, u64>;

impl Cluster {
    /// Pauses a checker until `until_ms`; a time that has passed ends its pause.
    pub fn pause_checker(&mut self, checker: Checker, until_ms: u64) {
        self.paused.insert(checker, until_ms);
    }

    /// Returns the checkers that are paused.
    pub fn paused_checkers(&self, now_ms: u64) -> Vec<Checker> {
        Checker::ALL.into_iter().filter(|checker| self.is_paused(*checker, now_ms)).collect()
    }

    /// Returns whether a checker is paused.
    pub(super) fn is_paused(&self, checker: Checker, now_ms: u64) -> bool {
        self.paused.get(&checker).is_some_and(|until_ms| now_ms < *until_ms)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a paused checker begins nothing until its pause ends. Method: a region without one of its replicas.
    use super::*;
    use crate::pd::cluster::ClusterOptions;
    use crate::pd::cluster::tests::{SETTLED_MS, heard, region, state};
    use crate::types::version;

    #[test]
    fn a_pause_ends() {
        let state = state(vec![region(20, "", "", &[1, 2])], version::PROTOCOL);
        let mut cluster = heard(&state, ClusterOptions::default());
        let needs = |cluster: &mut Cluster, now_ms| cluster.peers_orders(&state, 1, now_ms).1.len();
        cluster.pause_checker(Checker::Rule, SETTLED_MS + 500);
        cluster.pause_checker(Checker::Merge, SETTLED_MS);
        assert_eq!(cluster.paused_checkers(SETTLED_MS), [Checker::Rule]);
        assert_eq!(needs(&mut cluster, SETTLED_MS), 0);
        assert_eq!(needs(&mut cluster, SETTLED_MS + 500), 1);
        cluster.pause_checker(Checker::Rule, u64::MAX);
        cluster.pause_checker(Checker::Rule, 0);
        assert_eq!(needs(&mut cluster, SETTLED_MS + 500), 1);
    }
}
