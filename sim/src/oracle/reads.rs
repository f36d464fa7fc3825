//! Linearizability of reads, judged during the run: a read sees every write that was acknowledged before the read was
//! requested.
//!
//! Source: Ongaro's dissertation, section 6.4 (ReadIndex): a read waits until everything committed when it arrived is
//! applied.
//!
//! A write is acknowledged by the leader that proposed it, once that leader has applied it. So when a read request
//! arrives on any store, its view of the engine must include at least the highest index that such a leader has applied
//! by then. What a read has seen, every later read must see as well: a follower may serve an entry before the leader
//! has applied it.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;

/// Follows all reads.
#[derive(Debug, Default)]
pub struct Reads {
    /// By (group, term): the leader's store.
    leaders: BTreeMap<(u64, u64), u64>,
    /// By group: the highest index that the leader of its entry's term has applied.
    acknowledged: BTreeMap<u64, u64>,
    /// By (store, read): the index that the read must include. A restarted store numbers its reads from the start
    /// again.
    asked: BTreeMap<(u64, u64), u64>,
    /// The number of judged reads.
    pub served: u64,
}

impl Reads {
    /// Judges one fact.
    pub fn observe(&mut self, event: &Event) -> Result<(), (&'static str, u64, String)> {
        match *event {
            Event::Leader { store, group, term, .. } => drop(self.leaders.insert((group, term), store)),
            Event::Apply { store, group, index, term, .. } if self.leaders.get(&(group, term)) == Some(&store) => {
                let highest = self.acknowledged.entry(group).or_default();
                *highest = index.max(*highest);
            }
            Event::ReadAsked { store, group, read } => {
                let least = self.acknowledged.get(&group).copied().unwrap_or_default();
                self.asked.insert((store, read), least);
            }
            Event::ReadServed { store, group, read, applied } => {
                self.served += 1;
                let least = self.asked.remove(&(store, read)).unwrap_or_default();
                let highest = self.acknowledged.entry(group).or_default();
                *highest = applied.max(*highest);
                if applied < least {
                    let what = format!(
                        "group {group}: a read on store {store} sees entries up to {applied}, but {least} was acknowledged or read before the read was requested"
                    );
                    return Err(("linearizability", store, what));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a stale view is found; a read need not see writes that were acknowledged after it was requested, or that
    //! only followers have applied.
    use super::*;

    fn apply(store: u64, index: u64) -> Event {
        Event::Apply { store, group: 2, peer: store, index, term: 5, hash: 0 }
    }
    fn judge(before: &[Event], during: &[Event], applied: u64) -> bool {
        let mut reads = Reads::default();
        let ask = [Event::ReadAsked { store: 3, group: 2, read: 0 }];
        let serve = [Event::ReadServed { store: 3, group: 2, read: 0, applied }];
        let leader = [Event::Leader { store: 1, group: 2, peer: 1, term: 5 }];
        let story = [&leader, before, &ask, during, &serve].concat();
        story.iter().all(|event| reads.observe(event).is_ok())
    }

    #[test]
    fn acknowledged_before() {
        assert!(judge(&[apply(1, 7)], &[], 7));
        assert!(!judge(&[apply(1, 7)], &[], 6));
        assert!(judge(&[apply(1, 6)], &[apply(1, 7)], 6), "during");
        assert!(judge(&[apply(2, 7)], &[], 6), "a follower's");
    }
}
