//! Lookups: which region holds a key, and which store leads the region.
//!
//! Clients cache the answers, so a lookup of a region whose leader is not known waits a little instead.

use std::time::Duration;

use bytes::Bytes;

use super::{PdError, PdResult, PdServer, Serving};
use crate::pd::batch::{self, Queried, Ranges};
use crate::pd::cluster::{Cluster, RegionInfo};
use crate::pd::state::PdState;
use crate::rt::task;
use crate::types::GroupId;

/// How long a lookup waits until the leader is known. Less than the timeouts of clients' calls (2 s and more), so that
/// clients receive a meaningful error.
const LOOKUP_WAIT: Duration = Duration::from_millis(1500);

/// How long to wait until the regions that splits make are known: their stores tell with their next heartbeats.
const SPLIT_WAIT: Duration = Duration::from_secs(5);

impl PdServer {
    /// Returns the region that holds `key`, with its leader.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`]; [`PdError::Unavailable`] if the leader is not known in time.
    pub async fn get_region(&self, key: &[u8]) -> PdResult<Option<RegionInfo>> {
        self.look_up_one(|cluster, state, now_ms| cluster.by_key(state, key, now_ms)).await
    }

    /// Returns the region before the one that holds `key`, with its leader; `None` if there is none.
    ///
    /// # Errors
    /// Those of [`PdServer::get_region`].
    pub async fn get_prev_region(&self, key: &[u8]) -> PdResult<Option<RegionInfo>> {
        self.look_up_one(|cluster, state, now_ms| cluster.before(state, key, now_ms)).await
    }

    /// Returns the region with this ID, with its leader.
    ///
    /// # Errors
    /// Those of [`PdServer::get_region`].
    pub async fn get_region_by_id(&self, id: u64) -> PdResult<Option<RegionInfo>> {
        self.look_up_one(|cluster, state, now_ms| cluster.by_id(state, id, now_ms)).await
    }

    /// Returns the regions that overlap `[start, end)`, in order, at most `limit` (0 or below: all of them). A region
    /// is returned without a leader only if every living store has had enough time to report that it leads it and none
    /// did: one region without a quorum must not hide the others.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`]; [`PdError::Unavailable`] while leaders are not known because this leadership is
    /// too young.
    pub async fn scan_regions(&self, start: &[u8], end: &[u8], limit: i32) -> PdResult<Vec<RegionInfo>> {
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        self.look_up(false, |cluster, state, now_ms| cluster.scan(state, start, end, limit, now_ms)).await
    }

    async fn look_up_one(
        &self,
        look: impl Fn(&mut Cluster, &PdState, u64) -> Option<RegionInfo>,
    ) -> PdResult<Option<RegionInfo>> {
        let found =
            self.look_up(true, |cluster, state, now_ms| look(cluster, state, now_ms).into_iter().collect()).await?;
        Ok(found.into_iter().next())
    }

    /// Repeats a lookup until the leaders of all regions found are known (see [`Cluster::known`]), for at most
    /// [`LOOKUP_WAIT`]. Clients cache the answer: a region without its leader would stay so for them.
    async fn look_up(
        &self,
        strictly: bool,
        look: impl Fn(&mut Cluster, &PdState, u64) -> Vec<RegionInfo>,
    ) -> PdResult<Vec<RegionInfo>> {
        let until = self.inner.clock.now().plus(LOOKUP_WAIT);
        loop {
            let serving = self.confirmed_cluster().await?;
            let mut heartbeats = serving.heartbeats.subscribe();
            heartbeats.borrow_and_update();
            let unknown = self.look(&serving, |cluster, state, now_ms| {
                let found = look(cluster, state, now_ms);
                cluster.known(&found, strictly, now_ms).map(|()| found)
            });
            let region = match unknown {
                Ok(found) => return Ok(found),
                Err(region) => region,
            };
            let left = until.since(self.inner.clock.now());
            let waited = self.inner.clock.timeout(left, heartbeats.changed()).await;
            if left.is_zero() || waited.is_err() {
                return Err(PdError::Unavailable(format!(
                    "region {region}'s leader is not known yet: no store has reported that it leads it; try again"
                )));
            }
        }
    }

    /// Returns which of these keys are the start of no region.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`].
    pub async fn inside_regions(&self, keys: &[Bytes]) -> PdResult<Vec<Bytes>> {
        self.confirmed_cluster().await?;
        let inside = |key: &&Bytes| self.read(|state| state.region_of(key).is_some_and(|one| one.start_key != **key));
        Ok(keys.iter().filter(inside).cloned().collect())
    }

    /// Returns the IDs of the regions that start at these keys, in their order. Waits for at most [`SPLIT_WAIT`] until
    /// all of them are known with their leaders.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`].
    pub async fn starting_at(&self, keys: &[Bytes]) -> PdResult<Vec<u64>> {
        let until = self.inner.clock.now().plus(SPLIT_WAIT);
        loop {
            let serving = self.confirmed_cluster().await?;
            let mut heartbeats = serving.heartbeats.subscribe();
            heartbeats.borrow_and_update();
            let left = until.since(self.inner.clock.now());
            let found = self.look(&serving, |cluster, state, now_ms| {
                let starts =
                    |key: &Bytes| cluster.by_key(state, key, now_ms).filter(|info| info.region.start_key == *key);
                keys.iter().filter_map(starts).map(|info| (info.region.id, info.leader.is_some())).collect::<Vec<_>>()
            });
            let known = found.len() == keys.len() && found.iter().all(|(_, led)| *led);
            if known || left.is_zero() || self.inner.clock.timeout(left, heartbeats.changed()).await.is_err() {
                return Ok(found.into_iter().map(|(id, _)| id).collect());
            }
        }
    }

    /// Returns the regions that hold `keys`, those before the regions that hold `prev_keys`, and those with the given
    /// `ids`, with their leaders. All of them wait together, as in [`PdServer::get_region`]. A region whose leader is
    /// still not known is left out, so that clients ask for it again: one region without a leader must not hide the
    /// others.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`].
    pub async fn query_regions(&self, keys: &[Bytes], prev_keys: &[Bytes], ids: &[u64]) -> PdResult<Queried> {
        let until = self.inner.clock.now().plus(LOOKUP_WAIT);
        loop {
            let serving = self.confirmed_cluster().await?;
            let mut heartbeats = serving.heartbeats.subscribe();
            heartbeats.borrow_and_update();
            let left = until.since(self.inner.clock.now());
            let (queried, known) = self.query_now(&serving, keys, prev_keys, ids).await;
            if known || left.is_zero() || self.inner.clock.timeout(left, heartbeats.changed()).await.is_err() {
                return Ok(queried);
            }
        }
    }

    /// Looks up many regions once. Also returns whether the leaders of all of them are known.
    async fn query_now(&self, serving: &Serving, keys: &[Bytes], prev_keys: &[Bytes], ids: &[u64]) -> (Queried, bool) {
        let (mut queried, mut known) = (Queried::default(), true);
        let mut keep = |queried: &mut Queried, look: &dyn Fn(&mut Cluster, &PdState, u64) -> Option<RegionInfo>| {
            let found = self.look(serving, |cluster, state, now_ms| {
                let found = look(cluster, state, now_ms)?;
                let led = cluster.known(std::slice::from_ref(&found), true, now_ms).is_ok();
                Some((found, led))
            });
            let found = found.filter(|(_, led)| {
                known &= *led;
                *led
            });
            queried.keep(found.map(|(info, _)| info))
        };
        for (at, key) in keys.iter().enumerate() {
            breathe(at).await;
            let id = keep(&mut queried, &|cluster, state, now_ms| cluster.by_key(state, key, now_ms));
            queried.of_keys.push(id);
        }
        for (at, key) in prev_keys.iter().enumerate() {
            breathe(at).await;
            let id = keep(&mut queried, &|cluster, state, now_ms| cluster.before(state, key, now_ms));
            queried.of_prev_keys.push(id);
        }
        for (at, id) in ids.iter().enumerate() {
            breathe(at).await;
            if *id != GroupId::PD.0 {
                keep(&mut queried, &|cluster, state, now_ms| cluster.by_id(state, *id, now_ms));
            }
        }
        (queried, known)
    }

    /// Returns the regions that overlap the ranges `[start, end)`, in order and without duplicates, at most `limit` (0
    /// or below: no limit). With `whole`, the first part of a range that no region covers is an error: the outer result
    /// is that of the call, the inner one names that part.
    ///
    /// # Errors
    /// [`PdError::NotBootstrapped`]; those of [`PdServer::scan_regions`].
    pub async fn batch_scan_regions(
        &self,
        ranges: &[(Bytes, Bytes)],
        limit: i32,
        whole: bool,
    ) -> PdResult<Result<Vec<RegionInfo>, (Bytes, Bytes)>> {
        self.confirmed_cluster().await?;
        let mut all = Ranges::new(limit);
        for (at, (start, end)) in ranges.iter().enumerate() {
            breathe(at).await;
            let ask = all.next_limit();
            if ask == 0 {
                break;
            }
            let found = self.scan_regions(start, end, ask).await?;
            let cut = found.len() >= ask as usize;
            if let Some(hole) = batch::hole(start, end, &found, cut).filter(|_| whole) {
                return Ok(Err(hole));
            }
            all.take(found);
        }
        Ok(Ok(all.into_found()))
    }
}

/// Yields to other tasks from time to time, in a long series of lookups that need not wait.
async fn breathe(at: usize) {
    if at % 256 == 255 {
        task::yield_now().await;
    }
}
