//! Routing: from a request's context to a group of this store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::engine::{Engine, KvEngine};
use crate::proto::armilla::raft::{RegionCommand, RegionReply, region_command};
use crate::proto::kvrpcpb::Context;
use crate::replica::{Handle, PeerView};
use crate::rt::clock::Clock;
use crate::rt::probe::{self, Event as Probe};
use crate::types::{Error, GroupId, Region, Result, region};

use super::kv::{Kv, RegionRead};

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
    fn route(&self, context: &Context) -> Result<(Arc<PeerView>, Arc<Region>)> {
        if let Some(why) = self.handle.poisoned() {
            return Err(Error::Stopped(why));
        }
        let asked = context.peer.as_ref().map_or(0, |peer| peer.store_id);
        if asked != 0 && asked != self.store {
            return Err(Error::StoreNotMatch { asked, actual: self.store });
        }
        let group = GroupId(context.region_id);
        let view = self.handle.view(group).filter(|_| group != GroupId::PD).ok_or(Error::RegionNotFound(group))?;
        if !view.leads() {
            return Err(view.not_leader());
        }
        // A peer of another life of this region: the client's descriptor is old.
        if context.peer.as_ref().is_some_and(|peer| peer.id != 0 && peer.id != view.peer) {
            return Err(Error::StaleCommand);
        }
        if context.term != 0 && context.term < view.leadership().term {
            return Err(Error::StaleCommand);
        }
        let region = view.region();
        self.check_epoch(context, &region)?;
        Ok((view, region))
    }

    fn check_epoch(&self, context: &Context, region: &Arc<Region>) -> Result<()> {
        let asked = context.region_epoch.unwrap_or_default();
        if asked != region::epoch(region) && !crate::mutant!("store.epoch-not-checked") {
            return Err(Error::EpochNotMatch(vec![Region::clone(region)]));
        }
        Ok(())
    }
}

impl Kv for RegionStore {
    type Snapshot = <Engine as KvEngine>::Snapshot;

    async fn read(&self, context: &Context) -> Result<RegionRead<Self::Snapshot>> {
        let (view, _) = self.route(context)?;
        let (store, group) = (self.store, view.group.0);
        let read = if probe::LISTENING { self.reads.fetch_add(1, Ordering::Relaxed) } else { 0 };
        probe::emit(|| Probe::ReadAsked { store, group, read });
        if !crate::mutant!("store.read-without-barrier") {
            let barrier = self.handle.read_barrier(view.group);
            self.clock
                .timeout(self.timeout, barrier)
                .await
                .map_err(|_| Error::Timeout("no quorum confirmed the leader".into()))??;
        }
        let snapshot = self.handle.engine().snapshot();
        probe::emit(|| Probe::ReadServed { store, group, read, applied: view.applied() });
        // The region may have changed while the quorum was asked: what the view shows must be of the epoch asked for.
        let region = view.region();
        self.check_epoch(context, &region)?;
        Ok(RegionRead { region, snapshot, now_s: self.now_s() })
    }

    fn region(&self, context: &Context) -> Result<Arc<Region>> {
        Ok(self.route(context)?.1)
    }

    async fn write(&self, context: &Context, op: region_command::Op) -> Result<RegionReply> {
        let (view, region) = self.route(context)?;
        let command = RegionCommand { version: region::epoch(&region).version, op: Some(op) };
        let proposal = self.handle.propose(view.group, Bytes::from(command.encode_to_vec()));
        let reply = self
            .clock
            .timeout(self.timeout, proposal)
            .await
            .map_err(|_| Error::Unknown("no quorum answered in time".into()))??;
        let reply = RegionReply::decode(reply)
            .map_err(|e| Error::Corruption(format!("the state machine's reply does not decode: {e}")))?;
        if let Some(current) = reply.epoch_not_match {
            return Err(Error::EpochNotMatch(vec![current]));
        }
        Ok(reply)
    }

    fn now_s(&self) -> u64 {
        self.clock.wall_ms() / 1000
    }
}
