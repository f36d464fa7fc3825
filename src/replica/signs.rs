//! Signs of life of other stores' lanes: for peers that sleep, they stand for the heartbeats of their leaders.
//!
//! **In** come the lanes that a store names in a batch of messages; **out** goes when each was named last, and by which
//! run of the store. **Never**: a sign of an earlier run that counts as one of the present run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::types::GroupId;
use crate::types::limits::LANES_MAX;

use super::message::Sender;

/// When a lane was named last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sign {
    /// The arrival of the message (this node's clock, ns).
    pub at_ns: u64,
    /// The election timeout of the store's leaders, in nanoseconds.
    pub election_ns: u64,
}

/// The lanes of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lanes {
    /// The nonce of the store's run.
    pub nonce: u64,
    /// By lane. Empty if the run has named none: an older version of Armilla never does.
    signs: Vec<Option<Sign>>,
}

impl Lanes {
    /// Returns the last sign of the lane that drives a group, and its number.
    pub fn of(&self, group: GroupId) -> Option<(usize, Sign)> {
        let lane = (group.0 % (self.signs.len().max(1)) as u64) as usize;
        self.lane(lane).map(|sign| (lane, sign))
    }

    /// Returns the last sign of a lane.
    pub fn lane(&self, lane: usize) -> Option<Sign> {
        self.signs.get(lane).copied().flatten()
    }
}

/// The signs of all stores. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Signs(Arc<Mutex<BTreeMap<u64, Lanes>>>);

impl Signs {
    /// Records the lanes that a store named in a batch.
    pub fn hear(&self, sender: &Sender, lanes: u32, alive: &[u32]) {
        let mut stores = self.0.lock().expect("no holder panics");
        let of = stores.entry(sender.store).or_default();
        if of.nonce != sender.nonce {
            *of = Lanes { nonce: sender.nonce, signs: Vec::new() };
        }
        if alive.is_empty() {
            return;
        }
        of.signs.resize((lanes as usize).min(LANES_MAX), None);
        for lane in alive {
            if let Some(sign) = of.signs.get_mut(*lane as usize) {
                *sign = Some(Sign { at_ns: sender.arrived.0, election_ns: sender.election_ns });
            }
        }
    }

    /// Returns the signs of all stores, by store ID.
    pub fn all(&self) -> BTreeMap<u64, Lanes> {
        self.0.lock().expect("no holder panics").clone()
    }

    /// Returns the signs of a store.
    pub fn of(&self, store: u64) -> Lanes {
        self.0.lock().expect("no holder panics").get(&store).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: signs belong to one run, one lane and one group. Method: by hand.
    use super::*;
    use crate::rt::clock::Instant;

    #[test]
    fn a_run_starts_without_signs() {
        let signs = Signs::default();
        let sender = |nonce, at| Sender { store: 2, election_ns: 1000, arrived: Instant(at), nonce };
        signs.hear(&sender(7, 10), 2, &[1]);
        signs.hear(&sender(7, 20), 2, &[]);
        let of = signs.of(2);
        let sign = Sign { at_ns: 10, election_ns: 1000 };
        assert_eq!((of.nonce, of.of(GroupId(5)), of.of(GroupId(4))), (7, Some((1, sign)), None));
        signs.hear(&sender(8, 30), 2, &[]);
        assert_eq!((signs.of(2).nonce, signs.of(2).of(GroupId(5)), signs.of(3).lane(0)), (8, None, None));
    }

    #[test]
    fn lanes_that_a_store_does_not_have_are_ignored() {
        let signs = Signs::default();
        signs.hear(&Sender { store: 2, election_ns: 1, arrived: Instant(1), nonce: 7 }, u32::MAX, &[0, u32::MAX]);
        assert_eq!(signs.of(2).signs.len(), LANES_MAX);
        assert!(signs.of(2).of(GroupId(LANES_MAX as u64)).is_some());
    }
}
