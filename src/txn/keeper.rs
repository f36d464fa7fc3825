//! What a store does for transactions by itself: it ends those whose clients are dead, and removes what nothing can
//! read any more.
//!
//! ```text
//!   safe point of transactions ─▶ floor of each region ─▶ locks below it ended ─▶ report
//!   reports of all regions ─▶ (placement driver) ─▶ safe point of the collection ─▶ old versions removed
//! ```
//! The placement driver's safe points come **in**, commands of the regions that are led here and reports go **out**.
//! **Never**: a report of a region that still has, or may still get, a lock below the floor; the end of a transaction
//! whose client has told in time that it is alive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::lock::Lock;
use crate::engine::{Cf, Read, Visit};
use crate::mvcc::Reader;
use crate::mvcc::garbage::{self, Batch};
use crate::proto::armilla::raft::CollectVersions;
use crate::proto::armilla::raft::region_command::Op;
use crate::proto::kvrpcpb::LockInfo;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::watch;
use crate::rt::{cpu, task};
use crate::store::{Cleared, Kv, Reports, Route, SafePoints, command};
use crate::types::limits::RESOLVED_AT_ONCE_MAX;
use crate::types::{Result, Timestamp, region};

use super::action::{Key, error, locks};
use super::scheduler::Txn;

/// The pause between two pages of a collection, so that it takes only a little of the disk and of a core.
const PAUSE: Duration = Duration::from_millis(10);
/// A simulated pause between two commands of a collection.
const LATE: Duration = Duration::from_secs(1);
/// A transaction that cannot be ended is looked at again after this many milliseconds, or its time to live if that is
/// longer.
const AGAIN_MS: u64 = 1000;

/// What operators decide.
#[derive(Clone, Copy, Debug)]
pub struct KeeperOptions {
    /// The time between two looks at locks.
    pub interval: Duration,
    /// How long a lock must have expired before the store ends its transaction: clients that meet it do so at once.
    pub grace: Duration,
}

/// The loop of a store.
pub struct Keeper<K> {
    /// The store's transactions.
    pub txn: Txn<K>,
    /// The placement driver's safe points.
    pub safe_points: watch::Receiver<SafePoints>,
    /// What the placement driver is told.
    pub reports: Reports,
    /// Settings.
    pub options: KeeperOptions,
}

/// What is known of a region that is led here.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    term: u64,
    version: u64,
    /// How far the region was applied at the last look at its locks.
    applied: u64,
    /// The start timestamp of the oldest lock, and of the oldest of a live transaction.
    oldest: Option<u64>,
    oldest_alive: Option<u64>,
    /// When the next of them may have to be ended, by the placement driver's clock (Unix milliseconds).
    due_ms: u64,
    /// When to ask for that clock, by this store's, which may be far from it.
    ask_ms: u64,
    /// The region's floor at that look.
    floor: u64,
    /// No lock that began below this is left, and none will come.
    cleared: u64,
    /// How many writes there had been at the last look at its locks.
    writes: u64,
    /// How many writes there had been when its versions were last looked at, and whether there were old ones.
    looked: Option<(u64, bool)>,
    /// Whether it had no version at all at the last look at its locks.
    is_empty: bool,
    /// The safe point up to which old versions were removed.
    collected: u64,
}

/// What the two loops share.
type AllKnown = Mutex<BTreeMap<u64, Known>>;

impl<K: Kv> Keeper<K> {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let known = AllKnown::default();
        futures::join!(self.look_at_locks(&known), self.collect(&known), self.report_waits());
    }

    async fn look_at_locks(&self, all: &AllKnown) {
        loop {
            self.txn.kv.sleep(self.options.interval).await;
            let routes = self.txn.kv.led();
            let mut led = BTreeMap::new();
            for route in &routes {
                let Some(place) = route.place() else { continue };
                let before = known_of(all, route);
                let id = route.region().id;
                let after = match self.locks(route, place, before).await {
                    Ok(after) => after,
                    Err(error) => {
                        tracing::debug!(region = id, %error, "locks are looked at again in the next round");
                        before
                    }
                };
                led.insert(id, after);
            }
            let ids: BTreeSet<u64> = routes.iter().map(|route| route.region().id).collect();
            self.txn.retain(|id| ids.contains(&id));
            let oldest = led.values().filter_map(|known| known.oldest_alive).min();
            let told = {
                let mut all = all.lock().expect("no holder panics");
                all.retain(|id, _| led.contains_key(id));
                for (id, mut after) in led {
                    // The other loop may have looked at the versions meanwhile.
                    let is_same = |known: &&Known| (known.term, known.version) == (after.term, after.version);
                    if let Some(known) = all.get(&id).filter(is_same) {
                        (after.looked, after.collected) = (known.looked, known.collected);
                    }
                    if after.is_empty {
                        after.looked = Some((after.writes, false));
                    }
                    all.insert(id, after);
                }
                all.iter().map(|(id, known)| (*id, self.told(known))).collect()
            };
            self.reports.replace(told, oldest);
        }
    }

    fn told(&self, known: &Known) -> Cleared {
        // Until it was looked at, a region may have old versions.
        let has_old = known.looked.is_none_or(|(writes, has_old)| has_old || writes != known.writes);
        Cleared { version: known.version, below: known.cleared, has_old }
    }

    /// Looks at a region's locks, ends expired ones, and raises the floor.
    async fn locks(&self, route: &K::Route, (term, applied): (u64, u64), before: Known) -> Result<Known> {
        let wanted = self.safe_points.borrow().txn;
        // Another leader may have written in between.
        let mut before = if before.term == term { before } else { Known::default() };
        let now_ms = self.txn.kv.now_s().saturating_mul(1000);
        let is_unchanged = (before.term, before.applied) == (term, applied);
        let mut is_due = before.oldest.is_some() && now_ms >= before.ask_ms;
        if is_due && is_unchanged && !crate::mutant!("gc.waits-by-another-clock") {
            // The placement driver's clock may be behind; a read would only wake the region.
            let now = self.txn.kv.timestamp().await?;
            is_due = now.physical_ms() > before.due_ms;
            before.ask_ms = now_ms.saturating_add(before.due_ms.saturating_sub(now.physical_ms()));
        }
        let is_same = is_unchanged && !is_due;
        let waits = before.cleared >= wanted || (before.oldest.is_some() && before.floor >= wanted);
        if is_same && waits && !crate::buggify!("keeper.look-anew") {
            return Ok(before);
        }
        let version = region::epoch(route.region()).version;
        let writes = self.txn.writes(route.region().id);
        let mut known = Known {
            term,
            version,
            applied,
            writes,
            oldest: None,
            oldest_alive: None,
            due_ms: u64::MAX,
            ask_ms: u64::MAX,
            ..before
        };
        let mut seen = route.read().await?;
        if seen.marks.floor < wanted {
            self.raise_floor(route, wanted).await?;
            // What was proposed before is part of this snapshot, and what comes later is refused.
            seen = route.read().await?;
        }
        let (snapshot, start, end) =
            (seen.snapshot.clone(), route.region().start_key.clone(), route.region().end_key.clone());
        known.is_empty = cpu::run(move || is_empty(&snapshot, &start, &end)).await?;
        let mut from = route.region().start_key.clone();
        let mut now = None;
        loop {
            let (snapshot, start, end) = (seen.snapshot.clone(), from, route.region().end_key.clone());
            let scan = move || locks::scan(&snapshot, (&start, &end), RESOLVED_AT_ONCE_MAX, &|_| true);
            let found = cpu::run(scan).await?;
            let next = (found.len() >= RESOLVED_AT_ONCE_MAX).then(|| found.last().map(|(key, _)| after(key))).flatten();
            let at = match now {
                None if !found.is_empty() => *now.insert(self.txn.kv.timestamp().await?),
                at => at.unwrap_or_default(),
            };
            self.judge(&mut known, found, at).await;
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        known.ask_ms = match now {
            Some(now) if !crate::mutant!("gc.waits-by-another-clock") => {
                now_ms.saturating_add(known.due_ms.saturating_sub(now.physical_ms()))
            }
            _ => known.due_ms,
        };
        let is_clear = known.oldest.is_none_or(|oldest| oldest >= wanted);
        known.floor = seen.marks.floor;
        if seen.marks.floor >= wanted && (is_clear || crate::mutant!("gc.before-locks-are-ended")) {
            known.cleared = wanted;
        }
        Ok(known)
    }

    /// Ends the transactions of locks that have expired, and notes when the others began.
    async fn judge(&self, known: &mut Known, found: Vec<(Key, Lock)>, now: Timestamp) {
        let grace_ms = u64::try_from(self.options.grace.as_millis()).unwrap_or(u64::MAX);
        let mut dead: BTreeMap<Timestamp, Vec<LockInfo>> = BTreeMap::new();
        let mut alive = Vec::new();
        let each = found.iter().flat_map(|(key, lock)| lock.each().into_iter().map(move |lock| (key, lock)));
        for (key, lock) in each {
            // In the age of a lock, the grace is part of its time to live.
            let patient = Lock { ttl_ms: lock.ttl_ms.saturating_add(grace_ms), ..lock.clone() };
            let ends_ms = lock.start.physical_ms().saturating_add(patient.ttl_ms);
            if patient.has_expired(now) {
                dead.entry(lock.start).or_default().push(error::info(&key.plain, &lock));
            } else {
                known.due_ms = known.due_ms.min(ends_ms);
                alive.push(lock.start.0);
            }
        }
        for (start, locks) in dead {
            let region_locks = locks.len();
            let again_ms = now.physical_ms().saturating_add(locks[0].lock_ttl.max(AGAIN_MS));
            let ended = match self.txn.others() {
                Ok(others) => others.end(locks).await,
                Err(error) => Err(error),
            };
            match ended {
                Ok(true) => {
                    crate::reach!("txn.ended-by-the-store");
                    tracing::debug!(%start, locks = region_locks, "ended a transaction whose client seems to be dead");
                    continue;
                }
                // Its primary lock was kept alive.
                Ok(false) => alive.push(start.0),
                Err(error) => {
                    tracing::debug!(%start, locks = region_locks, %error, "could not end a transaction yet");
                }
            }
            known.due_ms = known.due_ms.min(again_ms);
            known.oldest = Some(known.oldest.map_or(start.0, |oldest| oldest.min(start.0)));
        }
        for start in alive {
            known.oldest = Some(known.oldest.map_or(start, |oldest| oldest.min(start)));
            known.oldest_alive = Some(known.oldest_alive.map_or(start, |oldest| oldest.min(start)));
        }
    }

    async fn raise_floor(&self, route: &K::Route, floor: u64) -> Result<()> {
        crate::reach!("txn.floor-raised");
        let raise = CollectVersions { floor, collected: 0, changes: Vec::new() };
        route.write(Op::CollectVersions(raise), None).await.map(drop)
    }

    async fn collect(&self, all: &AllKnown) {
        loop {
            self.txn.kv.sleep(self.options.interval).await;
            let safe = self.safe_points.borrow().collect;
            for route in self.txn.kv.led() {
                let Some((term, _)) = route.place() else { continue };
                let known = known_of(all, &route);
                let writes = self.txn.writes(route.region().id);
                let is_clean = known.looked == Some((writes, false));
                // In every term: the one before may have ended in the middle.
                if safe == 0 || known.collected >= safe || is_clean || known.term != term {
                    continue;
                }
                let id = route.region().id;
                match self.collect_region(&route, Timestamp(safe)).await {
                    Ok(has_old) => {
                        let mut all = all.lock().expect("no holder panics");
                        if let Some(known) = all.get_mut(&id).filter(|known| known.term == term) {
                            (known.looked, known.collected) = (Some((writes, has_old)), safe);
                        }
                    }
                    Err(error) => {
                        tracing::debug!(region = id, %error, "old versions are left to the next round");
                    }
                }
            }
        }
    }

    /// Removes the old versions of a region. Returns whether it has more that may become old.
    async fn collect_region(&self, route: &K::Route, safe: Timestamp) -> Result<bool> {
        let mut from = route.region().start_key.clone();
        let mut has_old = false;
        loop {
            let seen = route.read().await?;
            let (snapshot, start, end) = (seen.snapshot, from, route.region().end_key.clone());
            let page = cpu::run_long(move || garbage::page(&snapshot, &start, &end, safe)).await?;
            has_old |= page.has_old;
            if !page.keys.is_empty() {
                self.txn.collect(route, page.keys, safe).await?;
            }
            self.txn.kv.sleep(PAUSE).await;
            match page.next {
                Some(next) => from = next,
                None => return Ok(has_old),
            }
        }
    }
}

impl<K: Kv> Txn<K> {
    /// Removes what may be removed of keys of a region. Their latches keep other requests from deciding about them
    /// meanwhile.
    async fn collect(&self, route: &K::Route, keys: Vec<Bytes>, safe: Timestamp) -> Result<()> {
        let latched: Vec<Key> = keys.iter().cloned().map(Key::of_encoded).collect::<Result<_>>()?;
        let (txn, route) = (self.clone(), route.clone());
        // A task of its own: the latches must stand until it is known what happened.
        let work = task::spawn(async move {
            let latches = txn.latch(&latched).await;
            loop {
                let seen = route.read().await?;
                let (snapshot, keys) = (seen.snapshot.clone(), keys.clone());
                let plan = cpu::run_long(move || with_values(&snapshot, &keys, safe)).await?;
                if plan.0.removed.is_empty() {
                    drop(latches);
                    return Ok(());
                }
                show(&route, &plan);
                let gone = |(cf, key): (Cf, Bytes)| command::delete(cf, key);
                let is_cut = plan.0.is_cut;
                let changes = plan.0.removed.into_iter().map(gone).collect();
                let op = CollectVersions { floor: 0, collected: safe.0, changes };
                crate::reach!("txn.versions-collected");
                route.settle(Op::CollectVersions(op), Some(seen.fence)).await?;
                if !is_cut {
                    drop(latches);
                    return Ok(());
                }
                if crate::buggify!("mvcc.small-batch") {
                    // Readers come in between.
                    txn.kv.sleep(LATE).await;
                }
            }
        });
        work.await.unwrap_or_else(|| Err(crate::types::Error::Stopped("the store stopped".into())))
    }
}

/// A batch, with the values of its records where a checker looks on.
type Plan = (Batch, Vec<Bytes>);

fn with_values(snapshot: &dyn Read, keys: &[Bytes], safe: Timestamp) -> Result<Plan> {
    let reader = Reader::new(snapshot);
    let batch = garbage::batch(&reader, keys, safe)?;
    let mut values = Vec::new();
    if probe::LISTENING {
        for (key, _, record) in &batch.records {
            values.push(match record.is_put() {
                true => reader.value_of(key, record.start, record.short_value.clone())?,
                false => Bytes::new(),
            });
        }
    }
    Ok((batch, values))
}

/// Shows the checkers what is removed, while it is still there.
fn show<R: Route>(route: &R, (batch, values): &Plan) {
    for ((key, commit, record), value) in batch.records.iter().zip(values) {
        let data = || {
            let record = crate::codec::record::encode(record);
            let plain = Key::of_encoded(key.clone()).map_or_else(|_| key.clone(), |key| key.plain);
            let parts = [&plain, &record, value];
            parts.into_iter().flat_map(|part| [&(part.len() as u32).to_be_bytes()[..], &part[..]].concat()).collect()
        };
        let region = route.region().id;
        probe::emit(|| Probe::Note { store: 0, what: "version-collected", a: region, b: commit.0, data: data() });
    }
}

/// Returns what is known of a region of this version.
fn known_of<R: Route>(all: &AllKnown, route: &R) -> Known {
    let version = region::epoch(route.region()).version;
    let known = all.lock().expect("no holder panics").get(&route.region().id).copied();
    known.filter(|known| known.version == version).unwrap_or_default()
}

/// Returns whether a range has no versions.
fn is_empty(read: &dyn Read, start: &[u8], end: &[u8]) -> Result<bool> {
    let mut empty = true;
    read.scan(Cf::TxnWrite, start, end, &mut |_, _| {
        empty = false;
        Visit::Stop
    })?;
    Ok(empty)
}

/// Returns the first key after a lock's.
fn after(key: &Key) -> Bytes {
    [&key.encoded[..], &[0]].concat().into()
}
