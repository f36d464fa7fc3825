//! Puts and deletes: validated here, replicated as one command, applied by the leader before the response.

use bytes::Bytes;

use crate::codec::raw;
use crate::proto::kvrpcpb::{
    Context, RawBatchDeleteRequest, RawBatchDeleteResponse, RawBatchPutRequest, RawBatchPutResponse,
    RawDeleteRangeRequest, RawDeleteRangeResponse, RawDeleteRequest, RawDeleteResponse, RawPutRequest, RawPutResponse,
};
use crate::store::command;
use crate::store::kv::{Kv, Route, check_key};
use crate::types::{Error, Region, Result, region};

use super::column::column;
use super::{RawService, check_entry};
use crate::service::calls::Handler;

impl<K: Kv> RawService<K> {
    /// Returns the expiry (Unix seconds) of a value that is written now with `ttl_s`; `None` if that is 0.
    pub(super) fn expiry(&self, ttl_s: u64) -> Option<u64> {
        (ttl_s > 0).then(|| self.kv.now_s().saturating_add(ttl_s))
    }
}

/// Sets a key. Without a TTL it does not expire, even if it did before.
impl<K: Kv> Handler<RawPutRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawPutRequest) -> Result<RawPutResponse> {
        let cf = column(&request.cf)?;
        let key = request.key;
        self.check_length(&key)?;
        let route = self.write_route(context, request.for_cas)?;
        check_entry(context, key.len() + request.value.len())?;
        check_key(route.region(), &key)?;
        let value = raw::encode(&request.value, self.expiry(request.ttl));
        route.write(command::write(vec![command::put(cf, key, value)]), None).await?;
        Ok(RawPutResponse::default())
    }
}

/// Sets many keys of one region atomically.
impl<K: Kv> Handler<RawBatchPutRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawBatchPutRequest) -> Result<RawBatchPutResponse> {
        let cf = column(&request.cf)?;
        let pairs = request.pairs;
        pairs.iter().try_for_each(|pair| self.check_length(&pair.key))?;
        // Old clients use `ttl` for one TTL of all pairs.
        let ttls = if request.ttls.is_empty() { vec![request.ttl] } else { request.ttls };
        if ttls.len() != 1 && ttls.len() != pairs.len() {
            return Err(Error::Invalid(format!(
                "{} ttls for {} pairs: give none, one for all, or one for each pair",
                ttls.len(),
                pairs.len()
            )));
        }
        if pairs.is_empty() {
            return Err(empty());
        }
        let route = self.write_route(context, request.for_cas)?;
        check_entry(context, pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum())?;
        pairs.iter().try_for_each(|pair| check_key(route.region(), &pair.key))?;
        let changes = pairs
            .into_iter()
            .enumerate()
            .map(|(i, pair)| {
                let ttl = if ttls.len() == 1 { ttls[0] } else { ttls[i] };
                command::put(cf, pair.key, raw::encode(&pair.value, self.expiry(ttl)))
            })
            .collect();
        route.write(command::write(changes), None).await?;
        Ok(RawBatchPutResponse::default())
    }
}

/// Deletes a key.
impl<K: Kv> Handler<RawDeleteRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawDeleteRequest) -> Result<RawDeleteResponse> {
        self.remove(context, &request.cf, vec![request.key], request.for_cas).await?;
        Ok(RawDeleteResponse::default())
    }
}

/// Deletes many keys of one region atomically.
impl<K: Kv> Handler<RawBatchDeleteRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawBatchDeleteRequest) -> Result<RawBatchDeleteResponse> {
        self.remove(context, &request.cf, request.keys, request.for_cas).await?;
        Ok(RawBatchDeleteResponse::default())
    }
}

impl<K: Kv> RawService<K> {
    async fn remove(&self, context: &Context, cf: &str, keys: Vec<Bytes>, for_cas: bool) -> Result<()> {
        let cf = column(cf)?;
        keys.iter().try_for_each(|key| self.check_length(key))?;
        if keys.is_empty() {
            return Err(empty());
        }
        let route = self.write_route(context, for_cas)?;
        check_entry(context, keys.iter().map(Bytes::len).sum())?;
        keys.iter().try_for_each(|key| check_key(route.region(), key))?;
        let changes = keys.into_iter().map(|key| command::delete(cf, key)).collect();
        route.write(command::write(changes), None).await?;
        Ok(())
    }
}

/// Deletes the keys of a range, which must be in the region.
impl<K: Kv> Handler<RawDeleteRangeRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawDeleteRangeRequest) -> Result<RawDeleteRangeResponse> {
        let cf = column(&request.cf)?;
        let (start, end) = (request.start_key, request.end_key);
        let route = self.write_route(context, false)?;
        if !end.is_empty() && start >= end {
            return Err(Error::Invalid("the range to delete is empty: its start must be below its end".into()));
        }
        // Never clipped: a client that means more than one region must know that only a part would be deleted.
        check_key(route.region(), &start)?;
        if !region::ends_by(route.region(), &end) {
            return Err(Error::KeyNotInRegion { key: end, region: Box::new(Region::clone(route.region())) });
        }
        route.write(command::write(vec![command::delete_range(cf, start, end)]), None).await?;
        Ok(RawDeleteRangeResponse::default())
    }
}

/// Returns the error of a batch without keys.
fn empty() -> Error {
    Error::Invalid("the batch is empty: give at least one key".into())
}
