//! Puts and deletes: validated here, replicated as one command, applied at the leader before the answer.

use bytes::Bytes;

use crate::codec::raw;
use crate::proto::armilla::raft::{DeleteBatch, DeleteRange, Pair, PutBatch, region_command::Op};
use crate::proto::kvrpcpb::{
    Context, RawBatchDeleteRequest, RawBatchDeleteResponse, RawBatchPutRequest, RawBatchPutResponse,
    RawDeleteRangeRequest, RawDeleteRangeResponse, RawDeleteRequest, RawDeleteResponse, RawPutRequest, RawPutResponse,
};
use crate::store::kv::{Kv, check_key};
use crate::types::limits::BATCH_KEYS_MAX;
use crate::types::{Error, Result};

use super::column::column;
use super::scan::clip;
use super::{RawService, check_count, check_writable};

impl<K: Kv> RawService<K> {
    /// The expiry (unix seconds) of what is written now with `ttl_s`; 0 is for ever.
    pub(super) fn expiry(&self, ttl_s: u64) -> Option<u64> {
        (ttl_s > 0).then(|| self.kv.now_s().saturating_add(ttl_s))
    }

    pub(super) async fn put(&self, context: &Context, request: RawPutRequest) -> Result<RawPutResponse> {
        let cf = column(&request.cf)?;
        let key = request.key;
        check_writable(&key)?;
        let region = self.kv.region(context)?;
        check_key(&region, &key)?;
        let value = raw::encode(&request.value, self.expiry(request.ttl));
        let op = Op::Put(PutBatch { cf: cf as u32, pairs: vec![Pair { key: key.clone(), value }] });
        self.write(context, &region, key, op).await?;
        Ok(RawPutResponse::default())
    }

    pub(super) async fn batch_put(
        &self,
        context: &Context,
        request: RawBatchPutRequest,
    ) -> Result<RawBatchPutResponse> {
        let cf = column(&request.cf)?;
        let pairs = request.pairs;
        check_count("pairs", pairs.len(), BATCH_KEYS_MAX)?;
        pairs.iter().try_for_each(|pair| check_writable(&pair.key))?;
        // `ttl` is how old clients say one ttl for all.
        let ttls = if request.ttls.is_empty() { vec![request.ttl] } else { request.ttls };
        if ttls.len() != 1 && ttls.len() != pairs.len() {
            return Err(Error::Invalid(format!(
                "{} ttls for {} pairs: give none, one for all, or one a pair",
                ttls.len(),
                pairs.len()
            )));
        }
        let region = self.kv.region(context)?;
        pairs.iter().try_for_each(|pair| check_key(&region, &pair.key))?;
        let Some(first) = pairs.first().map(|pair| pair.key.clone()) else {
            return Ok(RawBatchPutResponse::default());
        };
        let pairs = pairs
            .into_iter()
            .enumerate()
            .map(|(i, pair)| {
                let ttl = if ttls.len() == 1 { ttls[0] } else { ttls[i] };
                Pair { key: pair.key, value: raw::encode(&pair.value, self.expiry(ttl)) }
            })
            .collect();
        self.write(context, &region, first, Op::Put(PutBatch { cf: cf as u32, pairs })).await?;
        Ok(RawBatchPutResponse::default())
    }

    pub(super) async fn delete(&self, context: &Context, request: RawDeleteRequest) -> Result<RawDeleteResponse> {
        self.remove(context, &request.cf, vec![request.key]).await?;
        Ok(RawDeleteResponse::default())
    }

    pub(super) async fn batch_delete(
        &self,
        context: &Context,
        request: RawBatchDeleteRequest,
    ) -> Result<RawBatchDeleteResponse> {
        self.remove(context, &request.cf, request.keys).await?;
        Ok(RawBatchDeleteResponse::default())
    }

    async fn remove(&self, context: &Context, cf: &str, keys: Vec<Bytes>) -> Result<()> {
        let cf = column(cf)?;
        check_count("keys", keys.len(), BATCH_KEYS_MAX)?;
        keys.iter().try_for_each(|key| check_writable(key))?;
        let region = self.kv.region(context)?;
        keys.iter().try_for_each(|key| check_key(&region, key))?;
        let Some(first) = keys.first().cloned() else { return Ok(()) };
        self.write(context, &region, first, Op::Delete(DeleteBatch { cf: cf as u32, keys })).await?;
        Ok(())
    }

    pub(super) async fn delete_range(
        &self,
        context: &Context,
        request: RawDeleteRangeRequest,
    ) -> Result<RawDeleteRangeResponse> {
        let cf = column(&request.cf)?;
        let region = self.kv.region(context)?;
        // Clients send a range to every region that it touches.
        if let Some((start, end)) = clip(&region, request.start_key, request.end_key) {
            let op = Op::DeleteRange(DeleteRange { cf: cf as u32, start: start.clone(), end });
            self.write(context, &region, start, op).await?;
        }
        Ok(RawDeleteRangeResponse::default())
    }
}
