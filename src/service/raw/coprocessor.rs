//! The coprocessor request: one page of a query over JSON values ([`crate::query`]).
//!
//! Linearizable like every read. The ranges are read in key order, and overlapping parts only once. The work goes to
//! the CPU pool in slices, each with a permit ([`crate::service::layer::slots`]), so that queries share the cores and a
//! request whose caller is gone ends soon. Memory is reserved from the first byte of a page until its last byte is
//! sent.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::codec::{keyspace, raw};
use crate::engine::{Cf, Read, Visit};
use crate::proto::kvrpcpb::{Context, KeyRange, RawCoprocessorRequest, RawCoprocessorResponse};
use crate::query::{self, Page, Plan, Room};
use crate::rt::cpu;
use crate::store::kv::{Kv, Route, check_key};
use crate::types::{Api, Error, Region, Result};

use super::RawService;
use super::scan::{clip, whole};
use crate::service::calls::Handler;
use crate::service::layer::quota::Reservation;
use crate::types::limits::{QUERY_SLICE_BYTES_FULL, QUERY_SLICE_PAIRS_MAX};

/// Returns a page of the rows of JSON values in many ranges that match a predicate, or aggregates over them.
impl<K: Kv> Handler<RawCoprocessorRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawCoprocessorRequest) -> Result<RawCoprocessorResponse> {
        let guard = self.queries.begin()?;
        let (route, mut work) = self.prepare(context, request).await?;
        let range = whole(&work.windows);
        loop {
            let permit = guard.permit().await;
            let step = cpu::run(move || {
                let step = work.step();
                drop(permit);
                step
            });
            match step.await? {
                Step::More(rest) => work = *rest,
                Step::Done(data, (pairs, bytes)) => {
                    if let Some((start, end)) = range {
                        route.count_read(&start, Some(&end), pairs, bytes);
                    }
                    return Ok(RawCoprocessorResponse { data, ..RawCoprocessorResponse::default() });
                }
            }
        }
    }
}

impl<K: Kv> RawService<K> {
    /// Checks the request and takes the view from which its page is made.
    async fn prepare(
        &self,
        context: &Context,
        request: RawCoprocessorRequest,
    ) -> Result<(K::Route, Work<<K::Route as Route>::Snapshot>)> {
        query::check_version(&request.copr_name, &request.copr_version_req).map_err(Error::Invalid)?;
        let plan = Arc::new(Plan::decode(&request.data).map_err(Error::Invalid)?);
        let (route, read) = self.read(context).await?;
        let from = match plan.from() {
            from if from.is_empty() => Bytes::new(),
            from => keyspace::stored(self.api, from.clone()),
        };
        let windows = windows(&read.region, request.ranges, &from)?;
        let (page, mut held) = (Page::new(plan), self.answers.begin());
        held.grow_to(page.bytes())?;
        let (snapshot, now_s) = (read.snapshot, read.now_s);
        Ok((route, Work { api: self.api, page, held, snapshot, now_s, windows, done: 0, read: (0, 0) }))
    }
}

/// Returns the parts of `ranges` that are in the region and not below `from`, in order and without overlap.
fn windows(region: &Arc<Region>, ranges: Vec<KeyRange>, from: &Bytes) -> Result<Vec<(Bytes, Bytes)>> {
    let mut parts = Vec::with_capacity(ranges.len());
    for KeyRange { start_key, end_key } in ranges {
        if !end_key.is_empty() && start_key >= end_key {
            continue;
        }
        check_key(region, &start_key)?;
        parts.extend(clip(region, start_key.max(from.clone()), end_key));
    }
    parts.sort();
    let mut windows: Vec<(Bytes, Bytes)> = Vec::with_capacity(parts.len());
    for (start, end) in parts {
        match windows.last_mut() {
            Some((_, last)) if last.is_empty() || start <= *last => {
                // An empty end is plus infinity.
                if !last.is_empty() && (end.is_empty() || end > *last) {
                    *last = end;
                }
            }
            _ => windows.push((start, end)),
        }
    }
    Ok(windows)
}

/// A page that is being filled from a view of the region.
struct Work<S> {
    api: Api,
    page: Page,
    /// The page's reservation of memory.
    held: Reservation,
    snapshot: S,
    now_s: u64,
    windows: Vec<(Bytes, Bytes)>,
    /// How many windows are read completely.
    done: usize,
    /// Pairs that were read, and their bytes.
    read: (usize, usize),
}

/// The result of a slice of work.
enum Step<S> {
    /// There is more to read.
    More(Box<Work<S>>),
    /// The encoded page, with its reservation, and how many pairs and bytes were read for it.
    Done(Bytes, (usize, usize)),
}

impl<S: Read> Work<S> {
    /// Runs one slice of work. Encodes the page when everything is read.
    fn step(self) -> Result<Step<S>> {
        let (work, more) = self.slice()?;
        if more {
            return Ok(Step::More(Box::new(work)));
        }
        let read = work.read;
        work.finish().map(|data| Step::Done(data, read))
    }

    /// Returns the encoded page, whose memory stays reserved until its last part is dropped.
    fn finish(self) -> Result<Bytes> {
        let Work { page, mut held, .. } = self;
        let data = page.finish().map_err(Error::Invalid)?;
        held.shrink_to(data.len())?;
        Ok(held.attach(data))
    }

    /// Runs one slice of work. Returns true if there is more to read for this page.
    fn slice(mut self) -> Result<(Work<S>, bool)> {
        let (mut pairs, mut bytes) = (0, 0);
        while self.page.room() == Room::More
            && let Some((start, end)) = self.windows.get_mut(self.done)
        {
            let mut failed = None;
            let mut next = None;
            let mut buffer = BytesMut::new();
            self.snapshot.scan(Cf::RawDefault, start, end, &mut |key, stored| {
                (pairs, bytes) = (pairs + 1, bytes + key.len() + stored.len());
                self.read = (self.read.0 + 1, self.read.1 + key.len() + stored.len());
                let plain = keyspace::plain_in(self.api, key, &mut buffer);
                let room = match (raw::decode(stored), plain) {
                    (Ok((len, Some(at))), Ok(plain)) if at <= self.now_s => {
                        Ok(self.page.pass(plain, plain.len() + len))
                    }
                    (Ok((len, _)), Ok(plain)) => self.page.push(plain, &stored[..len]).map_err(Error::Invalid),
                    (Err(error), _) | (_, Err(error)) => Err(error),
                };
                match room {
                    Ok(Room::More)
                        if pairs < QUERY_SLICE_PAIRS_MAX
                            && bytes < QUERY_SLICE_BYTES_FULL
                            && !crate::buggify!("query.short-slice") =>
                    {
                        return Visit::More;
                    }
                    Ok(Room::More) => next = Some(Bytes::from([key, &[0]].concat())),
                    Ok(Room::Full) => {}
                    Err(error) => failed = Some(error),
                }
                Visit::Stop
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            self.held.grow_to(self.page.bytes())?;
            match next {
                Some(key) => {
                    *start = key;
                    return Ok((self, true));
                }
                None => self.done += 1,
            }
        }
        Ok((self, false))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a page sees exactly what a read of its ranges would see, and an invalid request gets an explanation.
    //! Method: the service on a simulated engine. The work runs here, slice by slice, instead of in the pool.

    use futures::FutureExt;

    use super::*;
    use crate::engine::{KvEngine, WriteBatch};
    use crate::service::layer::quota::MemoryQuota;
    use crate::service::layer::slots::Queries;
    use crate::service::one_region::{OneRegion, REGION};
    use crate::service::tikv::TikvService;

    fn service(start: &str, end: &str, pairs: &[(&str, &str, Option<u64>)]) -> RawService<OneRegion> {
        let kv = OneRegion::new(start, end);
        let mut batch = WriteBatch::new();
        for (key, value, expires) in pairs {
            batch.put(Cf::RawDefault, key.as_bytes().to_vec(), raw::encode(value.as_bytes(), *expires));
        }
        kv.0.engine.write(&batch).unwrap();
        let gauge = |name: &str| prometheus::IntGauge::new(name, "none").unwrap();
        RawService::new(kv, Api::V1, MemoryQuota::new(gauge("answers")), Queries::new(gauge("queries")))
    }

    fn request(ranges: &[(&str, &str)], data: &str) -> RawCoprocessorRequest {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        RawCoprocessorRequest {
            context: Some(Context { region_id: REGION, ..Context::default() }),
            copr_name: "json".into(),
            copr_version_req: "^1".into(),
            ranges: ranges.iter().map(|(s, e)| KeyRange { start_key: bytes(s), end_key: bytes(e) }).collect(),
            data: bytes(data),
        }
    }

    fn tikv(raw: RawService<OneRegion>) -> TikvService<OneRegion> {
        TikvService::for_test(raw.kv.clone(), 1, raw)
    }

    /// Makes a unary call, as a client does.
    async fn ask(raw: &RawService<OneRegion>, request: RawCoprocessorRequest) -> RawCoprocessorResponse {
        let service = tikv(raw.clone());
        service.answer(&service.raw, request).await.unwrap()
    }

    /// Returns the text of the page, and how many slices it took.
    fn page(service: &RawService<OneRegion>, ranges: &[(&str, &str)], data: &str) -> (String, usize) {
        let request = request(ranges, data);
        let context = request.context.clone().unwrap();
        let (_, mut work) = service.prepare(&context, request).now_or_never().unwrap().unwrap();
        for slices in 1.. {
            let (rest, more) = work.slice().unwrap();
            work = rest;
            if !more {
                let page = work.finish().unwrap();
                return (String::from_utf8(page.to_vec()).unwrap(), slices);
            }
        }
        unreachable!()
    }

    const DATA: [(&str, &str, Option<u64>); 6] = [
        ("b", "{\"n\":1}", None),
        ("c", "{\"n\":2}", Some(1000)),
        ("d", "{\"n\":4}", Some(1001)),
        ("e", "nope", None),
        ("f", "{\"n\":8}", None),
        ("g", "{\"n\":16}", None),
    ];
    const SUM: &str = r#"{"aggregate":[{"sum":"$.n"}]}"#;

    fn sum(service: &RawService<OneRegion>, ranges: &[(&str, &str)], data: &str) -> String {
        let (page, _) = page(service, ranges, data);
        let value: serde_json::Value = serde_json::from_str(&page).unwrap();
        format!("{} of {}, next {}", value["groups"][0]["values"][0]["int"], value["scanned"]["rows"], value["next"])
    }

    #[test]
    fn ranges_are_read_in_order_and_once() {
        let service = service("b", "g", &DATA);
        let of = |ranges: &[(&str, &str)]| sum(&service, ranges, SUM);
        // The clock is at 1000: c has expired, d has not. g is outside the region.
        assert_eq!(of(&[("b", "")]), "\"13\" of 4, next null");
        assert_eq!(of(&[("b", "z")]), "\"13\" of 4, next null");
        assert_eq!(of(&[("e", "g"), ("b", "d"), ("c", "f"), ("d", "d"), ("f", "b")]), "\"13\" of 4, next null");
        assert_eq!(of(&[("f", "g"), ("b", "c")]), "\"9\" of 2, next null");
        assert_eq!(of(&[]), "\"0\" of 0, next null");
        let from = r#"{"aggregate":[{"sum":"$.n"}],"from":"64","page_rows":2}"#;
        assert_eq!(sum(&service, &[("b", "")], from), "\"4\" of 2, next \"6500\"");
    }

    #[test]
    fn a_long_page_is_made_in_slices() {
        let keys: Vec<String> = (0..2 * QUERY_SLICE_PAIRS_MAX + 5).map(|n| format!("c{n:06}")).collect();
        let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), "{\"n\":1}", None)).collect();
        let service = service("", "", &pairs);
        let (page, slices) = page(&service, &[("", "c000010"), ("c000010", "")], SUM);
        assert_eq!(slices, 3);
        assert!(page.contains(&format!("\"int\":\"{}\"", keys.len())), "{page}");
    }

    #[test]
    fn expired_values_end_a_page_with_a_cursor() {
        let pairs: Vec<String> = (0..10).map(|n| format!("c{n}")).collect();
        let pairs: Vec<_> = pairs.iter().map(|key| (key.as_str(), "{\"n\":1}", Some(999))).collect();
        let service = service("", "", &pairs);
        let data = r#"{"aggregate":[{"sum":"$.n"}],"page_rows":4}"#;
        assert_eq!(sum(&service, &[("", "")], data), "\"0\" of 0, next \"633300\"");
        assert_eq!(sum(&service, &[("c8", "")], data), "\"0\" of 0, next null");
    }

    #[test]
    fn a_page_is_reserved_until_it_is_gone() {
        let value = format!("\"{}\"", "x".repeat(200_000));
        let service = service("", "", &[("a", &value, None)]);
        let held = || service.answers.reserved();
        let ask = |data: &str| {
            let request = request(&[("", "")], data);
            let context = request.context.clone().unwrap();
            let (_, mut work) = service.prepare(&context, request).now_or_never().unwrap().unwrap();
            loop {
                match work.step().unwrap() {
                    Step::More(rest) => work = *rest,
                    Step::Done(data, _) => return data,
                }
            }
        };
        let mut page = ask("{}");
        assert_eq!(held(), page.len() as i64);
        let part = page.split_to(10);
        drop(page);
        assert!(held() > 0, "a part is still in use");
        drop(part);
        assert_eq!(held(), 0);
        let short = ask(r#"{"select":["$.a"]}"#);
        assert_eq!((short.len() < 1000, held()), (true, 0), "the memory used for reading is returned");
    }

    #[test]
    fn its_frames_are_counted() {
        use crate::proto::tikvpb::tikv_server::Tikv;
        use crate::service::layer::quota::Large;

        let service = tikv(service("", "", &DATA));
        // Every reply is marked; this one is ready at once.
        let reply = Tikv::raw_coprocessor(&service, tonic::Request::new(request(&[("", "")], "wrong")));
        assert!(reply.now_or_never().unwrap().unwrap().extensions().get::<Large>().is_some());
    }

    #[test]
    fn queries_wait_for_a_core_and_are_bounded() {
        use crate::types::limits::QUERIES_MAX;

        let service = service("", "", &DATA);
        let first = service.queries.begin().unwrap();
        let permits: Vec<_> = std::iter::from_fn(|| first.permit().now_or_never()).collect();
        assert!(!permits.is_empty());
        let mut waits = Box::pin(ask(&service, request(&[("", "")], "{}")));
        assert!(waits.as_mut().now_or_never().is_none(), "every core is in use");
        // Take all remaining slots.
        let others: Vec<_> = std::iter::from_fn(|| service.queries.begin().ok()).collect();
        assert_eq!(others.len(), QUERIES_MAX - 2);
        let busy = ask(&service, request(&[("", "")], "{}")).now_or_never().unwrap();
        assert!(busy.region_error.unwrap().server_is_busy.unwrap().reason.contains("1024 queries"));
        // A cancelled request frees its slot.
        drop(waits);
        assert!(service.queries.begin().is_ok());
    }

    #[test]
    fn a_wrong_request_is_told_why() {
        let service = service("b", "g", &DATA);
        let ask = |change: &dyn Fn(&mut RawCoprocessorRequest)| {
            let mut request = request(&[("b", "")], SUM);
            change(&mut request);
            ask(&service, request).now_or_never().expect("nothing waits")
        };
        let says = |change: &dyn Fn(&mut RawCoprocessorRequest), want: &str| {
            let reply = ask(change);
            assert!(reply.error.contains(want) && reply.region_error.is_none(), "{reply:?}");
        };
        says(&|r| r.copr_name = "example".into(), "unknown coprocessor \"example\"");
        says(&|r| r.copr_version_req = "^2".into(), "version 1.0.0, which does not match ^2");
        says(&|r| r.copr_version_req = "newest".into(), "not a version requirement");
        says(&|r| r.data = Bytes::new(), "the request, line 1, column 1");
        says(&|r| r.data = r#"{"where":"$.a >> 1"}"#.into(), "  $.a >> 1\n       ^");
        let reply = ask(&|r| r.ranges[0].start_key = "a".into());
        assert_eq!(reply.region_error.unwrap().key_not_in_region.unwrap().key, "a");
        let reply = ask(&|r| r.context = None);
        assert!(reply.region_error.unwrap().region_not_found.is_some());
    }
}
