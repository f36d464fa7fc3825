//! The checksum request: a fingerprint of ranges that does not depend on the order of pairs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};

use crate::arch;
use crate::codec::{keyspace, raw};
use crate::engine::{Cf, Read, Visit};
use crate::proto::kvrpcpb::{ChecksumAlgorithm, Context, RawChecksumRequest, RawChecksumResponse};
use crate::rt::cpu;
use crate::store::{Kv, Route};
use crate::types::{Api, Error, Result};

use super::RawService;
use super::scan::{check_seek, clip, whole};
use crate::service::calls::Handler;

/// Computes a checksum over the pairs of many ranges, as far as they are in the region.
impl<K: Kv> Handler<RawChecksumRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawChecksumRequest) -> Result<RawChecksumResponse> {
        if request.algorithm != ChecksumAlgorithm::Crc64Xor as i32 {
            return Err(Error::Invalid(format!("unknown checksum algorithm {}: use Crc64_Xor (0)", request.algorithm)));
        }
        let (route, read) = self.read(context).await?;
        request.ranges.iter().try_for_each(|range| check_seek(&read.region, &range.start_key))?;
        let windows: Vec<_> =
            request.ranges.into_iter().filter_map(|r| clip(&read.region, r.start_key, r.end_key)).collect();
        let caller = Caller::default();
        let gone = caller.0.clone();
        let whole = whole(&windows);
        let api = self.api;
        let reply = cpu::run(move || fingerprint(&read.snapshot, (api, read.now_s), &windows, &gone)).await?;
        if let Some((start, end)) = whole {
            route.count_read(&start, Some(&end), reply.total_kvs as usize, reply.total_bytes as usize);
        }
        Ok(reply)
    }
}

/// Sets the flag when dropped, because the caller no longer waits for the result.
#[derive(Default)]
struct Caller(Arc<AtomicBool>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Computes the checksum over the pairs of `windows` that are not expired at `now_s`. Ends early once the caller is
/// `gone`.
pub(super) fn fingerprint(
    snapshot: &impl Read,
    (api, now_s): (Api, u64),
    windows: &[(Bytes, Bytes)],
    gone: &AtomicBool,
) -> Result<RawChecksumResponse> {
    let mut reply = RawChecksumResponse::default();
    let mut buffer = BytesMut::new();
    for (start, end) in windows {
        let mut failed = None;
        snapshot.scan_once(Cf::RawDefault, start, end, &mut |key, stored| match raw::decode(stored) {
            _ if gone.load(Ordering::Relaxed) => {
                failed = Some(Error::Timeout("the caller has gone".into()));
                Visit::Stop
            }
            Ok((_, Some(at))) if at <= now_s => Visit::More,
            Ok((len, _)) => match keyspace::plain_in(api, key, &mut buffer) {
                Ok(key) => {
                    reply.checksum ^= arch::crc64(&[key, &stored[..len]]);
                    reply.total_kvs += 1;
                    reply.total_bytes += (key.len() + len) as u64;
                    Visit::More
                }
                Err(error) => {
                    failed = Some(error);
                    Visit::Stop
                }
            },
            Err(error) => {
                failed = Some(error);
                Visit::Stop
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(reply)
}
