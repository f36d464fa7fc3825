//! Old entries on their way to a store that lags are bounded in bytes, over all groups: `raft.catch_up_kib_max`, and one read more.
//!
//! Source: a system with limits on everything stays up under load. All groups of a store that was away lag at once, and what is read
//! for it ahead of what its queue takes is memory.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;

use super::Violation;

/// The oracle.
#[derive(Debug, Default)]
pub struct Fetches {
    /// What is configured, bytes; 0: not known yet.
    pub bytes_max: u64,
    /// By store and group: where the read under way goes, and how much it may bring.
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
                     {before} bytes are under way; {} may be",
                    self.bytes_max
                );
                Err(Violation::new("fetches", now_ns, node, what))
            }
            // It has ended, or the process that read is gone.
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
    //! Goal: the read that passes the bound is the last, by store that it is for. Method: by hand.
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
