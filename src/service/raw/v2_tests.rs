//! Goal: with API V2 clients see the keys that they have written, stored keys are encoded, and regions have encoded
//! boundaries. Method: the service on one region with such boundaries, and its engine.

use bytes::Bytes;
use futures::FutureExt;

use super::*;
use crate::codec::bytes::encode;
use crate::engine::{Cf, KvEngine, Read, Visit};
use crate::proto::errorpb;
use crate::proto::kvrpcpb::{
    self, KeyRange, KvPair, RawBatchGetRequest, RawBatchPutRequest, RawBatchScanRequest, RawCasRequest,
    RawChecksumRequest, RawDeleteRangeRequest, RawGetRequest, RawPutRequest, RawScanRequest, SplitRegionRequest,
};
use crate::service::calls::{Call, Handler};
use crate::service::one_region::{OneRegion, REGION};
use crate::service::tikv::TikvService;

struct Bench {
    kv: OneRegion,
    service: TikvService<OneRegion>,
}

/// Returns a key of keyspace 7.
fn key(key: &str) -> Bytes {
    [&b"r\0\0\x07"[..], key.as_bytes()].concat().into()
}

fn end() -> Bytes {
    Bytes::from_static(b"r\0\0\x08")
}

fn context() -> Option<Context> {
    Some(Context { region_id: REGION, api_version: 2, ..Context::default() })
}

impl Bench {
    /// Creates a service over the region of keyspace 7 that ends before the key `to`.
    fn new(to: &str) -> Bench {
        let kv = OneRegion::of(encode(&key("")), encode(&key(to)));
        let answers = MemoryQuota::new(prometheus::IntGauge::new("bytes", "bytes").unwrap());
        let queries = Queries::new(prometheus::IntGauge::new("queries", "queries").unwrap());
        let raw = RawService::new(kv.clone(), Api::V2, answers, queries);
        Bench { service: TikvService::for_test(kv.clone(), 77, raw), kv }
    }

    fn ask<C: Call>(&self, request: C) -> C::Reply
    where
        RawService<OneRegion>: Handler<C>,
    {
        self.service.answer(&self.service.raw, request).now_or_never().expect("nothing waits").unwrap()
    }

    fn put(&self, name: &str) -> kvrpcpb::RawPutResponse {
        let value = Bytes::copy_from_slice(name.as_bytes());
        self.ask(RawPutRequest { context: context(), key: key(name), value, ..RawPutRequest::default() })
    }

    fn stored(&self) -> Vec<Bytes> {
        let mut keys = Vec::new();
        let visit = &mut |key: &[u8], _: &[u8]| {
            keys.push(Bytes::copy_from_slice(key));
            Visit::More
        };
        self.kv.0.engine.snapshot().scan(Cf::RawDefault, b"", b"", visit).unwrap();
        keys
    }
}

fn keys(pairs: Vec<KvPair>) -> Vec<Bytes> {
    pairs.into_iter().map(|pair| pair.key).collect()
}

#[test]
fn clients_see_their_keys_and_the_engine_has_encoded_ones() {
    let bench = Bench::new("p");
    ["a", "b", "c"].iter().for_each(|name| assert_eq!(bench.put(name), Default::default()));
    assert_eq!(bench.stored(), ["a", "b", "c"].map(|name| encode(&key(name))));
    let found = bench.ask(RawGetRequest { context: context(), key: key("b"), ..RawGetRequest::default() });
    assert_eq!(found.value, "b");
    let all = vec![key("c"), key("none"), key("a")];
    let found = bench.ask(RawBatchGetRequest { context: context(), keys: all, ..RawBatchGetRequest::default() });
    assert_eq!(keys(found.pairs), [key("c"), key("a")]);
    let scan = RawScanRequest { context: context(), limit: 9, ..RawScanRequest::default() };
    let up = RawScanRequest { start_key: key("b"), end_key: end(), ..scan.clone() };
    assert_eq!(keys(bench.ask(up).kvs), [key("b"), key("c")]);
    let down = RawScanRequest { start_key: key("c"), end_key: key(""), reverse: true, key_only: true, ..scan };
    assert_eq!(keys(bench.ask(down).kvs), [key("b"), key("a")]);
    let range = |from: &str, to| KeyRange { start_key: key(from), end_key: to };
    let ranges = vec![range("a", key("b")), range("c", end())];
    let scan = RawBatchScanRequest { context: context(), ranges, each_limit: 9, ..RawBatchScanRequest::default() };
    assert_eq!(keys(bench.ask(scan).kvs), [key("a"), key("c")]);
    let swapped = bench.ask(RawCasRequest {
        context: context(),
        key: key("b"),
        previous_value: "b".into(),
        delete: true,
        ..RawCasRequest::default()
    });
    assert!(swapped.succeed);
    let delete = RawDeleteRangeRequest {
        context: context(),
        start_key: key("a"),
        end_key: key("b"),
        ..RawDeleteRangeRequest::default()
    };
    assert_eq!(bench.ask(delete).error, "");
    assert_eq!(bench.stored(), [encode(&key("c"))]);
}

#[test]
fn a_checksum_is_of_the_keys_that_clients_know() {
    let bench = Bench::new("p");
    bench.put("a");
    let windows = [(encode(&key("")), encode(&key("p")))];
    let snapshot = bench.kv.0.engine.snapshot();
    let sum = super::checksum::fingerprint(&snapshot, (Api::V2, 1), &windows, &false.into()).unwrap();
    assert_eq!(sum.checksum, crate::arch::crc64(&[&key("a"), b"a"]));
    assert_eq!((sum.total_kvs, sum.total_bytes), (1, 6));
    // What TiKV 9.0.0-beta.2 answers for this pair.
    assert_eq!(crate::arch::crc64(&[b"r\0\0\0k", b"v"]), 17_934_494_849_655_017_021);
    let none = RawChecksumRequest { context: context(), ranges: vec![KeyRange::default()], ..Default::default() };
    assert!(bench.ask(none).error.contains("'r'"));
}

#[test]
fn boundaries_are_encoded() {
    let bench = Bench::new("p");
    let refused = bench.put("q").region_error.unwrap().key_not_in_region.unwrap();
    assert_eq!((refused.key, refused.end_key), (encode(&key("q")), encode(&key("p"))));
    let get = RawGetRequest { context: context(), key: key("q"), ..RawGetRequest::default() };
    let refused = |error: Option<Box<errorpb::Error>>| error.unwrap().key_not_in_region.unwrap().key;
    assert_eq!(refused(bench.ask(get).region_error), encode(&key("q")));
    let get = RawBatchGetRequest { context: context(), keys: vec![key("a"), key("q")], ..Default::default() };
    assert_eq!(refused(bench.ask(get).region_error), encode(&key("q")));
    for is_raw_kv in [false, true] {
        let split =
            SplitRegionRequest { context: context(), split_keys: vec![key("h")], is_raw_kv, ..Default::default() };
        let regions = bench.ask(split).regions;
        assert_eq!(regions[0].end_key, encode(&key("h")), "raw: {is_raw_kv}");
    }
}

#[test]
fn the_longest_key_fits_and_a_longer_one_does_not() {
    let bench = Bench::new("p");
    let long = |bytes: usize| key(&"a".repeat(bytes - 4));
    let pair = |key| KvPair { key, value: "v".into(), ..KvPair::default() };
    let put = |key| {
        bench.ask(RawBatchPutRequest { context: context(), pairs: vec![pair(key)], ..RawBatchPutRequest::default() })
    };
    assert_eq!(put(long(KEY_BYTES_MAX)), Default::default());
    assert!(put(long(KEY_BYTES_MAX + 1)).error.contains("8193 bytes"));
}
