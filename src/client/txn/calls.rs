//! The requests of the transactional client, routed by their encoded keys.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::codec::txn_key;
use crate::proto::errorpb;
use crate::proto::kvrpcpb::{
    BatchRollbackRequest, BatchRollbackResponse, BufferBatchGetResponse, CheckSecondaryLocksRequest,
    CheckSecondaryLocksResponse, CheckTxnStatusRequest, CheckTxnStatusResponse, CommitRequest, CommitResponse, Context,
    DeleteRangeRequest, DeleteRangeResponse, FlushResponse, GetRequest, GetResponse, KeyError, KvPair, LockInfo,
    Mutation, MvccGetByKeyRequest, MvccGetByKeyResponse, MvccGetByStartTsRequest, MvccGetByStartTsResponse, MvccInfo,
    PessimisticLockRequest, PessimisticLockResponse, PrewriteRequest, PrewriteResponse, ResolveLockRequest,
    ResolveLockResponse, ScanLockRequest, ScanLockResponse, ScanRequest, ScanResponse, TxnHeartBeatResponse,
};
use crate::types::limits::KEY_BYTES_MAX;
use crate::types::{Region, Timestamp};

use super::TxnClient;
use super::failed::reason;
use crate::client::error::{Error, Result};
use crate::client::raw::{RawClient, Repeat, Reply, Stub};

/// Returns the key under which the placement driver knows a transactional key.
pub(super) fn encoded(key: &Bytes) -> Bytes {
    txn_key::encode(key)
}

/// How often a scan of locks is tried again because a commit is under way.
const LOCK_SCAN_TRIES: u32 = 10;

/// Some locks of a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Locks {
    /// The region.
    pub region: u64,
    /// The locks, in the order of their keys.
    pub locks: Vec<LockInfo>,
    /// Where to continue: an encoded key, or a boundary; `None` at the end of the range.
    pub next: Option<Bytes>,
}

/// Returns locks with those that share a key one by one.
pub(super) fn each_lock(locks: impl IntoIterator<Item = LockInfo>) -> Vec<LockInfo> {
    let each = |lock: LockInfo| if lock.shared_lock_infos.is_empty() { vec![lock] } else { lock.shared_lock_infos };
    locks.into_iter().flat_map(each).collect()
}

/// Returns a key that is larger than every valid key.
fn beyond_all_keys() -> Bytes {
    Bytes::from(vec![0xff; KEY_BYTES_MAX + 1])
}

// What replies say about keys is for the transaction.
macro_rules! replies {
    ($($reply:ty),+) => {
        $(impl Reply for $reply {
            fn region_error(&mut self) -> Option<errorpb::Error> {
                self.region_error.take().map(|error| *error)
            }
            fn error(&self) -> &str {
                ""
            }
        })+
    };
}
replies!(
    GetResponse,
    ScanResponse,
    PrewriteResponse,
    CommitResponse,
    PessimisticLockResponse,
    BatchRollbackResponse,
    ResolveLockResponse,
    CheckTxnStatusResponse,
    CheckSecondaryLocksResponse,
    ScanLockResponse,
    FlushResponse,
    BufferBatchGetResponse,
    MvccGetByKeyResponse,
    MvccGetByStartTsResponse,
    TxnHeartBeatResponse
);

/// The answer to a call.
type Answer<'a, T> = BoxFuture<'a, Result<T>>;

/// Returns the context of a read that passes the locks of these transactions.
fn passing(context: Option<Context>, later: &[u64]) -> Option<Context> {
    let context = context.unwrap_or_default();
    Some(Context { resolved_locks: later.to_vec(), ..context })
}

impl Reply for DeleteRangeResponse {
    fn region_error(&mut self) -> Option<errorpb::Error> {
        self.region_error.take().map(|error| *error)
    }
    fn error(&self) -> &str {
        &self.error
    }
}

impl TxnClient {
    /// Returns the value of a key. The locks of the transactions `later` do not count.
    pub(super) async fn get(&self, key: &Bytes, at: Timestamp, later: Vec<u64>) -> Result<GetResponse> {
        self.live()?;
        let call = |mut stub: Stub, context| {
            let context = passing(context, &later);
            let request = GetRequest { context, key: key.clone(), version: at.0, ..GetRequest::default() };
            async move { stub.kv_get(request).await }
        };
        if let Some(stale) = &self.stale
            && let Ok(reply) = stale.one(&encoded(key), Repeat::Read, call).await
        {
            return Ok(reply);
        }
        self.reads.one(&encoded(key), Repeat::Read, call).await
    }

    /// Returns the pairs of a range, region by region; locked keys are pairs with an error. An empty `end` is plus
    /// infinity.
    pub(super) async fn scan(
        &self,
        (start, end): (&Bytes, &Bytes),
        limit: u32,
        reverse: bool,
        (at, later): (Timestamp, Vec<u64>),
    ) -> Result<Vec<KvPair>> {
        let beyond = beyond_all_keys();
        let end = if end.is_empty() { &beyond } else { end };
        let (from, to) = (encoded(start), encoded(end));
        // A bound beyond the region is the region's. If that is not the encoded form of any key, none is given: TiKV,
        // which wants one, has no such boundaries.
        let boundary = |key: &Bytes| txn_key::decode(key).unwrap_or_default();
        let (mut pairs, mut low, mut high) = (Vec::new(), from.clone(), to.clone());
        while low < high && (pairs.len() as u32) < limit {
            self.live()?;
            let left = limit - pairs.len() as u32;
            let call = |mut stub: Stub, context, region: &Region| {
                let context = passing(context, &later);
                let lower = if from > region.start_key { start.clone() } else { boundary(&region.start_key) };
                let ends_here = region.end_key.is_empty() || to <= region.end_key;
                let upper = if ends_here { end.clone() } else { boundary(&region.end_key) };
                let (start_key, end_key) = if reverse { (upper, lower) } else { (lower, upper) };
                let request = ScanRequest {
                    context,
                    start_key,
                    end_key,
                    limit: left,
                    version: at.0,
                    reverse,
                    ..Default::default()
                };
                async move { stub.kv_scan(request).await }
            };
            let from = |client: RawClient| {
                let (low, high) = (low.clone(), high.clone());
                async move { if reverse { client.below(&high, call).await } else { client.above(&low, call).await } }
            };
            let by_itself = match &self.stale {
                Some(stale) => from(stale.clone()).await.ok(),
                None => None,
            };
            let (reply, region): (ScanResponse, _) = match by_itself {
                Some(found) => found,
                None => from(self.reads.clone()).await?,
            };
            pairs.extend(reply.pairs);
            let boundary = if reverse { region.start_key } else { region.end_key };
            if boundary.is_empty() {
                break;
            }
            if reverse { high = boundary } else { low = boundary }
        }
        Ok(pairs)
    }

    /// Removes everything that transactions have stored of the keys in `[start, end)`, locks included. An empty end is
    /// plus infinity. Nobody may use the keys meanwhile.
    ///
    /// # Errors
    /// As all requests.
    pub fn delete_range<'a>(&'a self, start: &'a Bytes, end: &'a Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (start, end) = (&self.wire(start), &self.wire_end(end));
            let to = if end.is_empty() { Bytes::new() } else { encoded(end) };
            let mut low = if start.is_empty() { Bytes::new() } else { encoded(start) };
            loop {
                self.live()?;
                let from = low.clone();
                let call = |mut stub: Stub, context, region: &Region| {
                    // Boundaries that are no encoded keys hold no transactional ones between them and the next.
                    let plain = |key: &Bytes| txn_key::decode(key).unwrap_or_else(|_| key.clone());
                    let ends_here = region.end_key.is_empty() || (!to.is_empty() && to <= region.end_key);
                    let end_key = if ends_here { plain(&to) } else { plain(&region.end_key) };
                    let start_key = plain(&from.clone().max(region.start_key.clone()));
                    let request = DeleteRangeRequest { context, start_key, end_key, ..Default::default() };
                    async move { stub.kv_delete_range(request).await }
                };
                let (_, region): (DeleteRangeResponse, _) = self.raw.above(&low, call).await?;
                if region.end_key.is_empty() || (!to.is_empty() && to <= region.end_key) {
                    return Ok(());
                }
                low = region.end_key;
            }
        })
    }

    pub(super) async fn lock(&self, request: PessimisticLockRequest) -> Result<PessimisticLockResponse> {
        self.live()?;
        let key = encoded(&request.mutations[0].key);
        let call = |mut stub: Stub, context| {
            let request = PessimisticLockRequest { context, ..request.clone() };
            async move { stub.kv_pessimistic_lock(request).await }
        };
        self.raw.one(&key, Repeat::Same, call).await
    }

    /// Prewrites all keys by one request to the region of the primary key.
    pub(super) async fn prewrite_at_once(&self, request: PrewriteRequest) -> Result<PrewriteResponse> {
        self.live()?;
        let key = encoded(&request.primary_lock);
        let call = |mut stub: Stub, context| {
            let request = PrewriteRequest { context, ..request.clone() };
            async move { stub.kv_prewrite(request).await }
        };
        self.raw.one(&key, Repeat::Same, call).await
    }

    /// Prewrites keys, one request a region; `fill` makes the request.
    pub(super) async fn prewrite(
        &self,
        mutations: Vec<(Bytes, Mutation)>,
        fill: &(impl Fn(Vec<(Bytes, Mutation)>) -> PrewriteRequest + Sync),
    ) -> Result<Vec<PrewriteResponse>> {
        self.live()?;
        let bytes = |mutation: &Mutation| mutation.value.len();
        let call = |mut stub: Stub, context, group: &[(Bytes, Mutation)]| {
            let request = PrewriteRequest { context, ..fill(group.to_vec()) };
            async move { stub.kv_prewrite(request).await }
        };
        self.raw.many(mutations, Repeat::Same, bytes, call).await
    }

    /// Commits keys. Returns the first key error.
    pub(super) async fn commit(&self, keys: Vec<Bytes>, start: Timestamp, at: Timestamp) -> Result<Option<KeyError>> {
        self.live()?;
        let keys: Vec<(Bytes, Bytes)> = keys.into_iter().map(|key| (encoded(&key), key)).collect();
        let call = |mut stub: Stub, context, group: &[(Bytes, Bytes)]| {
            let keys = group.iter().map(|(_, key)| key.clone()).collect();
            let (start_version, commit_version) = (start.0, at.0);
            let request = CommitRequest { context, start_version, keys, commit_version, ..CommitRequest::default() };
            async move { stub.kv_commit(request).await }
        };
        let replies: Vec<CommitResponse> = self.raw.many(keys, Repeat::Same, |_| 0, call).await?;
        Ok(replies.into_iter().find_map(|reply| reply.error).map(|error| *error))
    }

    /// Rolls keys back. Returns the first key error.
    pub(super) async fn rollback(&self, keys: Vec<Bytes>, start: Timestamp) -> Result<Option<KeyError>> {
        self.live()?;
        let keys: Vec<(Bytes, Bytes)> = keys.into_iter().map(|key| (encoded(&key), key)).collect();
        let call = |mut stub: Stub, context, group: &[(Bytes, Bytes)]| {
            let keys = group.iter().map(|(_, key)| key.clone()).collect();
            let request = BatchRollbackRequest { context, start_version: start.0, keys };
            async move { stub.kv_batch_rollback(request).await }
        };
        let replies: Vec<BatchRollbackResponse> = self.raw.many(keys, Repeat::Same, |_| 0, call).await?;
        Ok(replies.into_iter().find_map(|reply| reply.error).map(|error| *error))
    }

    pub(super) async fn status(&self, request: CheckTxnStatusRequest) -> Result<CheckTxnStatusResponse> {
        self.live()?;
        let key = encoded(&request.primary_key);
        let call = |mut stub: Stub, context| {
            let request = CheckTxnStatusRequest { context, ..request.clone() };
            async move { stub.kv_check_txn_status(request).await }
        };
        self.raw.one(&key, Repeat::Same, call).await
    }

    pub(super) async fn secondaries(
        &self,
        keys: Vec<Bytes>,
        start: Timestamp,
    ) -> Result<Vec<CheckSecondaryLocksResponse>> {
        let mut found = Vec::new();
        for key in keys {
            self.live()?;
            let call = |mut stub: Stub, context| {
                let keys = vec![key.clone()];
                let request = CheckSecondaryLocksRequest { context, keys, start_version: start.0 };
                async move { stub.kv_check_secondary_locks(request).await }
            };
            let reply = self.raw.one(&encoded(&key), Repeat::Same, call).await?;
            found.push(reply);
        }
        Ok(found)
    }

    /// Ends the lock of a decided transaction on one key.
    pub(super) async fn end_lock(&self, key: &Bytes, start: Timestamp, commit: Timestamp) -> Result<()> {
        self.live()?;
        let call = |mut stub: Stub, context| {
            let (start_version, commit_version, keys) = (start.0, commit.0, vec![key.clone()]);
            let request =
                ResolveLockRequest { context, start_version, commit_version, keys, ..ResolveLockRequest::default() };
            async move { stub.kv_resolve_lock(request).await }
        };
        let reply: ResolveLockResponse = self.raw.one(&encoded(key), Repeat::Same, call).await?;
        reply.error.map_or(Ok(()), |error| Err(Error::Refused(reason(&error).to_string())))
    }

    /// Returns the locks of the region that has `key`, and where the region ends.
    ///
    /// # Errors
    /// As all requests.
    pub fn locks_from<'a>(&'a self, key: &'a Bytes) -> Answer<'a, (Vec<LockInfo>, Option<KeyError>, Bytes)> {
        Box::pin(async move {
            let call = |mut stub: Stub, context, _: &Region| {
                let request = ScanLockRequest { context, max_version: u64::MAX, ..ScanLockRequest::default() };
                async move { stub.kv_scan_lock(request).await }
            };
            let (reply, region): (ScanLockResponse, _) = self.raw.above(key, call).await?;
            Ok((each_lock(reply.locks), reply.error.map(|error| *error), region.end_key))
        })
    }

    /// Returns the first locks, at most `limit`, of the region that has `from` (an encoded key, or a boundary), from
    /// there up to `end` (a key; empty: plus infinity). Waits for commits that are under way.
    ///
    /// # Errors
    /// As all requests.
    pub fn locks<'a>(&'a self, from: &'a Bytes, end: &'a Bytes, limit: u32) -> BoxFuture<'a, Result<Locks>> {
        Box::pin(async move {
            let call = |mut stub: Stub, context, region: &Region| {
                // A boundary need not be the encoded form of any key.
                let inside = if *from > region.start_key { txn_key::decode(from).ok() } else { None };
                let (start_key, end_key) = (inside.unwrap_or_default(), end.clone());
                let max_version = u64::MAX;
                let request = ScanLockRequest { context, max_version, start_key, end_key, limit };
                async move { stub.kv_scan_lock(request).await }
            };
            for tries in 0.. {
                let (reply, region): (ScanLockResponse, _) = self.raw.above(from, call).await?;
                match reply.error {
                    // A lock in memory: it is written, or falls, in a moment.
                    Some(error) if error.locked.is_some() && tries < LOCK_SCAN_TRIES => self.pause(tries).await,
                    Some(error) => return Err(Error::Unavailable(reason(&error).to_string())),
                    None => {
                        let next = match reply.locks.last() {
                            Some(last) if reply.locks.len() as u32 >= limit => {
                                encoded(&[&last.key[..], &[0]].concat().into())
                            }
                            _ => region.end_key,
                        };
                        let is_end = next.is_empty() || (!end.is_empty() && next >= encoded(end));
                        let locks = each_lock(reply.locks);
                        return Ok(Locks { region: region.id, locks, next: (!is_end).then_some(next) });
                    }
                }
            }
            unreachable!("the last try returns")
        })
    }

    /// Returns the first key of the region that has `from` (an encoded key, or a boundary) for which the transaction
    /// that began at `start` has left a record, with everything that is stored of it; and where the region ends.
    ///
    /// # Errors
    /// As all requests.
    pub fn written_by<'a>(
        &'a self,
        from: &'a Bytes,
        start: Timestamp,
    ) -> Answer<'a, (Option<(Bytes, MvccInfo)>, Bytes)> {
        Box::pin(async move {
            let call = |mut stub: Stub, context, _: &Region| {
                let request = MvccGetByStartTsRequest { context, start_ts: start.0 };
                async move { stub.mvcc_get_by_start_ts(request).await }
            };
            let (reply, region): (MvccGetByStartTsResponse, _) = self.raw.above(from, call).await?;
            if !reply.error.is_empty() {
                return Err(Error::Refused(reply.error));
            }
            let found = reply.info.filter(|info| *info != MvccInfo::default());
            Ok((found.map(|info| (reply.key, info)), region.end_key))
        })
    }

    /// Returns everything that is stored of a key.
    ///
    /// # Errors
    /// As all requests.
    pub fn versions<'a>(&'a self, key: &'a Bytes) -> BoxFuture<'a, Result<MvccInfo>> {
        Box::pin(async move {
            let key = &self.wire(key);
            let call = |mut stub: Stub, context| {
                let request = MvccGetByKeyRequest { context, key: key.clone() };
                async move { stub.mvcc_get_by_key(request).await }
            };
            let reply: MvccGetByKeyResponse = self.raw.one(&encoded(key), Repeat::Read, call).await?;
            if !reply.error.is_empty() {
                return Err(Error::Refused(reply.error));
            }
            Ok(reply.info.unwrap_or_default())
        })
    }
}
