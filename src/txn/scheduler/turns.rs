//! Lock requests that wait for their turn: a queue for each key, the oldest transaction first.
//!
//! In comes a request that met a lock; out goes its reply: the locks, a conflict, a deadlock, or the lock that stands
//! when its time is over. A request must never wait for a transaction that no longer holds the key: it follows the
//! holders.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select, select_all};

use super::{Progress, Shared, Txn};
use crate::codec::lock::Lock;
use crate::mvcc::Reader;
use crate::proto::deadlock::WaitForEntry;
use crate::proto::kvrpcpb::{KeyError, Op, PessimisticLockRequest, PessimisticLockResponse};
use crate::rt::task;
use crate::store::{Kv, Route};
use crate::txn::action::lock_keys::{self, Locking, Waited};
use crate::txn::action::{Key, error};
use crate::txn::deadlock;
use crate::txn::parked::Reported;
use crate::txn::waiting::{Baton, Told, Waiter};
use crate::types::limits::LOCK_WAIT_MAX;
use crate::types::{Result, Timestamp};

/// For how long the client that was told first that a key is free may come before the next one is told.
const NEXT_WAITER: Duration = Duration::from_millis(20);

impl<K: Kv> Txn<K> {
    /// Locks keys, and waits for others as long as the request allows.
    pub(super) async fn lock_in_turn(
        &self,
        route: K::Route,
        keys: Vec<Key>,
        asked: Arc<(PessimisticLockRequest, Bytes)>,
        progress: Progress,
    ) -> Result<PessimisticLockResponse> {
        let (request, tag) = &*asked;
        let wait = match request.wait_timeout {
            0 => LOCK_WAIT_MAX,
            ms => LOCK_WAIT_MAX.min(Duration::from_millis(u64::try_from(ms).unwrap_or_default())),
        };
        let shares = request.mutations.iter().all(|mutation| mutation.op() == Op::SharedPessimisticLock);
        let mut timer = pin!(self.kv.sleep(wait));
        let mut baton: Option<Baton> = None;
        let mut waited: Option<Waited> = None;
        let mut met: Option<Box<Lock>> = None;
        let mut is_over = wait.is_zero() || request.wait_timeout < 0;
        loop {
            let latches = self.latch(&keys).await;
            let seen = route.read().await?;
            let (own, before) = (asked.clone(), waited.take());
            let decide = move |reader: &Reader<'_>| lock_keys::decide_after(reader, &own.0, before.as_ref());
            let (key, lock) = match self.decide(&seen, decide).await? {
                Locking::Done(decided) => {
                    let decided = *decided;
                    let has_locked = !decided.writes.is_empty();
                    self.write(&route, &progress, decided.writes, seen.fence).await?;
                    match baton {
                        Some(baton) if has_locked && !shares => baton.keep(vec![Timestamp(request.start_version)]),
                        Some(baton) if !shares && !lock_keys::is_forced(request) => self.pass_on_later(baton),
                        _ => {}
                    }
                    drop(latches);
                    return Ok(decided.reply);
                }
                Locking::Locked(key, lock, closes) => {
                    self.write(&route, &progress, closes, seen.fence).await?;
                    progress.decide_again();
                    (key, lock)
                }
            };
            let mut holders = holders_of(&lock);
            // One that is still the same transaction's is told as it was when the wait began, as TiKV does.
            let lock = met.take().filter(|met| holders_of(met) == holders).unwrap_or(lock);
            if let Some(baton) = baton.take() {
                baton.keep(holders.clone());
            }
            if is_over {
                return Ok(lock_keys::refused(request, error::locked(&key.plain, &lock)));
            }
            let mut place = Place::new(self.shared.waiting.join(&key.encoded, Timestamp(request.start_version))?);
            drop(latches);
            crate::reach!("txn.waits-for-a-lock");
            while baton.is_none() && !is_over {
                if let Err(deadlock) = self.follow(&mut place, (request, tag), &key, &holders) {
                    return Ok(lock_keys::refused(request, deadlock));
                }
                let Place { waiter, reported, .. } = &mut place;
                let (told, circle) = (pin!(waiter.told()), pin!(circle(reported)));
                match select(select(told, circle), timer.as_mut()).await {
                    Either::Left((Either::Left((Told::Turn(woken), _)), _)) => baton = Some(woken),
                    Either::Left((Either::Left((Told::Taken(others), _)), _)) => {
                        crate::reach!("txn.another-takes-the-lock");
                        holders = others;
                    }
                    Either::Left((Either::Right((chain, _)), _)) => {
                        self.shared.deadlocks.fetch_add(1, Ordering::Relaxed);
                        let deadlock = deadlock::over_stores(&key.plain, holders[0], chain);
                        return Ok(lock_keys::refused(request, deadlock));
                    }
                    // The time is over: who has the key by now?
                    Either::Right(_) if crate::mutant!("txn.wait-ends-without-a-look") => {
                        return Ok(lock_keys::refused(request, error::locked(&key.plain, &lock)));
                    }
                    Either::Right(_) => is_over = true,
                }
            }
            waited = baton.is_some().then(|| (key.clone(), holders[0]));
            met = is_over.then_some(lock);
        }
    }

    /// Lets the next waiter try a released key after [`NEXT_WAITER`]: the first one asks again meanwhile.
    fn pass_on_later(&self, baton: Baton) {
        let kv = self.kv.clone();
        task::spawn(async move {
            kv.sleep(NEXT_WAITER).await;
            drop(baton);
        });
    }

    /// Lets a waiter wait for these transactions, and for no others.
    ///
    /// # Errors
    /// The deadlock, if one of them waits for this one.
    fn follow(
        &self,
        place: &mut Place,
        (request, tag): (&PessimisticLockRequest, &Bytes),
        key: &Key,
        holders: &[Timestamp],
    ) -> std::result::Result<(), KeyError> {
        let start = Timestamp(request.start_version);
        (place.edges, place.reported) = (Vec::new(), Vec::new());
        // A transaction that holds nothing yet cannot be part of a circle.
        let holders = if request.is_first_lock { &[] } else { holders };
        for holder in holders.iter().copied().filter(|holder| *holder != start) {
            let added = self.shared.graph.lock().expect("no holder panics").wait(start, holder, &key.plain, tag);
            if let Err(told) = added {
                self.shared.deadlocks.fetch_add(1, Ordering::Relaxed);
                return Err(deadlock::error(told));
            }
            place.edges.push(Edge { shared: self.shared.clone(), edge: (start, holder, key.plain.clone()) });
            let entry = deadlock::entry(start, holder, &key.plain, tag);
            place.reported.push(self.shared.parked.add(entry, self.kv.now()));
        }
        Ok(())
    }
}

/// Returns the transactions that have locked a key.
fn holders_of(lock: &Lock) -> Vec<Timestamp> {
    lock.each().into_iter().map(|lock| lock.start).collect()
}

/// Completes with the circle that a wait is part of, if the placement driver finds one.
async fn circle(reported: &mut [Reported]) -> Vec<WaitForEntry> {
    if reported.is_empty() {
        return std::future::pending().await;
    }
    select_all(reported.iter_mut().map(|reported| Box::pin(reported.circle()))).await.0
}

/// A place in the queue of a key, and the edges in the graph of waiting transactions: one to each that has locked it.
struct Place {
    waiter: Waiter,
    reported: Vec<Reported>,
    edges: Vec<Edge>,
}

impl Place {
    fn new(waiter: Waiter) -> Place {
        Place { waiter, reported: Vec::new(), edges: Vec::new() }
    }
}

struct Edge {
    shared: Arc<Shared>,
    edge: (Timestamp, Timestamp, Bytes),
}

impl Drop for Edge {
    fn drop(&mut self) {
        let (waiter, holder, key) = &self.edge;
        self.shared.graph.lock().expect("no holder panics").done(*waiter, *holder, key);
    }
}
