//! Compare-and-swap: decided when the command is applied, in order with all other writes.

use crate::codec::raw;
use crate::proto::armilla::raft::{CompareAndSwap, region_command::Op};
use crate::proto::kvrpcpb::{Context, RawCasRequest, RawCasResponse};
use crate::store::kv::{Access, Kv, Route};
use crate::types::{Error, Result};

use super::column::column;
use super::{RawService, check_entry, check_read_key};
use crate::service::calls::Handler;

/// Sets or deletes a key if its value is as expected.
impl<K: Kv> Handler<RawCasRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawCasRequest) -> Result<RawCasResponse> {
        let cf = column(&request.cf)?;
        let key = request.key;
        self.check_length(&key)?;
        let route = self.kv.route(context, Access::Read)?;
        check_entry(context, key.len() + request.value.len() + request.previous_value.len())?;
        check_read_key(self.api, route.region(), &key)?;
        let op = Op::Cas(CompareAndSwap {
            cf: cf as u32,
            key,
            expected: (!request.previous_not_exist).then_some(request.previous_value),
            stored: (!request.delete).then(|| raw::encode(&request.value, self.expiry(request.ttl))),
            now_s: self.kv.now_s(),
        });
        let cas = route.write(op, None).await?;
        // The command was applied, but its outcome is missing: the caller must read the key, not try again.
        let cas =
            cas.ok_or_else(|| Error::Unknown("the region's reply has no outcome of the compare-and-swap".into()))?;
        Ok(RawCasResponse {
            succeed: cas.succeed,
            previous_not_exist: cas.previous.is_none(),
            previous_value: cas.previous.unwrap_or_default(),
            ..RawCasResponse::default()
        })
    }
}
