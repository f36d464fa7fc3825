//! Raw key-value requests, API V1: what each means, for unary calls and for streamed ones.

mod cas;
mod checksum;
mod column;
mod coprocessor;
mod get;
mod put;
mod scan;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::future::{Either, select};
use tonic::Status;

use crate::proto::armilla::raft::{CasReply, region_command};
use crate::proto::kvrpcpb::{
    ApiVersion, Context, RawBatchDeleteRequest, RawBatchDeleteResponse, RawBatchGetRequest, RawBatchGetResponse,
    RawBatchPutRequest, RawBatchPutResponse, RawBatchScanRequest, RawBatchScanResponse, RawCasRequest, RawCasResponse,
    RawChecksumRequest, RawChecksumResponse, RawCoprocessorRequest, RawCoprocessorResponse, RawDeleteRangeRequest,
    RawDeleteRangeResponse, RawDeleteRequest, RawDeleteResponse, RawGetKeyTtlRequest, RawGetKeyTtlResponse,
    RawGetRequest, RawGetResponse, RawPutRequest, RawPutResponse, RawScanRequest, RawScanResponse,
};
use crate::rt::cpu;
use crate::store::{Access, Kv};
use crate::types::limits::{ENTRY_BYTES_MAX, KEY_BYTES_MAX};
use crate::types::{Error, GroupId, Region, Result, region};

use super::answers::Answers;
use super::error::{self, Repeat};
use super::queries::Queries;

/// Raw requests of one store. Clones share it.
#[derive(Clone, Debug)]
pub struct RawService<K> {
    kv: K,
    cluster_id: u64,
    answers: Answers,
    queries: Queries,
}

/// Keys, or pairs asked for, up to which a read is served on the request's own task; longer ones go to the pool.
const INLINE_KEYS_MAX: usize = 64;

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident: $Request:ty => $Response:ty, $inner:ident, $repeat:ident;)+) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// A status, for a request of another cluster.
            pub async fn $name(&self, mut request: $Request) -> Result<$Response, Status> {
                let context = request.context.take().unwrap_or_default();
                self.admit(&context)?;
                let result = match check_version(&context) {
                    Ok(()) => self.in_time(&context, Repeat::$repeat, self.$inner(&context, request)).await,
                    Err(error) => Err(error),
                };
                Ok(result.unwrap_or_else(|error| error::refuse(error, context.region_id, Repeat::$repeat)))
            }
        )+
    };
}

impl<K: Kv> RawService<K> {
    /// Raw requests over `kv`, of the cluster `cluster_id`; large answers are in the books of `answers`, queries over JSON take turns by
    /// `queries`.
    pub fn new(kv: K, cluster_id: u64, answers: Answers, queries: Queries) -> RawService<K> {
        RawService { kv, cluster_id, answers, queries }
    }

    requests! {
        /// The value of a key.
        raw_get: RawGetRequest => RawGetResponse, get, Read;
        /// The values of many keys, in the order asked; keys that do not exist are left out.
        raw_batch_get: RawBatchGetRequest => RawBatchGetResponse, batch_get, Read;
        /// The seconds that a key has left; 0: for ever.
        raw_get_key_ttl: RawGetKeyTtlRequest => RawGetKeyTtlResponse, get_key_ttl, Read;
        /// Sets a key. Without a ttl it lives for ever, whatever it had before.
        raw_put: RawPutRequest => RawPutResponse, put, Same;
        /// Sets many keys of one region, together or not at all.
        raw_batch_put: RawBatchPutRequest => RawBatchPutResponse, batch_put, Same;
        /// Removes a key.
        raw_delete: RawDeleteRequest => RawDeleteResponse, delete, Same;
        /// Removes many keys of one region, together or not at all.
        raw_batch_delete: RawBatchDeleteRequest => RawBatchDeleteResponse, batch_delete, Same;
        /// Removes the keys of a range that are in the region.
        raw_delete_range: RawDeleteRangeRequest => RawDeleteRangeResponse, delete_range, Same;
        /// Sets or removes a key if its value is as expected.
        raw_compare_and_swap: RawCasRequest => RawCasResponse, compare_and_swap, Differs;
        /// The pairs of a range that are in the region, up or down.
        raw_scan: RawScanRequest => RawScanResponse, scan, Read;
        /// The pairs of many ranges, as far as they are in the region.
        raw_batch_scan: RawBatchScanRequest => RawBatchScanResponse, batch_scan, Read;
        /// A checksum over the pairs of many ranges, as far as they are in the region.
        raw_checksum: RawChecksumRequest => RawChecksumResponse, checksum, Read;
        /// A page of the rows of JSON values in many ranges that a predicate selects, or aggregates over them.
        raw_coprocessor: RawCoprocessorRequest => RawCoprocessorResponse, coprocessor, Read;
    }

    /// The store's clock, unix seconds.
    pub(super) fn now_s(&self) -> u64 {
        self.kv.now_s()
    }

    /// Waits.
    pub(super) async fn sleep(&self, duration: Duration) {
        self.kv.sleep(duration).await;
    }

    /// The store's id.
    pub(super) fn store(&self) -> u64 {
        self.kv.store()
    }

    fn admit(&self, context: &Context) -> Result<(), Status> {
        let asked = context.cluster_id;
        if asked != 0 && asked != self.cluster_id {
            return Err(Status::invalid_argument(format!(
                "request for cluster {asked}, this is cluster {}",
                self.cluster_id
            )));
        }
        Ok(())
    }

    /// Runs `work`, whose request may give itself a time (`max_execution_duration_ms`). A read is given up when that is over, from
    /// whatever it waits for; a write's time is kept by the store, which knows whether it may still happen.
    async fn in_time<T>(
        &self,
        context: &Context,
        repeat: Repeat,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let limit_ms = context.max_execution_duration_ms;
        if limit_ms == 0 || repeat != Repeat::Read {
            return work.await;
        }
        let mut work = pin!(work);
        // What is answered at once starts no timer.
        if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return result;
        }
        let timer = pin!(self.kv.sleep(Duration::from_millis(limit_ms)));
        match select(work, timer).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(Error::Deadline(format!("the read took longer than its {limit_ms} ms"))),
        }
    }

    /// The region that a write is for; `for_cas` marks a write beside compare-and-swaps, which TiKV routes as it does those.
    fn write_region(&self, context: &Context, for_cas: bool) -> Result<Arc<Region>> {
        self.kv.region(context, if for_cas { Access::Read } else { Access::Write })
    }

    /// Writes `op`; the outcome, if it is a compare-and-swap.
    async fn write(&self, context: &Context, op: region_command::Op) -> Result<Option<CasReply>> {
        self.kv.write(context, op).await
    }
}

/// Checks that the request speaks of the keys that this cluster has: with API V2 the same name is another key.
fn check_version(context: &Context) -> Result<()> {
    match ApiVersion::try_from(context.api_version) {
        Ok(ApiVersion::V1) => Ok(()),
        Ok(ApiVersion::V1ttl) => Err(Error::Invalid(
            "the request is of API version V1TTL, this cluster serves V1, in which keys may expire too: use a client of V1".into(),
        )),
        _ => Err(Error::Invalid(format!(
            "the request is of API version {}, this cluster serves version 1: use a client without a keyspace",
            context.api_version
        ))),
    }
}

/// Runs a read of `size` keys or pairs: here if it is short, in the pool otherwise.
async fn sized<T, F>(size: usize, read: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    if size <= INLINE_KEYS_MAX { read() } else { cpu::run(read).await }
}

/// Checks the length of a key that is to be written. One that is only looked for may be longer: it is not found.
fn check_length(key: &[u8]) -> Result<()> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::Invalid(format!("a key of {} bytes is over the limit of {KEY_BYTES_MAX} bytes", key.len())));
    }
    Ok(())
}

/// Checks the bytes of keys and values in one write, before they are copied into an entry.
fn check_entry(context: &Context, bytes: usize) -> Result<()> {
    if bytes > ENTRY_BYTES_MAX {
        return Err(Error::EntryTooLarge { group: GroupId(context.region_id), bytes: bytes as u64 });
    }
    Ok(())
}

/// Checks that `region` holds a key that is read. As in TiKV that is the request's own fault, shown and not repeated: a region of
/// the version that the client knows has the range that the client knows.
fn check_read_key(region: &Region, key: &[u8]) -> Result<()> {
    if region::holds(region, key) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the key is outside region {}, which the request names: look its region up again",
        region.id
    )))
}
