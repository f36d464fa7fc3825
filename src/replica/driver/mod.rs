//! The loop that drives groups: its state, and the order of its phases. Each phase has a file beside this one.
//!
//! A peer may disappear in the middle of a pass (applying an entry may destroy it), so every phase looks it up and
//! continues without it. The only thing that is kept of it outside the map is the work that waits for the log.

mod absorb;
mod admin;
mod apply;
pub(super) mod backlog;
mod birth;
mod fetch;
mod flush;
mod inbox;
mod install;
mod members;
mod merges;
mod newcomer;
mod output;
mod propose;
mod restore;
mod sleep;
mod ticks;
mod transfer;
mod truncate;
mod unwritten;
mod warm;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use armilla_arch::sync::Pending;
use bytes::Bytes;

use crate::engine::{Engine, KvEngine, WriteBatch};
use crate::raft::Run;
use crate::raft::machine::StateMachine;
use crate::raft::output::Output;
use crate::rt::clock::{Clock, Instant};
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::mpsc;
use crate::types::limits::{ROUND_BYTES_MAX, ROUND_PASSES_MAX, ROUND_TIME_MAX};
use crate::types::{Error, GroupId, Region, Result};

use super::effects::Effects;
use super::handle::Handle;
use super::keeper::{Job, Log};
use super::log::LogBatch;
use super::message::Message;
use super::peer::Peer;
use super::promise::LongestPromise;
use super::transport::Outbox;

use absorb::Absorbing;
use apply::Stall;
use backlog::Backlog;
use birth::{Births, Held};
use fetch::Fetches;
use merges::MergeWaits;
use output::AfterLog;
use sleep::Sleepers;
use unwritten::Unwritten;

pub(super) use flush::Flushes;
pub(super) use restore::check_nothing_missing;

/// The delay between two attempts of a write, where the engine does not block threads.
const ENGINE_RETRY: Duration = Duration::from_millis(5);

/// The duration of a slow turn, which only the simulator causes.
const SLOW_TURN: Duration = Duration::from_millis(12);

/// Creates the state machine of a group from its descriptor.
pub type Machines = Arc<dyn Fn(&Region) -> Box<dyn StateMachine> + Send + Sync>;

/// Options of the driver.
#[derive(Clone, Debug)]
pub struct Options {
    /// Options of every group.
    pub raft: crate::raft::Options,
    /// Maximum bytes of old entries in flight to one store.
    pub fetch_bytes_max: usize,
    /// Maximum bytes of commands packed into one entry. A larger command gets an entry of its own.
    pub pack_bytes_max: usize,
    /// Maximum number of messages handled before the log is written.
    pub batch_messages_max: usize,
    /// Maximum bytes of applied entries that a group keeps in memory.
    pub cache_bytes_max: usize,
    /// The number of entries before the applied index that are kept for followers.
    pub log_keep_entries: u64,
    /// Maximum number of entries that are kept for a lagging follower, which gets a snapshot if it lags further.
    pub log_lag_entries_max: u64,
    /// Maximum bytes of entries that a group's log keeps for a lagging follower.
    pub log_group_bytes_max: u64,
    /// Maximum bytes of entries that the logs of all groups keep; the largest are cut if there are more.
    pub log_store_bytes_max: u64,
    /// Bytes written to the log since the last flush that start the next one.
    pub flush_bytes: u64,
    /// Maximum time between two flushes, if anything was applied.
    pub flush_interval: Duration,
    /// How long nothing must have happened in a group until it sleeps; zero: no group that is led here ever sleeps.
    pub sleep_after: Duration,
    /// Maximum bytes of pairs in one chunk of a snapshot.
    pub snapshot_chunk_bytes: usize,
    /// Maximum bytes per second of all snapshots that are sent, and of all that are received.
    pub snapshot_bytes_per_s: u64,
}

/// Owns the groups of one lane of a store.
pub(super) struct Driver {
    store: u64,
    lane: usize,
    options: Options,
    clock: Clock,
    engine: Engine,
    log: Log,
    unwritten: Unwritten,
    /// Boxed, so that a lookup goes through small tree nodes.
    peers: BTreeMap<GroupId, Box<Peer>>,
    handle: Handle,
    machines: Machines,
    outbox: Outbox,
    effects: Effects,
    /// Groups that may have output.
    dirty: VecDeque<GroupId>,
    /// What the next write adds to the log.
    batch: LogBatch,
    fetches: Fetches,
    flushes: Arc<Mutex<Flushes>>,
    backlog: Backlog,
    stall: Stall,
    births: Births,
    held: Held,
    absorbing: Absorbing,
    merge_waits: MergeWaits,
    sleepers: Sleepers,
    /// Groups whose peer here is destroyed, and how many flushes had begun then. They leave the log after a later one.
    buried: BTreeMap<GroupId, u64>,
    /// Outputs whose snapshot is now in the engine.
    installed: Vec<(GroupId, Output)>,
    /// Probe events to emit when the log is written.
    probes: Vec<Probe>,
    /// Set while a tick waits to be handled.
    tick_waiting: Arc<Pending>,
    /// The number of ticks handled.
    ticks: u64,
    /// The number of rounds started.
    rounds: u64,
    /// Drawn when the process starts.
    nonce: u64,
    promise: Arc<LongestPromise>,
}

/// The parts that a driver is made of.
pub(super) struct Parts {
    pub store: u64,
    /// The number of the lane.
    pub lane: usize,
    pub options: Options,
    pub handle: Handle,
    pub machines: Machines,
    pub outbox: Outbox,
    pub effects: Effects,
    pub tick_waiting: Arc<Pending>,
    /// Drawn when the process starts.
    pub nonce: u64,
    /// The engine's flushes, shared by the lanes.
    pub flushes: Arc<Mutex<Flushes>>,
    pub promise: Arc<LongestPromise>,
}

impl Driver {
    /// Creates a driver without groups.
    pub fn new(parts: Parts) -> Driver {
        let Parts { store, lane, options, handle, machines, outbox, effects, tick_waiting, nonce, flushes, promise } =
            parts;
        let (clock, engine) = (handle.clock().clone(), handle.engine().clone());
        Driver {
            store,
            lane,
            options,
            engine,
            log: Log::Closed,
            unwritten: Unwritten::default(),
            peers: BTreeMap::new(),
            machines,
            outbox,
            effects,
            dirty: VecDeque::new(),
            batch: LogBatch::default(),
            fetches: Fetches::default(),
            flushes,
            backlog: Backlog::default(),
            stall: Stall::default(),
            births: Births::restoring(),
            held: Held::default(),
            absorbing: Absorbing::default(),
            merge_waits: MergeWaits::default(),
            sleepers: Sleepers::default(),
            buried: BTreeMap::new(),
            installed: Vec::new(),
            probes: Vec::new(),
            tick_waiting,
            ticks: 0,
            rounds: 0,
            nonce,
            promise,
            clock,
            handle,
        }
    }

    /// Runs until it is told to stop or something fails. Nothing here is acknowledged after that.
    ///
    /// # Errors
    /// The reason why it stopped, if it was not told to.
    pub async fn run(mut self, log: Log, mut messages: mpsc::UnboundedReceiver<Message>) -> Result<()> {
        self.log = log;
        self.births = Births::default();
        let result = self.serve(&mut messages).await;
        let why = match &result {
            Ok(()) => "the node is shutting down".to_owned(),
            Err(error) => error.to_string(),
        };
        if self.handle.poison(why.clone())
            && let Err(error) = &result
        {
            tracing::error!(store = self.store, %error, "the store stopped serving");
            let (store, why) = (self.store, why.clone());
            probe::emit(|| Probe::Poisoned { store, why });
        }
        if result.is_err() {
            // The other lanes must not continue without this one's groups.
            self.handle.send_all(|| Message::Fail(why.clone()));
        }
        for peer in self.peers.values_mut() {
            // Entries in flight may be in the log, and other stores may commit them.
            peer.end(|| Error::Unknown("the store stopped".into()));
        }
        // Messages that still arrive are dropped with their reply channels, which tells their senders the same.
        result
    }

    async fn serve(&mut self, messages: &mut mpsc::UnboundedReceiver<Message>) -> Result<()> {
        loop {
            // If the round was cut short, continue it after handling the messages that have arrived meanwhile.
            let first = if self.dirty.is_empty() {
                match messages.recv().await {
                    Some(first) => Some(first),
                    None => return Ok(()),
                }
            } else {
                messages.try_recv().ok()
            };
            let (mut next, mut handled, mut bytes) = (first, 0, 0);
            while let Some(message) = next.take() {
                if matches!(message, Message::Stop) {
                    return self.drain(messages).await;
                }
                bytes += message.bytes();
                self.receive(message).await?;
                handled += 1;
                let full = handled >= self.options.batch_messages_max || bytes >= ROUND_BYTES_MAX;
                if !full && !crate::buggify!("driver.short-round") {
                    next = messages.try_recv().ok();
                }
            }
            self.round().await?;
            self.handle.show_waiting(self.lane, messages.len());
        }
    }

    /// Marks a group as possibly having work. If it sleeps, it wakes.
    fn touch(&mut self, group: GroupId) {
        self.rouse(group);
        if let Some(peer) = self.peers.get_mut(&group)
            && peer.mark_dirty()
        {
            self.dirty.push_back(group);
        }
    }

    /// Does the work of the groups that have some, until none is left or messages have to be handled.
    async fn round(&mut self) -> Result<()> {
        let until = self.work_until();
        self.rounds += 1;
        for _ in 0..ROUND_PASSES_MAX {
            if self.dirty.is_empty() {
                break;
            }
            self.pass().await?;
            if self.clock.now() >= until {
                break;
            }
        }
        self.start_fetches();
        Ok(())
    }

    /// Returns the latest time at which work that starts now must stop, so that messages are handled.
    fn work_until(&self) -> Instant {
        let limit =
            if crate::mutant!("replica.rounds-without-end") { Duration::from_secs(3600) } else { ROUND_TIME_MAX };
        self.clock.now().plus(limit)
    }

    /// Makes a group's turn slow, as on a busy core; in the simulator only.
    async fn slow_turn(&mut self) {
        let (store, lane, round) = (self.store, self.lane as u64, self.rounds);
        probe::emit(|| Probe::Note { store, what: "slow-turn", a: lane, b: round, data: Bytes::new() });
        self.clock.sleep(SLOW_TURN).await;
    }

    /// Does all remaining work, and waits until the log has it.
    async fn drain(&mut self, messages: &mut mpsc::UnboundedReceiver<Message>) -> Result<()> {
        loop {
            while !self.dirty.is_empty() {
                self.rounds += 1;
                self.pass().await?;
            }
            if self.unwritten.is_empty() {
                return Ok(());
            }
            // Any other message is too late, and is dropped with its reply channel.
            match messages.recv().await {
                Some(written @ Message::Written(_)) => self.receive(written).await?,
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    /// Does one pass over the groups that have work, within limits of time and bytes: proposes, sends, installs,
    /// applies, writes the log, and sends what had to wait for it.
    async fn pass(&mut self) -> Result<()> {
        let mut committed = Vec::new();
        let mut after_log = Vec::new();
        for (group, output) in std::mem::take(&mut self.installed) {
            self.owe(group, output, &mut committed, &mut after_log);
        }
        let until_ns = self.work_until().0;
        for _ in 0..self.dirty.len() {
            if crate::buggify!("driver.slow-turn") {
                self.slow_turn().await;
            }
            let now_ns = self.clock.now().0;
            if self.batch.bytes() >= ROUND_BYTES_MAX || now_ns >= until_ns || crate::buggify!("driver.short-pass") {
                crate::reach!("driver.pass-cut-short");
                break;
            }
            let Some(group) = self.dirty.pop_front() else { break };
            let Some(peer) = self.peers.get_mut(&group) else { continue };
            if peer.waits_for_install() {
                continue;
            }
            self.propose(group);
            let Some(peer) = self.peers.get_mut(&group) else { continue };
            if let Some(output) = peer.take(now_ns) {
                self.output(group, output, &mut committed, &mut after_log)?;
                self.touch(group);
            }
            if let Some(peer) = self.peers.get_mut(&group) {
                peer.report_leadership();
            }
        }
        self.apply(committed)?;
        if crate::mutant!("replica.waits-for-the-engine") {
            while !self.engine.try_write(&WriteBatch::new())? {
                self.clock.sleep(Duration::from_millis(5)).await;
            }
        }
        self.write_log(after_log).await?;
        self.halt_those_who_can();
        self.advance_merges();
        Ok(())
    }

    /// Returns what a new peer has to know of this process.
    fn process(&self) -> Run {
        Run { nonce: self.nonce, longest_promise_ns: self.promise.ns(), now_ns: self.clock.now().0 }
    }
}

/// The work of a pass that waits for the log, by group.
type Owed = Vec<AfterLog>;
