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

use tonic::Status;

use crate::proto::armilla::raft::{CasReply, RegionReply, region_command};
use crate::proto::kvrpcpb::{
    ApiVersion, Context, RawBatchDeleteRequest, RawBatchDeleteResponse, RawBatchGetRequest, RawBatchGetResponse,
    RawBatchPutRequest, RawBatchPutResponse, RawBatchScanRequest, RawBatchScanResponse, RawCasRequest, RawCasResponse,
    RawChecksumRequest, RawChecksumResponse, RawCoprocessorRequest, RawCoprocessorResponse, RawDeleteRangeRequest,
    RawDeleteRangeResponse, RawDeleteRequest, RawDeleteResponse, RawGetKeyTtlRequest, RawGetKeyTtlResponse,
    RawGetRequest, RawGetResponse, RawPutRequest, RawPutResponse, RawScanRequest, RawScanResponse,
};
use crate::rt::cpu;
use crate::store::Kv;
use crate::types::limits::KEY_BYTES_MAX;
use crate::types::{Error, Region, Result};

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
                    Ok(()) => self.$inner(&context, request).await,
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
        /// The pairs of many ranges, each clipped to the region.
        raw_batch_scan: RawBatchScanRequest => RawBatchScanResponse, batch_scan, Read;
        /// A checksum over the pairs of many ranges, each clipped to the region.
        raw_checksum: RawChecksumRequest => RawChecksumResponse, checksum, Read;
        /// A page of the rows of JSON values in many ranges that a predicate selects, or aggregates over them.
        raw_coprocessor: RawCoprocessorRequest => RawCoprocessorResponse, coprocessor, Read;
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

    /// Writes `op` and looks at what the region said when it was applied. `first` is one of the keys written.
    async fn write(
        &self,
        context: &Context,
        region: &Region,
        first: bytes::Bytes,
        op: region_command::Op,
    ) -> Result<Option<CasReply>> {
        let RegionReply { key_not_in_region, cas, .. } = self.kv.write(context, op).await?;
        if key_not_in_region {
            return Err(Error::KeyNotInRegion { key: first, region: Box::new(region.clone()) });
        }
        Ok(cas)
    }
}

/// Checks that the request speaks of the keys that this cluster has: with API V2 the same name is another key.
fn check_version(context: &Context) -> Result<()> {
    match ApiVersion::try_from(context.api_version) {
        Ok(ApiVersion::V1 | ApiVersion::V1ttl) => Ok(()),
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

/// Checks a key that is to be written, or looked up.
fn check_length(key: &[u8]) -> Result<()> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::Invalid(format!("a key of {} bytes is over the limit of {KEY_BYTES_MAX} bytes", key.len())));
    }
    Ok(())
}

/// Checks a key that is to be written.
fn check_writable(key: &[u8]) -> Result<()> {
    if key.is_empty() {
        return Err(Error::Invalid("an empty key cannot be written".into()));
    }
    check_length(key)
}

/// Checks the number of `what` in a request.
fn check_count(what: &str, count: usize, max: usize) -> Result<()> {
    if count > max {
        return Err(Error::Invalid(format!("{count} {what} in one request are over the limit of {max}")));
    }
    Ok(())
}
