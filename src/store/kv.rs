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
}

/// What a request does, which decides the order in which its route is checked: clients act on the first thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It looks at data (compare-and-swap and writes beside it do, too): store, region, peer, term, leader, epoch.
    Read,
    /// It only writes: region, store, peer, leader, term, epoch.
    Write,
}

/// Reads and writes of regions, with all checks of a request's route, in TiKV's order (see [`Access`]). Of the epoch only the
/// version is compared: it changes with the region's range, the other half with its members, which no request for data depends on.
/// Keys are checked by the service, which knows which keys a request has (see [`check_key`]).
pub trait Kv: Clone + Send + Sync + 'static {
    /// What reads see of the engine.
    type Snapshot: Read + Send + Sync + 'static;

    /// A linearizable view of the region that `context` names.
    ///
    /// # Errors
    /// Those of routing ([`crate::types::Error::NotLeader`], `RegionNotFound`, `EpochNotMatch`, `StoreNotMatch`,
    /// `PeerNotMatch`, `StaleCommand`), `Busy`, `Stopped`, `Timeout`, `Deadline`.
    fn read(&self, context: &Context) -> impl Future<Output = Result<RegionRead<Self::Snapshot>>> + Send;

    /// The region that `context` names, after the same checks but without a quorum: for validating a write's keys.
    ///
    /// # Errors
    /// Those of routing.
    fn region(&self, context: &Context, access: Access) -> Result<Arc<Region>>;

    /// Replicates one operation in the region that `context` names; returns when it is applied at the leader, with the outcome if it
    /// is a compare-and-swap.
    ///
    /// # Errors
    /// Those of routing, `KeyNotInRegion`, `EntryTooLarge`, `Busy`, `Stopped`: nothing happened. `Unknown`: it may still happen.
    fn write(&self, context: &Context, op: region_command::Op)
    -> impl Future<Output = Result<Option<CasReply>>> + Send;

    /// This store's clock, unix seconds.
    fn now_s(&self) -> u64;

    /// This store's id.
    fn store(&self) -> u64;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
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
