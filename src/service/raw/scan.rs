//! Scans, forward and in reverse, of one range or of many.
//!
//! A page is never silently shorter than requested, because clients do not continue inside a region. If the result does
//! not fit in a message, the response is an error that says so.

use bytes::{Bytes, BytesMut};

use crate::codec::{keyspace, raw};
use crate::engine::{Cf, CursorOptions, Read, Visit};
use crate::proto::kvrpcpb::{
    Context, KeyRange, KvPair, RawBatchScanRequest, RawBatchScanResponse, RawScanRequest, RawScanResponse,
};
use crate::rt::cpu;
use crate::store::{Kv, RegionRead, Route};
use crate::types::limits::{READ_INLINE_KEYS_MAX, REPLY_BYTES_MAX};
use crate::types::{Api, Error, Region, Result};

use super::RawService;
use super::column::column;
use crate::service::calls::Handler;
use crate::service::layer::quota::Reservation;

/// How many bytes a pair adds to a message at most, besides its key and value.
pub(super) const PAIR_BYTES: usize = 16;
/// How many bytes a pair takes in memory, besides its key and value.
pub(super) const PAIR_MEMORY: usize = std::mem::size_of::<KvPair>();

/// Returns the part of `[lower, upper)` that is in the region, or `None` if it is empty. An empty `upper` is plus
/// infinity.
pub(super) fn clip(region: &Region, lower: Bytes, upper: Bytes) -> Option<(Bytes, Bytes)> {
    let lower = if lower < region.start_key { region.start_key.clone() } else { lower };
    let upper = match (upper.is_empty(), region.end_key.is_empty()) {
        (true, _) => region.end_key.clone(),
        (false, true) => upper,
        (false, false) => upper.min(region.end_key.clone()),
    };
    (upper.is_empty() || lower < upper).then_some((lower, upper))
}

/// Returns the pairs of a range that are in the region, in ascending or descending order.
impl<K: Kv> Handler<RawScanRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawScanRequest) -> Result<RawScanResponse> {
        let (route, read) = self.read(context).await?;
        let cf = column(&request.cf)?;
        let limit = request.limit as usize;
        if limit == 0 {
            return Ok(RawScanResponse::default());
        }
        check_seek(&read.region, &request.start_key)?;
        let window = window(&read.region, request.start_key, request.end_key, request.reverse);
        let Some(window) = window else { return Ok(RawScanResponse::default()) };
        let scan = Scan { cf, windows: vec![window], reverse: request.reverse, limit, key_only: request.key_only };
        let (start, end) = scan.windows[0].clone();
        let kvs = self.scan(read, scan).await?;
        count_scan(&route, (start, end), request.reverse, (limit, self.api), &kvs);
        Ok(RawScanResponse { kvs, ..RawScanResponse::default() })
    }
}

/// Returns the pairs of many ranges, as far as they are in the region.
impl<K: Kv> Handler<RawBatchScanRequest> for RawService<K> {
    async fn handle(&self, context: &Context, request: RawBatchScanRequest) -> Result<RawBatchScanResponse> {
        let (route, read) = self.read(context).await?;
        let cf = column(&request.cf)?;
        let each = request.each_limit as usize;
        let reverse = request.reverse;
        let ranges = closed(request.ranges, reverse)?;
        if each == 0 {
            return Ok(RawBatchScanResponse::default());
        }
        ranges.iter().try_for_each(|range| check_seek(&read.region, &range.start_key))?;
        let windows: Vec<(Bytes, Bytes)> = ranges
            .into_iter()
            .filter_map(|range| window(&read.region, range.start_key, range.end_key, reverse))
            .collect();
        let whole = whole(&windows);
        let kvs = self.scan(read, Scan { cf, windows, reverse, limit: each, key_only: request.key_only }).await?;
        if let Some((start, end)) = whole {
            route.count_read(&start, Some(&end), kvs.len(), bytes_of(&kvs));
        }
        Ok(RawBatchScanResponse { kvs, ..RawBatchScanResponse::default() })
    }
}

/// Returns the bytes of the keys and values of pairs.
pub(super) fn bytes_of(pairs: &[KvPair]) -> usize {
    pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum()
}

/// Returns the range from the first to the last of these windows.
pub(super) fn whole(windows: &[(Bytes, Bytes)]) -> Option<(Bytes, Bytes)> {
    let start = windows.iter().map(|(start, _)| start).min()?;
    let end = match windows.iter().any(|(_, end)| end.is_empty()) {
        true => Bytes::new(),
        false => windows.iter().map(|(_, end)| end).max()?.clone(),
    };
    Some((start.clone(), end))
}

/// Counts a scan of a window, or of the part of it that was read if the limit was reached.
fn count_scan(
    route: &impl Route,
    (start, end): (Bytes, Bytes),
    reverse: bool,
    (limit, api): (usize, Api),
    pairs: &[KvPair],
) {
    let last = pairs.last().filter(|_| pairs.len() >= limit).map(|pair| keyspace::stored(api, pair.key.clone()));
    let (from, to) = match &last {
        Some(last) if reverse => (last, &end),
        Some(last) => (&start, last),
        None => (&start, &end),
    };
    route.count_read(from, Some(to), pairs.len(), bytes_of(pairs));
}

/// The parameters of a scan.
struct Scan {
    cf: Cf,
    windows: Vec<(Bytes, Bytes)>,
    reverse: bool,
    /// Maximum number of pairs from each window.
    limit: usize,
    key_only: bool,
}

/// Where a scan may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// In memory only.
    Memory,
    /// In memory and on disk.
    Anywhere,
}

impl<K: Kv> RawService<K> {
    /// Scans. A short scan of data in memory runs here, any other in a thread that may wait for the disk.
    async fn scan<R: Read + Send + 'static>(&self, read: RegionRead<R>, scan: Scan) -> Result<Vec<KvPair>> {
        let RegionRead { snapshot, now_s, .. } = read;
        if scan.limit.saturating_mul(scan.windows.len()) <= READ_INLINE_KEYS_MAX {
            let mut page = Page::new(self.api, now_s, scan.key_only, self.answers.begin());
            if page.fill_all(&snapshot, &scan, Source::Memory)? {
                return Ok(page.into_pairs());
            }
        }
        let mut page = Page::new(self.api, now_s, scan.key_only, self.answers.begin());
        cpu::run(move || {
            page.fill_all(&snapshot, &scan, Source::Anywhere)?;
            Ok(page.into_pairs())
        })
        .await
    }
}

/// Returns the window of a request. In reverse, `start` is the exclusive upper bound and `end` the inclusive lower one;
/// an empty start selects nothing, as in TiKV.
fn window(region: &Region, start: Bytes, end: Bytes, reverse: bool) -> Option<(Bytes, Bytes)> {
    match reverse {
        false => clip(region, start, end),
        true if start.is_empty() => None,
        true => clip(region, end, start),
    }
}

/// Checks that a scan begins in the region, or at its end.
pub(super) fn check_seek(region: &Region, start: &Bytes) -> Result<()> {
    if *start >= region.start_key && (region.end_key.is_empty() || *start <= region.end_key) {
        return Ok(());
    }
    Err(Error::KeyNotInRegion { key: start.clone(), region: Box::new(region.clone()) })
}

/// Completes the ranges of a batch as TiKV does: a range without an end ends where the next one begins. No range may be
/// empty.
fn closed(mut ranges: Vec<KeyRange>, reverse: bool) -> Result<Vec<KeyRange>> {
    for i in 0..ranges.len() {
        if ranges[i].end_key.is_empty()
            && let Some(next) = ranges.get(i + 1).map(|range| range.start_key.clone())
        {
            ranges[i].end_key = next;
        }
        let KeyRange { start_key, end_key } = &ranges[i];
        let empty = if reverse { start_key <= end_key } else { start_key >= end_key };
        if !end_key.is_empty() && empty {
            return Err(Error::Invalid(format!(
                "range {i} of the batch is empty: its start must be {} its end (by default the next start)",
                if reverse { "above" } else { "below" }
            )));
        }
    }
    Ok(ranges)
}

/// Pairs for a reply, with their bytes in one buffer.
struct Page {
    api: Api,
    now_s: u64,
    key_only: bool,
    /// For keys that have to be decoded.
    buffer: BytesMut,
    data: Vec<u8>,
    lengths: Vec<(u32, u32)>,
    held: Reservation,
}

impl Page {
    fn new(api: Api, now_s: u64, key_only: bool, held: Reservation) -> Page {
        Page { api, now_s, key_only, buffer: BytesMut::new(), data: Vec::new(), lengths: Vec::new(), held }
    }

    /// Adds the pairs of all windows. Returns false if not all of them are in memory.
    fn fill_all(&mut self, read: &impl Read, scan: &Scan, from: Source) -> Result<bool> {
        for window in &scan.windows {
            if !self.fill(read, scan, window, from)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds the pairs of one window that are not expired, up to the limit.
    fn fill(&mut self, read: &impl Read, scan: &Scan, window: &(Bytes, Bytes), from: Source) -> Result<bool> {
        let &Scan { cf, reverse, limit, .. } = scan;
        if limit == 0 {
            return Ok(true);
        }
        let may_wait = from == Source::Anywhere;
        // Without large values if they are not needed to know which keys have expired.
        let keys_only = self.key_only && read.left_out_are_plain(may_wait)?;
        let options = CursorOptions { may_wait, keys_only, ..CursorOptions::default() };
        let full = self.lengths.len() + limit;
        let mut failed = None;
        let mut visit = |key: &[u8], stored: &[u8]| match self.add(key, stored, keys_only) {
            Ok(()) if self.lengths.len() == full => Visit::Stop,
            Ok(()) => Visit::More,
            Err(error) => {
                failed = Some(error);
                Visit::Stop
            }
        };
        let (start, end) = window;
        let whole = read.scan_with(cf, (start, end), reverse, options, &mut visit)?;
        failed.map_or(Ok(whole), Err)
    }

    /// Adds a pair that is not expired. With `keys_only`, an empty form is that of a value that was left out.
    fn add(&mut self, key: &[u8], stored: &[u8], keys_only: bool) -> Result<()> {
        let (len, expires) = if keys_only && stored.is_empty() { (0, None) } else { raw::decode(stored)? };
        if expires.is_some_and(|at| at <= self.now_s) {
            return Ok(());
        }
        let value = if self.key_only { &[][..] } else { &stored[..len] };
        let key = keyspace::plain_in(self.api, key, &mut self.buffer)?;
        let total = self.data.len() + key.len() + value.len() + (self.lengths.len() + 1) * PAIR_BYTES;
        if total > REPLY_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the response would be over the limit of {REPLY_BYTES_MAX} bytes: use a smaller limit or scan keys only"
            )));
        }
        self.held.grow_to(total + (self.lengths.len() + 1) * PAIR_MEMORY)?;
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        self.lengths.push((key.len() as u32, value.len() as u32));
        Ok(())
    }

    fn into_pairs(self) -> Vec<KvPair> {
        let mut data = self.held.attach(self.data);
        self.lengths
            .into_iter()
            .map(|(key, value)| KvPair {
                key: data.split_to(key as usize),
                value: data.split_to(value as usize),
                ..KvPair::default()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a scan of keys finds the same keys whether large values are left out or not, also if some have expired.
    //! Method: a reader that leaves them out, as RocksDB does if they are in files of their own.
    use super::*;
    use crate::engine::{Cached, Cursor, KvEngine, SimEngine, SimStorage, WriteBatch};
    use crate::service::layer::quota::MemoryQuota;

    const LARGE: usize = 100;

    struct Apart<'a> {
        engine: &'a SimEngine,
        plain: bool,
    }

    struct Keys<'a>(Box<dyn Cursor + 'a>, bool);

    impl Read for Apart<'_> {
        fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>> {
            self.engine.get(cf, key)
        }

        fn get_cached(&self, cf: Cf, key: &[u8]) -> Result<Cached> {
            self.engine.get_cached(cf, key)
        }

        fn cursor(&self, cf: Cf, start: &[u8], end: &[u8], how: CursorOptions) -> Result<Box<dyn Cursor + '_>> {
            Ok(Box::new(Keys(self.engine.cursor(cf, start, end, how)?, how.keys_only)))
        }

        fn left_out_are_plain(&self, _may_wait: bool) -> Result<bool> {
            Ok(self.plain)
        }
    }

    impl Cursor for Keys<'_> {
        fn seek(&mut self, key: &[u8]) -> Result<bool> {
            self.0.seek(key)
        }
        fn seek_before(&mut self, key: &[u8]) -> Result<bool> {
            self.0.seek_before(key)
        }
        fn seek_last(&mut self) -> Result<bool> {
            self.0.seek_last()
        }
        fn next(&mut self) -> Result<bool> {
            self.0.next()
        }
        fn back(&mut self) -> Result<bool> {
            self.0.back()
        }
        fn pair(&self) -> Option<(&[u8], &[u8])> {
            let (key, value) = self.0.pair()?;
            Some((key, if self.1 && value.len() > LARGE { &[] } else { value }))
        }
    }

    fn scan(read: &Apart<'_>, reverse: bool, key_only: bool) -> Vec<KvPair> {
        let quota = MemoryQuota::new(prometheus::IntGauge::new("bytes", "bytes").expect("a metric"));
        let windows = vec![(Bytes::new(), Bytes::new())];
        let scan = Scan { cf: Cf::RawDefault, windows, reverse, limit: 100, key_only };
        let mut page = Page::new(Api::V1, 100, key_only, quota.begin());
        assert!(page.fill_all(read, &scan, Source::Anywhere).expect("a scan"));
        page.into_pairs()
    }

    #[test]
    fn a_scan_of_keys_leaves_expired_ones_out_wherever_their_values_are() {
        let engine = SimEngine::open(&SimStorage::new()).expect("an engine");
        let put = |key: &'static str, bytes: usize, expires_at_s: Option<u64>| {
            let mut batch = WriteBatch::new();
            batch.put(Cf::RawDefault, key, raw::encode(&vec![b'v'; bytes], expires_at_s));
            engine.write(&batch).expect("a write");
        };
        let check = |plain: bool, expected: &str| {
            let read = Apart { engine: &engine, plain };
            for reverse in [false, true] {
                let (found, with_values) = (scan(&read, reverse, true), scan(&read, reverse, false));
                assert!(found.iter().map(|pair| &pair.key).eq(with_values.iter().map(|pair| &pair.key)));
                assert!(found.iter().all(|pair| pair.value.is_empty()));
                assert!(with_values.iter().all(|pair| !pair.value.is_empty()));
                let mut keys: Vec<u8> = found.iter().flat_map(|pair| pair.key.clone()).collect();
                keys.sort_unstable();
                assert_eq!(keys, expected.as_bytes());
            }
        };
        put("a", 1, None);
        put("b", LARGE, None);
        put("c", 1, Some(99));
        put("d", 1, Some(101));
        check(true, "abd");
        // Large values that expire have to be read.
        put("e", LARGE, Some(100));
        put("f", LARGE, Some(101));
        check(false, "abdf");
    }
}
