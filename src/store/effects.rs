//! Effects of applied entries on this store: receives them from the replicas' channel and passes them on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::raft::machine::Effect;
use crate::replica::StoreEffect;
use crate::rt::sync::mpsc;
use crate::types::GroupId;

/// For each region of a store, counts how often values with an expiry may have been added since the store started.
/// Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct TtlUse(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    of: BTreeMap<GroupId, u64>,
    /// Added to the count of every region.
    all: u64,
}

impl TtlUse {
    /// Returns the current count of `group`.
    pub fn count(&self, group: GroupId) -> u64 {
        let counts = self.0.lock().expect("no holder panics");
        counts.all + counts.of.get(&group).copied().unwrap_or(0)
    }

    fn note(&self, effect: StoreEffect) {
        let mut counts = self.0.lock().expect("no holder panics");
        match effect {
            StoreEffect::Applied(group, Effect::WroteExpiring) | StoreEffect::Replaced(group) => {
                *counts.of.entry(group).or_default() += 1;
            }
            StoreEffect::Missed => counts.all += 1,
        }
    }
}

/// Receives effects until the replicas are gone.
pub async fn listen(mut effects: mpsc::Receiver<StoreEffect>, uses: TtlUse) {
    while let Some(effect) = effects.recv().await {
        uses.note(effect);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every effect that may have added a value with an expiry is counted. Method: by hand.
    use super::*;

    #[test]
    fn every_effect_counts_for_its_region_or_for_all() {
        let uses = TtlUse::default();
        let (one, other) = (GroupId(7), GroupId(8));
        let count = |effect| {
            uses.note(effect);
            (uses.count(one), uses.count(other))
        };
        assert_eq!(count(StoreEffect::Replaced(one)), (1, 0));
        assert_eq!(count(StoreEffect::Applied(other, Effect::WroteExpiring)), (1, 1));
        assert_eq!(count(StoreEffect::Missed), (2, 2));
    }
}
