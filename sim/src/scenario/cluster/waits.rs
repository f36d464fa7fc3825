//! Transactions that wait for each other's locks, while nothing fails: the waiting one is woken, circles are told,
//! and nobody gets a lock that heartbeats keep, or that others share.

use std::pin::pin;
use std::time::Duration;

use armilla::client::txn::Why;
use armilla::client::{Failed, RawOptions, TxnClient, TxnOptions};
use armilla::codec::keyspace::Mode;
use armilla::codec::txn_key;
use armilla::types::region;
use bytes::Bytes;
use futures::future::{Either, join, select};

use super::{Run, SECOND, Verdict};
use crate::oracle::{Violation, liveness};
use crate::workload::client::Client;
use crate::workload::txn::{self, TTL_MS_MAX};

/// How long a request needs to arrive and to begin to wait, ns.
const ARRIVES_NS: u64 = SECOND / 10;
/// How long after a release the next one has the lock, ns: well below the time after which a request gives up waiting.
const WOKEN_NS: u64 = SECOND / 2;

/// How long the lock of a transaction lasts that is kept for longer, ms.
const KEPT_TTL_MS: u64 = 2000;

/// Returns a client whose requests may wait for long.
fn patient(admin: &Client) -> TxnClient {
    let attempt = Duration::from_secs(3);
    let options = RawOptions { attempt, deadline: attempt * 3, ..admin.raw().options().clone() };
    TxnClient::new(admin.raw().with_options(options))
}

/// Returns the settings of a transaction that waits for as long as it has to.
fn locking() -> TxnOptions {
    let patience = Duration::from_secs(600);
    TxnOptions { pessimistic: true, ttl_ms: TTL_MS_MAX, patience, ..TxnOptions::default() }
}

impl Run {
    /// Returns when a wait that failed is not tried again.
    fn until(&self) -> u64 {
        self.now() + liveness::bound_ns(&self.plan) + TTL_MS_MAX * 1_000_000
    }

    /// Lets two transactions wait for each other's locks: one of them must be told so, long before its patience ends.
    pub(super) async fn deadlock(&mut self, admin: &Client) -> Verdict {
        let client = patient(admin);
        let keys = txn::all_keys(&self.plan);
        let (Some(first), Some(last)) = (keys.first(), keys.last().filter(|_| keys.len() > 1)) else { return Ok(()) };
        let (options, until) = (locking(), self.until());
        loop {
            let (Ok(mut one), Ok(mut other)) =
                (client.begin(options.clone()).await, client.begin(options.clone()).await)
            else {
                self.in_time(until, "no transaction begins")?;
                continue;
            };
            let held = (one.lock(first, false).await, other.lock(last, false).await);
            let mut is_told = false;
            let mut why = format!("{held:?}");
            if let (Ok(_), Ok(_)) = held {
                let limit_ns = until.saturating_sub(self.now());
                // The other one waits on until this one gives its lock up.
                let (here, there) = (pin!(one.lock(last, false)), pin!(other.lock(first, false)));
                let ended = match select(select(here, there), pin!(self.world.sleep_ns(limit_ns))).await {
                    Either::Left((Either::Left((ended, _)) | Either::Right((ended, _)), _)) => ended,
                    Either::Right(_) => {
                        let what = "two transactions that wait for each other are not told";
                        return Err(Violation::new("liveness", self.now(), 0, what));
                    }
                };
                why = format!("{ended:?}");
                is_told = matches!(ended, Err(Failed::Aborted(abort)) if abort.why == Why::Deadlock);
            }
            one.rollback().await;
            other.rollback().await;
            if is_told {
                return Ok(());
            }
            self.in_time(until, &format!("no circle of waiting transactions is found: {why}"))?;
            self.guard(self.now() + SECOND / 5).await?;
        }
    }

    fn in_time(&self, until: u64, what: &str) -> Verdict {
        if self.now() < until { Ok(()) } else { Err(Violation::new("liveness", self.now(), 0, what)) }
    }

    /// Lets one transaction wait for another's lock: it has the lock as soon as that is released.
    pub(super) async fn wakes(&mut self, admin: &Client) -> Verdict {
        let client = patient(admin);
        let Some(key) = txn::all_keys(&self.plan).into_iter().next() else { return Ok(()) };
        let until = self.until();
        loop {
            let (one, other) = (client.begin(locking()).await, client.begin(locking()).await);
            let mut woken = false;
            if let (Ok(mut one), Ok(mut other)) = (one, other) {
                if one.lock(&key, false).await.is_ok() {
                    let world = self.world.clone();
                    let releases = pin!(async move {
                        world.sleep_ns(ARRIVES_NS).await;
                        one.rollback().await;
                    });
                    if let Either::Right(((), waits)) = select(pin!(other.lock(&key, false)), releases).await {
                        let timer = pin!(self.world.sleep_ns(WOKEN_NS));
                        woken = matches!(select(waits, timer).await, Either::Left((Ok(_), _)));
                    }
                }
                other.rollback().await;
            }
            if woken {
                return Ok(());
            }
            self.in_time(until, "a transaction that waits for a lock does not get it when it is released")?;
            self.guard(self.now() + SECOND / 5).await?;
        }
    }

    /// Lets a transaction last longer than its locks would by themselves: its client's heartbeats keep them, so that
    /// another one does not get them.
    pub(super) async fn keeps_its_locks(&mut self, admin: &Client) -> Verdict {
        let client = patient(admin);
        let Some(first) = txn::all_keys(&self.plan).into_iter().next() else { return Ok(()) };
        let key = Bytes::from([&first[..], b"~3"].concat());
        let until = self.until();
        loop {
            let mut is_kept = false;
            if let Ok(mut one) = client.begin(TxnOptions { ttl_ms: KEPT_TTL_MS, ..locking() }).await
                && one.lock(&key, false).await.is_ok()
            {
                self.guard(self.now() + 2 * KEPT_TTL_MS * 1_000_000).await?;
                let hasty = TxnOptions { patience: Duration::from_millis(300), ..locking() };
                if let Ok(mut other) = client.begin(hasty).await {
                    is_kept = other.lock(&key, false).await.is_err();
                    other.rollback().await;
                }
                one.put(key.clone(), Bytes::from_static(b"kept"));
                is_kept &= one.commit().await.is_ok();
            }
            if is_kept {
                return Ok(());
            }
            self.in_time(until, "a transaction whose client sends heartbeats loses its lock")?;
            self.guard(self.now() + SECOND / 5).await?;
        }
    }

    /// Lets two transactions share the lock of a key. After one has ended, the key is still locked: a third one does
    /// not get it for itself, and from then on no other shares it.
    pub(super) async fn shares_a_key(&mut self, admin: &Client) -> Verdict {
        let client = patient(admin);
        let Some(first) = txn::all_keys(&self.plan).into_iter().next() else { return Ok(()) };
        let key = |suffix: &str| Bytes::from([&first[..], suffix.as_bytes()].concat());
        let shared = key("~4");
        let hasty = TxnOptions { patience: Duration::from_millis(300), ..locking() };
        let until = self.until();
        loop {
            let mut all = Vec::new();
            for (own, options) in [("~5", locking()), ("~6", locking()), ("~7", hasty.clone()), ("~8", hasty.clone())] {
                if let Ok(mut txn) = client.begin(options).await
                    && txn.lock(&key(own), false).await.is_ok()
                {
                    all.push(txn);
                }
            }
            let mut is_right = false;
            if let Ok([mut one, mut other, mut writer, mut late]) = <[_; 4]>::try_from(all) {
                let both = one.lock_shared(&shared).await.is_ok() && other.lock_shared(&shared).await.is_ok();
                if both && other.commit().await.is_ok() {
                    is_right = writer.lock(&shared, false).await.is_err() && late.lock_shared(&shared).await.is_err();
                }
                is_right &= one.commit().await.is_ok();
                writer.rollback().await;
                late.rollback().await;
            }
            if is_right {
                return Ok(());
            }
            self.in_time(until, "the locks that share a key do not keep it from others")?;
            self.guard(self.now() + SECOND / 5).await?;
        }
    }

    /// Lets two transactions wait for each other's locks in one region: the one whose wait closes the circle is told at
    /// once. Circles over stores are told to the youngest, later.
    pub(super) async fn circle_on_one_store(&mut self, admin: &Client) -> Verdict {
        let client = patient(admin);
        let Some(first) = txn::all_keys(&self.plan).into_iter().next() else { return Ok(()) };
        let [here, there] = ["~1", "~2"].map(|suffix| Bytes::from([&first[..], suffix.as_bytes()].concat()));
        let until = self.until();
        loop {
            if !self.are_together(&here, &there) {
                return Ok(());
            }
            let (one, other) = (client.begin(locking()).await, client.begin(locking()).await);
            let mut told = false;
            if let (Ok(mut one), Ok(mut other)) = (one, other) {
                let held = (one.lock(&here, false).await, other.lock(&there, false).await);
                if let (Ok(_), Ok(_)) = held {
                    let world = self.world.clone();
                    let closes = pin!(async {
                        world.sleep_ns(ARRIVES_NS).await;
                        one.lock(&there, false).await
                    });
                    told = match select(pin!(other.lock(&here, false)), closes).await {
                        Either::Right((Err(Failed::Aborted(abort)), _)) => abort.why == Why::Deadlock,
                        _ => false,
                    };
                }
                one.rollback().await;
                other.rollback().await;
            }
            if told {
                return Ok(());
            }
            self.in_time(until, "the transaction that closes a circle of waits on one store is not told")?;
            self.guard(self.now() + SECOND / 5).await?;
        }
    }

    /// Returns whether two keys are in one region.
    fn are_together(&self, one: &Bytes, other: &Bytes) -> bool {
        let regions = self.monitor.with(|observed| observed.ranges.regions());
        let space = self.plan.space();
        let region_of = |key: &Bytes| {
            let encoded = txn_key::encode(&space.wire(Mode::Txn, key));
            regions.iter().find(|region| region::holds(region, &encoded)).map(|region| region.id)
        };
        region_of(one) == region_of(other)
    }

    /// Lets two transactions wait for a third one's lock. When the first of them has got it, it asks for a lock of the
    /// second: that closes a circle, of which one of the two is told at once.
    pub(super) async fn circle_behind_a_new_holder(&mut self, admin: &Client) -> Verdict {
        let client = patient(admin);
        let Some(first) = txn::all_keys(&self.plan).into_iter().next() else { return Ok(()) };
        let [here, there] = ["~9", "~91"].map(|suffix| Bytes::from([&first[..], suffix.as_bytes()].concat()));
        let until = self.until();
        loop {
            if !self.are_together(&here, &there) {
                return Ok(());
            }
            let mut all = Vec::new();
            for _ in 0..3 {
                all.extend(client.begin(locking()).await.ok());
            }
            let mut told = false;
            if let Ok([mut holder, mut one, mut other]) = <[_; 3]>::try_from(all) {
                let held = (holder.lock(&here, false).await, other.lock(&there, false).await);
                if let (Ok(_), Ok(_)) = held {
                    let world = self.world.clone();
                    let releases = async {
                        world.sleep_ns(2 * ARRIVES_NS).await;
                        holder.rollback().await;
                    };
                    let closes = pin!(async {
                        let ((), taken) = join(releases, one.lock(&here, true)).await;
                        if taken.is_err() {
                            return false;
                        }
                        let timer = pin!(world.sleep_ns(WOKEN_NS));
                        match select(one.lock(&there, false), timer).await {
                            Either::Left((Err(Failed::Aborted(abort)), _)) => abort.why == Why::Deadlock,
                            _ => false,
                        }
                    });
                    let waits = pin!(async {
                        world.sleep_ns(ARRIVES_NS).await;
                        other.lock(&here, true).await
                    });
                    told = match select(waits, closes).await {
                        Either::Right((told, _)) => told,
                        Either::Left(_) => false,
                    };
                }
                one.rollback().await;
                other.rollback().await;
            }
            if told {
                return Ok(());
            }
            self.in_time(until, "a transaction that waits behind a new holder of a key is not part of circles")?;
            self.guard(self.now() + SECOND / 5).await?;
        }
    }
}
