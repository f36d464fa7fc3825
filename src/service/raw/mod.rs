//! Handlers of raw key-value requests. Each request has a `Handler` ([`super::calls`]).
//!
//! The keys that handlers get are in stored form ([`super::keys`]); those of replies are as clients know them.

mod cas;
mod checksum;
mod column;
mod coprocessor;
mod get;
mod put;
mod scan;
mod split;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod v2_tests;

use bytes::Bytes;

use crate::proto::kvrpcpb::Context;
use crate::store::{Access, Kv, RegionRead, Route};
use crate::types::limits::{ENTRY_BYTES_MAX, KEY_BYTES_MAX};
use crate::types::{Api, Error, GroupId, Region, Result, region};

use super::keys::too_long;
use super::layer::quota::MemoryQuota;
use super::layer::slots::Queries;

/// Raw requests of one store. Clones share the state.
#[derive(Clone, Debug)]
pub struct RawService<K> {
    kv: K,
    api: Api,
    answers: MemoryQuota,
    queries: Queries,
}

impl<K: Kv> RawService<K> {
    /// Creates the handlers over `kv`, of a cluster with this API version. Large responses reserve memory of `answers`,
    /// JSON queries take slots of `queries`.
    pub fn new(kv: K, api: Api, answers: MemoryQuota, queries: Queries) -> RawService<K> {
        RawService { kv, api, answers, queries }
    }

    /// Returns the API version of the cluster.
    pub(super) fn api(&self) -> Api {
        self.api
    }

    /// Checks the length of a key that is written. A key that is only read may be longer: it is not found. The keys of
    /// API V2 were checked before they were encoded.
    fn check_length(&self, key: &[u8]) -> Result<()> {
        if self.api == Api::V1 && key.len() > KEY_BYTES_MAX { Err(too_long(key.len())) } else { Ok(()) }
    }

    /// Returns the route to the region of a write. `for_cas` marks a write next to compare-and-swaps, which TiKV routes
    /// as it routes those.
    fn write_route(&self, context: &Context, for_cas: bool) -> Result<K::Route> {
        self.kv.route(context, if for_cas { Access::Read } else { Access::Write })
    }

    /// Returns the route to the region that a request names, and a linearizable view of it.
    async fn read(&self, context: &Context) -> Result<(K::Route, RegionRead<<K::Route as Route>::Snapshot>)> {
        let route = self.kv.route(context, Access::Read)?;
        let read = route.read().await?;
        Ok((route, read))
    }
}

/// Checks the bytes of keys and values in one write, before they are copied into an entry.
fn check_entry(context: &Context, bytes: usize) -> Result<()> {
    if bytes > ENTRY_BYTES_MAX {
        return Err(Error::EntryTooLarge { group: GroupId(context.region_id), bytes: bytes as u64 });
    }
    Ok(())
}

/// Checks that `region` holds a key that is read. As in TiKV, with API V1 a key outside is an error of the request,
/// which clients show and do not retry: a region of the version that the client knows has the range that the client
/// knows. With API V2 it is a region error.
fn check_read_key(api: Api, region: &Region, key: &Bytes) -> Result<()> {
    if region::holds(region, key) {
        return Ok(());
    }
    if api == Api::V2 {
        return Err(Error::KeyNotInRegion { key: key.clone(), region: Box::new(region.clone()) });
    }
    Err(Error::Invalid(format!(
        "the key is outside region {}, which the request names: look up the key's region again",
        region.id
    )))
}
