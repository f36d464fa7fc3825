//! Old entries in flight to a lagging store are bounded in bytes, over all groups: by `raft.catch_up_kib_max` plus one
//! read.
//!
//! Source: a system with limits on everything stays up under load. All groups of a store that was away lag at once, and
//! entries that are read for it faster than its queue accepts them take memory.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;

use super::Violation;

/// The oracle.
#[derive(Debug, Default)]
pub struct Fetches {
    /// The configured maximum, bytes; 0: not known yet.
    pub bytes_max: u64,
    /// By store and group: the store for which each current read is, and its maximum bytes.
    under_way: BTreeMap<(u64, u64), Vec<(u64, u64)>>,
}

impl Fetches {
    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        match *event {
            Event::Fetch { store, group, to_store, bytes } => {
                let of_store = self.under_way.range((store, 0)..=(store, u64::MAX));
                let to_it = of_store.flat_map(|(_, reads)| reads).filter(|(to, _)| *to == to_store);
                let before = to_it.fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes));
                self.under_way.entry((store, group)).or_default().push((to_store, bytes));
                if self.bytes_max == 0 || before < self.bytes_max {
                    return Ok(());
                }
                let what = format!(
                    "store {store} reads {bytes} bytes of old entries of group {group} for store {to_store}, for which reads of \
                     {before} bytes are in flight; the maximum is {}",
                    self.bytes_max
                );
                Err(Violation::new("fetches", now_ns, node, what))
            }
            // The read has ended, or the process that made it has.
            Event::Fetched { store, group } | Event::Start { store, group, .. } => {
                self.under_way.remove(&(store, group));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: after the read that exceeds the limit of its store, no other read is permitted. Method: a few events by
    //! hand.
    use super::*;

    #[test]
    fn one_read_more() {
        let mut fetches = Fetches { bytes_max: 100, ..Fetches::default() };
        let fetch = |group, to_store| Event::Fetch { store: 1, group, to_store, bytes: 80 };
        assert!(fetches.observe(0, 1, &fetch(2, 7)).is_ok());
        assert!(fetches.observe(0, 1, &fetch(3, 8)).is_ok());
        assert!(fetches.observe(0, 1, &fetch(4, 7)).is_ok());
        assert!(fetches.observe(0, 1, &fetch(5, 8)).is_ok());
        assert!(fetches.observe(0, 1, &Event::Fetched { store: 1, group: 2 }).is_ok());
        assert!(fetches.observe(0, 1, &fetch(2, 7)).is_ok());
        assert!(fetches.observe(0, 1, &fetch(6, 7)).is_err());
    }
}
