//! Starting a store's replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use armilla_arch::sync::Pending;
use futures::future::BoxFuture;

use crate::engine::{Engine, KvEngine};
use crate::rt::rng::Rng;
use crate::rt::sync::{mpsc, watch};
use crate::rt::task::{self, JoinHandle};
use crate::rt::{Env, cpu, lane};
use crate::types::limits::{LANES_MAX, SNAPSHOTS_IN_MAX, SNAPSHOTS_OUT_MAX};
use crate::types::run::History;
use crate::types::{GroupId, Result};

use super::driver::{Driver, Flushes, Machines, Options, Parts, check_nothing_missing};
use super::effects::{Effects, StoreEffect};
use super::follower_reads::FollowerReads;
use super::group_state::{self, Tombstone};
use super::handle::Handle;
use super::keeper::{Log, LogKeeper, Retention};
use super::log::{LogBatch, RaftLog};
use super::merge_questions::MergeQuestions;
use super::message::Message;
use super::promise::LongestPromise;
use super::snapshot::{Retries, Traffic};
use super::transport::{Addresses, Inbox, Local, Outbox, Runs, Sending};

/// The running lanes of a store.
#[derive(Debug)]
pub struct Replicas {
    /// For proposals, reads and inspection of the groups.
    pub handle: Handle,
    /// The transport service for other stores.
    pub inbox: Inbox,
    /// For reads of groups that other stores lead.
    pub follower_reads: FollowerReads,
    lanes: Vec<JoinHandle<Result<()>>>,
    /// The log's writer, if there are several lanes. It ends with them.
    writer: Option<JoinHandle<()>>,
    ticker: JoinHandle<()>,
    merge_questions: JoinHandle<()>,
}

impl Replicas {
    /// Stops the lanes after the work that they have begun, and flushes the engine, so that the next start has nothing
    /// to replay.
    pub async fn stop(self) {
        self.ticker.abort();
        self.merge_questions.abort();
        self.handle.send_all(|| Message::Stop);
        let mut whole = true;
        for lane in self.lanes {
            whole &= matches!(lane.await, Some(Ok(())));
        }
        if let Some(writer) = self.writer {
            let _ = writer.await;
        }
        let engine = self.handle.engine().clone();
        if whole && let Err(error) = cpu::run_long(move || engine.flush()).await {
            tracing::error!(%error, "the last flush failed, the next start will replay the log");
        }
    }
}

/// A step between restoring the groups and running them. It receives the groups that are here.
pub type Before = Box<dyn FnOnce(Vec<GroupId>) -> BoxFuture<'static, Result<()>> + Send>;

/// What is needed to start a store's replicas.
pub struct Start {
    /// The cluster ID.
    pub cluster: u64,
    /// The store ID.
    pub store: u64,
    /// This run of the process, and the runs before it.
    pub history: Arc<History>,
    /// The engine with the groups' data.
    pub engine: Engine,
    /// The open log.
    pub log: RaftLog,
    /// The number of lanes that drive the groups.
    pub lanes: usize,
    /// The options of the drivers.
    pub options: Options,
    /// The addresses of the other stores.
    pub addresses: watch::Receiver<Addresses>,
    /// Called when all groups are restored, before any of them runs.
    pub before: Before,
}

/// Removes from the log what is left of peers whose end the engine held when it was opened.
async fn remove_ended(log: &mut RaftLog, engine: &Engine, tombstones: &BTreeMap<GroupId, Tombstone>) -> Result<()> {
    let here: BTreeSet<u64> = group_state::stored(engine)?.into_iter().map(|state| state.region.id).collect();
    let mut batch = LogBatch::default();
    for group in log.groups() {
        if !here.contains(&group.0) && tombstones.contains_key(&group) {
            batch.remove(group);
        }
    }
    if batch.is_empty() { Ok(()) } else { log.write(&batch, true).await }
}

/// Applies what the log knows to be committed, until no group is born any more and none waits for another.
async fn replay(
    drivers: &mut [Driver],
    messages: &mut [mpsc::UnboundedReceiver<Message>],
    mut keeper: Box<LogKeeper>,
    handle: &Handle,
) -> Result<Box<LogKeeper>> {
    // A group that was born after the engine's last flush is only in the log: its parent's entries give birth to it
    // again, and it may have split itself since.
    loop {
        let (mut born, mut moved) = (Vec::new(), false);
        for (driver, messages) in drivers.iter_mut().zip(messages.iter_mut()) {
            let did;
            (keeper, did) = driver.replay(keeper, messages).await?;
            moved |= did;
            born.extend(driver.take_restored());
        }
        if born.is_empty() && !moved {
            drivers.iter().try_for_each(Driver::check_nothing_waits)?;
            return Ok(keeper);
        }
        for newborn in born {
            drivers[handle.lane_of(GroupId(newborn.0.id))].restore_newborn(&mut keeper.log, newborn).await?;
        }
    }
}

/// Restores every group that the engine holds, and starts the lanes. The returned channel has the effects of the
/// groups' state machines on the store.
///
/// # Errors
/// If the log or the engine cannot be read, or they contradict each other.
///
/// # Panics
/// If there are no lanes, or more than [`LANES_MAX`].
pub async fn start(env: &Env, start: Start, machines: Machines) -> Result<(Replicas, mpsc::Receiver<StoreEffect>)> {
    let Start { cluster, store, history, engine, mut log, lanes, options, addresses, before } = start;
    assert!((1..=LANES_MAX).contains(&lanes), "a store has 1 to {LANES_MAX} lanes");
    let (handle, mut messages) = Handle::new(env.clock.clone(), engine.clone(), lanes);
    let local = Local { cluster, store, election_ns: options.raft.election_ns(), history: history.clone() };
    let traffic = |slots| Traffic::new(env.clock.clone(), slots, options.snapshot_bytes_per_s);
    let sending = Sending {
        fetch_bytes_max: options.fetch_bytes_max,
        chunk_bytes: options.snapshot_chunk_bytes,
        traffic: traffic(SNAPSHOTS_OUT_MAX),
        retries: Arc::new(Mutex::new(Retries::new(Rng::fork(env.seed, "snapshots")))),
    };
    let receiving = traffic(SNAPSHOTS_IN_MAX);
    let outbox = Outbox::new(local.clone(), env.net.clone(), addresses.clone(), handle.clone(), sending);
    let follower_reads = FollowerReads::new(local.clone(), env.net.clone(), env.clock.clone(), addresses.clone());
    let merge_questions = MergeQuestions {
        local: local.clone(),
        handle: handle.clone(),
        follower_reads: follower_reads.clone(),
        net: env.net.clone(),
        clock: env.clock.clone(),
        addresses,
    };
    let runs = Runs::load(&engine)?;
    let (effects, received) = Effects::new();
    let promise = Arc::new(LongestPromise::load(&engine)?);
    // The followers of this store's leaders promise this much, and so do its voters among themselves.
    promise.raise(options.raft.election_ns()).await?;
    let flushes = Arc::new(Mutex::new(Flushes::new(env.clock.now().0)));
    let waiting: Vec<Arc<Pending>> = (0..lanes).map(|_| Arc::default()).collect();
    let driver = |lane: usize| {
        Driver::new(Parts {
            store,
            lane,
            options: options.clone(),
            handle: handle.clone(),
            machines: machines.clone(),
            outbox: outbox.clone(),
            effects: effects.share(),
            tick_waiting: waiting[lane].clone(),
            nonce: history.run.nonce,
            flushes: flushes.clone(),
            promise: promise.clone(),
        })
    };
    let mut drivers: Vec<Driver> = (0..lanes).map(driver).collect();
    let tombstones = group_state::tombstones(&engine)?;
    tombstones.iter().for_each(|(group, tombstone)| handle.bury(*group, *tombstone));
    remove_ended(&mut log, &engine, &tombstones).await?;
    for state in group_state::stored(&engine)? {
        drivers[handle.lane_of(GroupId(state.region.id))].restore(&mut log, state).await?;
    }
    let retention = Retention {
        keep_entries: options.log_keep_entries,
        lag_entries_max: options.log_lag_entries_max,
        group_bytes_max: options.log_group_bytes_max,
        store_bytes_max: options.log_store_bytes_max,
    };
    let mut keeper = Box::new(LogKeeper { log, retention, handle: handle.clone() });
    keeper = replay(&mut drivers, &mut messages, keeper, &handle).await?;
    for group in keeper.log.groups() {
        if handle.view(group).is_none() && handle.peer_id_min(group) > 0 {
            drivers[handle.lane_of(group)].bury(group);
        }
    }
    check_nothing_missing(&keeper.log, |group| {
        handle.view(group).is_some() || drivers[handle.lane_of(group)].is_buried(group)
    })?;
    // Groups whose peer here was removed are accounted for as well.
    before(handle.views().iter().map(|view| view.group).chain(handle.buried()).collect()).await?;
    let peers: BTreeSet<u64> =
        handle.views().iter().flat_map(|view| view.region().peers.clone()).map(|peer| peer.store_id).collect();
    peers.into_iter().for_each(|peer| outbox.connect(peer));
    let inbox = Inbox::new(local, handle.clone(), receiving, runs, promise);
    let (logs, writer) = if lanes == 1 {
        (vec![Log::InLine(keeper)], None)
    } else {
        let (jobs, asked) = mpsc::unbounded_channel();
        let logs = (0..lanes).map(|_| Log::Writer(jobs.clone())).collect();
        (logs, Some(lane::spawn(&format!("log-{store}"), keeper.run(asked))))
    };
    let running = drivers.into_iter().zip(logs).zip(messages).enumerate();
    let lanes = running.map(|(number, ((driver, log), messages))| {
        lane::spawn(&format!("raft-{store}-{number}"), driver.run(log, messages))
    });
    let lanes = lanes.collect();
    let (clock, ticks) = (env.clock.clone(), handle.clone());
    let tick = Duration::from_nanos(options.raft.tick_ns);
    let ticker = task::spawn(async move {
        loop {
            clock.sleep(tick).await;
            for (lane, waiting) in waiting.iter().enumerate() {
                // A lane that was held up gets one tick for all that it missed, so that the election timeouts of its
                // peers do not expire at once.
                if waiting.raise() && !ticks.send_to(lane, Message::Tick) {
                    return;
                }
            }
        }
    });
    let merge_questions = task::spawn(merge_questions.run());
    Ok((Replicas { handle, inbox, follower_reads, lanes, writer, ticker, merge_questions }, received))
}
