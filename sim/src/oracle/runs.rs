//! A process that knows a run of a store never accepts an older run, which uses a copy of the data directory.
//!
//! Source: none in the literature; a copy lacks everything that the store has acknowledged since the copy was made (a
//! lost log, as in Ongaro's dissertation, section 11.7.3).
//!
//! A store compares with the runs that it heard, also before its own restarts. The placement driver compares with its
//! replicated state: a registration that is requested after any member has accepted a newer run must be refused.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;
use bytes::Bytes;

use super::Violation;

/// A run of a process: the number of starts of its data directory, and a nonce that distinguishes runs of the same
/// number.
type Run = (u64, Bytes);

/// The oracle.
#[derive(Debug, Default)]
pub struct Runs {
    /// By receiving store and sending store: the newest run of the sender.
    heard: BTreeMap<(u64, u64), Run>,
    /// By store: the newest run that the placement driver accepted.
    accepted: BTreeMap<u64, Run>,
    /// By member of the placement driver, store and run: the newest accepted run when the registration was requested.
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
                // The request came before the cluster's protocol recorded runs.
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        match before.filter(|before| is_older(&run, before)) {
            None => Ok(()),
            Some(before) => {
                let who =
                    if what == "run-heard" { format!("store {store}") } else { "the placement driver".to_owned() };
                let what = format!("{who} accepts run {} of store {id} although it knew run {}", run.0, before.0);
                Err(Violation::new("runs", now_ns, node, what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an accepted copy is found, on stores and on the placement driver. Method: handmade events.
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
        assert!(judge("run-accepted", 1, 1), "requested before the newer one was accepted");
        assert!(judge("run-asked", 1, 1));
        assert!(!judge("run-accepted", 1, 1));
    }
}
