//! Whoever has heard of a run of a store never listens to an older one, which runs with a copy of the data directory.
//!
//! Source: none in the literature; a copy lacks what the store has acknowledged since it was made (a lost log, as in Ongaro's
//! dissertation, section 11.7.3).
//!
//! Stores judge by what they heard, also before they were restarted, the placement driver by what it remembers, which is
//! replicated: a registration that is asked for after a newer run was accepted, by whatever member, must be refused.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;
use bytes::Bytes;

use super::Violation;

/// A run of a process: the number of the data directory's start, and what tells two of one number apart.
type Run = (u64, Bytes);

/// The oracle.
#[derive(Debug, Default)]
pub struct Runs {
    /// By store that hears and store that is heard: the newest run.
    heard: BTreeMap<(u64, u64), Run>,
    /// By store: the newest run that the placement driver accepted.
    accepted: BTreeMap<u64, Run>,
    /// By member of the placement driver, store and run: what had been accepted when it was asked for.
    asked: BTreeMap<(u64, u64, Run), Option<Run>>,
}

fn is_older(run: &Run, than: &Run) -> bool {
    run.0 < than.0 || (run.0 == than.0 && run.1 != than.1)
}

impl Runs {
    /// Judges one event of a node.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        let (store, what, id, run) = match event {
            Event::Note { store, what, a, b, data } => (*store, *what, *a, (*b, data.clone())),
            _ => return Ok(()),
        };
        let before = match what {
            "run-heard" => self.heard.insert((store, id), run.clone()),
            "run-asked" => {
                self.asked.insert((store, id, run), self.accepted.get(&id).cloned());
                return Ok(());
            }
            "run-accepted" => match self.asked.remove(&(store, id, run.clone())) {
                Some(before) => {
                    let newest = self.accepted.entry(id).or_insert_with(|| run.clone());
                    if run.0 > newest.0 {
                        *newest = run.clone();
                    }
                    before
                }
                // The cluster learned only meanwhile to remember runs.
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        match before.filter(|before| is_older(&run, before)) {
            None => Ok(()),
            Some(before) => {
                let who =
                    if what == "run-heard" { format!("store {store}") } else { "the placement driver".to_owned() };
                let what = format!("{who} takes start {} of store {id} after it knew start {}", run.0, before.0);
                Err(Violation::new("runs", now_ns, node, what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a copy that is listened to is found on either side. Method: by hand.
    use super::*;

    fn note(what: &'static str, boot: u64, nonce: u8) -> Event {
        Event::Note { store: 1, what, a: 7, b: boot, data: Bytes::copy_from_slice(&[nonce]) }
    }

    #[test]
    fn stores() {
        let mut runs = Runs::default();
        assert!(runs.observe(0, 1, &note("run-heard", 1, 1)).is_ok());
        assert!(runs.observe(0, 1, &note("run-heard", 2, 2)).is_ok());
        assert!(runs.observe(0, 1, &note("run-heard", 2, 3)).is_err());
        let start = Event::Start { store: 1, group: 1, peer: 1, term: 0, vote: 0, commit: 0, base: 0, last_index: 0 };
        assert!(runs.observe(0, 1, &start).is_ok());
        assert!(runs.observe(0, 1, &note("run-heard", 1, 1)).is_err(), "a restart forgets nothing");
    }

    #[test]
    fn the_placement_driver() {
        let mut runs = Runs::default();
        let mut judge = |what, boot, nonce| runs.observe(0, 1, &note(what, boot, nonce)).is_ok();
        assert!(judge("run-asked", 1, 1) && judge("run-asked", 2, 2));
        assert!(judge("run-accepted", 2, 2));
        assert!(judge("run-accepted", 1, 1), "asked for before the newer one was accepted");
        assert!(judge("run-asked", 1, 1));
        assert!(!judge("run-accepted", 1, 1));
    }
}
