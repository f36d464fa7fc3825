//! A store with little free disk space accepts no write that adds data; with very little, it does not stay leader for
//! long.
//!
//! Source: TiKV's `reserve-space`: the remaining space is for the log of other stores' writes and for cleaning up.
//!
//! Judged while the nemesis leaves less than twice the reserve and nothing else keeps the store from checking its disk.
//! Leaders are judged while it leaves less than the reserve and no other fault is active.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::probe::Event;

use super::Violation;

/// How long a store may take to detect that little space is left, ns (true time).
const NOTICE_NS: u64 = 2_000_000_000;

/// How long a store with very little free space may stay the leader of a group that others can lead, ns (true time): it
/// checks its disk, its followers catch up, and a hand-over may fail once.
const LEADS_NS_MAX: u64 = 8_000_000_000;

/// The oracle.
#[derive(Debug, Default)]
pub struct Rooms {
    /// The reserve of each disk, bytes.
    pub reserve_bytes: u64,
    /// By node with little space: since when (true ns) it is judged.
    since: BTreeMap<u64, u64>,
    /// By node: when it was last seen with enough space, ns (true time).
    enough: BTreeMap<u64, u64>,
    /// By node with very little space, while all others are healthy: since when (true ns) its leaders are judged.
    drained_since: BTreeMap<u64, u64>,
    /// The nodes that have had less than one reserve left, and not room for three since: a store frees its reserve,
    /// and leads again once it has room.
    full: BTreeSet<u64>,
    /// By group: the term of the newest leader, its node, and since when (true ns) it is the leader.
    leaders: BTreeMap<u64, (u64, u64, u64)>,
    /// Groups that became part of others.
    merged: BTreeSet<u64>,
}

impl Rooms {
    /// Judges these nodes from now on.
    pub fn judge(&mut self, now_ns: u64, nodes: &BTreeSet<u64>) {
        self.since.retain(|node, _| nodes.contains(node));
        for node in nodes {
            self.since.entry(*node).or_insert(now_ns);
        }
    }

    /// Judges the leaders of these nodes from now on.
    pub fn judge_leaders(&mut self, now_ns: u64, nodes: &BTreeSet<u64>) {
        // Any change may have cost them time.
        self.drained_since = nodes.iter().map(|node| (*node, now_ns)).collect();
    }

    /// Returns a group of which a node with very little free space has been the leader for too long.
    fn leads_on(&self, now_ns: u64, node: u64) -> Option<u64> {
        let judged_ns = *self.drained_since.get(&node)?;
        let led = self.leaders.iter().filter(|(_, (_, leader, _))| *leader == node);
        let mut late = led.filter(|(_, (.., since_ns))| now_ns > judged_ns.max(*since_ns) + LEADS_NS_MAX);
        late.next().map(|(group, _)| *group)
    }

    /// Judges one event of a node, on whose disk `available()` bytes are left.
    pub fn observe(
        &mut self,
        now_ns: u64,
        node: u64,
        event: &Event,
        available: impl Fn() -> u64,
    ) -> Result<(), Violation> {
        match event {
            // A store first checks its disk some time after its start.
            Event::Start { .. } => {
                for since in [&mut self.since, &mut self.drained_since] {
                    if let Some(since_ns) = since.get_mut(&node) {
                        *since_ns = now_ns;
                    }
                }
                Ok(())
            }
            // It is decided that another group takes over its range.
            Event::Note { what: "halted" | "absorbed", a: group, .. } => {
                self.merged.insert(*group);
                self.leaders.remove(group);
                Ok(())
            }
            Event::Leader { group, .. } if self.merged.contains(group) => Ok(()),
            Event::Leader { group, term, .. } => {
                let newest = self.leaders.entry(*group).or_default();
                if *term > newest.0 {
                    *newest = (*term, node, now_ns);
                }
                Ok(())
            }
            Event::Note { store, what: "tick", .. } => {
                let left = available();
                if left >= 2 * self.reserve_bytes {
                    self.enough.insert(node, now_ns);
                }
                if left < self.reserve_bytes {
                    self.full.insert(node);
                } else if left >= 3 * self.reserve_bytes {
                    self.full.remove(&node);
                }
                match self.leads_on(now_ns, node) {
                    Some(group) if self.full.contains(&node) => {
                        let what = format!(
                            "store {store} stays leader of group {group} with very little space left on its disk"
                        );
                        Err(Violation::new("room", now_ns, node, what))
                    }
                    _ => Ok(()),
                }
            }
            Event::Note { store, what: "adds-data", a: group, .. } => {
                let Some(since_ns) = self.since.get(&node) else { return Ok(()) };
                // Its own files make the space come and go.
                let since_ns = *since_ns.max(self.enough.get(&node).unwrap_or(&0));
                if now_ns < since_ns + NOTICE_NS || available() >= 2 * self.reserve_bytes {
                    return Ok(());
                }
                let what = format!(
                    "store {store} accepts a write of group {group} with {} KiB left of a reserve of {} KiB",
                    available() >> 10,
                    self.reserve_bytes >> 10
                );
                Err(Violation::new("room", now_ns, node, what))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a write into the reserve is found, but not before the store can know its free space. Method: handmade
    //! events.
    use super::*;

    #[test]
    fn writes_with_little_room() {
        let write = Event::Note { store: 1, what: "adds-data", a: 2, b: 0, data: Default::default() };
        let mut rooms = Rooms { reserve_bytes: 100, ..Rooms::default() };
        let second = 1_000_000_000;
        assert!(rooms.observe(0, 1, &write, || 50).is_ok(), "not judged");
        rooms.judge(second, &[1].into());
        assert!(rooms.observe(2 * second, 1, &write, || 50).is_ok());
        assert!(rooms.observe(4 * second, 1, &write, || 200).is_ok());
        assert!(rooms.observe(4 * second, 1, &write, || 199).is_err());
        rooms.judge(5 * second, &[].into());
        assert!(rooms.observe(9 * second, 1, &write, || 50).is_ok());
    }

    #[test]
    fn leaders_with_very_little_space() {
        let tick = Event::Note { store: 1, what: "tick", a: 0, b: 0, data: Default::default() };
        let leads = |term| Event::Leader { store: 1, group: 5, peer: 1, term };
        let (mut rooms, second) = (Rooms { reserve_bytes: 100, ..Rooms::default() }, 1_000_000_000);
        rooms.observe(0, 1, &leads(2), || 0).unwrap();
        assert!(rooms.observe(90 * second, 1, &tick, || 0).is_ok(), "not judged");
        rooms.judge_leaders(100 * second, &[1].into());
        assert!(rooms.observe(107 * second, 1, &tick, || 0).is_ok());
        rooms.observe(107 * second, 2, &leads(3), || 0).unwrap();
        assert!(rooms.observe(120 * second, 1, &tick, || 0).is_ok(), "another leads");
        rooms.observe(121 * second, 1, &leads(4), || 0).unwrap();
        assert!(rooms.observe(128 * second, 1, &tick, || 0).is_ok());
        assert!(rooms.observe(130 * second, 1, &tick, || 299).is_err(), "the store has freed its reserve");
        assert!(rooms.observe(131 * second, 1, &tick, || 300).is_ok(), "there is enough space again");
        assert!(rooms.observe(132 * second, 1, &tick, || 200).is_ok(), "and it has not come to less than one reserve");
    }
}
