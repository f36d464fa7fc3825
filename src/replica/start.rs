//! Starting the groups of a store: from what the engine and the log hold, or anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use armilla_arch::sync::Pending;
use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::ConfState;

use crate::engine::{Cf, Engine, KvEngine, Read, Visit, WriteBatch};
use crate::proto::armilla::raft::GroupState;
use crate::raft::{Group, LogView, log_view, membership};
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::{mpsc, watch};
use crate::rt::task::{self, JoinHandle};
use crate::rt::{Env, cpu, lane};
use crate::types::{Error, GroupId, Region, Result, region};

use super::apply::state_key;
use super::driver::{Driver, Machines, Options};
use super::handle::{Handle, PeerView, Poison};
use super::housekeeping::Housekeeping;
use super::log::{GroupLog, LogBatch, LogOptions, RaftLog};
use super::mailbox::Mail;
use super::peer::Peer;
use super::transport::{Addresses, Inbox, Outbox};

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
        let _ = self.handle.mail.send(Mail::Stop);
        let _ = self.lane.await;
    }
}

/// Opens the log, which has to be the one of this id, restores every group that the engine knows, and starts the driver's lane.
///
/// # Errors
/// When the log or the engine cannot be read, or contradict each other.
pub async fn start(
    env: &Env,
    (cluster, store): (u64, u64),
    engine: Engine,
    (log_options, log_id): (LogOptions, u64),
    options: Options,
    machines: Machines,
    addresses: watch::Receiver<Addresses>,
) -> Result<Replicas> {
    let (mail, letters) = mpsc::unbounded_channel();
    let handle = Handle {
        mail: mail.clone(),
        views: Arc::new(RwLock::new(BTreeMap::new())),
        clock: env.clock.clone(),
        engine: engine.clone(),
        poisoned: Arc::new(Poison::default()),
        log_figures: Arc::default(),
        letters: Arc::default(),
    };
    let log = RaftLog::open_with_id(env.disk.clone(), log_options, log_id).await?;
    let outbox = Outbox::new(
        (cluster, store),
        env.net.clone(),
        env.clock.clone(),
        addresses,
        mail.clone(),
        options.snapshot_chunk_bytes,
    );
    let tick = Duration::from_nanos(options.raft.tick_ns);
    let waiting = Arc::new(Pending::default());
    let mut driver = Driver {
        tick_waiting: waiting.clone(),
        store,
        options,
        clock: env.clock.clone(),
        engine: engine.clone(),
        log,
        peers: BTreeMap::new(),
        handle: handle.clone(),
        machines,
        outbox,
        housekeeping: Housekeeping { flushed_at: env.clock.now().0, ..Housekeeping::default() },
        dirty: VecDeque::new(),
        next_read: 0,
        batch: LogBatch::default(),
    };
    for state in stored_states(&engine)? {
        driver.restore(state).await?;
    }
    driver.nothing_missing()?;
    let inbox = Inbox::new(cluster, store, handle.clone());
    let lane = lane::spawn(&format!("raft-{store}"), driver.run(letters));
    let clock = env.clock.clone();
    let ticker = task::spawn(async move {
        loop {
            clock.sleep(tick).await;
            // A driver that was held up gets one tick for all it missed: its followers' patience must not run out at once.
            if waiting.raise() && mail.send(Mail::Tick).is_err() {
                return;
            }
        }
    });
    Ok(Replicas { handle, inbox, lane, ticker })
}

/// The states of all groups in the engine.
fn stored_states(engine: &Engine) -> Result<Vec<GroupState>> {
    let mut states = Vec::new();
    engine.scan(Cf::Meta, b"g", b"h", &mut |_, value| {
        states.push(GroupState::decode(value));
        Visit::More
    })?;
    states
        .into_iter()
        .map(|state| {
            state.map_err(|e| Error::Corruption(format!("a group's state in the engine does not decode: {e}")))
        })
        .collect()
}

impl Driver {
    /// Takes up a group where the engine and the log left it.
    async fn restore(&mut self, state: GroupState) -> Result<()> {
        let region =
            state.region.clone().ok_or_else(|| Error::Corruption("a group's state without a descriptor".into()))?;
        let group = GroupId(region.id);
        let here = region::peer_on(&region, self.store).map(|peer| peer.id);
        if here != Some(state.peer_id) {
            return Err(Error::Corruption(format!(
                "group {group}: its state is that of peer {}, but its descriptor has {} on store {}",
                state.peer_id,
                here.map_or("no peer".to_owned(), |id| format!("peer {id}")),
                self.store
            )));
        }
        let applied = (state.applied_index, state.applied_term);
        let conf_state = ConfState::parse_from_bytes(&state.conf_state)
            .map_err(|e| Error::Corruption(format!("group {group}: its membership does not decode: {e}")))?;
        // A group is in the log before it is in the engine, and never leaves it.
        let stored = self.log.group(group).cloned().ok_or_else(|| {
            Error::Corruption(format!(
                "group {group}: the engine holds it but the raft log in {} does not: the log was lost, emptied or another one is \
                 mounted there. What this store promised and acknowledged is gone with it: bring the log back, or start with \
                 an empty data directory as a new store",
                self.log.dir().display()
            ))
        })?;
        if stored.first_index > applied.0 + 1 {
            return Err(Error::Corruption(format!(
                "group {group}: the log begins at {} but the engine holds only what was applied up to {}",
                stored.first_index, applied.0
            )));
        }
        let mut hard_state = stored.hard_state.clone();
        // Entries are applied only once they are in the log. Only an installed snapshot puts the engine ahead of it: the node
        // stopped before the log had started over behind the snapshot.
        if stored.last_index < applied.0 || self.log.term(group, applied.0) != Some(applied.1) {
            if applied.0 != state.installed_index {
                return Err(Error::Corruption(format!(
                    "group {group}: the engine holds entries applied up to {} of term {}, but the raft log in {} ends at {} or has \
                     others: the log lost what it had acknowledged, or an older copy was put in its place. Bring the log back, \
                     or start with an empty data directory as a new store",
                    applied.0,
                    applied.1,
                    self.log.dir().display(),
                    stored.last_index
                )));
            }
            hard_state.term = hard_state.term.max(applied.1);
            hard_state.commit = applied.0;
            let mut batch = LogBatch::default();
            batch.reset(group, applied.0, applied.1);
            batch.hard_state(group, &hard_state);
            self.log.write(&batch, true).await?;
        }
        let stored = self.log.group(group).cloned().expect("it is in the log now");
        let mut unapplied = Vec::new();
        while applied.0 + 1 + (unapplied.len() as u64) <= stored.last_index {
            let low = applied.0 + 1 + unapplied.len() as u64;
            unapplied.extend(self.log.read(group, low, stored.last_index + 1, 8 << 20).await?);
        }
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for index in stored.first_index..=stored.last_index {
            let term = self.log.term(group, index).expect("within the log");
            if runs.last().is_none_or(|(_, last)| *last != term) {
                runs.push((index, term));
            }
        }
        let view = LogView::new(log_view::Start {
            hard_state,
            conf_state,
            truncated: (stored.first_index - 1, stored.truncated_term),
            runs,
            last_index: stored.last_index,
            unapplied,
            applied,
            state: state.encode_to_vec().into(),
            cache_bytes_max: self.options.cache_bytes_max,
        });
        self.adopt(region, view)?;
        self.peers.get_mut(&group).expect("just adopted").snapshot_index = state.installed_index;
        Ok(())
    }

    /// After all groups of the engine: whether the log has the history of another one.
    fn nothing_missing(&self) -> Result<()> {
        let (index, term) = membership::FIRST;
        let used = |log: &GroupLog| log.last_index > index || log.hard_state.term > term || log.hard_state.vote != 0;
        for group in self.log.groups() {
            if !self.peers.contains_key(&group) && self.log.group(group).is_some_and(used) {
                return Err(Error::Corruption(format!(
                    "group {group}: the raft log in {} has its history but the engine does not hold it: the engine's data was \
                     lost. Bring it back, or start with an empty data directory as a new store",
                    self.log.dir().display()
                )));
            }
        }
        Ok(())
    }

    /// Creates a group that never ran here. Durable when it returns; a group that is there already is left alone.
    pub(super) async fn create(&mut self, region: Region) -> Result<()> {
        let group = GroupId(region.id);
        if self.peers.contains_key(&group) {
            return Ok(());
        }
        let peer = region::peer_on(&region, self.store)
            .ok_or_else(|| Error::Invalid(format!("region {} has no peer on store {}", region.id, self.store)))?;
        let (index, term) = membership::FIRST;
        let conf_state = membership::conf_state(&region);
        let state = GroupState {
            region: Some(region.clone()),
            applied_index: index,
            applied_term: term,
            conf_state: conf_state.write_to_bytes().expect("a conf state encodes").into(),
            peer_id: peer.id,
            installed_index: 0,
        };
        let mut batch = LogBatch::default();
        batch.reset(group, index, term);
        batch.hard_state(group, &membership::first_hard_state());
        self.log.write(&batch, true).await?;
        let mut writes = WriteBatch::new();
        writes.put(Cf::Meta, state_key(group), state.encode_to_vec());
        let engine = self.engine.clone();
        cpu::run_long(move || {
            engine.write(&writes)?;
            engine.flush()
        })
        .await?;
        let view = LogView::new(log_view::Start {
            hard_state: membership::first_hard_state(),
            conf_state,
            truncated: membership::FIRST,
            runs: Vec::new(),
            last_index: index,
            unapplied: Vec::new(),
            applied: membership::FIRST,
            state: state.encode_to_vec().into(),
            cache_bytes_max: self.options.cache_bytes_max,
        });
        self.adopt(region.clone(), view)?;
        // The first peer of a new group campaigns at once, so that a fresh cluster has leaders without waiting.
        if region.peers.first().is_some_and(|first| first.store_id == self.store) {
            self.peers.get_mut(&group).expect("just adopted").group.campaign();
        }
        Ok(())
    }

    fn adopt(&mut self, region: Region, view: LogView) -> Result<()> {
        let group = GroupId(region.id);
        let peer = region::peer_on(&region, self.store)
            .ok_or_else(|| Error::Corruption(format!("region {} has no peer on store {}", region.id, self.store)))?
            .id;
        let mut machine = (self.machines)(&region);
        machine.reload(&region, &self.engine)?;
        let applied = view.applied().0;
        let last_index = view.last();
        let raft = Group::new(group, peer, self.options.raft.clone(), view, self.clock.now().0)?;
        let shown = Arc::new(PeerView::new(self.store, peer, region.clone()));
        shown.set_applied(applied);
        let (store, term, vote, commit) = (self.store, raft.term(), raft.vote(), raft.committed());
        probe::emit(|| Probe::Start { store, group: group.0, peer, term, vote, commit, last_index });
        self.handle.views.write().expect("no writer panics").insert(group, shown.clone());
        self.peers.insert(
            group,
            Peer {
                group: raft,
                view: shown,
                machine,
                region,
                queue: Vec::new(),
                proposals: VecDeque::new(),
                reads: BTreeMap::new(),
                durable: applied,
                snapshot_index: 0,
                lost_at: None,
                arrived: None,
                installed: None,
                leased: 0,
                accepts: false,
                reported: (0, 0),
                dirty: false,
            },
        );
        self.touch(group);
        Ok(())
    }
}
