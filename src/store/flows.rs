//! What was written to and read from each region since the last heartbeat.
//!
//! The counters of this store's peers come **in**, their increase goes **out**. **Never**: an increase of the time
//! before this store led the region.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::replica::PeerView;
use crate::types::GroupId;

/// The load of a region on its leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// Bytes of the commands that were proposed.
    pub written_bytes: u64,
    /// Writes: commands that were proposed.
    pub writes: u64,
    /// Reads.
    pub reads: u64,
}

impl Flow {
    /// Returns the counters of a peer since the start.
    fn of(view: &PeerView) -> Flow {
        let (by_lease, by_quorum) = view.reads();
        Flow { written_bytes: view.written_bytes(), writes: view.writes(), reads: by_lease + by_quorum }
    }

    fn since(self, before: Flow) -> Flow {
        Flow {
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
            writes: self.writes.saturating_sub(before.writes),
            reads: self.reads.saturating_sub(before.reads),
        }
    }
}

/// The counters as of the last heartbeat.
#[derive(Debug, Default)]
pub(super) struct Flows {
    last: BTreeMap<GroupId, Flow>,
}

impl Flows {
    /// Returns the increase since the last call for each of the regions that are led here. A region that was not led
    /// here then has none.
    pub fn take(&mut self, leaders: &[Arc<PeerView>]) -> BTreeMap<GroupId, Flow> {
        self.advance(leaders.iter().map(|view| (view.group, Flow::of(view))).collect())
    }

    fn advance(&mut self, now: BTreeMap<GroupId, Flow>) -> BTreeMap<GroupId, Flow> {
        let last = std::mem::replace(&mut self.last, now);
        let since = |(group, now): (&GroupId, &Flow)| (*group, now.since(*last.get(group).unwrap_or(now)));
        self.last.iter().map(since).collect()
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
            let flow = |n| Flow { written_bytes: 10 * n, writes: n, reads: 2 * n };
            let now = counter.map(|n| (GroupId(7), flow(n)));
            let taken = flows.advance(now.into_iter().collect());
            taken.get(&GroupId(7)).map(|flow| (flow.written_bytes, flow.writes, flow.reads))
        };
        assert_eq!(next(Some(5)), Some((0, 0, 0)), "it has just begun to lead");
        assert_eq!(next(Some(7)), Some((20, 2, 4)));
        assert_eq!(next(None), None);
        assert_eq!(next(Some(9)), Some((0, 0, 0)), "it leads again");
        assert_eq!(next(Some(3)), Some((0, 0, 0)), "another peer, whose counters began anew");
    }
}
