//! The coprocessor request: a page of a query over JSON values ([`crate::query`]).
//!
//! Linearizable as every read. The ranges are read in order of their keys, what they have in common once. Work goes to the pool in
//! slices, so that a request whose caller has gone away ends soon.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::raw;
use crate::engine::{Cf, Read, Visit};
use crate::proto::kvrpcpb::{Context, KeyRange, RawCoprocessorRequest, RawCoprocessorResponse};
use crate::query::{self, Page, Plan, Room};
use crate::rt::cpu;
use crate::store::kv::{Kv, check_key};
use crate::types::limits::RANGES_MAX;
use crate::types::{Error, Region, Result};

use super::scan::clip;
use super::{RawService, check_count};

/// Pairs read in one slice of work.
const SLICE_PAIRS: u64 = 16 << 10;
/// Bytes read in one slice of work; the pair that passes it is the last.
const SLICE_BYTES: usize = 8 << 20;

impl<K: Kv> RawService<K> {
    pub(super) async fn coprocessor(
        &self,
        context: &Context,
        request: RawCoprocessorRequest,
    ) -> Result<RawCoprocessorResponse> {
        query::check_version(&request.copr_name, &request.copr_version_req).map_err(Error::Invalid)?;
        check_count("ranges", request.ranges.len(), RANGES_MAX)?;
        let plan = Arc::new(Plan::decode(&request.data).map_err(Error::Invalid)?);
        let read = self.kv.read(context).await?;
        let windows = windows(&read.region, request.ranges, plan.from())?;
        let mut work =
            Work { page: Page::new(plan), snapshot: Arc::new(read.snapshot), now_s: read.now_s, windows, done: 0 };
        loop {
            let (rest, more) = cpu::run(move || work.slice()).await?;
            work = rest;
            if !more {
                break;
            }
        }
        let data = cpu::run(move || work.page.finish()).await.map_err(Error::Invalid)?;
        Ok(RawCoprocessorResponse { data, ..RawCoprocessorResponse::default() })
    }
}

/// The parts of `ranges` in the region, in order and without overlap, from `from` on.
pub(super) fn windows(region: &Arc<Region>, ranges: Vec<KeyRange>, from: &Bytes) -> Result<Vec<(Bytes, Bytes)>> {
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
pub(super) struct Work<S> {
    pub(super) page: Page,
    pub(super) snapshot: Arc<S>,
    pub(super) now_s: u64,
    pub(super) windows: Vec<(Bytes, Bytes)>,
    /// Windows that are read to their end.
    pub(super) done: usize,
}

impl<S: Read> Work<S> {
    /// Reads on for a while; true if there is more to read for this page.
    pub(super) fn slice(mut self) -> Result<(Work<S>, bool)> {
        let (mut pairs, mut bytes) = (0, 0);
        while self.page.room() == Room::More
            && let Some((start, end)) = self.windows.get_mut(self.done)
        {
            let mut failed = None;
            let mut next = None;
            self.snapshot.scan(Cf::RawDefault, start, end, &mut |key, stored| {
                (pairs, bytes) = (pairs + 1, bytes + key.len() + stored.len());
                let room = match raw::decode(stored) {
                    Ok((_, Some(at))) if at <= self.now_s => Ok(Room::More),
                    Ok((len, _)) => self.page.push(key, &stored[..len]).map_err(Error::Invalid),
                    Err(error) => Err(error),
                };
                match room {
                    Ok(Room::More) if pairs < SLICE_PAIRS && bytes < SLICE_BYTES => return Visit::More,
                    Ok(Room::More) => next = Some(Bytes::from([key, &[0]].concat())),
                    Ok(Room::Full) => {}
                    Err(error) => failed = Some(error),
                }
                Visit::Stop
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
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
