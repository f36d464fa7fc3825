//! Starting a store's replicas.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use armilla_arch::sync::Pending;

use crate::engine::Engine;
use crate::rt::rng::Rng;
use crate::rt::sync::{mpsc, watch};
use crate::rt::task::{self, JoinHandle};
use crate::rt::{Env, lane};
use crate::types::Result;
use crate::types::limits::{SNAPSHOTS_IN_MAX, SNAPSHOTS_OUT_MAX};

use super::driver::{Driver, Machines, Options, Parts};
use super::effects::{Effects, StoreEffect};
use super::handle::Handle;
use super::log::{LogOptions, RaftLog};
use super::message::Message;
use super::snapshot::{Retries, Traffic};
use super::transport::{Addresses, Inbox, Local, Outbox, Sending};
use crate::proto::armilla::raft::Incarnation;

/// A running driver.
#[derive(Debug)]
pub struct Replicas {
    /// Proposes, reads and looks.
    pub handle: Handle,
    /// To be served to other stores.
    pub inbox: Inbox,
    lane: JoinHandle<()>,
    ticker: JoinHandle<()>,
}

impl Replicas {
    /// Ends the driver after what it has begun, with a last flush.
    pub async fn stop(self) {
        self.ticker.abort();
        self.handle.send(Message::Stop);
        let _ = self.lane.await;
    }
}

/// What a store's replicas are started with.
#[derive(Debug)]
pub struct Start {
    /// The cluster.
    pub cluster: u64,
    /// The store.
    pub store: u64,
    /// This run of the process: see [`Incarnation`].
    pub incarnation: Incarnation,
    /// Where the groups' data is.
    pub engine: Engine,
    /// Where the log is, and its id.
    pub log: (LogOptions, u64),
    /// How the driver behaves.
    pub options: Options,
    /// Where the other stores are.
    pub addresses: watch::Receiver<Addresses>,
}

/// Opens the log, which has to be the one of its id, restores every group that the engine knows, and starts the driver's lane. What
/// the groups' state machines tell the store comes out of the channel.
///
/// # Errors
/// When the log or the engine cannot be read, or contradict each other.
pub async fn start(env: &Env, start: Start, machines: Machines) -> Result<(Replicas, mpsc::Receiver<StoreEffect>)> {
    let Start { cluster, store, incarnation, engine, log: (log_options, log_id), options, addresses } = start;
    let (handle, messages) = Handle::new(env.clock.clone(), engine);
    let log = RaftLog::open_with_id(env.disk.clone(), log_options, log_id).await?;
    let local = Local { cluster, store, election_ns: options.raft.election_ns(), incarnation };
    let traffic = |places| Traffic::new(env.clock.clone(), places, options.snapshot_bytes_per_s);
    let sending = Sending {
        chunk_bytes: options.snapshot_chunk_bytes,
        traffic: traffic(SNAPSHOTS_OUT_MAX),
        retries: Arc::new(Mutex::new(Retries::new(Rng::fork(env.seed, "snapshots")))),
    };
    let receiving = traffic(SNAPSHOTS_IN_MAX);
    let outbox = Outbox::new(local, env.net.clone(), addresses, handle.clone(), sending);
    let tick = Duration::from_nanos(options.raft.tick_ns);
    let waiting = Arc::new(Pending::default());
    let (effects, told) = Effects::new();
    let parts = Parts {
        store,
        options,
        handle: handle.clone(),
        log,
        machines,
        outbox,
        effects,
        tick_waiting: waiting.clone(),
        nonce: incarnation.nonce,
    };
    let driver = Driver::open(parts).await?;
    let inbox = Inbox::new(local, handle.clone(), receiving);
    let lane = lane::spawn(&format!("raft-{store}"), driver.run(messages));
    let (clock, ticks) = (env.clock.clone(), handle.clone());
    let ticker = task::spawn(async move {
        loop {
            clock.sleep(tick).await;
            // A driver that was held up gets one tick for all it missed: its followers' patience must not run out at once.
            if waiting.raise() && !ticks.send(Message::Tick) {
                return;
            }
        }
    });
    Ok((Replicas { handle, inbox, lane, ticker }, told))
}
