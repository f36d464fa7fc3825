//! The raw key-value client: finds the region of each key, sends requests to its leader, and retries where that is
//! safe.

mod attempt;
mod reply;

use futures::future::BoxFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::codec::keyspace::Mode;
use crate::proto::kvrpcpb::{
    ChecksumAlgorithm, KeyRange, KvPair, RawBatchDeleteRequest, RawBatchGetRequest, RawBatchPutRequest, RawCasRequest,
    RawChecksumRequest, RawCoprocessorRequest, RawDeleteRangeRequest, RawDeleteRequest, RawGetKeyTtlRequest,
    RawGetRequest, RawPutRequest, RawScanRequest, SplitRegionRequest,
};
use crate::rt::clock::Clock;
use crate::rt::net::Net;
use crate::rt::rng::Rng;
use crate::types::limits::{CLIENT_SCAN_PAIRS_MAX, KEY_BYTES_MAX};

use super::channels::{Addresses, Channels};
use super::error::{Error, Result};
use super::pd::PdClient;
use super::region_cache::RegionCache;
use super::space::Space;

pub(crate) use attempt::{Repeat, Stub};
pub(crate) use reply::Reply;

/// Which peer of a region is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerChoice {
    /// The leader, if known.
    #[default]
    Leader,
    /// Any peer. This shows whether followers refuse the requests that they must refuse.
    Random,
}

/// Settings of a [`RawClient`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawOptions {
    /// How long a request may take, including retries.
    pub deadline: Duration,
    /// How long one attempt may take.
    pub attempt: Duration,
    /// Whether failed attempts are retried at all.
    pub retries: bool,
    /// Whether a put or delete is sent again after an attempt that may have had an effect. The first attempt may still
    /// take effect after the second was acknowledged, and overwrite a later write of another client. TiKV's clients
    /// accept this; a linearizability checker must not. A compare-and-swap is never sent again in this case.
    pub retry_unknown: bool,
    /// Which peer of a region is asked first.
    pub peers: PeerChoice,
    /// Whether any peer may serve reads, and is asked: linearizable as well, but with a round trip between stores.
    pub replica_reads: bool,
    /// Whether reads of transactions are as of a moment that has passed, and any peer may serve them by itself.
    pub stale_reads: bool,
    /// The column family: "" (the default one), "default", "lock" or "write".
    pub cf: String,
    /// Marks writes as concurrent to compare-and-swaps (TiKV asks for it; Armilla is linearizable either way).
    pub for_cas: bool,
}

impl Default for RawOptions {
    /// Returns settings for interactive use: generous timeouts, puts and deletes are repeated.
    fn default() -> RawOptions {
        RawOptions {
            deadline: Duration::from_secs(10),
            attempt: Duration::from_secs(2),
            retries: true,
            retry_unknown: true,
            peers: PeerChoice::Leader,
            replica_reads: false,
            stale_reads: false,
            cf: String::new(),
            for_cas: false,
        }
    }
}

impl RawOptions {
    /// Returns settings for checkers: an attempt that may have had an effect is reported as unknown at once.
    pub fn strict() -> RawOptions {
        RawOptions { retry_unknown: false, ..RawOptions::default() }
    }
}

/// The response to a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cas {
    /// Whether the value was replaced.
    pub swapped: bool,
    /// The value that was found; `None` if the key did not exist.
    pub previous: Option<Bytes>,
}

/// The checksum of ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// CRC64 of every pair, combined by exclusive or.
    pub crc64_xor: u64,
    /// Number of pairs.
    pub pairs: u64,
    /// Total bytes of keys and values.
    pub bytes: u64,
}

/// Where a coprocessor request continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoOn {
    /// Continue at this key, as the response has it.
    From(Bytes),
    /// Continue at the end of the region.
    Beyond,
    /// Stop: the result is complete.
    Enough,
}

/// A raw key-value client. Clones share connections and cached routes.
#[derive(Clone, Debug)]
pub struct RawClient {
    shared: Arc<Shared>,
    options: Arc<RawOptions>,
    space: Space,
}

#[derive(Debug)]
struct Shared {
    pd: PdClient,
    channels: Channels,
    addresses: Addresses,
    clock: Clock,
    cache: Mutex<RegionCache>,
    rng: Mutex<Rng>,
}

/// Returns a key that is larger than every valid key.
fn beyond_all_keys() -> Bytes {
    Bytes::from(vec![0xff; KEY_BYTES_MAX + 1])
}

impl RawClient {
    /// Creates a client that asks `pd` for regions and draws all random numbers from `rng`.
    pub fn new(pd: PdClient, net: Net, clock: Clock, rng: Rng, options: RawOptions) -> RawClient {
        let shared = Shared {
            pd,
            channels: Channels::new(net),
            addresses: Addresses::default(),
            clock,
            cache: Mutex::default(),
            rng: Mutex::new(rng),
        };
        RawClient { shared: Arc::new(shared), options: Arc::new(options), space: Space::V1 }
    }

    /// Returns a clone with other options.
    #[must_use]
    pub fn with_options(&self, options: RawOptions) -> RawClient {
        RawClient { options: Arc::new(options), ..self.clone() }
    }

    /// Returns a clone that uses these keys.
    #[must_use]
    pub fn in_space(&self, space: Space) -> RawClient {
        RawClient { space, ..self.clone() }
    }

    /// Returns which keys the client uses.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Returns the options.
    pub fn options(&self) -> &RawOptions {
        &self.options
    }

    /// Returns the clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Returns the placement driver's client.
    pub fn pd(&self) -> &PdClient {
        &self.shared.pd
    }

    /// Returns the value of a key, or `None` if the key does not exist.
    ///
    /// # Errors
    /// Returns [`super::Error::Refused`] or [`super::Error::Unavailable`].
    pub fn get(&self, key: Bytes) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(async move {
            let (key, routed) = self.forms(&key);
            let reply = self.one(&routed, Repeat::Read, |mut stub, context| {
                let request = RawGetRequest { context, key: key.clone(), cf: self.cf() };
                async move { stub.raw_get(request).await }
            });
            let reply = reply.await?;
            Ok((!reply.not_found).then_some(reply.value))
        })
    }

    /// Returns the pairs of those `keys` that exist, in key order. Each region is read at a moment of its own.
    ///
    /// # Errors
    /// Returns [`super::Error::Refused`] or [`super::Error::Unavailable`].
    pub fn batch_get(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>>> {
        Box::pin(async move {
            let keys: Vec<(Bytes, Bytes)> = keys.iter().map(|key| self.routed_first(key)).collect();
            let replies = self.many(
                keys,
                Repeat::Read,
                |_| 0,
                |mut stub, context, keys| {
                    let keys = keys.iter().map(|(_, key)| key.clone()).collect();
                    let request = RawBatchGetRequest { context, keys, cf: self.cf() };
                    async move { stub.raw_batch_get(request).await }
                },
            );
            let mut pairs = self.pairs(replies.await?.into_iter().flat_map(|reply| reply.pairs));
            pairs.sort();
            Ok(pairs)
        })
    }

    /// Sets a key. It expires after `ttl_s` seconds, unless that is zero.
    ///
    /// # Errors
    /// Returns any [`super::Error`].
    pub fn put(&self, key: Bytes, value: Bytes, ttl_s: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (key, routed) = self.forms(&key);
            self.one(&routed, Repeat::Same, |mut stub, context| {
                let (key, value, for_cas) = (key.clone(), value.clone(), self.options.for_cas);
                let request = RawPutRequest { context, key, value, cf: self.cf(), ttl: ttl_s, for_cas };
                async move { stub.raw_put(request).await }
            })
            .await
            .map(|_| ())
        })
    }

    /// Sets keys. The part in each request is atomic, the whole is not: after an error some of the keys may be set
    /// ([`super::Error::Unknown`]).
    ///
    /// # Errors
    /// Returns any [`super::Error`].
    pub fn batch_put(&self, pairs: Vec<(Bytes, Bytes)>, ttl_s: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let routed = |(key, value): (Bytes, Bytes)| {
                let (key, routed) = self.forms(&key);
                (routed, (key, value))
            };
            let pairs: Vec<(Bytes, (Bytes, Bytes))> = pairs.into_iter().map(routed).collect();
            let bytes = |(_, value): &(Bytes, Bytes)| value.len();
            self.many(pairs, Repeat::Same, bytes, |mut stub, context, pairs| {
                let pair = |(_, (key, value)): &(Bytes, (Bytes, Bytes))| KvPair {
                    key: key.clone(),
                    value: value.clone(),
                    ..Default::default()
                };
                let request = RawBatchPutRequest {
                    context,
                    pairs: pairs.iter().map(pair).collect(),
                    cf: self.cf(),
                    ttls: if ttl_s == 0 { Vec::new() } else { vec![ttl_s] },
                    for_cas: self.options.for_cas,
                    ..Default::default()
                };
                async move { stub.raw_batch_put(request).await }
            })
            .await
            .map(|_| ())
        })
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// Returns any [`super::Error`].
    pub fn delete(&self, key: Bytes) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (key, routed) = self.forms(&key);
            self.one(&routed, Repeat::Same, |mut stub, context| {
                let request =
                    RawDeleteRequest { context, key: key.clone(), cf: self.cf(), for_cas: self.options.for_cas };
                async move { stub.raw_delete(request).await }
            })
            .await
            .map(|_| ())
        })
    }

    /// Deletes keys, with the same atomicity as [`RawClient::batch_put`].
    ///
    /// # Errors
    /// Returns any [`super::Error`].
    pub fn batch_delete(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let keys: Vec<(Bytes, Bytes)> = keys.iter().map(|key| self.routed_first(key)).collect();
            self.many(
                keys,
                Repeat::Same,
                |_| 0,
                |mut stub, context, keys| {
                    let keys = keys.iter().map(|(_, key)| key.clone()).collect();
                    let request = RawBatchDeleteRequest { context, keys, cf: self.cf(), for_cas: self.options.for_cas };
                    async move { stub.raw_batch_delete(request).await }
                },
            )
            .await
            .map(|_| ())
        })
    }

    /// Makes each of these keys the start of a region, one after the other. A key at which a region starts already is
    /// left as it is.
    ///
    /// # Errors
    /// Returns any [`super::Error`]. Keys before the one that failed are boundaries then.
    pub fn split<'a>(&'a self, keys: &'a [Bytes]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for key in keys {
                self.split_at(&self.forms(key).1).await?;
            }
            Ok(())
        })
    }

    /// Makes a boundary, as the placement driver knows it, the start of a region. Returns the ID of the new region
    /// before it, or `None` if the boundary was there already.
    ///
    /// # Errors
    /// Returns any [`super::Error`].
    pub fn split_at<'a>(&'a self, key: &'a Bytes) -> BoxFuture<'a, Result<Option<u64>>> {
        Box::pin(async move {
            let wire = self.space.unrouted(key)?;
            let split = self.one(key, Repeat::Same, |mut stub, context| {
                let split_keys = vec![wire.clone()];
                let request = SplitRegionRequest { context, split_keys, is_raw_kv: true, ..Default::default() };
                async move { stub.split_region(request).await }
            });
            let error = match split.await {
                Ok(reply) => return Ok(reply.regions.first().map(|new| new.id)),
                Err(error) => error,
            };
            // An earlier attempt, or another client, may have made the boundary. The store that refused this one has
            // said so; the placement driver may hear of it later.
            let known = self.shared.cache.lock().expect("no holder panics").locate(key);
            if matches!(error, Error::Refused(_)) && known.is_some_and(|known| known.region.start_key == *key) {
                return Ok(None);
            }
            let found = self.shared.pd.get_region(key).await?;
            if found.is_some_and(|found| found.region.start_key == *key) { Ok(None) } else { Err(error) }
        })
    }

    /// Deletes the keys in `[start, end)`, region by region. An empty `end` is plus infinity.
    ///
    /// # Errors
    /// Returns any [`super::Error`]; [`super::Error::Unknown`] if part of the range may have been deleted.
    pub fn delete_range(&self, start: Bytes, end: Bytes) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (start, end) = self.routed_range(&start, &end);
            self.upwards(
                start,
                end,
                Repeat::Same,
                |mut stub, context, start_key, end_key| {
                    let request = RawDeleteRangeRequest { context, start_key, end_key, cf: self.cf() };
                    async move { stub.raw_delete_range(request).await }
                },
                |_, _| None,
            )
            .await
            .map(|_| ())
        })
    }

    /// Returns the first `limit` pairs of `[start, end)` in ascending order; without values if `key_only`. An empty
    /// `end` is plus infinity. Each region is read at a moment of its own.
    ///
    /// # Errors
    /// Returns [`super::Error::Refused`] or [`super::Error::Unavailable`].
    pub fn scan(
        &self,
        start: Bytes,
        end: Bytes,
        limit: usize,
        key_only: bool,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>>> {
        Box::pin(async move {
            let (start, end) = self.routed_range(&start, &end);
            let found = Mutex::new(Vec::new());
            let page = || {
                limit.saturating_sub(found.lock().expect("no holder panics").len()).min(CLIENT_SCAN_PAIRS_MAX as usize)
                    as u32
            };
            if limit > 0 {
                self.upwards(
                    start,
                    end,
                    Repeat::Read,
                    |mut stub, context, start_key, end_key| {
                        let request = RawScanRequest {
                            context,
                            start_key,
                            end_key,
                            limit: page(),
                            key_only,
                            cf: self.cf(),
                            reverse: false,
                        };
                        async move { stub.raw_scan(request).await }
                    },
                    |reply, end| {
                        let asked = page() as usize;
                        let full = reply.kvs.len() >= asked;
                        let mut found = found.lock().expect("no holder panics");
                        let last = reply.kvs.last().map(|pair| [&pair.key[..], &[0]].concat());
                        found.extend(self.pairs(std::mem::take(&mut reply.kvs)));
                        if found.len() >= limit {
                            return Some(end.clone());
                        }
                        // After a full page, the same region may have more pairs.
                        last.filter(|_| full).map(|next| self.space.routed(&next.into()))
                    },
                )
                .await?;
            }
            let mut found = found.into_inner().expect("no holder panics");
            found.truncate(limit);
            Ok(found)
        })
    }

    /// Returns the last `limit` pairs of `[start, end)` in descending order; without values if `key_only`. An empty
    /// `end` is plus infinity.
    ///
    /// # Errors
    /// Returns [`super::Error::Refused`] or [`super::Error::Unavailable`].
    pub fn scan_reverse(
        &self,
        start: Bytes,
        end: Bytes,
        limit: usize,
        key_only: bool,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>>> {
        Box::pin(async move {
            let (start, mut upper) = self.routed_range(&start, &end);
            let mut found: Vec<(Bytes, Bytes)> = Vec::new();
            while found.len() < limit && upper > start {
                let page = (limit - found.len()).min(CLIENT_SCAN_PAIRS_MAX as usize) as u32;
                // On the wire, a reverse scan begins below its start key and ends at its end key.
                let (reply, region) = self
                    .below(&upper, |mut stub, context, region| {
                        let end_key = self.unrouted(start.clone().max(region.start_key.clone()));
                        let start_key = self.unrouted(upper.clone());
                        let request = RawScanRequest {
                            context,
                            start_key,
                            end_key,
                            limit: page,
                            key_only,
                            cf: self.cf(),
                            reverse: true,
                        };
                        async move { stub.raw_scan(request).await }
                    })
                    .await?;
                let full = reply.kvs.len() >= page as usize;
                upper = match reply.kvs.last() {
                    Some(last) if full => self.space.routed(&last.key),
                    _ => region.start_key,
                };
                found.extend(self.pairs(reply.kvs));
            }
            found.truncate(limit);
            Ok(found)
        })
    }

    /// Sets `key` to `value` if its present value is `previous` (`None`: if the key does not exist). The request is not
    /// sent again once an attempt may have had an effect.
    ///
    /// # Errors
    /// Returns any [`super::Error`].
    pub fn cas(&self, key: Bytes, previous: Option<Bytes>, value: Bytes, ttl_s: u64) -> BoxFuture<'_, Result<Cas>> {
        Box::pin(async move {
            let (key, routed) = self.forms(&key);
            let reply = self.one(&routed, Repeat::Never, |mut stub, context| {
                let request = RawCasRequest {
                    context,
                    key: key.clone(),
                    value: value.clone(),
                    previous_not_exist: previous.is_none(),
                    previous_value: previous.clone().unwrap_or_default(),
                    cf: self.cf(),
                    ttl: ttl_s,
                    delete: false,
                };
                async move { stub.raw_compare_and_swap(request).await }
            });
            let reply = reply.await?;
            Ok(Cas { swapped: reply.succeed, previous: (!reply.previous_not_exist).then_some(reply.previous_value) })
        })
    }

    /// Returns the seconds until a key expires (0: never), or `None` if the key does not exist.
    ///
    /// # Errors
    /// Returns [`super::Error::Refused`] or [`super::Error::Unavailable`].
    pub fn get_ttl(&self, key: Bytes) -> BoxFuture<'_, Result<Option<u64>>> {
        Box::pin(async move {
            let (key, routed) = self.forms(&key);
            let reply = self.one(&routed, Repeat::Read, |mut stub, context| {
                let request = RawGetKeyTtlRequest { context, key: key.clone(), cf: self.cf() };
                async move { stub.raw_get_key_ttl(request).await }
            });
            let reply = reply.await?;
            Ok((!reply.not_found).then_some(reply.ttl))
        })
    }

    /// Returns the checksum of the pairs in `[start, end)`. An empty `end` is plus infinity.
    ///
    /// # Errors
    /// Returns [`super::Error::Refused`] or [`super::Error::Unavailable`].
    pub fn checksum(&self, start: Bytes, end: Bytes) -> BoxFuture<'_, Result<Checksum>> {
        Box::pin(async move {
            let (start, end) = self.routed_range(&start, &end);
            let replies = self.upwards(
                start,
                end,
                Repeat::Read,
                |mut stub, context, start_key, end_key| {
                    let ranges = vec![KeyRange { start_key, end_key }];
                    let request = RawChecksumRequest { context, algorithm: ChecksumAlgorithm::Crc64Xor.into(), ranges };
                    async move { stub.raw_checksum(request).await }
                },
                |_, _| None,
            );
            let mut sum = Checksum::default();
            for reply in replies.await? {
                sum.crc64_xor ^= reply.checksum;
                sum.pairs += reply.total_kvs;
                sum.bytes += reply.total_bytes;
            }
            Ok(sum)
        })
    }

    /// Calls the coprocessor `name`, in a version that matches `version_req`, for `[start, end)`, region by region. An
    /// empty `end` is plus infinity. `request` makes the data of the next call. `take` receives the data of each
    /// response and says where to continue. Each call reads its region at a moment of its own.
    ///
    /// # Errors
    /// Returns [`super::Error::Refused`], also with the error that `take` returns, or [`super::Error::Unavailable`].
    pub async fn coprocessor(
        &self,
        name: &str,
        version_req: &str,
        (start, end): (Bytes, Bytes),
        request: impl Fn() -> Bytes,
        mut take: impl FnMut(Bytes) -> std::result::Result<GoOn, String>,
    ) -> Result<()> {
        let (start, end) = self.routed_range(&start, &end);
        let mut from = start;
        while from < end {
            let (reply, region) = self
                .above(&from, |mut stub, context, region| {
                    let mut end_key = end.clone();
                    if !region.end_key.is_empty() {
                        end_key = end_key.min(region.end_key.clone());
                    }
                    let request = RawCoprocessorRequest {
                        context,
                        copr_name: name.to_owned(),
                        copr_version_req: version_req.to_owned(),
                        ranges: vec![KeyRange {
                            start_key: self.unrouted(from.clone()),
                            end_key: self.unrouted(end_key),
                        }],
                        data: request(),
                    };
                    async move { stub.raw_coprocessor(request).await }
                })
                .await?;
            from = match take(reply.data).map_err(super::Error::Refused)? {
                GoOn::From(key) if self.space.routed(&key) > from => self.space.routed(&key),
                GoOn::From(_) => return Err(super::Error::Refused("the coprocessor's page does not advance".into())),
                GoOn::Beyond if region.end_key.is_empty() => return Ok(()),
                GoOn::Beyond => region.end_key,
                GoOn::Enough => return Ok(()),
            };
        }
        Ok(())
    }

    fn cf(&self) -> String {
        self.options.cf.clone()
    }

    /// Returns a raw key in wire form and in routed form.
    fn forms(&self, key: &Bytes) -> (Bytes, Bytes) {
        let wire = self.space.wire(Mode::Raw, key);
        let routed = self.space.routed(&wire);
        (wire, routed)
    }

    /// Returns a raw key in routed form and in wire form.
    fn routed_first(&self, key: &Bytes) -> (Bytes, Bytes) {
        let (wire, routed) = self.forms(key);
        (routed, wire)
    }

    /// Returns a raw range in routed form.
    fn routed_range(&self, start: &Bytes, end: &Bytes) -> (Bytes, Bytes) {
        let end = self.space.wire_end(Mode::Raw, end).map_or_else(beyond_all_keys, |end| self.space.routed(&end));
        (self.forms(start).1, end)
    }

    /// Returns the wire form of a routed raw key. All boundaries have one.
    fn unrouted(&self, routed: Bytes) -> Bytes {
        self.space.unrouted(&routed).unwrap_or(routed)
    }

    fn pairs(&self, pairs: impl IntoIterator<Item = KvPair>) -> Vec<(Bytes, Bytes)> {
        pairs.into_iter().map(|pair| (self.space.own(pair.key), pair.value)).collect()
    }
}
