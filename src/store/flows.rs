//! What was written to and read from each region since the last heartbeat.
//!
//! The counters of this store's peers come **in**, their increase goes **out**. **Never**: an increase of the time
//! before this store led the region, or of the time in which it led it among the reads of replicas.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::replica::PeerView;
use crate::types::GroupId;
use crate::types::load::Load;

/// The counters as of the last heartbeat.
#[derive(Debug, Default)]
pub(super) struct Flows {
    last: BTreeMap<GroupId, Load>,
}

impl Flows {
    /// Returns the increase since the last call for each of these peers. A peer that was not among them then has none.
    pub fn take(&mut self, peers: &[Arc<PeerView>]) -> BTreeMap<GroupId, Load> {
        self.advance(peers.iter().map(|view| (view.group, view.load().sums())).collect())
    }

    fn advance(&mut self, now: BTreeMap<GroupId, Load>) -> BTreeMap<GroupId, Load> {
        let last = std::mem::replace(&mut self.last, now);
        let earlier = |group: &GroupId, now: Load| match last.get(group) {
            Some(last) => *last,
            None if crate::mutant!("store.load-of-an-earlier-leadership") => Load::default(),
            None => now,
        };
        self.last.iter().map(|(group, now)| (*group, now.since(earlier(group, *now)))).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what came before the leadership does not count. Method: counters of one region, with and without a gap.

    use super::*;

    #[test]
    fn increases_are_of_the_time_as_a_leader() {
        let mut flows = Flows::default();
        let mut next = |counter: Option<u64>| {
            let load = |n| Load { written_bytes: 10 * n, writes: n, reads: 2 * n, ..Load::default() };
            let now = counter.map(|n| (GroupId(7), load(n)));
            let taken = flows.advance(now.into_iter().collect());
            taken.get(&GroupId(7)).map(|load| (load.written_bytes, load.writes, load.reads))
        };
        assert_eq!(next(Some(5)), Some((0, 0, 0)), "it has just begun to lead");
        assert_eq!(next(Some(7)), Some((20, 2, 4)));
        assert_eq!(next(None), None);
        assert_eq!(next(Some(9)), Some((0, 0, 0)), "it leads again");
        assert_eq!(next(Some(3)), Some((0, 0, 0)), "another peer, whose counters began anew");
    }
}
