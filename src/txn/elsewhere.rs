//! Reads of this store's regions that other stores serve: the leader makes sure that nothing commits below them.
//!
//! **In** come what is read elsewhere and when, and questions for safe times; **out** go the locks in memory that a read
//! has to wait for, and timestamps at or below which a region gets no more commits. **Never**: a commit at or below such
//! a timestamp that is not part of what is applied at the index beside it.

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::codec::lock::{self, LockKind};
use crate::engine::{Cf, Read, Visit};
use crate::proto::armilla::raft::{ReadAt, SafeTime};
use crate::proto::kvrpcpb::LockInfo;
use crate::rt::cpu;
use crate::store::{Kv, ReadChecks, Route};
use crate::types::{Error, GroupId, Region, Result, Timestamp};

use super::action::error;
use super::action::read::View;
use super::scheduler::{Seen, Txn};

/// The oldest lock of a region, and the state in which that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oldest {
    /// Term, version, applied index.
    at: (u64, u64, u64),
    start: Option<Timestamp>,
}

impl<K: Kv> ReadChecks for Txn<K> {
    fn admit(&self, reads: &[ReadAt]) -> Vec<Option<LockInfo>> {
        reads.iter().map(|read| self.admit_one(read)).collect()
    }

    fn safe_times(&self, groups: Vec<GroupId>) -> BoxFuture<'_, Result<Vec<SafeTime>>> {
        async move {
            let mut now = self.kv.timestamp().await?;
            if !crate::mutant!("txn.safe-time-unraised") {
                self.shared.memory.raise(now);
            }
            let mut times = Vec::new();
            for group in groups {
                let Some(route) = self.kv.own(group.0) else { continue };
                if crate::mutant!("txn.safe-time-after-lead") {
                    let _ = route.read().await;
                    now = self.kv.timestamp().await?;
                }
                match self.safe_time(&route, now).await {
                    Ok(time) => times.push(time),
                    Err(error) => tracing::debug!(region = group.0, %error, "no safe time"),
                }
            }
            Ok(times)
        }
        .boxed()
    }
}

impl<K: Kv> Txn<K> {
    /// Raises max_ts for a read elsewhere, then looks for a lock in memory that it has to wait for.
    fn admit_one(&self, read: &ReadAt) -> Option<LockInfo> {
        let view = View::elsewhere(read);
        let memory = &self.shared.memory;
        let at = if crate::mutant!("txn.follower-read-unraised") { Timestamp::MAX } else { view.at };
        let raised = memory.raise(at);
        if crate::mutant!("txn.follower-read-ignores-memory") {
            return None;
        }
        let blocks = |lock: &lock::Lock| view.is_blocked_in_memory(lock);
        let found = if read.keys.is_empty() {
            memory.blocked_in(raised, (&read.start, &read.end), blocks)
        } else {
            memory.blocked(raised, &read.keys, blocks)
        };
        let (key, lock) = found?;
        crate::reach!("txn.follower-read-blocked-in-memory");
        Some(error::info(&key, &lock))
    }

    /// Returns the safe time of a region that this store leads. `now` was given out before, and max_ts is not below it:
    /// a commit that is decided later is above it, here as well as under a later leader, which asks for a timestamp of
    /// its own first.
    async fn safe_time(&self, route: &K::Route, now: Timestamp) -> Result<SafeTime> {
        let region = route.region().clone();
        let in_memory = match crate::mutant!("txn.safe-time-ignores-memory") {
            true => None,
            false => self.shared.memory.oldest_in((&region.start_key, &region.end_key)),
        };
        let before = route.place();
        // Proves that this store leads at this moment, and shows all that was proposed before its term and is committed.
        let seen = route.read().await?;
        let Some(after) = route.place() else {
            return Err(Error::NotLeader { group: GroupId(region.id), leader: None });
        };
        let version = seen.fence.version;
        let on_disk = match crate::mutant!("txn.safe-time-ignores-locks") {
            true => None,
            false => self.oldest_lock(&region, (before, after), seen).await?,
        };
        let at = [in_memory, on_disk].into_iter().flatten().fold(now, Timestamp::min);
        crate::reach!("txn.safe-time");
        // What the snapshot holds is applied at this index.
        Ok(SafeTime { group_id: region.id, version, index: after.1, at: at.0 })
    }

    /// Returns the start of the oldest lock in a view of a region, which was taken between two looks at its place.
    async fn oldest_lock(
        &self,
        region: &Region,
        (before, after): (Option<(u64, u64)>, (u64, u64)),
        seen: Seen<K>,
    ) -> Result<Option<Timestamp>> {
        let now = (after.0, seen.fence.version, after.1);
        let all = &self.shared.oldest;
        let known = all.lock().expect("no holder panics").get(&region.id).filter(|known| known.at == now).copied();
        if let Some(known) = known {
            return Ok(known.start);
        }
        let (start, end) = (region.start_key.clone(), region.end_key.clone());
        let start = cpu::run(move || oldest(&seen.snapshot, &start, &end)).await?;
        // Only if nothing was applied meanwhile is this what the index holds.
        if before == Some(after) {
            all.lock().expect("no holder panics").insert(region.id, Oldest { at: now, start });
        }
        Ok(start)
    }
}

/// Returns the start of the oldest lock whose transaction may commit in `[start, end)`.
fn oldest(read: &dyn Read, start: &[u8], end: &[u8]) -> Result<Option<Timestamp>> {
    let (mut oldest, mut failed) = (None, None);
    read.scan(Cf::TxnLock, start, end, &mut |_, value| match lock::decode(bytes::Bytes::copy_from_slice(value)) {
        Ok(lock) => {
            if !matches!(lock.kind, LockKind::Lock | LockKind::Pessimistic) {
                oldest = Some(oldest.map_or(lock.start, |old: Timestamp| old.min(lock.start)));
            }
            Visit::More
        }
        Err(error) => {
            failed = Some(error);
            Visit::Stop
        }
    })?;
    failed.map_or(Ok(oldest), Err)
}
