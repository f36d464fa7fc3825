//! Linearizability of reads, as it happens: a read shows every write that was acknowledged before the read was asked for.
//!
//! Source: Ongaro's dissertation, section 6.4 (ReadIndex): a read waits until everything committed when it arrived is applied.
//!
//! Writes are acknowledged by the leader that proposed them, once it has applied them. So the highest index that such a leader
//! has applied when a request arrives, anywhere, is the least that the request's view of the engine must stand at.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;

/// Follows all reads.
#[derive(Debug, Default)]
pub struct Reads {
    /// (group, term) to the leader's store.
    leaders: BTreeMap<(u64, u64), u64>,
    /// By group: the highest index that the leader of its entry's term has applied.
    acknowledged: BTreeMap<u64, u64>,
    /// (store, read) to the index that it must show. A restarted store counts from the beginning again.
    asked: BTreeMap<(u64, u64), u64>,
    /// How many reads were judged.
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
                if applied < least {
                    let what = format!(
                        "group {group}: a read on store {store} shows what was applied up to {applied}, but {least} was acknowledged before it was asked for"
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
    //! Goal: a stale view is found; what was acknowledged during the read, or applied by followers only, is not asked of it.
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
