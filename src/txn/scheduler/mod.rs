//! Requests that write: from the latch to the verdict.
//!
//! A request runs on as a task of its own when its caller stops waiting: what it has proposed may happen, so its
//! latches and its locks in memory must stand until that is known. A request that has proposed nothing when its time is
//! over ends without a trace.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;

use futures::future::{BoxFuture, Either, select};
use prometheus::Histogram;

use crate::codec::lock::Lock;
use crate::mvcc::Reader;
use crate::proto::armilla::raft::Marks;
use crate::proto::kvrpcpb::{
    BatchRollbackRequest, BatchRollbackResponse, CheckSecondaryLocksRequest, CheckSecondaryLocksResponse,
    CheckTxnStatusRequest, CheckTxnStatusResponse, CleanupRequest, CleanupResponse, CommitRequest, CommitResponse,
    Context, FlushRequest, FlushResponse, PessimisticLockRequest, PessimisticLockResponse, PessimisticRollbackRequest,
    PessimisticRollbackResponse, PrewriteRequest, PrewriteResponse, ResolveLockRequest, ResolveLockResponse,
    TxnHeartBeatRequest, TxnHeartBeatResponse,
};
use crate::rt::{cpu, task};
use crate::store::{Access, Fence, Kv, RegionRead, Route, command};
use crate::types::limits::{KEY_BYTES_MAX, RESOLVED_AT_ONCE_MAX, TSO_WINDOW};
use crate::types::{Error, Region, Result, Timestamp, region};

use super::action::lock_keys;
use super::action::prewrite::{self, Checked, Mode, Prewrite};
use super::action::{Decided, Key, Writes, flush, keys, locks, resolve, rollback, settle, status};
use super::deadlock::Graph;
use super::latches::{Held, Latches};
use super::memory::Memory;
use super::others::Others;
use super::parked::Parked;
use super::waiting::Waiting;

mod turns;

/// What operators decide.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether a timestamp that the placement driver has not given out yet is refused. It would make later transactions
    /// commit in the future, where reads of the present do not see them.
    pub refuse_future_timestamps: bool,
}

/// How late a simulated write is: long enough for another leader to have decided something else.
const LATE: Duration = Duration::from_millis(1500);
/// How long a thread may stand still between two steps that need no waiting, in the simulator.
pub(super) const PREEMPTED: Duration = Duration::from_millis(5);

/// The transactions of a store. Clones share its state.
#[derive(Clone, Debug)]
pub struct Txn<K> {
    pub(super) kv: K,
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) memory: Memory,
    latches: Latches,
    waiting: Waiting,
    graph: Mutex<Graph>,
    /// By region: how many writes began or ended here.
    writes: Mutex<BTreeMap<u64, u64>>,
    /// How long requests waited for latches, in seconds.
    latch_seconds: Option<Histogram>,
    /// How many requests for locks were refused because of a deadlock.
    deadlocks: AtomicU64,
    /// The term and version of each region in which max_ts is known to be above all earlier leaders' reads.
    synced: Mutex<BTreeMap<u64, (u64, u64)>>,
    options: Options,
    others: OnceLock<Arc<dyn Others>>,
    parked: Parked,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has proposed nothing.
    Deciding,
    /// It may have proposed something.
    Writing,
    /// The same, but its caller has stopped waiting.
    Orphaned,
    /// Its caller has stopped waiting before that: it must not go on.
    GivenUp,
}

/// The stage of a request, shared by the request and its caller.
#[derive(Clone, Debug)]
struct Progress(Arc<Mutex<Stage>>);

impl Progress {
    fn new() -> Progress {
        Progress(Arc::new(Mutex::new(Stage::Deciding)))
    }

    /// Begins to write.
    ///
    /// # Errors
    /// [`Error::Deadline`] if nobody waits any more.
    fn write(&self) -> Result<()> {
        let mut stage = self.0.lock().expect("no holder panics");
        if *stage == Stage::GivenUp {
            return Err(too_late());
        }
        *stage = Stage::Writing;
        Ok(())
    }

    /// Goes back to deciding, after a write that is known to have happened and that changes nothing for the caller.
    fn decide_again(&self) {
        let mut stage = self.0.lock().expect("no holder panics");
        *stage = match *stage {
            Stage::Deciding | Stage::Writing => Stage::Deciding,
            Stage::Orphaned | Stage::GivenUp => Stage::GivenUp,
        };
    }

    /// Gives the request up. Returns the error for its caller.
    fn give_up(&self) -> Error {
        let mut stage = self.0.lock().expect("no holder panics");
        if matches!(*stage, Stage::Writing | Stage::Orphaned) {
            *stage = Stage::Orphaned;
            return Error::Unknown("no quorum answered in time".into());
        }
        *stage = Stage::GivenUp;
        too_late()
    }
}

fn too_late() -> Error {
    Error::Deadline("the request waited for others until its time was over".into())
}

/// A region as a request that decides sees it.
pub(super) type Seen<K> = RegionRead<<<K as Kv>::Route as Route>::Snapshot>;

impl<K: Kv> Txn<K> {
    /// Creates the transactions of a store.
    pub fn new(kv: K, options: Options) -> Txn<K> {
        Txn::with_metrics(kv, options, None)
    }

    /// Creates the transactions of a store, which record in `latch_seconds` how long requests wait for latches.
    pub fn with_metrics(kv: K, options: Options, latch_seconds: Option<Histogram>) -> Txn<K> {
        let shared = Shared {
            memory: Memory::default(),
            latches: Latches::default(),
            waiting: Waiting::default(),
            graph: Mutex::default(),
            writes: Mutex::default(),
            latch_seconds,
            deadlocks: AtomicU64::new(0),
            synced: Mutex::default(),
            options,
            others: OnceLock::new(),
            parked: Parked::default(),
        };
        Txn { kv, shared: Arc::new(shared) }
    }

    /// Connects the transactions to the other stores. Only the first call counts.
    pub fn connect(&self, others: Arc<dyn Others>) {
        drop(self.shared.others.set(others));
    }

    /// Returns the waits that are reported.
    pub(super) fn parked(&self) -> &Parked {
        &self.shared.parked
    }

    /// Returns the other stores.
    ///
    /// # Errors
    /// [`Error::Invalid`] before they are connected.
    pub(super) fn others(&self) -> Result<&Arc<dyn Others>> {
        self.shared
            .others
            .get()
            .ok_or_else(|| Error::Invalid("the store does not know the others yet: try again".into()))
    }

    /// Returns the statistics of the store's transactions, by name.
    pub fn figures(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("locks_in_memory", self.shared.memory.figures().1 as u64),
            ("lock_waiters", self.shared.waiting.count() as u64),
            ("deadlocks", self.shared.deadlocks.load(Ordering::Relaxed)),
        ])
    }

    /// Takes the latches of all these keys.
    pub(super) async fn latch(&self, keys: &[Key]) -> Vec<Held> {
        let Some(seconds) = &self.shared.latch_seconds else { return self.shared.latches.take(keys).await };
        let began = self.kv.now();
        let held = self.shared.latches.take(keys).await;
        seconds.observe(self.kv.now().since(began).as_secs_f64());
        held
    }

    /// Returns the route to a request's region, through its leader.
    pub(super) fn route(&self, context: &Context) -> Result<K::Route> {
        self.kv.route(&Context { replica_read: false, stale_read: false, ..context.clone() }, Access::Read)
    }

    /// Returns how often requests have begun or ended to write to a region since the store started.
    pub(super) fn writes(&self, region: u64) -> u64 {
        self.shared.writes.lock().expect("no holder panics").get(&region).copied().unwrap_or_default()
    }

    /// Forgets the regions that this store does not lead.
    pub(super) fn retain(&self, leads: impl Fn(u64) -> bool) {
        self.shared.writes.lock().expect("no holder panics").retain(|region, _| leads(*region));
        self.shared.synced.lock().expect("no holder panics").retain(|region, _| leads(*region));
    }

    fn count_write(&self, region: u64) {
        *self.shared.writes.lock().expect("no holder panics").entry(region).or_default() += 1;
    }

    /// Checks timestamps of a request: none may be from the future.
    pub(super) async fn admit(&self, timestamps: &[u64]) -> Result<()> {
        let latest = timestamps.iter().copied().filter(|at| *at != u64::MAX).max().unwrap_or_default();
        if !self.shared.options.refuse_future_timestamps || latest == 0 {
            return Ok(());
        }
        let near_ms = self.kv.now_s().saturating_mul(1000) + TSO_WINDOW.as_millis() as u64;
        if Timestamp(latest).physical_ms() <= near_ms {
            return Ok(());
        }
        let now = self.kv.timestamp().await?;
        if latest <= now.0 {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "the request has the timestamp {latest}, the placement driver has given out none above {now}: use one of its"
        )))
    }

    /// Runs a request that may write until its verdict, also if the caller's time is over before.
    async fn detached<T: Send + 'static>(
        &self,
        limit: Duration,
        progress: Progress,
        mut work: BoxFuture<'static, Result<T>>,
    ) -> Result<T> {
        // A request that waits for nobody needs no task.
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return done;
        }
        let mut guard = GivesUp(Some(progress));
        let timer = pin!(self.kv.sleep(limit));
        let done = match select(task::spawn(work), timer).await {
            Either::Left((done, _)) => done.unwrap_or_else(|| Err(Error::Stopped("the store stopped".into()))),
            Either::Right(_) => Err(guard.0.as_ref().expect("it is there").give_up()),
        };
        guard.0 = None;
        done
    }

    /// Decides a request from a snapshot: here if everything is in memory, else in a thread that may wait for the disk.
    async fn decide<T: Send + 'static>(
        &self,
        seen: &Seen<K>,
        decide: impl Fn(&Reader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let here = {
            let reader = under(Reader::in_memory(&seen.snapshot), seen.marks);
            let decided = decide(&reader)?;
            (!reader.needs_disk()).then_some(decided)
        };
        if let Some(decided) = here {
            return Ok(decided);
        }
        let (snapshot, marks) = (seen.snapshot.clone(), seen.marks);
        cpu::run(move || decide(&under(Reader::new(&snapshot), marks))).await
    }

    /// Replicates what a request has decided, then wakes those who wait for the keys that it released.
    async fn write(&self, route: &K::Route, progress: &Progress, writes: Writes, fence: Fence) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        progress.write()?;
        if crate::buggify!("txn.late-write") {
            self.kv.sleep(LATE).await;
        }
        let fence = Fence { oldest_ts: writes.oldest().unwrap_or_default().0, ..fence };
        let (changes, released) = writes.into_parts();
        let changes = changes.into_iter().map(|change| match change.value {
            Some(value) => command::put(change.cf, change.key, value),
            None => command::delete(change.cf, change.key),
        });
        let fence = if crate::mutant!("txn.fence-term-unchecked") { Fence { term: 0, ..fence } } else { fence };
        // Counted twice: a look at the region's versions may come between.
        self.count_write(route.region().id);
        let settled = route.settle(command::write(changes.collect()), Some(fence)).await;
        self.count_write(route.region().id);
        settled?;
        for (key, _) in released {
            self.shared.waiting.wake(&key.encoded);
        }
        Ok(())
    }

    /// Runs a request about keys of one region: latches, snapshot, decision, write.
    async fn command<R: Send + 'static>(
        &self,
        context: &Context,
        keys: Vec<Key>,
        decide: impl Fn(&Reader<'_>) -> Result<Decided<R>> + Send + Clone + 'static,
    ) -> Result<R> {
        let route = self.route(context)?;
        check_keys(route.region(), &keys)?;
        let (txn, progress) = (self.clone(), Progress::new());
        let (limit, at) = (route.limit(), progress.clone());
        let work = Box::pin(async move {
            let latches = txn.latch(&keys).await;
            let seen = route.read().await?;
            let decided = txn.decide(&seen, decide).await?;
            if crate::mutant!("txn.latch-released-early") {
                drop(latches);
                txn.write(&route, &at, decided.writes, seen.fence).await?;
                return Ok(decided.reply);
            }
            txn.write(&route, &at, decided.writes, seen.fence).await?;
            drop(latches);
            Ok(decided.reply)
        });
        self.detached(limit, progress, work).await
    }

    /// Prewrites, or commits in one phase.
    ///
    /// # Errors
    /// Those of a route, a read and a write ([`Route`]); [`Error::Invalid`] for a request that cannot be.
    pub async fn prewrite(&self, context: &Context, request: PrewriteRequest) -> Result<PrewriteResponse> {
        let f = [request.start_version, request.for_update_ts, request.min_commit_ts];
        self.admit(&f).await?;
        let route = self.route(context)?;
        let keys: Vec<Key> = request.mutations.iter().map(|mutation| Key::new(mutation.key.clone())).collect();
        check_keys(route.region(), &keys)?;
        if let Some(at) = prewrite::reads_at(&request)
            && !crate::mutant!("txn.prewrite-insert-does-not-raise")
        {
            self.shared.memory.raise(at);
        }
        let (txn, progress) = (self.clone(), Progress::new());
        let (limit, at) = (route.limit(), progress.clone());
        let source = context.txn_source;
        let work = Box::pin(async move {
            let latches = txn.latch(&keys).await;
            let seen = route.read().await?;
            if prewrite::mode(&request) != Mode::TwoPhase {
                txn.sync(&seen).await?;
            }
            let checked = txn.decide(&seen, move |reader| prewrite::check(reader, &request, source)).await?;
            let reply = match checked {
                Checked::Answer(reply) => *reply,
                Checked::Locked(errors, prewrite) => prewrite.locked(errors, txn.shared.memory.figures().0),
                Checked::Ready(prewrite) => txn.finish_prewrite(&route, &at, prewrite, seen.fence).await?,
            };
            drop(latches);
            Ok(reply)
        });
        self.detached(limit, progress, work).await
    }

    /// Writes keys of a pipelined transaction.
    ///
    /// # Errors
    /// As [`Txn::prewrite`].
    pub async fn flush(&self, context: &Context, request: FlushRequest) -> Result<FlushResponse> {
        self.admit(&[request.start_ts, request.min_commit_ts]).await?;
        let (generation, source) = (request.generation, context.txn_source);
        let request = flush::as_prewrite(request);
        if let Some(at) = prewrite::reads_at(&request) {
            self.shared.memory.raise(at);
        }
        let keys: Vec<Key> = request.mutations.iter().map(|mutation| Key::new(mutation.key.clone())).collect();
        self.command(context, keys, move |reader| flush::decide(reader, &request, source, generation)).await
    }

    async fn finish_prewrite(
        &self,
        route: &K::Route,
        progress: &Progress,
        prewrite: Prewrite,
        fence: Fence,
    ) -> Result<PrewriteResponse> {
        if prewrite.needs_timestamp() {
            // The lock was taken at a commit that its client does not know of: reads may have been served above it.
            let now = self.kv.timestamp().await?;
            self.shared.memory.raise(now);
        }
        let guards = prewrite.guards();
        if guards == 0 {
            let Decided { writes, reply } = prewrite.settle(Timestamp(0));
            self.write(route, progress, writes, fence).await?;
            return Ok(reply);
        }
        let outside = crate::mutant!("txn.memory-min-commit-outside").then(|| self.shared.memory.figures().0);
        if outside.is_some() || crate::buggify!("txn.slow-guard") {
            self.kv.sleep(PREEMPTED).await;
        }
        let (decided, standing) = self.shared.memory.guard(guards, |max_ts| {
            let max_ts = outside.unwrap_or(max_ts);
            let locks = prewrite.in_memory(max_ts);
            (prewrite.settle(max_ts), locks)
        });
        let Decided { writes, reply } = decided;
        let standing = (!crate::mutant!("txn.memory-dropped-before-apply")).then_some(standing);
        self.write(route, progress, writes, fence).await?;
        drop(standing);
        Ok(reply)
    }

    /// Makes sure that max_ts is above all reads that earlier leaders of the region have served. One call to the
    /// placement driver for each term and version of a region: a merge may bring in reads of another store.
    async fn sync(&self, seen: &Seen<K>) -> Result<()> {
        if crate::mutant!("txn.max-ts-not-synced") {
            return Ok(());
        }
        let now = (seen.fence.term, seen.fence.version);
        let is_synced = |synced: &BTreeMap<u64, (u64, u64)>| synced.get(&seen.region.id) == Some(&now);
        if is_synced(&self.shared.synced.lock().expect("no holder panics")) {
            return Ok(());
        }
        crate::reach!("txn.max-ts-synced");
        let at = self.kv.timestamp().await?;
        self.shared.memory.raise(at);
        self.shared.synced.lock().expect("no holder panics").insert(seen.region.id, now);
        Ok(())
    }

    /// Commits keys.
    ///
    /// # Errors
    /// As [`Txn::prewrite`].
    pub async fn commit(&self, context: &Context, request: CommitRequest) -> Result<CommitResponse> {
        self.admit(&[request.start_version, request.commit_version]).await?;
        self.command(context, keys(&request.keys), move |reader| settle::decide(reader, &request)).await
    }

    /// Raises max_ts to the start timestamp of a transaction that may be rolled back: an async commit must not take
    /// place where its record will be.
    fn raise_for_rollback(&self, start: u64) {
        if !crate::mutant!("txn.rollback-no-raise") {
            self.shared.memory.raise(Timestamp(start));
        }
    }

    /// Rolls keys back.
    ///
    /// # Errors
    /// As [`Txn::prewrite`].
    pub async fn batch_rollback(
        &self,
        context: &Context,
        request: BatchRollbackRequest,
    ) -> Result<BatchRollbackResponse> {
        self.admit(&[request.start_version]).await?;
        self.raise_for_rollback(request.start_version);
        self.command(context, keys(&request.keys), move |reader| rollback::batch(reader, &request)).await
    }

    /// Rolls the transaction of a key back, if it is old enough.
    ///
    /// # Errors
    /// As [`Txn::prewrite`].
    pub async fn cleanup(&self, context: &Context, request: CleanupRequest) -> Result<CleanupResponse> {
        self.admit(&[request.start_version, request.current_ts]).await?;
        self.raise_for_rollback(request.start_version);
        let keys = vec![Key::new(request.key.clone())];
        self.command(context, keys, move |reader| rollback::cleanup(reader, &request)).await
    }

    /// Makes a lock last.
    ///
    /// # Errors
    /// As [`Txn::prewrite`].
    pub async fn heartbeat(&self, context: &Context, request: TxnHeartBeatRequest) -> Result<TxnHeartBeatResponse> {
        self.admit(&[request.start_version]).await?;
        let keys = vec![Key::new(request.primary_lock.clone())];
        self.command(context, keys, move |reader| locks::heartbeat(reader, &request)).await
    }

    /// Tells what became of a transaction.
    ///
    /// # Errors
    /// As [`Txn::prewrite`].
    pub async fn status(&self, context: &Context, request: CheckTxnStatusRequest) -> Result<CheckTxnStatusResponse> {
        let asked = [request.lock_ts, request.current_ts, request.caller_start_ts];
        self.admit(&asked).await?;
        asked.into_iter().filter(|at| *at != u64::MAX).for_each(|at| self.raise_for_rollback(at));
        let keys = vec![Key::new(request.primary_key.clone())];
        self.command(context, keys, move |reader| status::decide(reader, &request)).await
    }

    /// Tells whether an async commit has its locks.
    ///
    /// # Errors
    /// As [`Txn::prewrite`].
    pub async fn secondaries(
        &self,
        context: &Context,
        request: CheckSecondaryLocksRequest,
    ) -> Result<CheckSecondaryLocksResponse> {
        self.admit(&[request.start_version]).await?;
        self.raise_for_rollback(request.start_version);
        self.command(context, keys(&request.keys), move |reader| locks::secondaries(reader, &request)).await
    }

    /// Ends locks of decided transactions: those of the keys in the request, or all of the region.
    ///
    /// # Errors
    /// As [`Txn::prewrite`].
    pub async fn resolve(&self, context: &Context, request: ResolveLockRequest) -> Result<ResolveLockResponse> {
        let fates = resolve::fates(&request);
        let all: Vec<u64> = fates.iter().flat_map(|(start, commit)| [start.0, commit.0]).collect();
        self.admit(&all).await?;
        if let Some(reply) = resolve::impossible(&fates) {
            return Ok(reply);
        }
        fates.iter().filter(|(_, commit)| commit.0 == 0).for_each(|(start, _)| self.raise_for_rollback(start.0));
        if !request.keys.is_empty() {
            let listed = keys(&request.keys);
            return self
                .command(context, listed.clone(), move |reader| resolve::decide(reader, &fates, &listed, true))
                .await;
        }
        let any = crate::mutant!("txn.resolve-foreign-lock");
        let wanted = fates.clone();
        let wanted = move |lock: &Lock| wanted.contains_key(&lock.start) || any;
        self.whole_region(context, wanted, move |reader, found| resolve::decide(reader, &fates, found, false)).await
    }

    /// Releases pessimistic locks: those of the keys in the request, or all of the region.
    ///
    /// # Errors
    /// As [`Txn::prewrite`].
    pub async fn pessimistic_rollback(
        &self,
        context: &Context,
        request: PessimisticRollbackRequest,
    ) -> Result<PessimisticRollbackResponse> {
        self.admit(&[request.start_version, request.for_update_ts]).await?;
        if !request.keys.is_empty() {
            let listed = keys(&request.keys);
            return self
                .command(context, listed.clone(), move |reader| rollback::pessimistic(reader, &request, &listed))
                .await;
        }
        let (start, until) = (request.start_version, request.for_update_ts);
        let wanted = move |lock: &Lock| lock.start.0 == start && lock.is_pessimistic() && lock.for_update.0 <= until;
        self.whole_region(context, wanted, move |reader, found| rollback::pessimistic(reader, &request, found)).await
    }

    /// Runs a request about all locks of a region that `wanted` accepts, some at a time, until there are none.
    async fn whole_region<R: Default + Send + 'static>(
        &self,
        context: &Context,
        wanted: impl Fn(&Lock) -> bool + Send + Clone + 'static,
        decide: impl Fn(&Reader<'_>, &[Key]) -> Result<Decided<R>> + Send + Clone + 'static,
    ) -> Result<R> {
        let route = self.route(context)?;
        let (txn, progress) = (self.clone(), Progress::new());
        let (limit, at) = (route.limit(), progress.clone());
        let work = Box::pin(async move {
            let mut from = route.region().start_key.clone();
            loop {
                let seen = route.read().await?;
                let (snapshot, wanted, end) = (seen.snapshot.clone(), wanted.clone(), route.region().end_key.clone());
                let start = from.clone();
                let found = cpu::run(move || locks::scan(&snapshot, (&start, &end), RESOLVED_AT_ONCE_MAX, &wanted));
                let found: Vec<Key> = found.await?.into_iter().map(|(key, _)| key).collect();
                let Some(last) = found.last().cloned() else { return Ok(R::default()) };
                let is_last = found.len() < RESOLVED_AT_ONCE_MAX;
                let latches = txn.latch(&found).await;
                let seen = route.read().await?;
                let decide = decide.clone();
                let decided = txn.decide(&seen, move |reader| decide(reader, &found)).await?;
                let stops = decided.writes.is_empty();
                txn.write(&route, &at, decided.writes, seen.fence).await?;
                drop(latches);
                // What has an error writes nothing.
                if is_last || stops {
                    return Ok(decided.reply);
                }
                from = last.encoded;
            }
        });
        self.detached(limit, progress, work).await
    }

    /// Locks keys before the commit begins; waits for the locks of others, if the request says so.
    ///
    /// # Errors
    /// As [`Txn::prewrite`].
    pub async fn lock_keys(
        &self,
        context: &Context,
        request: PessimisticLockRequest,
    ) -> Result<PessimisticLockResponse> {
        self.admit(&[request.start_version, request.for_update_ts, request.min_commit_ts]).await?;
        let route = self.route(context)?;
        let keys: Vec<Key> = request.mutations.iter().map(|mutation| Key::new(mutation.key.clone())).collect();
        check_keys(route.region(), &keys)?;
        if let Some(at) = lock_keys::reads_at(&request) {
            self.shared.memory.raise(at);
        }
        let (txn, progress) = (self.clone(), Progress::new());
        let (limit, at) = (route.limit(), progress.clone());
        let tag = context.resource_group_tag.clone();
        let asked = Arc::new((request, tag));
        let work = Box::pin(async move { txn.lock_in_turn(route, keys, asked, at).await });
        self.detached(limit, progress, work).await
    }
}

/// Gives a request up when its caller goes away.
struct GivesUp(Option<Progress>);

impl Drop for GivesUp {
    fn drop(&mut self) {
        if let Some(progress) = self.0.take() {
            progress.give_up();
        }
    }
}

/// Returns the reader of a region with these marks.
fn under(reader: Reader<'_>, marks: Marks) -> Reader<'_> {
    reader.under(Timestamp(marks.floor), Timestamp(marks.collected))
}

/// Checks that a region has all keys of a request, and that none is too long.
///
/// # Errors
/// [`Error::Invalid`]: a client that sends keys to a region of the version that it knows knows its boundaries.
pub(super) fn check_keys(in_region: &Region, keys: &[Key]) -> Result<()> {
    if let Some(long) = keys.iter().find(|key| key.plain.len() > KEY_BYTES_MAX) {
        let length = long.plain.len();
        return Err(Error::Invalid(format!("a key of {length} bytes is over the limit of {KEY_BYTES_MAX} bytes")));
    }
    match keys.iter().all(|key| region::holds(in_region, &key.encoded)) {
        true => Ok(()),
        false => Err(Error::Invalid(format!(
            "a key is outside region {}, which the request names: look up the key's region again",
            in_region.id
        ))),
    }
}
