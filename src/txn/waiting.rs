//! Transactions that wait for a key to be released, the oldest first.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::{Either, select};

use crate::rt::sync::{oneshot, watch};
use crate::types::limits::TXN_WAITERS_MAX;
use crate::types::{Error, Result, Timestamp};

/// Who waits for which key. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    keys: BTreeMap<Bytes, Queue>,
    count: usize,
    next: u64,
}

/// Those who wait for one key.
#[derive(Debug, Default)]
struct Queue {
    /// By age.
    waiters: BTreeMap<(Timestamp, u64), oneshot::Sender<Baton>>,
    /// The start timestamps of the transactions that have locked the key since the first waiter came.
    holders: watch::Sender<Vec<Timestamp>>,
}

/// A place in the queue of a key. Dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct Waiter {
    waiting: Waiting,
    key: Bytes,
    place: (Timestamp, u64),
    woken: oneshot::Receiver<Baton>,
    holders: watch::Receiver<Vec<Timestamp>>,
}

/// What a waiter is told.
#[derive(Debug)]
pub(super) enum Told {
    /// The key was released, and it is this waiter's turn.
    Turn(Baton),
    /// The key was released, and now these transactions have locked it, which are known by their start timestamps.
    Taken(Vec<Timestamp>),
}

/// The right to try a released key. Whoever does not take its lock passes it on to the next waiter, by dropping it: to
/// one who waited when the key was released. Those who have come since wait for another transaction's lock.
#[derive(Debug)]
pub(super) struct Baton {
    waiting: Waiting,
    key: Bytes,
    /// The last number that a waiter had at that time.
    last: u64,
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
        let queue = table.keys.entry(key.clone()).or_default();
        queue.waiters.insert(place, sender);
        let holders = queue.holders.subscribe();
        Ok(Waiter { waiting: self.clone(), key: key.clone(), place, woken, holders })
    }

    /// Wakes the oldest transaction that waits for a key (encoded), which nobody locks any more.
    pub(super) fn wake(&self, key: &Bytes) {
        if crate::mutant!("txn.wait-lost-wakeup") {
            return;
        }
        self.wake_up_to(key, None);
    }

    /// Wakes the oldest transaction among those that wait for a key under a number up to `last`, or of all.
    fn wake_up_to(&self, key: &Bytes, last: Option<u64>) {
        let (first, last) = {
            let mut table = self.0.lock().expect("no holder panics");
            let last = last.unwrap_or(table.next);
            let Some(queue) = table.keys.get_mut(key) else { return };
            let is_late = |number: u64| number > last && !crate::mutant!("txn.late-waiters-are-woken");
            let place = queue.waiters.keys().find(|(_, number)| !is_late(*number)).copied();
            let first = place.and_then(|place| queue.waiters.remove(&place));
            if queue.waiters.is_empty() {
                table.keys.remove(key);
            }
            table.count -= usize::from(first.is_some());
            (first, last)
        };
        if let Some(sender) = first {
            crate::reach!("txn.waiter-woken");
            // If it has just stopped waiting, the baton comes back, and passes itself on.
            drop(sender.send(Baton { waiting: self.clone(), key: key.clone(), last }));
        }
    }

    /// Returns how many transactions wait.
    pub(super) fn count(&self) -> usize {
        self.0.lock().expect("no holder panics").count
    }
}

impl Waiter {
    /// Completes when the key was released: with this waiter's turn, or with those who have locked it instead.
    pub(super) async fn told(&mut self) -> Told {
        let told = {
            let (turn, taken) = (pin!(&mut self.woken), pin!(self.holders.changed()));
            match select(turn, taken).await {
                Either::Left((turn, _)) => turn.ok(),
                Either::Right((Ok(()), _)) => None,
                // The queue has ended, with the turn of its last waiter.
                Either::Right((Err(_), turn)) => turn.await.ok(),
            }
        };
        match told {
            Some(baton) => Told::Turn(baton),
            None => Told::Taken(self.holders.borrow_and_update().clone()),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut table = self.waiting.0.lock().expect("no holder panics");
        if let Some(queue) = table.keys.get_mut(&self.key) {
            let was = queue.waiters.remove(&self.place).is_some();
            if queue.waiters.is_empty() {
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
    /// Keeps the baton: the key is locked again, by these transactions, and its next release wakes the next waiter. The
    /// others who wait are told.
    pub(super) fn keep(mut self, holders: Vec<Timestamp>) {
        let key = std::mem::take(&mut self.key);
        let table = self.waiting.0.lock().expect("no holder panics");
        if let Some(queue) = table.keys.get(&key).filter(|_| !crate::mutant!("txn.waiters-keep-their-holder")) {
            queue.holders.send_replace(holders);
        }
    }
}

impl Drop for Baton {
    fn drop(&mut self) {
        if !self.key.is_empty() {
            self.waiting.wake_up_to(&self.key, Some(self.last));
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the oldest first, and a turn is never lost. Method: waiters that are polled by hand.
    use futures::FutureExt as _;

    use super::*;

    fn turn(waiter: &mut Waiter) -> Option<Baton> {
        match waiter.told().now_or_never() {
            Some(Told::Turn(baton)) => Some(baton),
            _ => None,
        }
    }

    fn taken(waiter: &mut Waiter) -> Option<Vec<Timestamp>> {
        match waiter.told().now_or_never() {
            Some(Told::Taken(holders)) => Some(holders),
            _ => None,
        }
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
        baton.keep(vec![Timestamp(9)]);
        assert_eq!(taken(&mut late), Some(vec![Timestamp(9)]));
        assert!(turn(&mut late).is_none(), "the key is locked again");
        drop(late);
        assert!(waiting.0.lock().unwrap().keys.is_empty());
    }

    #[test]
    fn a_turn_is_not_passed_on_to_those_who_came_later() {
        let (waiting, key) = (Waiting::default(), Bytes::from_static(b"k"));
        let [mut first, mut second] = [3, 5].map(|start| waiting.join(&key, Timestamp(start)).unwrap());
        waiting.wake(&key);
        let baton = turn(&mut first).expect("its turn");
        let mut late = waiting.join(&key, Timestamp(1)).unwrap();
        drop(baton);
        assert!(turn(&mut late).is_none(), "it waits for the next release");
        drop(turn(&mut second).expect("the next one's turn"));
        assert!(turn(&mut late).is_none() && waiting.count() == 1);
        waiting.wake(&key);
        assert!(turn(&mut late).is_some());
    }

    #[test]
    fn those_who_wait_are_told_of_each_new_holder() {
        let (waiting, key) = (Waiting::default(), Bytes::from_static(b"k"));
        let [mut first, mut second, mut third] = [3, 5, 7].map(|start| waiting.join(&key, Timestamp(start)).unwrap());
        for (waiter, holder) in [(&mut first, 3), (&mut second, 5)] {
            waiting.wake(&key);
            turn(waiter).expect("its turn").keep(vec![Timestamp(holder)]);
            assert_eq!(taken(&mut third), Some(vec![Timestamp(holder)]));
            assert_eq!(taken(&mut third), None);
        }
        waiting.wake(&key);
        let baton = turn(&mut third).expect("its turn");
        baton.keep(vec![Timestamp(7)]);
        assert!(waiting.join(&key, Timestamp(9)).is_ok_and(|mut late| taken(&mut late).is_none()));
    }
}
