//! All that services and transactions see of replication.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Read;
use crate::proto::armilla::raft::{CasReply, region_command};
use crate::proto::kvrpcpb::Context;
use crate::types::{Region, Result};

/// A linearizable view of one region.
pub struct RegionRead<S> {
    /// The region as it was when the view was taken; its version equals the request's.
    pub region: Arc<Region>,
    /// The engine's view. Read only keys inside `region`.
    pub snapshot: S,
    /// The leader's clock at that moment, unix seconds: decides what has expired.
    pub now_s: u64,
    /// What a write that is decided from this view carries.
    pub fence: Fence,
}

/// What a decision rests on. A write with a fence is refused at apply, on every replica alike, unless the region is of the same version
/// and the entry of the same term: then nobody else can have written since, but through this leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The term that the leader was in when the view was taken.
    pub term: u64,
    /// The region's version.
    pub version: u64,
}

/// What a request does, which decides the order in which its route is checked: clients act on the first thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It looks at data (compare-and-swap and writes beside it do, too): store, region, peer, term, leader, epoch.
    Read,
    /// It only writes: region, store, peer, leader, term, epoch.
    Write,
}

/// The regions of one store.
pub trait Kv: Clone + Send + Sync + 'static {
    /// A region that a request is for.
    type Route: Route;

    /// The region that `context` names, after all checks of a request's route, in TiKV's order (see [`Access`]). Of the epoch only
    /// the version is compared: it changes with the region's range, the other half with its members, which no request for data
    /// depends on. Keys are checked by the service, which knows which keys a request has (see [`check_key`]).
    ///
    /// # Errors
    /// Those of routing ([`crate::types::Error::NotLeader`], `RegionNotFound`, `EpochNotMatch`, `StoreNotMatch`,
    /// `PeerNotMatch`, `StaleCommand`), `Stopped`.
    fn route(&self, context: &Context, access: Access) -> Result<Self::Route>;

    /// This store's clock, unix seconds.
    fn now_s(&self) -> u64;

    /// This store's id.
    fn store(&self) -> u64;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// A region of this store whose leader, term and epoch were checked for one request. It borrows nothing and clones share it, so that a
/// task may keep one for longer than the request lasts: each read and write sees again to what may have changed since, and the
/// request's time counts anew from its begin.
pub trait Route: Clone + Send + Sync + 'static {
    /// What reads see of the engine.
    type Snapshot: Read + Clone + Send + Sync + 'static;

    /// The region, as it was when the request was routed.
    fn region(&self) -> &Arc<Region>;

    /// A linearizable view of the region.
    ///
    /// # Errors
    /// `NotLeader`, `EpochNotMatch` (it changed meanwhile), `Busy`, `Stopped`, `Timeout`, `Deadline`.
    fn read(&self) -> impl Future<Output = Result<RegionRead<Self::Snapshot>>> + Send;

    /// Replicates one operation; returns when it is applied at the leader, with the outcome if it is a compare-and-swap. With a
    /// `fence` only if what it was decided from still holds.
    ///
    /// # Errors
    /// `NotLeader`, `EpochNotMatch`, `KeyNotInRegion`, `StaleCommand` (the fence), `EntryTooLarge`, `Busy`, `Stopped`: nothing
    /// happened. `Unknown`: it may still happen.
    fn write(
        &self,
        op: region_command::Op,
        fence: Option<Fence>,
    ) -> impl Future<Output = Result<Option<CasReply>>> + Send;
}

/// Checks that `region` holds `key`.
///
/// # Errors
/// [`crate::types::Error::KeyNotInRegion`].
pub fn check_key(region: &Arc<Region>, key: &[u8]) -> Result<()> {
    if crate::types::region::holds(region, key) {
        return Ok(());
    }
    Err(crate::types::Error::KeyNotInRegion {
        key: bytes::Bytes::copy_from_slice(key),
        region: Box::new(Region::clone(region)),
    })
}
