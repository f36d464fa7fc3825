//! Starting a store's replicas.

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

use super::driver::{Driver, Flushes, Machines, Options, Parts, nothing_missing};
use super::effects::{Effects, StoreEffect};
use super::group_state;
use super::handle::Handle;
use super::keeper::{Log, LogKeeper, Retention};
use super::log::RaftLog;
use super::message::Message;
use super::promise::LongestPromise;
use super::snapshot::{Retries, Traffic};
use super::transport::{Addresses, Inbox, Local, Outbox, Runs, Sending};

/// A store's running lanes.
#[derive(Debug)]
pub struct Replicas {
    /// Proposes, reads and looks.
    pub handle: Handle,
    /// To be served to other stores.
    pub inbox: Inbox,
    lanes: Vec<JoinHandle<Result<()>>>,
    /// Of the log, where there are several lanes; ends with them.
    writer: Option<JoinHandle<()>>,
    ticker: JoinHandle<()>,
}

impl Replicas {
    /// Ends the lanes after what they have begun, with a last flush, so that the next start has nothing to replay.
    pub async fn stop(self) {
        self.ticker.abort();
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
            tracing::error!(%error, "the last flush failed: the next start replays the log");
        }
    }
}

/// What has to be done, or checked, between the restoring of groups and their running: given the groups that are here.
pub type Before = Box<dyn FnOnce(Vec<GroupId>) -> BoxFuture<'static, Result<()>> + Send>;

/// What a store's replicas are started with.
pub struct Start {
    /// The cluster.
    pub cluster: u64,
    /// The store.
    pub store: u64,
    /// This run of the process, and those before.
    pub history: Arc<History>,
    /// Where the groups' data is.
    pub engine: Engine,
    /// The log, open.
    pub log: RaftLog,
    /// How many lanes drive its groups.
    pub lanes: usize,
    /// How they behave.
    pub options: Options,
    /// Where the other stores are.
    pub addresses: watch::Receiver<Addresses>,
    /// Done when all groups are restored, before any of them runs.
    pub before: Before,
}

/// Restores every group that the engine knows, and starts the lanes. What the
/// groups' state machines tell the store comes out of the channel.
///
/// # Errors
/// When the log or the engine cannot be read, or contradict each other.
///
/// # Panics
/// If there are no lanes, or more than [`LANES_MAX`].
pub async fn start(env: &Env, start: Start, machines: Machines) -> Result<(Replicas, mpsc::Receiver<StoreEffect>)> {
    let Start { cluster, store, history, engine, mut log, lanes, options, addresses, before } = start;
    assert!((1..=LANES_MAX).contains(&lanes), "a store has 1 to {LANES_MAX} lanes");
    let (handle, messages) = Handle::new(env.clock.clone(), engine.clone(), lanes);
    let local = Local { cluster, store, election_ns: options.raft.election_ns(), history: history.clone() };
    let traffic = |places| Traffic::new(env.clock.clone(), places, options.snapshot_bytes_per_s);
    let sending = Sending {
        fetch_bytes_max: options.fetch_bytes_max,
        chunk_bytes: options.snapshot_chunk_bytes,
        traffic: traffic(SNAPSHOTS_OUT_MAX),
        retries: Arc::new(Mutex::new(Retries::new(Rng::fork(env.seed, "snapshots")))),
    };
    let receiving = traffic(SNAPSHOTS_IN_MAX);
    let outbox = Outbox::new(local.clone(), env.net.clone(), addresses, handle.clone(), sending);
    let runs = Runs::load(&engine)?;
    let (effects, told) = Effects::new();
    let promise = Arc::new(LongestPromise::load(&engine)?);
    // Its own leaders' followers promise as much, and so do its voters among themselves.
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
    for state in group_state::stored(&engine)? {
        drivers[handle.lane_of(GroupId(state.region.id))].restore(&mut log, state).await?;
    }
    nothing_missing(&log, |group| handle.view(group).is_some())?;
    before(handle.views().iter().map(|view| view.group).collect()).await?;
    let retention = Retention {
        keep_entries: options.log_keep_entries,
        lag_entries_max: options.log_lag_entries_max,
        group_bytes_max: options.log_group_bytes_max,
        store_bytes_max: options.log_store_bytes_max,
    };
    let keeper = LogKeeper { log, retention, handle: handle.clone() };
    let inbox = Inbox::new(local, handle.clone(), receiving, runs, promise);
    let (logs, writer) = if lanes == 1 {
        (vec![Log::InLine(Box::new(keeper))], None)
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
                // A lane that was held up gets one tick for all it missed: its followers' patience must not run out at once.
                if waiting.raise() && !ticks.send_to(lane, Message::Tick) {
                    return;
                }
            }
        }
    });
    Ok((Replicas { handle, inbox, lanes, writer, ticker }, told))
}
