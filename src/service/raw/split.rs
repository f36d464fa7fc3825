//! The split request: makes boundaries between regions.

use bytes::Bytes;

use crate::codec;
use crate::proto::kvrpcpb::{Context, SplitRegionRequest, SplitRegionResponse};
use crate::store::{Access, Kv, Route};
use crate::types::{Api, Result};

use super::RawService;
use crate::service::calls::Handler;

/// Splits a region at the given keys.
impl<K: Kv> Handler<SplitRegionRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: SplitRegionRequest) -> Result<SplitRegionResponse> {
        let SplitRegionRequest { split_key, split_keys, is_raw_kv, .. } = request;
        // As in TiKV, the single key of older clients comes first.
        let keys = if split_key.is_empty() { split_keys } else { vec![split_key] };
        // With API V2 all boundaries are encoded.
        let as_they_are = is_raw_kv && self.api == Api::V1;
        let keys = if as_they_are { keys } else { keys.iter().map(|key| encoded(key)).collect() };
        let regions = self.kv.route(context, Access::Write)?.split(keys).await?;
        let (left, right) = match &regions[..] {
            [left, right] => (Some(left.clone()), Some(right.clone())),
            _ => (None, None),
        };
        Ok(SplitRegionResponse { left, right, regions, region_error: None })
    }
}

/// Returns a transaction's key as it is stored. The empty key stays empty.
fn encoded(key: &[u8]) -> Bytes {
    if key.is_empty() { Bytes::new() } else { codec::bytes::encode(key) }
}
