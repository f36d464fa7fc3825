//! The interface through which the services use replication.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::Read;
use crate::proto::armilla::raft::{CasReply, Marks, ReadAt, region_command};
use crate::proto::kvrpcpb::{Context, LockInfo};
use crate::rt::clock::Instant;
use crate::types::{Region, Result, Timestamp};

/// A linearizable view of one region.
pub struct RegionRead<S> {
    /// The region as it was when the view was taken. Its version equals the request's.
    pub region: Arc<Region>,
    /// The engine's snapshot. Read only keys inside `region`.
    pub snapshot: S,
    /// The leader's clock when the view was taken, in Unix seconds. Decides which values have expired.
    pub now_s: u64,
    /// The fence of a write that is decided from this view.
    pub fence: Fence,
    /// How far back the region's transactional data go: the marks under which the snapshot was made, or higher ones.
    pub marks: Marks,
}

/// The state on which a decision rests. A write with a fence is refused at apply, on every replica alike, unless the
/// region has the same version and the entry the same term. Then only this leader can have written to the region since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The leader's term when the view was taken.
    pub term: u64,
    /// The region's version.
    pub version: u64,
    /// The least timestamp at which the write adds a lock or a record of a transaction that had none there; 0 if there
    /// is none. It must not be below the region's floor.
    pub oldest_ts: u64,
}

/// What a request does. Decides the order in which its route is checked, because clients act on the first error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads data, or compares and swaps, or writes with `for_cas`. Order: store, region, peer, term,
    /// leader, epoch.
    Read,
    /// Only writes. Order: region, store, peer, leader, term, epoch.
    Write,
    /// Reads data as of a moment that has passed, through any peer. Order as that of reads.
    Stale,
}

/// The regions of one store.
pub trait Kv: Clone + Send + Sync + 'static {
    /// A region that a request is for.
    type Route: Route;

    /// Returns the route to the region that `context` names, after all checks in TiKV's order (see [`Access`]).
    /// Compares only the version of the epoch: it changes with the region's range. The other part changes with the
    /// region's members, which no request for data depends on. The service checks the keys, because it knows which keys
    /// a request has (see [`check_key`]).
    ///
    /// # Errors
    /// Returns a routing error ([`crate::types::Error::NotLeader`], `RegionNotFound`, `EpochNotMatch`, `StoreNotMatch`,
    /// `PeerNotMatch`, `StaleCommand`) or `Stopped`.
    fn route(&self, context: &Context, access: Access) -> Result<Self::Route>;

    /// Returns routes to the regions that this store leads, for its own use.
    fn led(&self) -> Vec<Self::Route>;

    /// Returns the route to a region, for this store's own use, if it leads the region.
    fn own(&self, region: u64) -> Option<Self::Route>;

    /// Returns the least of the safe times of the regions here that have keys in `[start, end)` (empty: infinity), as
    /// far as they are known; asks for those that are not known or old. 0 if none is known.
    fn safe_ts(&self, start: &[u8], end: &[u8]) -> impl Future<Output = u64> + Send;

    /// Returns this store's clock, in Unix seconds.
    fn now_s(&self) -> u64;

    /// Returns the time by which durations are measured.
    fn now(&self) -> Instant;

    /// Returns this store's id.
    fn store(&self) -> u64;

    /// Returns a new timestamp of the placement driver.
    ///
    /// # Errors
    /// [`crate::types::Error::Timeout`] if it gives out none in time.
    fn timestamp(&self) -> impl Future<Output = Result<Timestamp>> + Send;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// A region of this store whose leader, term and epoch were checked for one request. A route borrows nothing and its
/// clones share it, so a task may keep one for longer than the request: each read and write checks again what may have
/// changed since, and the request's time limit starts again with each of them.
pub trait Route: Clone + Send + Sync + 'static {
    /// A snapshot of the engine, for reads.
    type Snapshot: Read + Clone + Send + Sync + 'static;

    /// Returns the region, as it was when the request was routed.
    fn region(&self) -> &Arc<Region>;

    /// Returns the term and the index up to which the region is applied here; `None` if this store does not lead it, or
    /// its range has changed since it was routed.
    fn place(&self) -> Option<(u64, u64)>;

    /// Counts a request that read `keys` keys with `bytes` bytes: the key `from`, or the range from there up to `to`
    /// (empty: infinity).
    fn count_read(&self, from: &[u8], to: Option<&[u8]>, keys: usize, bytes: usize);

    /// Returns a linearizable view of the region.
    ///
    /// # Errors
    /// Returns `NotLeader`, `EpochNotMatch` (the region changed after routing), `Busy`, `Stopped`, `Timeout` or
    /// `Deadline`.
    fn read(&self) -> impl Future<Output = Result<RegionRead<Self::Snapshot>>> + Send;

    /// Returns whether a peer that does not lead may serve the request's reads.
    fn is_by_replica(&self) -> bool;

    /// Like [`Route::read`], for a transaction's read, which may be served by a peer that does not lead: the leader is
    /// told what is read and when. Returns a lock instead that stands in the leader's memory, if the read has to wait
    /// for it.
    ///
    /// # Errors
    /// As [`Route::read`].
    fn read_at(
        &self,
        read: ReadAt,
    ) -> impl Future<Output = Result<std::result::Result<RegionRead<Self::Snapshot>, LockInfo>>> + Send;

    /// Returns a view of the region that holds everything that transactions commit at or below a timestamp, from this
    /// peer, whether it leads or not.
    ///
    /// # Errors
    /// [`crate::types::Error::DataNotReady`] if that is not certain; those of [`Route::read`] but `NotLeader`.
    fn read_stale(&self, at: Timestamp) -> impl Future<Output = Result<RegionRead<Self::Snapshot>>> + Send;

    /// Replicates one operation. Returns when the leader has applied it, with the outcome if it is a compare-and-swap.
    /// With a `fence`, the operation is applied only if the state on which it was decided still holds.
    ///
    /// # Errors
    /// Returns `NotLeader`, `EpochNotMatch`, `KeyNotInRegion`, `StaleCommand` (because of the fence), `EntryTooLarge`,
    /// `Busy` or `Stopped` if nothing happened, and `Unknown` if the write may still happen.
    fn write(
        &self,
        op: region_command::Op,
        fence: Option<Fence>,
    ) -> impl Future<Output = Result<Option<CasReply>>> + Send;

    /// Like [`Route::write`], but without a time limit: returns once it is known whether the operation was applied, or
    /// that this store does not lead the region any more.
    ///
    /// # Errors
    /// As [`Route::write`].
    fn settle(
        &self,
        op: region_command::Op,
        fence: Option<Fence>,
    ) -> impl Future<Output = Result<Option<CasReply>>> + Send;

    /// Returns how long the request may take.
    fn limit(&self) -> Duration;

    /// Splits the region at these keys. Repeated keys and the region's start key are ignored. Returns the pieces by
    /// key, once the leader has applied the split; the last one keeps the region's ID.
    ///
    /// # Errors
    /// As [`Route::write`], and `Invalid` if no key is left, a key is too long, or the cluster has nodes that do not
    /// know splits. After an error some of the keys may be boundaries already.
    fn split(&self, keys: Vec<Bytes>) -> impl Future<Output = Result<Vec<Region>>> + Send;
}

/// Checks that `key` lies in `region`.
///
/// # Errors
/// Returns [`crate::types::Error::KeyNotInRegion`].
pub fn check_key(region: &Arc<Region>, key: &[u8]) -> Result<()> {
    if crate::types::region::holds(region, key) {
        return Ok(());
    }
    Err(crate::types::Error::KeyNotInRegion {
        key: bytes::Bytes::copy_from_slice(key),
        region: Box::new(Region::clone(region)),
    })
}
