//! Goal: every raw request does what the protocol's users rely on, including edge cases. Method: the service on a
//! simulated engine and the real region machine, so that everything completes at once and nothing is mocked; a table of
//! cases for each request.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::FutureExt;
use tonic::Status;

use super::*;
use crate::codec::raw;
use crate::engine::{Cf, KvEngine, Read};
use crate::proto::errorpb;
use crate::proto::kvrpcpb::{
    KeyRange, KvPair, RawBatchDeleteRequest, RawBatchDeleteResponse, RawBatchGetRequest, RawBatchGetResponse,
    RawBatchPutRequest, RawBatchPutResponse, RawBatchScanRequest, RawBatchScanResponse, RawCasRequest,
    RawChecksumRequest, RawDeleteRangeRequest, RawDeleteRangeResponse, RawDeleteRequest, RawDeleteResponse,
    RawGetKeyTtlRequest, RawGetRequest, RawPutRequest, RawPutResponse, RawScanRequest,
};
use crate::service::calls::{Call, Handler};
use crate::service::one_region::{OneRegion, REGION};
use crate::service::tikv::TikvService;
use crate::store::command;

const CLUSTER: u64 = 77;

/// A service over one region, with helpers to call it.
struct Bench {
    kv: OneRegion,
    service: TikvService<OneRegion>,
}

fn context() -> Option<Context> {
    Some(Context { region_id: REGION, ..Context::default() })
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("nothing waits")
}

impl Bench {
    fn new() -> Bench {
        Bench::over("", "")
    }

    fn over(start: &str, end: &str) -> Bench {
        let kv = OneRegion::new(start, end);
        let answers = MemoryQuota::new(prometheus::IntGauge::new("bytes", "bytes").unwrap());
        let queries = Queries::new(prometheus::IntGauge::new("queries", "queries").unwrap());
        let raw = RawService::new(kv.clone(), Api::V1, answers, queries);
        Bench { service: TikvService::for_test(kv.clone(), CLUSTER, raw), kv }
    }

    fn with(pairs: &[(&str, &str)]) -> Bench {
        let bench = Bench::new();
        pairs.iter().for_each(|(key, value)| bench.put(key, value, 0));
        bench
    }

    fn pass(&self, seconds: u64) {
        self.kv.0.now_s.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Makes a unary call, as a client does.
    async fn ask<C: Call>(&self, request: C) -> Result<C::Reply, Status>
    where
        RawService<OneRegion>: Handler<C>,
    {
        self.service.answer(&self.service.raw, request).await
    }

    fn put(&self, key: &str, value: &str, ttl: u64) {
        let request =
            RawPutRequest { context: context(), key: bytes(key), value: bytes(value), ttl, ..RawPutRequest::default() };
        assert_eq!(now(self.ask(request)).unwrap(), RawPutResponse::default());
    }

    /// Returns the value, or `None` if the key does not exist.
    fn get(&self, key: &str) -> Option<String> {
        let reply = now(self.ask(get(key))).unwrap();
        assert_eq!((&reply.region_error, reply.error.as_str()), (&None, ""));
        assert!(!reply.not_found || reply.value.is_empty());
        (!reply.not_found).then(|| String::from_utf8(reply.value.to_vec()).unwrap())
    }

    fn ttl(&self, key: &str) -> Option<u64> {
        let request = RawGetKeyTtlRequest { context: context(), key: bytes(key), ..RawGetKeyTtlRequest::default() };
        let reply = now(self.ask(request)).unwrap();
        assert_eq!((&reply.region_error, reply.error.as_str()), (&None, ""));
        (!reply.not_found).then_some(reply.ttl)
    }

    fn scan(&self, start: &str, end: &str, limit: u32, reverse: bool) -> String {
        joined(now(self.ask(scan(start, end, limit, reverse))).unwrap().kvs)
    }

    /// Swaps `from` for `to` (`None` deletes). Returns whether that happened, and the previous value.
    fn cas(&self, key: &str, from: Option<&str>, to: Option<&str>, ttl: u64) -> (bool, Option<String>) {
        let request = RawCasRequest {
            context: context(),
            key: bytes(key),
            value: bytes(to.unwrap_or_default()),
            previous_not_exist: from.is_none(),
            previous_value: bytes(from.unwrap_or_default()),
            ttl,
            delete: to.is_none(),
            ..RawCasRequest::default()
        };
        let reply = now(self.ask(request)).unwrap();
        assert_eq!((&reply.region_error, reply.error.as_str()), (&None, ""));
        let previous = String::from_utf8(reply.previous_value.to_vec()).unwrap();
        (reply.succeed, (!reply.previous_not_exist).then_some(previous))
    }
}

fn get(key: &str) -> RawGetRequest {
    RawGetRequest { context: context(), key: bytes(key), ..RawGetRequest::default() }
}

fn scan(start: &str, end: &str, limit: u32, reverse: bool) -> RawScanRequest {
    RawScanRequest {
        context: context(),
        start_key: bytes(start),
        end_key: bytes(end),
        limit,
        reverse,
        ..RawScanRequest::default()
    }
}

/// Formats pairs as `key=value`, separated by spaces.
fn joined(pairs: Vec<KvPair>) -> String {
    let shown = |pair: KvPair| {
        assert_eq!(pair.error, None);
        format!("{}={}", pair.key.escape_ascii(), pair.value.escape_ascii())
    };
    pairs.into_iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// Returns the error of a reply of pairs: the only pair has it, and nothing else.
fn abort(pairs: &[KvPair]) -> &str {
    let [KvPair { error: Some(error), key, value, .. }] = pairs else { panic!("one pair with an error: {pairs:?}") };
    assert!(key.is_empty() && value.is_empty() && error.locked.is_none());
    &error.abort
}

const ABC: [(&str, &str); 4] = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")];

#[test]
fn what_is_put_can_be_got() {
    let bench = Bench::with(&[("a", "1"), ("empty", "")]);
    assert_eq!(bench.get("a").as_deref(), Some("1"));
    assert_eq!(bench.get("empty").as_deref(), Some(""), "an empty value is a value");
    assert_eq!(bench.get("b"), None);
    bench.put("a", "2", 0);
    assert_eq!(bench.get("a").as_deref(), Some("2"));
    let request = RawDeleteRequest { context: context(), key: bytes("a"), ..RawDeleteRequest::default() };
    assert_eq!(now(bench.ask(request)).unwrap(), RawDeleteResponse::default());
    assert_eq!(bench.get("a"), None);
}

#[test]
fn column_families_are_apart() {
    let bench = Bench::new();
    for cf in ["", "lock", "write"] {
        let request = RawPutRequest {
            context: context(),
            key: bytes("k"),
            value: bytes(&format!("in {cf}")),
            cf: cf.into(),
            ..RawPutRequest::default()
        };
        now(bench.ask(request)).unwrap();
    }
    for (cf, want) in [("default", "in "), ("", "in "), ("lock", "in lock"), ("write", "in write")] {
        let reply = now(bench.ask(RawGetRequest { cf: cf.into(), ..get("k") })).unwrap();
        assert_eq!(reply.value, want, "cf {cf:?}");
    }
    let wrong = RawGetRequest { cf: "raft".into(), ..get("k") };
    assert!(now(bench.ask(wrong)).unwrap().error.contains("\"raft\""));
    let wrong = RawScanRequest { cf: "raft".into(), ..scan("", "", 1, false) };
    assert!(abort(&now(bench.ask(wrong)).unwrap().kvs).contains("\"raft\""));
}

#[test]
fn a_key_is_gone_the_second_its_ttl_ends() {
    let bench = Bench::with(&[("forever", "x")]);
    bench.put("k", "v", 10);
    assert_eq!((bench.ttl("k"), bench.ttl("forever"), bench.ttl("none")), (Some(10), Some(0), None));
    bench.pass(9);
    assert_eq!((bench.ttl("k"), bench.get("k").as_deref()), (Some(1), Some("v")));
    bench.pass(1);
    assert_eq!((bench.ttl("k"), bench.get("k")), (None, None));
    assert_eq!(bench.scan("", "", 10, false), "forever=x");
    assert_eq!(bench.scan("z", "", 10, true), "forever=x");
    // A put without a TTL clears it.
    bench.put("k", "v", 10);
    bench.put("k", "w", 0);
    bench.pass(1_000_000);
    assert_eq!((bench.ttl("k"), bench.get("k").as_deref()), (Some(0), Some("w")));
    // The longest TTL does not overflow.
    bench.put("k", "v", u64::MAX);
    assert_eq!(bench.get("k").as_deref(), Some("v"));
}

#[test]
fn batch_put_takes_no_one_or_as_many_ttls() {
    let pairs: Vec<KvPair> =
        [("a", "1"), ("b", "2")].map(|(k, v)| KvPair { key: bytes(k), value: bytes(v), ..KvPair::default() }).to_vec();
    for (ttl, ttls, want) in [
        (0, vec![], Ok([0, 0])),
        (7, vec![], Ok([7, 7])),
        (0, vec![5], Ok([5, 5])),
        (0, vec![5, 0], Ok([5, 0])),
        (0, vec![1, 2, 3], Err("3 ttls for 2 pairs")),
    ] {
        let bench = Bench::new();
        let request = RawBatchPutRequest {
            context: context(),
            pairs: pairs.clone(),
            ttl,
            ttls: ttls.clone(),
            ..RawBatchPutRequest::default()
        };
        let reply = now(bench.ask(request)).unwrap();
        match want {
            Ok(want) => assert_eq!(["a", "b"].map(|key| bench.ttl(key)), want.map(Some), "{ttls:?}"),
            Err(text) => {
                assert!(reply.error.contains(text), "{}", reply.error);
                assert_eq!(bench.get("a"), None);
            }
        }
    }
}

#[test]
fn batch_get_keeps_the_order_and_leaves_out_what_is_not_there() {
    let bench = Bench::with(&[("a", "1"), ("b", ""), ("c", "3")]);
    let request = RawBatchGetRequest {
        context: context(),
        keys: ["c", "none", "b", "a", "c"].map(bytes).to_vec(),
        ..RawBatchGetRequest::default()
    };
    assert_eq!(joined(now(bench.ask(request)).unwrap().pairs), "c=3 b= a=1 c=3");
}

#[test]
fn batch_delete_and_delete_range() {
    let bench = Bench::with(&ABC);
    let keys = ["a", "none"].map(bytes).to_vec();
    let request = RawBatchDeleteRequest { context: context(), keys, ..RawBatchDeleteRequest::default() };
    assert_eq!(now(bench.ask(request)).unwrap(), RawBatchDeleteResponse::default());
    assert_eq!(bench.scan("", "", 9, false), "b=2 c=3 d=4");
    let range = |start, end| RawDeleteRangeRequest {
        context: context(),
        start_key: bytes(start),
        end_key: bytes(end),
        ..RawDeleteRangeRequest::default()
    };
    for (start, end) in [("d", "b"), ("b", "b")] {
        let reply = now(bench.ask(range(start, end))).unwrap();
        assert!(reply.error.contains("range to delete is empty") && reply.region_error.is_none(), "{reply:?}");
        assert_eq!(bench.scan("", "", 9, false), "b=2 c=3 d=4");
    }
    for (start, end, left) in [("", "c", "c=3 d=4"), ("c\0", "", "c=3")] {
        let reply = now(bench.ask(range(start, end))).unwrap();
        assert_eq!(reply, RawDeleteRangeResponse::default(), "[{start}, {end})");
        assert_eq!(bench.scan("", "", 9, false), left, "[{start}, {end})");
    }
}

#[test]
fn scans_go_both_ways() {
    let bench = Bench::with(&ABC);
    for (start, end, limit, reverse, want) in [
        ("", "", 9, false, "a=1 b=2 c=3 d=4"),
        ("b", "d", 9, false, "b=2 c=3"),
        ("b", "", 2, false, "b=2 c=3"),
        ("b\0", "z", 9, false, "c=3 d=4"),
        ("", "", 0, false, ""),
        ("c", "b", 9, false, ""),
        ("b", "b", 9, false, ""),
        // In reverse, the start is the exclusive upper bound and the end the inclusive lower one.
        ("d", "b", 9, true, "c=3 b=2"),
        ("d\0", "", 9, true, "d=4 c=3 b=2 a=1"),
        ("z", "", 2, true, "d=4 c=3"),
        ("z", "c", 0, true, ""),
        ("b", "d", 9, true, ""),
        ("", "", 9, true, ""),
    ] {
        assert_eq!(bench.scan(start, end, limit, reverse), want, "{start:?} {end:?} {limit} {reverse}");
    }
    let keys = RawScanRequest { key_only: true, ..scan("b", "d", 9, false) };
    assert_eq!(joined(now(bench.ask(keys)).unwrap().kvs), "b= c=");
}

#[test]
fn scans_stay_in_their_region() {
    let bench = Bench::over("b", "d");
    bench.put("b", "2", 0);
    bench.put("c", "3", 0);
    assert_eq!(bench.scan("b", "zz", 9, false), "b=2 c=3");
    assert_eq!(bench.scan("b", "", 9, false), "b=2 c=3");
    assert_eq!(bench.scan("d", "a", 9, true), "c=3 b=2");
    let outside = |error: Option<Box<errorpb::Error>>| {
        let error = error.expect("the start is in another region").key_not_in_region.unwrap();
        assert_eq!((error.region_id, &error.start_key[..], &error.end_key[..]), (REGION, &b"b"[..], &b"d"[..]));
        String::from_utf8(error.key.to_vec()).unwrap()
    };
    for reverse in [false, true] {
        for start in ["", "a", "d\0", "e"] {
            let reply = now(bench.ask(scan(start, "", 9, reverse))).unwrap();
            assert_eq!(outside(reply.region_error), start);
            assert_eq!(bench.scan(start, "", 0, reverse), "", "a limit of 0 gives an empty result");
        }
    }
    // A scan may begin at the region's end, in both directions.
    assert_eq!((bench.scan("d", "", 9, false).as_str(), bench.scan("d", "", 9, true).as_str()), ("", "c=3 b=2"));
    let range = |start, end| KeyRange { start_key: bytes(start), end_key: bytes(end) };
    let ask = |ranges: &[(&'static str, &'static str)], reverse, each_limit| {
        let ranges = ranges.iter().map(|(start, end)| range(start, end)).collect();
        let request =
            RawBatchScanRequest { context: context(), ranges, each_limit, reverse, ..RawBatchScanRequest::default() };
        now(bench.ask(request)).unwrap()
    };
    let joined = |reply: RawBatchScanResponse| joined(reply.kvs);
    // The ends are clipped; a range without an end ends where the next one begins.
    assert_eq!(joined(ask(&[("c", ""), ("d", "z"), ("b", "c")], false, 1)), "c=3 b=2");
    assert_eq!(joined(ask(&[("b", ""), ("c", "")], false, 9)), "b=2 c=3");
    assert_eq!(joined(ask(&[("d", "a"), ("c", "b")], true, 1)), "c=3 b=2");
    assert_eq!(joined(ask(&[("d", ""), ("c", "")], true, 9)), "c=3 b=2");
    assert_eq!(joined(ask(&[], false, 9)) + &joined(ask(&[("x", "y")], false, 0)), "");
    // No range may be empty or begin in another region.
    for (ranges, reverse) in [
        (&[("b", "c"), ("c", "c")][..], false),
        (&[("c", "b")], false),
        (&[("c", ""), ("b", "")], false),
        (&[("b", "c")], true),
        (&[("", "b")], true),
    ] {
        assert!(abort(&ask(ranges, reverse, 9).kvs).contains("is empty"), "{ranges:?}");
    }
    assert_eq!(outside(ask(&[("b", "c"), ("x", "y")], false, 9).region_error), "x");
    let request = RawChecksumRequest { context: context(), ranges: vec![range("a", "c")], ..Default::default() };
    assert_eq!(outside(now(bench.ask(request)).unwrap().region_error), "a");
    // A range to delete is never clipped.
    for (start, end, key) in [("a", "c", "a"), ("d", "e", "d"), ("c", "e", "e"), ("c", "", "")] {
        let request = RawDeleteRangeRequest {
            context: context(),
            start_key: bytes(start),
            end_key: bytes(end),
            ..RawDeleteRangeRequest::default()
        };
        assert_eq!(outside(now(bench.ask(request)).unwrap().region_error), key);
    }
    assert_eq!(bench.scan("b", "", 9, false), "b=2 c=3");
}

#[test]
fn keys_of_other_regions_are_refused() {
    let bench = Bench::over("b", "d");
    bench.put("b", "2", 0);
    // For a write it is a region error, and nothing is done.
    let refused = |error: Option<Box<errorpb::Error>>| error.unwrap().key_not_in_region.unwrap().key;
    let put = RawPutRequest { context: context(), key: bytes("a"), ..RawPutRequest::default() };
    assert_eq!(refused(now(bench.ask(put)).unwrap().region_error), "a");
    let keys = ["b", "a"].map(bytes).to_vec();
    let request = RawBatchDeleteRequest { context: context(), keys, ..RawBatchDeleteRequest::default() };
    assert_eq!(refused(now(bench.ask(request)).unwrap().region_error), "a");
    let pairs = ["c", "d"].map(|key| KvPair { key: bytes(key), ..KvPair::default() }).to_vec();
    let request = RawBatchPutRequest { context: context(), pairs, ..RawBatchPutRequest::default() };
    assert_eq!(refused(now(bench.ask(request)).unwrap().region_error), "d");
    assert_eq!(bench.scan("b", "", 9, false), "b=2");
    // For a read it is an error of the request.
    let reply = now(bench.ask(get("d"))).unwrap();
    assert!(reply.region_error.is_none() && reply.error.contains("outside region"), "{reply:?}");
    let request = RawGetKeyTtlRequest { context: context(), key: bytes("a"), ..RawGetKeyTtlRequest::default() };
    assert!(now(bench.ask(request)).unwrap().error.contains("outside region"));
    let request = RawCasRequest { context: context(), key: bytes("z"), ..RawCasRequest::default() };
    let reply = now(bench.ask(request)).unwrap();
    assert!(reply.region_error.is_none() && reply.error.contains("outside region"), "{reply:?}");
    let keys = ["a", "b", "z", "c"].map(bytes).to_vec();
    let request = RawBatchGetRequest { context: context(), keys, ..RawBatchGetRequest::default() };
    let pairs = now(bench.ask(request)).unwrap().pairs;
    let [first, value, last] = &pairs[..] else { panic!("{pairs:?}") };
    assert_eq!((&value.key[..], &value.value[..], &value.error), (&b"b"[..], &b"2"[..], &None));
    for pair in [first, last] {
        assert!(pair.key.is_empty() && pair.error.as_ref().unwrap().abort.contains("outside region"), "{pair:?}");
    }
}

#[test]
fn the_empty_key_is_a_key() {
    let bench = Bench::new();
    bench.put("", "v", 0);
    bench.put("a", "1", 7);
    assert_eq!((bench.get("").as_deref(), bench.ttl("")), (Some("v"), Some(0)));
    assert_eq!(bench.scan("", "", 9, false), "=v a=1");
    assert_eq!(bench.scan("b", "", 9, true), "a=1 =v");
    let pairs = ["", "b"].map(|key| KvPair { key: bytes(key), value: bytes("w"), ..KvPair::default() }).to_vec();
    let request = RawBatchPutRequest { context: context(), pairs, ..RawBatchPutRequest::default() };
    assert_eq!(now(bench.ask(request)).unwrap(), RawBatchPutResponse::default());
    assert_eq!(bench.cas("", Some("w"), Some("x"), 0), (true, Some("w".to_owned())));
    let request = RawBatchGetRequest { context: context(), keys: vec![bytes(""), bytes("b")], ..Default::default() };
    assert_eq!(joined(now(bench.ask(request)).unwrap().pairs), "=x b=w");
    let request = RawDeleteRequest { context: context(), key: bytes(""), ..RawDeleteRequest::default() };
    assert_eq!(now(bench.ask(request)).unwrap(), RawDeleteResponse::default());
    assert_eq!(bench.get(""), None);
    assert_eq!(bench.cas("", None, Some("y"), 0), (true, None));
    let request = RawBatchDeleteRequest { context: context(), keys: vec![bytes("")], ..Default::default() };
    assert_eq!(now(bench.ask(request)).unwrap(), RawBatchDeleteResponse::default());
    assert_eq!(bench.scan("", "", 9, false), "a=1 b=w");
}

#[test]
fn a_batch_of_nothing_is_an_error_and_a_look_for_nothing_is_not() {
    let bench = Bench::new();
    for for_cas in [false, true] {
        let put = RawBatchPutRequest { context: context(), for_cas, ..RawBatchPutRequest::default() };
        assert!(now(bench.ask(put)).unwrap().error.contains("batch is empty"));
        let delete = RawBatchDeleteRequest { context: context(), for_cas, ..RawBatchDeleteRequest::default() };
        assert!(now(bench.ask(delete)).unwrap().error.contains("batch is empty"));
    }
    let request = RawBatchGetRequest { context: context(), ..RawBatchGetRequest::default() };
    assert_eq!(now(bench.ask(request)).unwrap(), RawBatchGetResponse::default());
}

#[test]
fn a_reads_route_comes_before_its_arguments_a_writes_after_them() {
    let bench = Bench::new();
    let elsewhere = Some(Context { region_id: 5, ..Context::default() });
    let read = RawGetRequest { context: elsewhere.clone(), cf: "none".into(), ..get("k") };
    assert!(now(bench.ask(read)).unwrap().region_error.unwrap().region_not_found.is_some());
    let read = RawScanRequest { context: elsewhere.clone(), cf: "none".into(), ..scan("", "", 9, false) };
    assert!(now(bench.ask(read)).unwrap().region_error.unwrap().region_not_found.is_some());
    let write = RawPutRequest { context: elsewhere.clone(), cf: "none".into(), ..RawPutRequest::default() };
    let reply = now(bench.ask(write)).unwrap();
    assert!(reply.region_error.is_none() && reply.error.contains("none"), "{reply:?}");
    let write = RawBatchPutRequest { context: elsewhere, ..RawBatchPutRequest::default() };
    assert!(now(bench.ask(write)).unwrap().error.contains("batch is empty"));
}

#[test]
fn compare_and_swap_tells_what_was_there() {
    let bench = Bench::new();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(bench.cas("k", Some(""), Some("1"), 0), (false, None), "an absent value differs from an empty one");
    assert_eq!(bench.cas("k", None, Some("1"), 0), (true, None));
    assert_eq!(bench.cas("k", None, Some("2"), 0), (false, some("1")));
    assert_eq!(bench.cas("k", Some("1"), Some(""), 0), (true, some("1")));
    assert_eq!(bench.cas("k", Some(""), Some("3"), 5), (true, some("")));
    assert_eq!(bench.ttl("k"), Some(5));
    bench.pass(5);
    assert_eq!(bench.cas("k", Some("3"), Some("4"), 0), (false, None), "expired is absent");
    assert_eq!(bench.cas("k", None, Some("4"), 0), (true, None));
    assert_eq!(bench.cas("k", Some("x"), None, 0), (false, some("4")));
    assert_eq!(bench.cas("k", Some("4"), None, 0), (true, some("4")));
    assert_eq!(bench.get("k"), None);
}

#[test]
fn checksum_is_of_live_pairs_in_any_order() {
    let bench = Bench::with(&ABC);
    bench.put("gone", "x", 1);
    bench.pass(1);
    let of = |ranges: &[(&str, &str)]| {
        let windows: Vec<_> = ranges.iter().map(|(start, end)| (bytes(start), bytes(end))).collect();
        let (snapshot, now_s) = (bench.kv.0.engine.snapshot(), bench.kv.now_s());
        let reply = super::checksum::fingerprint(&snapshot, (Api::V1, now_s), &windows, &false.into()).unwrap();
        let stopped = super::checksum::fingerprint(&snapshot, (Api::V1, now_s), &windows, &true.into());
        assert_eq!(stopped.is_err(), reply.total_kvs > 0, "no pair is read for a caller that is gone");
        (reply.checksum, reply.total_kvs, reply.total_bytes)
    };
    let one = |pair: &str| crate::arch::crc64(&[pair.as_bytes()]);
    assert_eq!(of(&[("", "")]), (one("a1") ^ one("b2") ^ one("c3") ^ one("d4"), 4, 8));
    assert_eq!(of(&[("c", ""), ("", "c")]), of(&[("", "")]));
    assert_eq!(of(&[("x", "")]), (0, 0, 0));
}

#[test]
fn limits_are_refused_with_a_reason() {
    let bench = Bench::new();
    let text = |error: &str, want: &str| assert!(error.contains(want), "{error:?} does not say {want:?}");
    let long = Bytes::from(vec![b'k'; KEY_BYTES_MAX + 1]);
    let put = RawPutRequest { context: context(), key: long.clone(), ..RawPutRequest::default() };
    text(&now(bench.ask(put)).unwrap().error, "8193 bytes");
    let delete =
        RawDeleteRequest { context: context(), key: long.clone(), for_cas: true, ..RawDeleteRequest::default() };
    text(&now(bench.ask(delete)).unwrap().error, "8193 bytes");
    let cas = RawCasRequest { context: context(), key: long.clone(), ..RawCasRequest::default() };
    text(&now(bench.ask(cas)).unwrap().error, "8193 bytes");
    let pairs = vec![KvPair { key: long.clone(), ..KvPair::default() }];
    let request = RawBatchPutRequest { context: context(), pairs, ..RawBatchPutRequest::default() };
    text(&now(bench.ask(request)).unwrap().error, "8193 bytes");
    let at_limit = long.slice(1..);
    let put = RawPutRequest { context: context(), key: at_limit, ..RawPutRequest::default() };
    assert_eq!(now(bench.ask(put)).unwrap().error, "");
    // A read of a key that is too long to exist does not find it.
    assert!(now(bench.ask(RawGetRequest { key: long.clone(), ..get("") })).unwrap().not_found);
    let request = RawGetKeyTtlRequest { context: context(), key: long.clone(), ..RawGetKeyTtlRequest::default() };
    assert!(now(bench.ask(request)).unwrap().not_found);
    bench.put("k", "v", 0);
    let request = RawBatchGetRequest { context: context(), keys: vec![long, bytes("k")], ..Default::default() };
    assert_eq!(joined(now(bench.ask(request)).unwrap().pairs), "k=v");
    let request = RawChecksumRequest { context: context(), algorithm: 9, ..RawChecksumRequest::default() };
    text(&now(bench.ask(request)).unwrap().error, "algorithm 9");
}

#[test]
fn only_bytes_bound_a_request() {
    let bench = Bench::new();
    let keys: Vec<Bytes> = (0..20_000).map(|n| bytes(&format!("k{n:05}"))).collect();
    let pairs = keys.iter().map(|key| KvPair { key: key.clone(), value: bytes("v"), ..KvPair::default() }).collect();
    let request = RawBatchPutRequest { context: context(), pairs, ..RawBatchPutRequest::default() };
    assert_eq!(now(bench.ask(request)).unwrap(), RawBatchPutResponse::default());
    // Longer reads run on the CPU pool, which is not available in these tests.
    let snapshot = bench.kv.0.engine.snapshot();
    let mut found = 0;
    crate::engine::Read::scan(&snapshot, crate::engine::Cf::RawDefault, b"", b"", &mut |_, _| {
        found += 1;
        crate::engine::Visit::More
    })
    .unwrap();
    assert_eq!(found, 20_000);
    let request = RawBatchDeleteRequest { context: context(), keys, ..RawBatchDeleteRequest::default() };
    assert_eq!(now(bench.ask(request)).unwrap(), RawBatchDeleteResponse::default());
    // A write may be as large as an entry.
    let value = Bytes::from(vec![7; ENTRY_BYTES_MAX + 1]);
    let too_large = |error: Option<Box<errorpb::Error>>| error.unwrap().raft_entry_too_large.unwrap().entry_size;
    let put = RawPutRequest { context: context(), key: bytes("k"), value: value.clone(), ..RawPutRequest::default() };
    assert!(too_large(now(bench.ask(put)).unwrap().region_error) > ENTRY_BYTES_MAX as u64);
    let half = value.slice(..value.len() / 2);
    let pairs = ["a", "b"].map(|key| KvPair { key: bytes(key), value: half.clone(), ..KvPair::default() }).to_vec();
    let request = RawBatchPutRequest { context: context(), pairs, ..RawBatchPutRequest::default() };
    assert!(too_large(now(bench.ask(request)).unwrap().region_error) > ENTRY_BYTES_MAX as u64);
    let cas = RawCasRequest {
        context: context(),
        key: bytes("k"),
        value: half.clone(),
        previous_value: half,
        ..RawCasRequest::default()
    };
    assert!(too_large(now(bench.ask(cas)).unwrap().region_error) > ENTRY_BYTES_MAX as u64);
    assert_eq!(bench.get("a"), None);
}

#[test]
fn a_page_over_the_message_limit_is_an_error_and_not_a_short_page() {
    let bench = Bench::new();
    let value = "v".repeat(7 << 20);
    (0..9).for_each(|i| bench.put(&format!("k{i}"), &value, 0));
    let reply = now(bench.ask(scan("", "", 8, false))).unwrap();
    assert_eq!(reply.kvs.len(), 8);
    let reply = now(bench.ask(scan("", "", 9, false))).unwrap();
    assert!(abort(&reply.kvs).contains("smaller limit"), "{}", abort(&reply.kvs));
    let keys = RawScanRequest { key_only: true, ..scan("", "", 9, false) };
    assert_eq!(now(bench.ask(keys)).unwrap().kvs.len(), 9);
    let keys = (0..9).map(|i| bytes(&format!("k{i}"))).collect();
    let request = RawBatchGetRequest { context: context(), keys, ..RawBatchGetRequest::default() };
    assert!(abort(&now(bench.ask(request)).unwrap().pairs).contains("fewer keys"));
}

#[test]
fn an_unknown_outcome_never_makes_a_client_swap_twice() {
    let bench = Bench::new();
    let fail = || *bench.kv.0.next.lock().unwrap() = Some(Error::Unknown("leader lost".into()));
    fail();
    let put = RawPutRequest { context: context(), key: bytes("k"), ..RawPutRequest::default() };
    let reply = now(bench.ask(put)).unwrap();
    let error = reply.region_error.unwrap();
    assert!(error.stale_command.is_some() && error.undetermined_result.is_some() && reply.error.is_empty());
    fail();
    let cas = RawCasRequest { context: context(), key: bytes("k"), ..RawCasRequest::default() };
    let reply = now(bench.ask(cas)).unwrap();
    assert_eq!(reply.region_error, None);
    assert!(reply.outcome_unknown && reply.error.contains("outcome unknown"), "{}", reply.error);
}

/// Writes and reads through a route that belongs to the task.
#[expect(clippy::manual_async_fn, reason = "the signature says that the future borrows nothing")]
fn put_and_read<R: Route>(route: R, key: Bytes, value: Bytes) -> impl Future<Output = Option<Bytes>> + Send + 'static {
    async move {
        let again = route.clone();
        let stored = raw::encode(&value, None);
        again.write(command::write(vec![command::put(Cf::RawDefault, key.clone(), stored)]), None).await.unwrap();
        let read = route.read().await.unwrap();
        read.snapshot.get(Cf::RawDefault, &key).unwrap()
    }
}

#[test]
fn a_route_outlives_its_request() {
    let task = {
        let (bench, context) = (Bench::new(), context().unwrap());
        put_and_read(bench.kv.route(&context, Access::Write).unwrap(), bytes("k"), bytes("v"))
    };
    assert_eq!(now(task), Some(raw::encode(b"v", None)), "the caller has gone");
}
