//! Safe points: how far back transactional data go, and what holds that back.
//!
//! The safe point of transactions moves first. When every region has no lock below it, the one of the collection
//! follows. **Never**: a safe point that falls, or that passes a barrier which has not ended; a collection above the
//! safe point of transactions.

use crate::proto::armilla::pd::{Barrier, ChangeSafePoints, SafePoints};
use crate::types::limits::{BARRIER_NAME_BYTES_MAX, BARRIERS_MAX};

use super::{Changed, Outcome, PdState};

/// Returns whether a barrier still holds the safe point back.
pub fn holds(barrier: &Barrier, now_ms: u64) -> bool {
    barrier.until_ms == 0 || barrier.until_ms > now_ms
}

/// Returns the lowest barrier that still holds.
pub fn lowest(points: &SafePoints, now_ms: u64) -> Option<&Barrier> {
    points.barriers.iter().filter(|barrier| holds(barrier, now_ms)).min_by_key(|barrier| barrier.at)
}

fn is_same(one: &Barrier, other: &Barrier) -> bool {
    (&one.name, one.is_global) == (&other.name, other.is_global)
}

impl PdState {
    /// Returns the safe points and their barriers.
    pub fn safe_points(&self) -> &SafePoints {
        &self.safe_points
    }

    /// Moves safe points, and changes barriers. The value of the outcome is the safe point of transactions.
    pub(super) fn change_safe_points(&mut self, change: ChangeSafePoints) -> Outcome {
        self.must_be_bootstrapped()?;
        let mut after = self.safe_points.clone();
        after.barriers.retain(|barrier| holds(barrier, change.now_ms));
        let held = lowest(&after, change.now_ms).map_or(u64::MAX, |barrier| barrier.at);
        let held = if crate::mutant!("gc.ignores-barriers") { u64::MAX } else { held };
        after.txn = after.txn.max(change.txn.min(held));
        if change.collect > after.txn {
            return Err(format!(
                "versions below {} cannot be collected: transactions may begin from {} on",
                change.collect, after.txn
            ));
        }
        after.collect = after.collect.max(change.collect);
        if let Some(removed) = &change.remove {
            after.barriers.retain(|barrier| !is_same(barrier, removed));
        }
        if let Some(set) = change.set {
            check(&set, after.txn)?;
            after.barriers.retain(|barrier| !is_same(barrier, &set));
            if after.barriers.len() >= BARRIERS_MAX {
                return Err(format!(
                    "there are {BARRIERS_MAX} barriers already: remove one that is not needed any more"
                ));
            }
            after.barriers.push(set);
            after.barriers.sort_by(|one, other| (&one.name, one.is_global).cmp(&(&other.name, other.is_global)));
        }
        let mut changed = Vec::new();
        if after.collect > self.gc_safe_point {
            // Clients that ask for the one safe point of older protocols must not read below it.
            self.gc_safe_point = after.collect;
            changed.push(Changed::GcSafePoint);
        }
        if after != self.safe_points {
            self.safe_points = after;
            changed.push(Changed::SafePoints);
        }
        Ok((self.safe_points.txn, changed))
    }
}

fn check(set: &Barrier, txn: u64) -> Result<(), String> {
    if set.name.is_empty() || set.name.len() > BARRIER_NAME_BYTES_MAX {
        return Err(format!("a barrier needs a name of 1 to {BARRIER_NAME_BYTES_MAX} bytes"));
    }
    if set.at < txn {
        return Err(format!(
            "a barrier at {} is below the safe point {txn}: versions below that may be gone already, begin at it or above",
            set.at
        ));
    }
    Ok(())
}
