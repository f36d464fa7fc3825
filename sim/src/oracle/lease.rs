//! Leases: at any moment, at most one peer of a group may serve reads without asking a quorum.
//!
//! Source: Gray and Cheriton, "Leases" (SOSP 1989); Ongaro's dissertation, section 6.4.1.
//!
//! A lease is judged when it is taken and whenever a peer becomes leader, not only when a read happens to use it. Its
//! end is a time of its node's clock, however fast that clock runs: the simulator reads the clock itself.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;

/// Returns a node's incarnation and what its monotonic clock shows (ns), or `None` while the node is dead.
pub type Clocks<'a> = &'a dyn Fn(u64) -> Option<(u64, u64)>;

#[derive(Clone, Copy, Debug)]
struct Lease {
    term: u64,
    node: u64,
    /// The node's incarnation in which the lease was taken; a restarted process holds no lease.
    life: u64,
    /// When it ends on its node's clock (exclusive).
    until_ns: u64,
}

/// Follows all leases.
#[derive(Debug, Default)]
pub struct Leases {
    /// By (group, store).
    held: BTreeMap<(u64, u64), Lease>,
    /// By group: the highest term that has a leader, and the leader's store.
    newest: BTreeMap<u64, (u64, u64)>,
    /// The number of leases taken.
    pub given: u64,
}

impl Leases {
    /// Returns the group and the store of every lease that is valid now.
    pub fn valid(&self, clocks: Clocks<'_>) -> Vec<(u64, u64)> {
        let valid = |lease: &Lease| {
            clocks(lease.node).is_some_and(|(life, now_ns)| lease.life == life && now_ns < lease.until_ns)
        };
        self.held.iter().filter(|(_, lease)| valid(lease)).map(|(at, _)| *at).collect()
    }

    /// Judges one event of `node`.
    pub fn observe(&mut self, event: &Event, node: u64, clocks: Clocks<'_>) -> Result<(), (&'static str, u64, String)> {
        match *event {
            Event::Lease { store, group, left_ns: 0, .. } => drop(self.held.remove(&(group, store))),
            Event::Lease { store, group, term, left_ns, .. } => {
                self.given += 1;
                if let Some(&(later, leader)) = self.newest.get(&group).filter(|(newest, _)| *newest > term) {
                    let what = format!(
                        "group {group}: store {store} takes a lease of term {term} for {left_ns} ns, but store {leader} leads term {later}"
                    );
                    return Err(("lease", store, what));
                }
                if let Some((life, now_ns)) = clocks(node) {
                    self.held.insert((group, store), Lease { term, node, life, until_ns: now_ns + left_ns });
                }
            }
            Event::Leader { store, group, term, .. } => {
                let newest = self.newest.entry(group).or_default();
                *newest = (*newest).max((term, store));
                for (&(_, holder), lease) in self.held.range((group, 0)..(group + 1, 0)) {
                    let Some((life, now_ns)) = clocks(lease.node) else { continue };
                    if holder != store && lease.term < term && lease.life == life && now_ns < lease.until_ns {
                        let what = format!(
                            "group {group}: store {store} leads term {term} while store {holder} has a lease of term {} for another {} ns",
                            lease.term,
                            lease.until_ns - now_ns
                        );
                        return Err(("lease", store, what));
                    }
                }
            }
            // A store that stopped holds no lease.
            Event::Poisoned { store, .. } => self.held.retain(|(_, holder), _| *holder != store),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: two holders are found in either order, by the holder's own clock; dead nodes hold no lease.
    use super::*;

    fn lease(store: u64, term: u64, left_ns: u64) -> Event {
        Event::Lease { store, group: 2, peer: store, term, left_ns }
    }
    fn leader(store: u64, term: u64) -> Event {
        Event::Leader { store, group: 2, peer: store, term }
    }
    /// Judges a sequence of (incarnation and clock of node 1, event); node numbers are store numbers.
    fn judge(story: &[((u64, u64), Event)]) -> Option<usize> {
        let mut leases = Leases::default();
        story.iter().enumerate().find_map(|(n, (first, event))| {
            let (Event::Lease { store, .. } | Event::Leader { store, .. } | Event::Poisoned { store, .. }) = event
            else {
                unreachable!()
            };
            let clocks = |node: u64| if node == 1 { (first.0 > 0).then_some(*first) } else { Some((1, 0)) };
            leases.observe(event, *store, &clocks).is_err().then_some(n)
        })
    }

    #[test]
    fn one_holder_at_an_instant() {
        let taken = [((1, 0), leader(1, 5)), ((1, 100), lease(1, 5, 50))];
        let then = |clock, event| judge(&[taken[0].clone(), taken[1].clone(), (clock, event)]);
        assert_eq!(then((1, 150), leader(2, 6)), None, "it has ended");
        assert_eq!(then((1, 149), leader(2, 6)), Some(2), "its clock is slow");
        assert_eq!(then((2, 120), leader(2, 6)), None, "it was restarted");
        assert_eq!(then((0, 0), leader(2, 6)), None, "it is dead");
        assert_eq!(then((1, 120), leader(1, 6)), None, "it is the same store");
        let stopped = Event::Poisoned { store: 1, why: String::new() };
        let story = [taken[0].clone(), taken[1].clone(), ((1, 110), stopped), ((1, 120), leader(2, 6))];
        assert_eq!(judge(&story), None);
        let story = [taken[0].clone(), taken[1].clone(), ((1, 110), lease(1, 5, 0)), ((1, 120), leader(2, 6))];
        assert_eq!(judge(&story), None, "it was given up");
        assert_eq!(judge(&[((1, 0), leader(2, 6)), ((1, 0), lease(1, 5, 1))]), Some(1), "taken too late");
    }
}
