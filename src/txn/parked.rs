//! Waits that are reported to the placement driver, and ended if they are part of a circle.
//!
//! Requests that wait come **in**; those that have waited for a while go **out**, and the circle that one of them is to
//! hear of. **Never**: a number that means two waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::proto::armilla::pd::Wait;
use crate::proto::deadlock::WaitForEntry;
use crate::rt::clock::Instant;
use crate::rt::sync::oneshot;

/// Shorter waits are not reported.
const SHORT: Duration = Duration::from_millis(50);

/// The waits of a store. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Parked(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    waits: BTreeMap<u64, (WaitForEntry, Instant, oneshot::Sender<Vec<WaitForEntry>>)>,
}

/// A wait that is reported. Dropping it ends the reports.
#[derive(Debug)]
pub(super) struct Reported {
    parked: Parked,
    number: u64,
    told: oneshot::Receiver<Vec<WaitForEntry>>,
}

impl Parked {
    /// Adds a wait that begins at `now`.
    pub(super) fn add(&self, wait: WaitForEntry, now: Instant) -> Reported {
        let (sender, told) = oneshot::channel();
        let mut table = self.0.lock().expect("no holder panics");
        // The clock never goes back, not even when the store starts again: numbers are never used twice.
        table.next = (table.next + 1).max(now.0);
        let number = table.next;
        table.waits.insert(number, (wait, now, sender));
        Reported { parked: self.clone(), number, told }
    }

    /// Returns the waits that have lasted for a while.
    pub(super) fn lasting(&self, now: Instant) -> Vec<Wait> {
        let table = self.0.lock().expect("no holder panics");
        let lasting = table.waits.iter().filter(|(_, (_, since, _))| now.since(*since) >= SHORT);
        lasting.map(|(number, (wait, ..))| Wait { number: *number, edge: Some(wait.clone()) }).collect()
    }

    /// Ends a wait that is part of a circle.
    pub(super) fn end(&self, number: u64, chain: Vec<WaitForEntry>) {
        let found = self.0.lock().expect("no holder panics").waits.remove(&number);
        if let Some((_, _, told)) = found {
            crate::reach!("txn.circle-over-stores");
            drop(told.send(chain));
        }
    }
}

impl Reported {
    /// Completes with the circle when the wait is to end; its own edge is last.
    pub(super) async fn circle(&mut self) -> Vec<WaitForEntry> {
        match (&mut self.told).await {
            Ok(chain) => chain,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        self.parked.0.lock().expect("no holder panics").waits.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: lasting waits are reported, ended ones are not. Method: by hand.
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn waits_are_reported_until_they_end() {
        let parked = Parked::default();
        let at = |ms: u64| Instant(ms * 1_000_000);
        let wait = |txn| WaitForEntry { txn, ..WaitForEntry::default() };
        let mut first = parked.add(wait(1), at(10));
        let second = parked.add(wait(2), at(10));
        assert!(parked.lasting(at(50)).is_empty());
        let numbers: Vec<u64> = parked.lasting(at(60)).iter().map(|wait| wait.number).collect();
        assert_eq!(numbers.len(), 2);
        assert!(first.circle().now_or_never().is_none());
        parked.end(numbers[0], vec![wait(7)]);
        assert_eq!(first.circle().now_or_never(), Some(vec![wait(7)]));
        drop(second);
        assert!(parked.lasting(at(100)).is_empty());
        assert!(parked.add(wait(3), at(5)).number > numbers[1]);
    }
}
