//! Handlers of raw key-value requests, API V1. Each request has a `Handler` ([`super::calls`]).

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

use crate::proto::kvrpcpb::Context;
use crate::store::{Access, Kv, RegionRead, Route};
use crate::types::limits::{ENTRY_BYTES_MAX, KEY_BYTES_MAX};
use crate::types::{Error, GroupId, Region, Result, region};

use super::layer::quota::MemoryQuota;
use super::layer::slots::Queries;

/// Raw requests of one store. Clones share the state.
#[derive(Clone, Debug)]
pub struct RawService<K> {
    kv: K,
    answers: MemoryQuota,
    queries: Queries,
}

impl<K: Kv> RawService<K> {
    /// Creates the handlers over `kv`. Large responses reserve memory of `answers`, JSON queries take slots of
    /// `queries`.
    pub fn new(kv: K, answers: MemoryQuota, queries: Queries) -> RawService<K> {
        RawService { kv, answers, queries }
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

/// Checks the length of a key that is written. A key that is only read may be longer: it is not found.
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

/// Checks that `region` holds a key that is read. As in TiKV, a key outside is an error of the request, which clients
/// show and do not retry: a region of the version that the client knows has the range that the client knows.
fn check_read_key(region: &Region, key: &[u8]) -> Result<()> {
    if region::holds(region, key) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the key is outside region {}, which the request names: look up the key's region again",
        region.id
    )))
}
