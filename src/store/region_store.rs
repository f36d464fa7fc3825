//! Routing: from a request's context to a group of this store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::{Engine, KvEngine};
use crate::proto::armilla::raft::{CasReply, CommandHeader, region_command};
use crate::proto::kvrpcpb::Context;
use crate::region::command;
use crate::replica::{Handle, PeerView};
use crate::rt::clock::Clock;
use crate::rt::probe::{self, Event as Probe};
use crate::types::limits::ENTRY_BYTES_MAX;
use crate::types::{Error, GroupId, Region, Result, region};

use super::kv::{Access, Kv, RegionRead};

/// The regions of one store. Clones share it.
#[derive(Clone, Debug)]
pub struct RegionStore {
    store: u64,
    handle: Handle,
    clock: Clock,
    timeout: Duration,
    /// Numbers reads for the simulator's oracles.
    reads: Arc<AtomicU64>,
}

impl RegionStore {
    /// The regions that `handle` drives, as `store`; a read or write that takes longer than `timeout` is given up.
    pub fn new(store: u64, handle: Handle, timeout: Duration) -> RegionStore {
        let clock = handle.clock().clone();
        RegionStore { store, handle, clock, timeout, reads: Arc::default() }
    }

    /// The driver's front.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The checks of a request, in the protocol's order.
    fn route(&self, context: &Context, access: Access) -> Result<(Arc<PeerView>, Arc<Region>)> {
        if let Some(why) = self.handle.poisoned() {
            return Err(Error::Stopped(why));
        }
        let view = match access {
            Access::Read => {
                self.check_store(context)?;
                let view = self.view(context)?;
                check_peer(context, &view)?;
                check_term(context, &view)?;
                check_leader(&view)?;
                view
            }
            Access::Write => {
                let view = self.view(context)?;
                self.check_store(context)?;
                check_peer(context, &view)?;
                check_leader(&view)?;
                check_term(context, &view)?;
                view
            }
        };
        let region = view.region();
        check_epoch(context, &region)?;
        Ok((view, region))
    }

    /// A request without a peer is for no store.
    fn check_store(&self, context: &Context) -> Result<()> {
        let asked = context.peer.as_ref().map_or(0, |peer| peer.store_id);
        if asked == self.store { Ok(()) } else { Err(Error::StoreNotMatch { asked, actual: self.store }) }
    }

    fn view(&self, context: &Context) -> Result<Arc<PeerView>> {
        let group = GroupId(context.region_id);
        self.handle.view(group).filter(|_| group != GroupId::PD).ok_or(Error::RegionNotFound(group))
    }

    /// How long a request may take: until this store gives up, or its client does.
    fn limit(&self, context: &Context) -> Duration {
        match context.max_execution_duration_ms {
            0 => self.timeout,
            ms => self.timeout.min(Duration::from_millis(ms)),
        }
    }
}

/// A peer of another incarnation of the region: the client's descriptor is old.
fn check_peer(context: &Context, view: &PeerView) -> Result<()> {
    let asked = context.peer.as_ref().map_or(0, |peer| peer.id);
    if asked == view.peer { Ok(()) } else { Err(Error::PeerNotMatch { asked, actual: view.peer }) }
}

/// One term behind is taken, as by TiKV: a leader that was elected again.
fn check_term(context: &Context, view: &PeerView) -> Result<()> {
    let asked = context.term;
    if asked == 0 || view.leadership().term <= asked.saturating_add(1) { Ok(()) } else { Err(Error::StaleCommand) }
}

fn check_leader(view: &PeerView) -> Result<()> {
    if view.leads() { Ok(()) } else { Err(view.not_leader()) }
}

/// Only the version counts: the members of a region are none of a reader's or writer's business.
fn check_epoch(context: &Context, region: &Arc<Region>) -> Result<()> {
    let asked = context.region_epoch.unwrap_or_default().version;
    if asked != region::epoch(region).version && !crate::mutant!("store.epoch-not-checked") {
        return Err(Error::EpochNotMatch(vec![Region::clone(region)]));
    }
    Ok(())
}

impl Kv for RegionStore {
    type Snapshot = <Engine as KvEngine>::Snapshot;

    async fn read(&self, context: &Context) -> Result<RegionRead<Self::Snapshot>> {
        let (view, _) = self.route(context, Access::Read)?;
        let (store, group) = (self.store, view.group.0);
        let read = if probe::LISTENING { self.reads.fetch_add(1, Ordering::Relaxed) } else { 0 };
        probe::emit(|| Probe::ReadAsked { store, group, read });
        if !crate::mutant!("store.read-without-barrier") {
            let barrier = self.handle.confirm(&view);
            let limit = self.limit(context);
            self.clock.timeout(limit, barrier).await.map_err(|_| {
                let why = "no quorum confirmed the leader".to_owned();
                if limit < self.timeout { Error::Deadline(why) } else { Error::Timeout(why) }
            })??;
        }
        let snapshot = self.handle.engine().snapshot();
        probe::emit(|| Probe::ReadServed { store, group, read, applied: view.applied() });
        // The region may have changed while the quorum was asked: what the view shows must be of the epoch asked for.
        let region = view.region();
        check_epoch(context, &region)?;
        Ok(RegionRead { region, snapshot, now_s: self.now_s() })
    }

    fn region(&self, context: &Context, access: Access) -> Result<Arc<Region>> {
        Ok(self.route(context, access)?.1)
    }

    async fn write(&self, context: &Context, op: region_command::Op) -> Result<Option<CasReply>> {
        let (view, region) = self.route(context, Access::Write)?;
        let header = CommandHeader { version: region::epoch(&region).version, ..CommandHeader::default() };
        let bytes = command::encoded_len(header, &op);
        if bytes > ENTRY_BYTES_MAX {
            // Before it is copied once more.
            return Err(Error::EntryTooLarge { group: view.group, bytes: bytes as u64 });
        }
        let proposal = self.handle.propose_to(&view, 0, command::encode(header, op));
        let limit = self.limit(context);
        let reply = self.clock.timeout(limit, proposal).await;
        command::outcome(reply.map_err(|_| Error::Unknown("no quorum answered in time".into()))??)
    }

    fn now_s(&self) -> u64 {
        self.clock.wall_ms() / 1000
    }

    fn store(&self) -> u64 {
        self.store
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }
}
