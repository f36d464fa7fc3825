//! A store with little free disk space accepts no write that adds data.
//!
//! Source: TiKV's `reserve-space`: the remaining space is for the log of other stores' writes and for cleaning up.
//!
//! Judged while the nemesis leaves less than twice the reserve and nothing else keeps the store from checking its disk.

use std::collections::{BTreeMap, BTreeSet};

use armilla::rt::probe::Event;

use super::Violation;

/// How long a store may take to detect that little space is left, ns (true time).
const NOTICE_NS: u64 = 2_000_000_000;

/// The oracle.
#[derive(Debug, Default)]
pub struct Rooms {
    /// The reserve of each disk, bytes.
    pub reserve_bytes: u64,
    /// By node with little space: since when (true ns) it is judged.
    since: BTreeMap<u64, u64>,
}

impl Rooms {
    /// Judges these nodes from now on.
    pub fn judge(&mut self, now_ns: u64, nodes: &BTreeSet<u64>) {
        self.since.retain(|node, _| nodes.contains(node));
        for node in nodes {
            self.since.entry(*node).or_insert(now_ns);
        }
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
                if let Some(since_ns) = self.since.get_mut(&node) {
                    *since_ns = now_ns;
                }
                Ok(())
            }
            Event::Note { store, what: "adds-data", a: group, .. } => {
                let Some(since_ns) = self.since.get(&node) else { return Ok(()) };
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
}
