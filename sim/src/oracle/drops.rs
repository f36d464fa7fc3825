//! Entries that a leader dropped before it sent them to a follower are sent again before any later entries.
//!
//! Source: Ongaro and Ousterhout, figure 2: `nextIndex` is the next entry to send. A message behind a gap costs the
//! follower a rejection and the leader another round trip, while the network is at its worst.
//!
//! Messages that raft had created before it was told of the drop are sent at the same time, and are not judged. Neither
//! are messages that begin right after the follower's log: the dropped one may have been a repetition.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;

use super::Violation;

/// The oracle.
#[derive(Debug, Default)]
pub struct Drops {
    /// By sending store, group and peer: the first dropped entry that was not sent again, and when it was dropped (true
    /// ns).
    dropped: BTreeMap<(u64, u64, u64), (u64, u64)>,
    /// By group and peer: the last entry that became durable.
    last: BTreeMap<(u64, u64), u64>,
}

impl Drops {
    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Append { group, peer, index, .. } | Event::Snapshot { group, peer, index, .. } => {
                self.last.insert((*group, *peer), *index);
            }
            Event::Truncate { group, peer, from_index, .. } => {
                self.last.insert((*group, *peer), from_index - 1);
            }
            Event::Start { group, peer, last_index, .. } => {
                self.last.insert((*group, *peer), *last_index);
            }
            // It is no longer the leader, or it is a new leader, which does not know of earlier drops.
            Event::Follow { store, group, .. } | Event::Leader { store, group, .. } => {
                self.dropped.retain(|(from, of, _), _| (from, of) != (store, group));
            }
            Event::Note { store, what: "append-dropped", a: group, b: peer, data } => {
                let first = index(data);
                let dropped = self.dropped.entry((*store, *group, *peer)).or_insert((first, now_ns));
                *dropped = (first.min(dropped.0), now_ns);
            }
            Event::Note { store, what: "append-sent", a: group, b: peer, data } => {
                return self.sent(now_ns, node, (*store, *group, *peer), index(data));
            }
            _ => {}
        }
        Ok(())
    }

    fn sent(&mut self, now_ns: u64, node: u64, way: (u64, u64, u64), first: u64) -> Result<(), Violation> {
        let Some(&(dropped, at_ns)) = self.dropped.get(&way) else { return Ok(()) };
        let (store, group, peer) = way;
        let last = self.last.get(&(group, peer)).copied().unwrap_or(0);
        if first <= dropped.max(last + 1) {
            self.dropped.remove(&way);
            return Ok(());
        }
        if now_ns == at_ns {
            return Ok(());
        }
        let what = format!(
            "store {store} sends entries of group {group} from {first} to peer {peer}, which has entries up to {last}: entries \
             from {dropped} on were dropped before they were sent"
        );
        Err(Violation::new("drops", now_ns, node, what))
    }
}

/// Returns the index that an event carries.
fn index(data: &[u8]) -> u64 {
    data.try_into().map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    //! Goal: an append behind a gap is detected; a repetition, and a message sent together with the dropped one, is
    //! not. Method: a few events by hand.
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_gap() {
        let note = |what, first: u64| Event::Note {
            store: 1,
            what,
            a: 2,
            b: 3,
            data: Bytes::copy_from_slice(&first.to_be_bytes()),
        };
        let mut drops = Drops::default();
        let append = Event::Append { store: 9, group: 2, peer: 3, index: 4, term: 1, hash: 0 };
        drops.observe(0, 9, &append).unwrap();
        drops.observe(1, 1, &note("append-dropped", 5)).unwrap();
        assert!(drops.observe(1, 1, &note("append-sent", 7)).is_ok(), "raft was not told yet");
        assert!(drops.observe(2, 1, &note("append-sent", 5)).is_ok());
        assert!(drops.observe(3, 1, &note("append-sent", 7)).is_ok());
        drops.observe(4, 1, &note("append-dropped", 3)).unwrap();
        assert!(drops.observe(5, 1, &note("append-sent", 5)).is_ok(), "the peer has the dropped entries");
        drops.observe(6, 1, &note("append-dropped", 5)).unwrap();
        assert!(drops.observe(7, 1, &note("append-sent", 7)).is_err());
    }
}
