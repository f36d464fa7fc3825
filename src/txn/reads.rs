//! Requests that only read: max_ts first, then locks in memory, then the snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::codec::lock::Lock;
use crate::mvcc::Reader;
use crate::proto::armilla::raft::ReadAt;
use crate::proto::kvrpcpb::{
    BatchGetRequest, BufferBatchGetRequest, Context, GetRequest, GetResponse, KeyError, KvPair, LockInfo, MvccInfo,
    ScanLockRequest, ScanRequest,
};
use crate::rt::cpu;
use crate::store::{Access, Kv, RegionRead, Route};
use crate::types::limits::{READ_AT_KEY_BYTES_MAX, READ_INLINE_KEYS_MAX};
use crate::types::{Error, Region, Result, Timestamp, region};

use super::action::page::{Page, check_room, failed};
use super::action::read::{self, Range, View};
use super::action::{Key, error, flush, locks};
use super::memory::Raised;
use super::scheduler::{PREEMPTED, Seen, Txn, check_keys};

/// The pairs of a reply, or the error that stands in for all of them.
pub type Reads = std::result::Result<Vec<KvPair>, KeyError>;

/// What a request reads.
enum Span<'a> {
    Keys(&'a [Key]),
    /// From a key up to another; empty: infinity.
    Range(&'a Bytes, &'a Bytes),
}

impl Span<'_> {
    /// Returns what the leader is told of it.
    fn told(&self, view: &View) -> ReadAt {
        match self {
            Span::Keys(keys) if keys.iter().map(|key| key.encoded.len()).sum::<usize>() > READ_AT_KEY_BYTES_MAX => {
                let ends = |key: Option<&Key>| key.map(|key| key.encoded.clone()).unwrap_or_default();
                let (first, last) = (keys.iter().min_by(order), keys.iter().max_by(order));
                ReadAt { start: ends(first), end: [&ends(last)[..], b"\0"].concat().into(), ..view.told() }
            }
            Span::Keys(keys) => ReadAt { keys: keys.iter().map(|key| key.encoded.clone()).collect(), ..view.told() },
            Span::Range(start, end) => ReadAt { start: Bytes::clone(start), end: Bytes::clone(end), ..view.told() },
        }
    }
}

fn order(one: &&Key, other: &&Key) -> std::cmp::Ordering {
    one.encoded.cmp(&other.encoded)
}

/// A region as a read sees it, or the error that stands in for the result.
type Sees<K> = std::result::Result<Seen<K>, KeyError>;

impl<K: Kv> Txn<K> {
    /// Returns the route of a read, and whether it is served as of a moment that has passed, without asking anybody.
    async fn reading_route(&self, context: &Context, at: u64) -> Result<(K::Route, bool)> {
        let is_stale = context.stale_read && at != u64::MAX;
        if is_stale {
            return Ok((self.kv.route(context, Access::Stale)?, true));
        }
        self.admit(&[at]).await?;
        // Only the leader knows what is newest.
        let route = match context.replica_read && at != u64::MAX {
            true => self.kv.route(context, Access::Read)?,
            false => self.route(context)?,
        };
        Ok((route, false))
    }

    /// Returns the region as a read sees it, once nothing may commit in it below the read any more.
    async fn see(&self, (route, is_stale): (&K::Route, bool), view: &View, span: Span<'_>) -> Result<Sees<K>> {
        let seen = if is_stale {
            route.read_stale(view.at).await?
        } else if route.is_by_replica() {
            match route.read_at(span.told(view)).await? {
                Ok(seen) => seen,
                Err(lock) if view.with_locks => return Ok(Err(KeyError { locked: Some(lock), ..KeyError::default() })),
                Err(_) => route.read().await?,
            }
        } else {
            match self.see_as_leader(route, view, span).await? {
                Ok(seen) => seen,
                Err(error) => return Ok(Err(error)),
            }
        };
        Ok(below_floor(&seen, view).map_or(Ok(seen), Err))
    }

    async fn see_as_leader(&self, route: &K::Route, view: &View, span: Span<'_>) -> Result<Sees<K>> {
        let memory = &self.shared.memory;
        let blocked = |raised: Raised| {
            let blocks = |lock: &Lock| view.is_blocked_in_memory(lock);
            let found = match span {
                Span::Keys(keys) => memory.blocked(raised, keys.iter().map(|key| &key.encoded), blocks),
                Span::Range(start, end) => memory.blocked_in(raised, (start, end), blocks),
            };
            found.map(|(key, lock)| error::locked(&key, &lock))
        };
        let early = if crate::mutant!("txn.read-snapshot-before-locks") {
            let seen = route.read().await?;
            self.kv.sleep(PREEMPTED).await;
            Some(seen)
        } else {
            None
        };
        let late = crate::mutant!("txn.read-raise-after-locks");
        let raised = memory.raise(if late { Timestamp::MAX } else { view.at });
        if let Some(error) = blocked(raised) {
            crate::reach!("txn.read-blocked-in-memory");
            return Ok(Err(error));
        }
        if late {
            self.kv.sleep(PREEMPTED).await;
            memory.raise(view.at);
        }
        match early {
            Some(seen) => Ok(Ok(seen)),
            None => route.read().await.map(Ok),
        }
    }

    /// Returns the value of a key.
    ///
    /// # Errors
    /// Those of a route and a read ([`Route`]).
    pub async fn get(&self, context: &Context, request: GetRequest) -> Result<GetResponse> {
        let (route, is_stale) = self.reading_route(context, request.version).await?;
        let key = Key::new(request.key);
        check_keys(route.region(), std::slice::from_ref(&key))?;
        let view = View::new(context, request.version, request.need_commit_ts);
        let found = match self.see((&route, is_stale), &view, Span::Keys(std::slice::from_ref(&key))).await? {
            Ok(seen) => one(&seen, &view, &key).await?,
            Err(error) => Err(error),
        };
        let mut reply = GetResponse::default();
        match found {
            Ok(Some((commit, value))) => {
                route.count_read(&key.encoded, None, 1, key.encoded.len() + value.len());
                reply.commit_ts = if request.need_commit_ts { commit.0 } else { 0 };
                reply.value = value;
            }
            Ok(None) => {
                route.count_read(&key.encoded, None, 0, 0);
                reply.not_found = true;
            }
            Err(error) => reply.error = Some(error.into()),
        }
        Ok(reply)
    }

    /// Returns the values of keys, in the order of the request; keys without one are left out.
    ///
    /// # Errors
    /// As [`Txn::get`].
    pub async fn batch_get(&self, context: &Context, request: BatchGetRequest) -> Result<Reads> {
        let (route, is_stale) = self.reading_route(context, request.version).await?;
        let keys: Vec<Key> = request.keys.iter().cloned().map(Key::new).collect();
        check_keys(route.region(), &keys)?;
        let view = View::new(context, request.version, request.need_commit_ts);
        let seen = match self.see((&route, is_stale), &view, Span::Keys(&keys)).await? {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        let middle = keys.get(keys.len() / 2).map(|key| key.encoded.clone()).unwrap_or_default();
        let few = keys.len() <= READ_INLINE_KEYS_MAX;
        let here = if few { gather(&Reader::in_memory(&seen.snapshot), &view, &keys)? } else { None };
        let pairs = match here {
            Some(pairs) => pairs,
            None => {
                let snapshot = seen.snapshot.clone();
                let found = cpu::run(move || gather(&Reader::new(&snapshot), &view, &keys)).await?;
                found.unwrap_or_default()
            }
        };
        route.count_read(&middle, None, pairs.len(), bytes_of(&pairs));
        Ok(Ok(pairs))
    }

    /// Returns what a pipelined transaction has written itself of keys.
    ///
    /// # Errors
    /// As [`Txn::get`].
    pub async fn flushed(&self, context: &Context, request: BufferBatchGetRequest) -> Result<Vec<KvPair>> {
        self.admit(&[request.version]).await?;
        let route = self.route(context)?;
        let keys: Vec<Key> = request.keys.into_iter().map(Key::new).collect();
        check_keys(route.region(), &keys)?;
        let start = Timestamp(request.version);
        let RegionRead { snapshot, .. } = route.read().await?;
        cpu::run(move || {
            let (reader, mut pairs, mut bytes) = (Reader::new(&snapshot), Vec::new(), 0);
            for key in &keys {
                if let Some(pair) = flush::flushed(&reader, start, key)? {
                    bytes += check_room(bytes, pair.key.len() + pair.value.len())?;
                    pairs.push(pair);
                }
            }
            Ok(pairs)
        })
        .await
    }

    /// Returns the pairs of a range.
    ///
    /// # Errors
    /// As [`Txn::get`].
    pub async fn scan(&self, context: &Context, request: ScanRequest) -> Result<Reads> {
        let (route, is_stale) = self.reading_route(context, request.version).await?;
        let range = window(route.region(), &request)?;
        let view = View::new(context, request.version, false);
        let seen = match self.see((&route, is_stale), &view, Span::Range(&range.start, &range.end)).await? {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        let here = if range.limit <= READ_INLINE_KEYS_MAX {
            page(&Reader::in_memory(&seen.snapshot), &view, &range)?
        } else {
            None
        };
        let (from, to) = (range.start.clone(), range.end.clone());
        let pairs = match here {
            Some(pairs) => pairs,
            None => {
                let snapshot = seen.snapshot.clone();
                cpu::run(move || page(&Reader::new(&snapshot), &view, &range)).await?.unwrap_or_default()
            }
        };
        route.count_read(&from, Some(&to), pairs.len(), bytes_of(&pairs));
        Ok(Ok(pairs))
    }

    /// Returns the locks of a range that began at or before a timestamp.
    ///
    /// # Errors
    /// As [`Txn::get`].
    pub async fn scan_locks(
        &self,
        context: &Context,
        request: ScanLockRequest,
    ) -> Result<std::result::Result<Vec<LockInfo>, KeyError>> {
        self.admit(&[request.max_version]).await?;
        let route = self.route(context)?;
        let until = Timestamp(request.max_version);
        let region = route.region().clone();
        let start = Key::new(request.start_key.clone());
        let from = if request.start_key.is_empty() { region.start_key.clone() } else { start.encoded };
        if !region::holds(&region, &from) {
            return Err(Error::KeyNotInRegion { key: from, region: Box::new(Region::clone(&region)) });
        }
        let mut to = if request.end_key.is_empty() { Bytes::new() } else { Key::new(request.end_key).encoded };
        if !region::ends_by(&region, &to) {
            to = region.end_key.clone();
        }
        let raised = self.shared.memory.raise(until);
        if let Some((key, lock)) = self.shared.memory.blocked_in(raised, (&from, &to), |lock| lock.start <= until) {
            return Ok(Err(error::locked(&key, &lock)));
        }
        let RegionRead { snapshot, .. } = route.read().await?;
        let limit = request.limit as usize;
        let found = cpu::run(move || locks::scan(&snapshot, (&from, &to), limit, &|lock| lock.start <= until)).await?;
        Ok(Ok(locks::infos(&found)))
    }

    /// Returns everything that is stored of a key.
    ///
    /// # Errors
    /// As [`Txn::get`].
    pub async fn everything(&self, context: &Context, key: Bytes) -> Result<MvccInfo> {
        let route = self.route(context)?;
        let key = Key::new(key);
        check_keys(route.region(), std::slice::from_ref(&key))?;
        let RegionRead { snapshot, .. } = route.read().await?;
        cpu::run(move || read::everything(&snapshot, &key)).await
    }

    /// Returns the first key of a region for which a transaction has left a record, and everything that is stored of
    /// it. Looks at every record of the region until then.
    ///
    /// # Errors
    /// As [`Txn::get`].
    pub async fn written_by(&self, context: &Context, start: Timestamp) -> Result<Option<(Bytes, MvccInfo)>> {
        let route = self.route(context)?;
        let (from, to) = (route.region().start_key.clone(), route.region().end_key.clone());
        let RegionRead { snapshot, .. } = route.read().await?;
        let caller = Caller::default();
        let gone = caller.0.clone();
        cpu::run(move || {
            let Some(key) = read::written_by(&snapshot, (&from, &to), start, &gone)? else { return Ok(None) };
            let info = read::everything(&snapshot, &key)?;
            Ok(Some((key.plain, info)))
        })
        .await
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

/// Returns the error of a read for which history may be missing.
fn below_floor<S>(seen: &RegionRead<S>, view: &View) -> Option<KeyError> {
    let floor = Timestamp(seen.marks.floor);
    if view.at >= floor || crate::mutant!("gc.read-below-the-floor") {
        return None;
    }
    crate::reach!("txn.read-below-the-floor");
    Some(error::below_floor(view.at, floor))
}

type Value = std::result::Result<Option<(Timestamp, Bytes)>, KeyError>;

/// Reads one key: here if it is in memory, else in a thread that may wait for the disk.
async fn one<S: crate::engine::Read + Clone + Send + 'static>(
    seen: &RegionRead<S>,
    view: &View,
    key: &Key,
) -> Result<Value> {
    let here = {
        let reader = Reader::in_memory(&seen.snapshot);
        let found = read::get(&reader, view, key)?;
        (!reader.needs_disk()).then_some(found)
    };
    if let Some(found) = here {
        return Ok(found);
    }
    let (snapshot, view, key) = (seen.snapshot.clone(), view.clone(), key.clone());
    cpu::run(move || read::get(&Reader::new(&snapshot), &view, &key)).await
}

/// Returns the pairs of keys, or `None` if the disk is needed.
fn gather(reader: &Reader<'_>, view: &View, keys: &[Key]) -> Result<Option<Vec<KvPair>>> {
    let (mut pairs, mut bytes) = (Vec::new(), 0);
    for key in keys {
        let pair = match read::get(reader, view, key)? {
            Ok(Some((commit, value))) => read::pair(key.plain.clone(), value, commit, view),
            Ok(None) => continue,
            Err(error) => failed(error),
        };
        bytes += check_room(bytes, pair.key.len() + pair.value.len())?;
        pairs.push(pair);
    }
    Ok((!reader.needs_disk()).then_some(pairs))
}

/// Returns the pairs of a range, or `None` if the disk is needed.
fn page(reader: &Reader<'_>, view: &View, range: &Range) -> Result<Option<Vec<KvPair>>> {
    let mut page = Page::default();
    read::range(reader, view, range, &mut page)?;
    Ok((!reader.needs_disk()).then(|| page.into_pairs()))
}

fn bytes_of(pairs: &[KvPair]) -> usize {
    pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum()
}

/// Returns the range of a scan. In reverse, the request's start is the upper boundary (exclusive) and its end the lower
/// one. Bounds that are not given are the region's; those outside it are refused, as TiKV does, except that a reverse
/// scan's are cut.
fn window(region: &Region, request: &ScanRequest) -> Result<Range> {
    let encoded = |key: &Bytes| if key.is_empty() { Bytes::new() } else { Key::new(key.clone()).encoded };
    let (mut low, mut high) = match request.reverse {
        false => (encoded(&request.start_key), encoded(&request.end_key)),
        true => (encoded(&request.end_key), encoded(&request.start_key)),
    };
    let outside = |what: &str| {
        Error::Invalid(format!(
            "the {what} of the scan is outside region {}, which the request names: look the region up again",
            region.id
        ))
    };
    if low.is_empty() {
        low = region.start_key.clone();
    }
    if high.is_empty() {
        high = region.end_key.clone();
    }
    if low < region.start_key {
        return Err(outside("lower boundary"));
    }
    if !region::ends_by(region, &high) {
        return Err(outside("upper boundary"));
    }
    let (limit, reverse, one_in) = (request.limit as usize, request.reverse, request.sample_step);
    Ok(Range { start: low, end: high, reverse, limit, key_only: request.key_only, one_in })
}

#[cfg(test)]
mod tests {
    //! Goal: the leader is told what a read is about in bounded space. Method: few keys, and many.
    use super::*;

    #[test]
    fn many_keys_are_told_as_the_range_that_holds_them() {
        let view = View::new(&Context { resolved_locks: vec![7], ..Context::default() }, 20, false);
        let keys = |count: usize| -> Vec<Key> {
            (0..count).rev().map(|n| Key::new(format!("{n:04}{}", "k".repeat(1000)).into())).collect()
        };
        let few = Span::Keys(&keys(3)).told(&view);
        assert_eq!((few.at, few.passes.clone(), few.keys.len(), few.start.len()), (20, vec![7], 3, 0));
        let all = keys(100);
        let many = Span::Keys(&all).told(&view);
        assert_eq!((many.at, many.keys.len()), (20, 0));
        assert!(all.iter().all(|key| many.start <= key.encoded && key.encoded < many.end));
        assert_eq!(many.start, all[99].encoded, "it begins with the least of them");
        let range = Span::Range(&"a".into(), &Bytes::new()).told(&view);
        assert_eq!((&range.start[..], range.end.len(), range.keys.len()), (&b"a"[..], 0, 0));
    }
}
