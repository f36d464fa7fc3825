//! Point reads. They run on the request's own task: with a lease they do not wait, unless they need the disk.

use bytes::Bytes;

use crate::codec::{keyspace, raw};
use crate::engine::{Cached, Cf, Read};
use crate::proto::kvrpcpb::{
    Context, KvPair, RawBatchGetRequest, RawBatchGetResponse, RawGetKeyTtlRequest, RawGetKeyTtlResponse, RawGetRequest,
    RawGetResponse,
};
use crate::rt::cpu;
use crate::store::{Kv, RegionRead, Route};
use crate::types::limits::{READ_INLINE_KEYS_MAX, REPLY_BYTES_MAX};
use crate::types::{Api, Error, Result};

use super::column::column;
use super::scan::{PAIR_BYTES, PAIR_MEMORY, bytes_of};
use super::{RawService, check_read_key};
use crate::service::calls::Handler;
use crate::service::error::failed_pair;
use crate::service::layer::quota::{Reservation, counts};

/// Approximate bytes of a pair with an error.
const ERROR_BYTES: usize = 768;

/// Returns the value of a key.
impl<K: Kv> Handler<RawGetRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawGetRequest) -> Result<RawGetResponse> {
        let found = self.look_up(context, &request.cf, &request.key).await?;
        Ok(match found {
            Some((value, _)) => RawGetResponse { value, ..RawGetResponse::default() },
            None => RawGetResponse { not_found: true, ..RawGetResponse::default() },
        })
    }
}

/// Returns the seconds until a key expires; 0 if it does not.
impl<K: Kv> Handler<RawGetKeyTtlRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawGetKeyTtlRequest) -> Result<RawGetKeyTtlResponse> {
        let found = self.look_up(context, &request.cf, &request.key).await?;
        Ok(match found {
            Some((_, ttl)) => RawGetKeyTtlResponse { ttl, ..RawGetKeyTtlResponse::default() },
            None => RawGetKeyTtlResponse { not_found: true, ..RawGetKeyTtlResponse::default() },
        })
    }
}

impl<K: Kv> RawService<K> {
    /// Returns the value of a key and the seconds until it expires (0: never).
    async fn look_up(&self, context: &Context, cf: &str, key: &Bytes) -> Result<Option<(Bytes, u64)>> {
        let (route, read) = self.read(context).await?;
        let cf = column(cf)?;
        check_read_key(self.api, &read.region, key)?;
        let found = get(&read.snapshot, cf, key).await?;
        let bytes = found.as_ref().map_or(0, |stored| key.len() + stored.len());
        route.count_read(key, None, usize::from(found.is_some()), bytes);
        match found {
            Some(stored) => {
                let mut held = self.answers.begin();
                held.grow_to(stored.len())?;
                let found = raw::live(&stored, read.now_s)?;
                Ok(found.map(|(value, ttl)| if counts(value.len()) { (held.attach(value), ttl) } else { (value, ttl) }))
            }
            None => Ok(None),
        }
    }
}

/// Returns the stored value of a key: at once if it is in memory, otherwise by a thread that may wait for the disk.
async fn get<S: Read + Clone + Send + 'static>(read: &S, cf: Cf, key: &Bytes) -> Result<Option<Bytes>> {
    match read.get_cached(cf, key)? {
        Cached::Known(found) => Ok(found),
        Cached::OnDisk => {
            let (read, key) = (read.clone(), key.clone());
            cpu::run(move || read.get(cf, &key)).await
        }
    }
}

/// Returns the values of many keys, in the order of the request. Keys that do not exist are left out.
impl<K: Kv> Handler<RawBatchGetRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawBatchGetRequest) -> Result<RawBatchGetResponse> {
        let (route, read) = self.read(context).await?;
        let cf = column(&request.cf)?;
        let (keys, api) = (request.keys, self.api);
        // One of the keys stands for all of them: the load that the whole request is lies there or near it.
        let one = keys.get(keys.len() / 2).cloned().unwrap_or_default();
        let few = keys.len() <= READ_INLINE_KEYS_MAX;
        let here = if few { gather(&read, (cf, api), &keys, self.answers.begin(), Read::get_cached)? } else { None };
        let pairs = match here {
            Some(pairs) => Some(pairs),
            None => {
                let held = self.answers.begin();
                let from_disk = |read: &_, cf, key: &_| Read::get(read, cf, key).map(Cached::Known);
                cpu::run(move || gather(&read, (cf, api), &keys, held, from_disk)).await?
            }
        };
        let pairs = pairs.unwrap_or_default();
        route.count_read(&one, None, pairs.len(), bytes_of(&pairs));
        Ok(RawBatchGetResponse { pairs, ..RawBatchGetResponse::default() })
    }
}

/// Returns the pairs of `keys`, read by `get`. Returns `None` if `get` would need the disk for one of them.
fn gather<S: Read>(
    read: &RegionRead<S>,
    (cf, api): (Cf, Api),
    keys: &[Bytes],
    mut held: Reservation,
    get: impl Fn(&S, Cf, &[u8]) -> Result<Cached>,
) -> Result<Option<Vec<KvPair>>> {
    let mut pairs: Vec<KvPair> = Vec::new();
    let mut bytes = 0;
    for key in keys {
        if let Err(error) = check_read_key(api, &read.region, key) {
            if api == Api::V2 {
                return Err(error);
            }
            // A key of another region does not prevent reading the others.
            bytes += ERROR_BYTES;
            held.grow_to(bytes + (pairs.len() + 1) * PAIR_MEMORY)?;
            pairs.push(failed_pair(error.to_string()));
            continue;
        }
        let stored = match get(&read.snapshot, cf, key)? {
            Cached::Known(Some(stored)) => stored,
            Cached::Known(None) => continue,
            Cached::OnDisk => return Ok(None),
        };
        let Some((value, _)) = raw::live(&stored, read.now_s)? else { continue };
        bytes += key.len() + value.len() + PAIR_BYTES;
        if bytes > REPLY_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the response would be over the limit of {REPLY_BYTES_MAX} bytes: ask for fewer keys at a time"
            )));
        }
        held.grow_to(bytes + (pairs.len() + 1) * PAIR_MEMORY)?;
        pairs.push(KvPair { key: keyspace::plain(api, key)?, value, ..KvPair::default() });
    }
    if let Some(last) = pairs.last_mut() {
        last.value = held.attach(std::mem::take(&mut last.value));
    }
    Ok(Some(pairs))
}
