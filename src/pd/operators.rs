//! Operators: the moves of leaders and replicas, and the splits that people asked for, with their outcomes.
//!
//! **In** come the moves that the leader's view of the cluster has open, splits that were asked for, and the question
//! whether a move has reached its goal. **Out** go the operators that are running and those that have ended lately, for
//! people to look at. Only the leader keeps them, and they are never replicated: a new leader starts without any.
//! **Never**: an operator that counts as carried out because it is no longer open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::types::limits::{OPERATORS_ENDED_MAX, REPLICAS_MAX};

/// How long an operator that has ended is kept, in milliseconds.
const KEPT_MS: u64 = 10 * 60 * 1000;
/// How long a split may take before it counts as failed, in milliseconds.
const SPLIT_MS: u64 = 60 * 1000;

/// How long a scatter may take before it counts as failed, in milliseconds.
const SCATTER_MS: u64 = 3 * 60 * 1000;

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes the region's peer on another store its leader.
    TransferLeader {
        /// The leader's store at the time of the order.
        from: u64,
        /// The store that is to lead.
        to: u64,
    },
    /// Moves a replica to another store.
    MovePeer {
        /// The store that gives up its replica.
        from: u64,
        /// The store that gets one.
        to: u64,
    },
    /// Adds a replica.
    AddPeer {
        /// The store that gets one.
        to: u64,
    },
    /// Removes a replica.
    RemovePeer {
        /// The store that gives it up.
        from: u64,
    },
    /// Moves a region's replicas to some stores.
    Place {
        /// The stores, ascending, then zeros.
        stores: [u64; REPLICAS_MAX as usize],
        /// The store that is to lead it.
        leader: Option<u64>,
    },
    /// Makes a region part of its neighbour. Both have this operator, as in PD: that of the region that ends is
    /// cancelled with it.
    Merge {
        /// The region that ends.
        source: u64,
        /// The neighbour.
        target: u64,
    },
    /// Spreads regions that a client has just split.
    Scatter {
        /// The store that is to lead the region.
        leader: u64,
        /// The store that gives up a replica, and the one that gets it.
        moved: Option<(u64, u64)>,
    },
    /// Splits a region.
    Split {
        /// The region's version before the split.
        version: u64,
    },
}

/// Returns stores in the form of [`Action::Place`]. There are at most [`REPLICAS_MAX`].
pub fn placed(stores: &BTreeSet<u64>) -> [u64; REPLICAS_MAX as usize] {
    let mut placed = [0; REPLICAS_MAX as usize];
    placed.iter_mut().zip(stores).for_each(|(place, store)| *place = *store);
    placed
}

/// How an operator ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Success,
    /// It was taken back, or the cluster changed so that it no longer applied.
    Canceled,
    /// It was not carried out in time.
    Timeout,
}

/// One operator. Times are unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The region's ID.
    pub region: u64,
    /// What it does.
    pub action: Action,
    /// Whether a person asked for it; otherwise the scheduler did.
    pub by_admin: bool,
    /// The region's version and configuration version when the operator began.
    pub epoch: (u64, u64),
    /// When it began.
    pub begun_ms: u64,
    /// When and how it ended, if it has.
    pub ended: Option<(u64, Outcome)>,
}

/// The operators of one leadership.
#[derive(Debug, Default)]
pub struct Operators {
    /// The running one of each region.
    running: BTreeMap<u64, Operator>,
    /// In the order in which they ended.
    ended: VecDeque<Operator>,
}

impl Operators {
    /// Notes an operator that a person asked for, in place of the one that the region may have.
    pub fn begin(&mut self, operator: Operator) {
        // The order may have been seen as the scheduler's a moment ago.
        if self.running.get(&operator.region).is_none_or(|other| other.action != operator.action) {
            self.end(operator.region, operator.begun_ms, Outcome::Canceled);
        }
        self.running.insert(operator.region, operator);
    }

    /// Compares with what is `open` now: begins operators for moves that the scheduler has ordered, and ends those that
    /// are over. `reached` returns whether an operator has reached its goal.
    pub fn observe(&mut self, open: &[Operator], now_ms: u64, reached: impl Fn(&Operator) -> bool) {
        let mut over = Vec::new();
        for (region, operator) in &self.running {
            let is_open = match operator.action {
                Action::Split { .. } => now_ms.saturating_sub(operator.begun_ms) < SPLIT_MS && !reached(operator),
                Action::Scatter { .. } => now_ms.saturating_sub(operator.begun_ms) < SCATTER_MS && !reached(operator),
                action => open.iter().any(|other| other.region == *region && other.action == action),
            };
            if !is_open {
                let outcome = match operator.action {
                    _ if reached(operator) => Outcome::Success,
                    Action::Split { .. } | Action::Scatter { .. } => Outcome::Timeout,
                    _ => Outcome::Canceled,
                };
                over.push((*region, outcome));
            }
        }
        for (region, outcome) in over {
            self.end(region, now_ms, outcome);
        }
        for new in open {
            self.running.entry(new.region).or_insert_with(|| new.clone());
        }
        while self.ended.front().is_some_and(|oldest| is_old(oldest, now_ms)) {
            self.ended.pop_front();
        }
    }

    /// Ends the region's operator, if it has one.
    pub fn end(&mut self, region: u64, now_ms: u64, outcome: Outcome) {
        let Some(operator) = self.running.remove(&region) else { return };
        if self.ended.len() == OPERATORS_ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(Operator { ended: Some((now_ms, outcome)), ..operator });
    }

    /// Returns those that ended lately, in the order in which they ended, then the running ones.
    pub fn list(&self) -> Vec<Operator> {
        self.ended.iter().chain(self.running.values()).cloned().collect()
    }
}

fn is_old(operator: &Operator, now_ms: u64) -> bool {
    operator.ended.is_none_or(|(ended_ms, _)| now_ms.saturating_sub(ended_ms) > KEPT_MS)
}

#[cfg(test)]
mod tests {
    //! Goal: each operator ends once, with the outcome that it had. Method: moves that are open, then no longer open.

    use super::*;

    fn operator(region: u64, action: Action) -> Operator {
        Operator { region, action, by_admin: false, epoch: (1, 1), begun_ms: 100, ended: None }
    }

    #[test]
    fn an_operator_ends_as_it_ended() {
        let mut operators = Operators::default();
        let transfer = operator(7, Action::TransferLeader { from: 1, to: 2 });
        let moving = operator(8, Action::MovePeer { from: 1, to: 4 });
        operators.observe(&[transfer.clone(), moving.clone()], 100, |_| false);
        assert_eq!(operators.list(), [transfer.clone(), moving.clone()]);
        operators.observe(std::slice::from_ref(&moving), 200, |over| over.region == 7);
        operators.observe(&[], 300, |_| false);
        let ended: Vec<_> = operators.list().iter().map(|operator| (operator.region, operator.ended)).collect();
        assert_eq!(ended, [(7, Some((200, Outcome::Success))), (8, Some((300, Outcome::Canceled)))]);
        operators.observe(&[], 200 + KEPT_MS + 1, |_| false);
        assert_eq!(operators.list().len(), 1, "the older one is forgotten");
    }

    #[test]
    fn a_person_takes_the_schedulers_place_and_a_split_has_a_limit() {
        let mut operators = Operators::default();
        let transfer = operator(7, Action::TransferLeader { from: 1, to: 2 });
        operators.observe(std::slice::from_ref(&transfer), 100, |_| false);
        operators.begin(Operator { by_admin: true, ..transfer });
        assert_eq!(operators.list().len(), 1, "the same move");
        operators.begin(Operator { by_admin: true, ..operator(7, Action::Split { version: 3 }) });
        assert_eq!(operators.list()[0].ended, Some((100, Outcome::Canceled)));
        operators.observe(&[], 100 + SPLIT_MS - 1, |_| false);
        assert_eq!(operators.list()[1].ended, None);
        operators.observe(&[], 100 + SPLIT_MS, |_| false);
        assert_eq!(operators.list()[1].ended, Some((100 + SPLIT_MS, Outcome::Timeout)));
    }

    #[test]
    fn the_number_of_ended_operators_is_bounded() {
        let mut operators = Operators::default();
        for region in 0..OPERATORS_ENDED_MAX as u64 + 5 {
            operators.begin(operator(region, Action::Split { version: 1 }));
            operators.end(region, 100, Outcome::Success);
        }
        assert_eq!((operators.list().len(), operators.list()[0].region), (OPERATORS_ENDED_MAX, 5));
    }
}
