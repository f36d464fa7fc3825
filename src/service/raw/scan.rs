//! Scans, forward and in reverse, of one range or of many.
//!
//! A page is never silently shorter than asked: clients do not continue inside a region. What does not fit in a message is an
//! error that says so.

use bytes::Bytes;

use crate::codec::raw;
use crate::engine::{Cf, Read, Visit};
use crate::proto::kvrpcpb::{
    Context, KvPair, RawBatchScanRequest, RawBatchScanResponse, RawScanRequest, RawScanResponse,
};
use crate::store::kv::{Kv, check_key};
use crate::types::limits::{RANGES_MAX, REPLY_BYTES_MAX, SCAN_LIMIT_MAX};
use crate::types::{Error, Region, Result};

use super::column::column;
use super::{RawService, check_count, sized};
use crate::service::answers::Held;

/// What a pair adds to a message beside its key and value, at most, in bytes.
pub(super) const PAIR_BYTES: usize = 16;

/// The part of `[lower, upper)` that is in the region; nothing if that is empty. An empty `upper` is plus infinity.
pub(super) fn clip(region: &Region, lower: Bytes, upper: Bytes) -> Option<(Bytes, Bytes)> {
    let lower = if lower < region.start_key { region.start_key.clone() } else { lower };
    let upper = match (upper.is_empty(), region.end_key.is_empty()) {
        (true, _) => region.end_key.clone(),
        (false, true) => upper,
        (false, false) => upper.min(region.end_key.clone()),
    };
    (upper.is_empty() || lower < upper).then_some((lower, upper))
}

impl<K: Kv> RawService<K> {
    pub(super) async fn scan(&self, context: &Context, request: RawScanRequest) -> Result<RawScanResponse> {
        let cf = column(&request.cf)?;
        check_limit(request.limit)?;
        let read = self.kv.read(context).await?;
        let window = if request.reverse {
            reverse_window(&read.region, request.start_key, request.end_key)
        } else {
            check_key(&read.region, &request.start_key)?;
            clip(&read.region, request.start_key, request.end_key)
        };
        let Some(window) = window else { return Ok(RawScanResponse::default()) };
        let limit = request.limit as usize;
        let mut page = Page::new(read.now_s, request.key_only, self.answers.begin());
        let kvs = sized(limit, move || {
            page.fill(&read.snapshot, cf, &window, request.reverse, limit)?;
            Ok::<_, Error>(page.into_pairs())
        })
        .await?;
        Ok(RawScanResponse { kvs, ..RawScanResponse::default() })
    }

    pub(super) async fn batch_scan(
        &self,
        context: &Context,
        request: RawBatchScanRequest,
    ) -> Result<RawBatchScanResponse> {
        let cf = column(&request.cf)?;
        check_limit(request.each_limit)?;
        check_count("ranges", request.ranges.len(), RANGES_MAX)?;
        let read = self.kv.read(context).await?;
        let each = request.each_limit as usize;
        let reverse = request.reverse;
        let windows: Vec<(Bytes, Bytes)> = request
            .ranges
            .into_iter()
            .filter_map(|range| {
                let cut = if reverse { reverse_window } else { clip };
                cut(&read.region, range.start_key, range.end_key)
            })
            .collect();
        let mut page = Page::new(read.now_s, request.key_only, self.answers.begin());
        let kvs = sized(each.saturating_mul(windows.len()), move || {
            for window in &windows {
                page.fill(&read.snapshot, cf, window, reverse, each)?;
            }
            Ok::<_, Error>(page.into_pairs())
        })
        .await?;
        Ok(RawBatchScanResponse { kvs, ..RawBatchScanResponse::default() })
    }
}

/// The window of a reverse request: its start is the exclusive upper bound, its end the inclusive lower one. An empty start
/// gives nothing, as in TiKV.
fn reverse_window(region: &Region, start: Bytes, end: Bytes) -> Option<(Bytes, Bytes)> {
    if start.is_empty() { None } else { clip(region, end, start) }
}

fn check_limit(limit: u32) -> Result<()> {
    if limit > SCAN_LIMIT_MAX {
        return Err(Error::Invalid(format!("a scan limit of {limit} is over {SCAN_LIMIT_MAX}")));
    }
    Ok(())
}

/// Pairs on their way into a reply, their bytes in one piece of memory.
struct Page {
    now_s: u64,
    key_only: bool,
    data: Vec<u8>,
    lengths: Vec<(u32, u32)>,
    held: Held,
}

impl Page {
    fn new(now_s: u64, key_only: bool, held: Held) -> Page {
        Page { now_s, key_only, data: Vec::new(), lengths: Vec::new(), held }
    }

    /// Adds up to `limit` live pairs of `window`.
    fn fill(&mut self, read: &impl Read, cf: Cf, window: &(Bytes, Bytes), reverse: bool, limit: usize) -> Result<()> {
        if limit == 0 {
            return Ok(());
        }
        let full = self.lengths.len() + limit;
        let mut failed = None;
        let mut visit = |key: &[u8], stored: &[u8]| match self.add(key, stored) {
            Ok(()) if self.lengths.len() == full => Visit::Stop,
            Ok(()) => Visit::More,
            Err(error) => {
                failed = Some(error);
                Visit::Stop
            }
        };
        let (start, end) = window;
        if reverse {
            read.scan_reverse(cf, start, end, &mut visit)?;
        } else {
            read.scan(cf, start, end, &mut visit)?;
        }
        failed.map_or(Ok(()), Err)
    }

    fn add(&mut self, key: &[u8], stored: &[u8]) -> Result<()> {
        let (len, expires) = raw::decode(stored)?;
        if expires.is_some_and(|at| at <= self.now_s) {
            return Ok(());
        }
        let value = if self.key_only { &[][..] } else { &stored[..len] };
        let total = self.data.len() + key.len() + value.len() + (self.lengths.len() + 1) * PAIR_BYTES;
        if total > REPLY_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the answer would be over the limit of {REPLY_BYTES_MAX} bytes: scan with a smaller limit or for keys only"
            )));
        }
        self.held.cover(total)?;
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        self.lengths.push((key.len() as u32, value.len() as u32));
        Ok(())
    }

    fn into_pairs(self) -> Vec<KvPair> {
        let mut data = self.held.around(self.data);
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
