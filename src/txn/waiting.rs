//! Transactions that wait for a key to be released, the oldest first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::rt::sync::oneshot;
use crate::types::limits::TXN_WAITERS_MAX;
use crate::types::{Error, Result, Timestamp};

/// Who waits for which key. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// By key, then by age.
    keys: BTreeMap<Bytes, BTreeMap<(Timestamp, u64), oneshot::Sender<Baton>>>,
    count: usize,
    next: u64,
}

/// A place in the queue of a key. Dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct Waiter {
    waiting: Waiting,
    key: Bytes,
    place: (Timestamp, u64),
    woken: oneshot::Receiver<Baton>,
}

/// The right to try a released key. Whoever does not take its lock passes it on to the next waiter, by dropping it.
#[derive(Debug)]
pub(super) struct Baton {
    waiting: Waiting,
    key: Bytes,
}

impl Waiting {
    /// Joins the queue of a key (encoded). Must be called while the key's latch is held: then no release is missed.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many wait.
    pub(super) fn join(&self, key: &Bytes, start: Timestamp) -> Result<Waiter> {
        let mut table = self.0.lock().expect("no holder panics");
        if table.count >= TXN_WAITERS_MAX {
            return Err(Error::Busy(format!("{TXN_WAITERS_MAX} transactions wait for locks on this store")));
        }
        table.count += 1;
        table.next += 1;
        let place = (start, table.next);
        let (sender, woken) = oneshot::channel();
        table.keys.entry(key.clone()).or_default().insert(place, sender);
        Ok(Waiter { waiting: self.clone(), key: key.clone(), place, woken })
    }

    /// Wakes the oldest transaction that waits for a key (encoded), which nobody locks any more.
    pub(super) fn wake(&self, key: &Bytes) {
        if crate::mutant!("txn.wait-lost-wakeup") {
            return;
        }
        let first = {
            let mut table = self.0.lock().expect("no holder panics");
            let Some(queue) = table.keys.get_mut(key) else { return };
            let first = queue.pop_first();
            if queue.is_empty() {
                table.keys.remove(key);
            }
            table.count -= usize::from(first.is_some());
            first
        };
        if let Some((_, sender)) = first {
            crate::reach!("txn.waiter-woken");
            // If it has just stopped waiting, the baton comes back, and passes itself on.
            drop(sender.send(Baton { waiting: self.clone(), key: key.clone() }));
        }
    }

    /// Returns how many transactions wait.
    pub(super) fn count(&self) -> usize {
        self.0.lock().expect("no holder panics").count
    }
}

impl Waiter {
    /// Completes when the key was released and it is this waiter's turn.
    pub(super) async fn turn(&mut self) -> Option<Baton> {
        (&mut self.woken).await.ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut table = self.waiting.0.lock().expect("no holder panics");
        if let Some(queue) = table.keys.get_mut(&self.key) {
            let was = queue.remove(&self.place).is_some();
            if queue.is_empty() {
                table.keys.remove(&self.key);
            }
            table.count -= usize::from(was);
        }
        drop(table);
        // A baton that arrived and was not taken passes itself on.
        self.woken.close();
        drop(self.woken.try_recv());
    }
}

impl Baton {
    /// Keeps the baton: the key is locked again, and its next release wakes the next waiter.
    pub(super) fn keep(mut self) {
        self.key = Bytes::new();
    }
}

impl Drop for Baton {
    fn drop(&mut self) {
        if !self.key.is_empty() {
            self.waiting.wake(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the oldest first, and a turn is never lost. Method: waiters that are polled by hand.
    use futures::FutureExt as _;

    use super::*;

    fn turn(waiter: &mut Waiter) -> Option<Baton> {
        waiter.turn().now_or_never().flatten()
    }

    #[test]
    fn the_oldest_is_first_and_turns_are_passed_on() {
        let (waiting, key) = (Waiting::default(), Bytes::from_static(b"k"));
        let [mut young, mut old, mut gone] = [9, 3, 5].map(|start| waiting.join(&key, Timestamp(start)).unwrap());
        waiting.wake(&key);
        assert!(turn(&mut young).is_none() && turn(&mut gone).is_none());
        let baton = turn(&mut old).expect("its turn");
        drop(baton);
        // The turn is `gone`'s, which does not look any more.
        drop(gone);
        let baton = turn(&mut young).expect("it was passed on");
        assert_eq!(waiting.count(), 0);
        let mut late = waiting.join(&key, Timestamp(1)).unwrap();
        baton.keep();
        assert!(turn(&mut late).is_none(), "the key is locked again");
        drop(late);
        assert!(waiting.0.lock().unwrap().keys.is_empty());
    }
}
