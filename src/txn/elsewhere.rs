//! Reads of this store's regions that other stores serve: the leader makes sure that nothing commits below them.
//!
//! **In** come what is read elsewhere and when, and questions for safe times; **out** go the locks in memory that a
//! read has to wait for, and timestamps at or below which a region gets no more commits but those whose locks it has.
//! **Never**: a commit at or below such a timestamp whose record or lock is not part of what is applied at the index
//! beside it.

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

use crate::codec::lock::Lock;
use crate::proto::armilla::raft::{ReadAt, SafeTime};
use crate::proto::kvrpcpb::LockInfo;
use crate::store::{Kv, ReadChecks, Route};
use crate::types::{Error, GroupId, Result, Timestamp};

use super::action::error;
use super::action::read::View;
use super::scheduler::Txn;

impl<K: Kv> ReadChecks for Txn<K> {
    fn admit(&self, reads: &[ReadAt]) -> Vec<Option<LockInfo>> {
        reads.iter().map(|read| self.admit_one(read)).collect()
    }

    fn safe_times(&self, groups: Vec<GroupId>) -> BoxFuture<'_, Result<Vec<SafeTime>>> {
        async move {
            let now = self.kv.timestamp().await?;
            if !crate::mutant!("txn.safe-time-unraised") {
                self.shared.memory.raise(now);
            }
            let led = groups.into_iter().filter_map(|group| self.kv.own(group.0));
            let times = join_all(led.map(|route| async move {
                let time = self.safe_time(&route, now).await;
                time.inspect_err(|error| tracing::debug!(region = route.region().id, %error, "no safe time")).ok()
            }));
            Ok(times.await.into_iter().flatten().collect())
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
        let blocks = |lock: &Lock| view.is_blocked_in_memory(lock);
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
    /// a commit timestamp that is chosen later is above it, here as well as under a later leader, which asks for a
    /// timestamp of its own first. A lock that is applied is found by the read itself; one that stands in memory is
    /// not, so the safe time is before its transaction began.
    async fn safe_time(&self, route: &K::Route, now: Timestamp) -> Result<SafeTime> {
        let region = route.region().clone();
        let in_memory = match crate::mutant!("txn.safe-time-ignores-memory") {
            true => None,
            false => self.shared.memory.oldest_in((&region.start_key, &region.end_key)),
        };
        // Proves that this store leads at this moment, after the timestamp was given out. What is committed is applied.
        let seen = route.read().await?;
        let not_leader = || Error::NotLeader { group: GroupId(region.id), leader: None };
        let (_, index) = route.place().ok_or_else(not_leader)?;
        crate::reach!("txn.safe-time");
        let at = in_memory.map_or(now, |start| start.min(now));
        Ok(SafeTime { group_id: region.id, version: seen.fence.version, index, at: at.0 })
    }
}
