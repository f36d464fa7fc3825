//! Locks in the way: what became of their transactions, and their end.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::client::error::{Error, Result};
use crate::proto::kvrpcpb::{Action, CheckTxnStatusRequest, LockInfo};
use crate::types::Timestamp;

use super::TxnClient;

/// What became of a transaction: its commit timestamp, or `None` if it was rolled back.
type Fate = Option<Timestamp>;

/// What happened to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its transaction has committed at this timestamp, and so has its key.
    Committed(Timestamp),
    /// Its transaction was rolled back, and so was its key.
    RolledBack,
    /// Its transaction is alive: the lock stands.
    Alive,
    /// Its transaction is alive, and will commit after the reader's snapshot, if at all: the reader need not wait.
    Later,
}

/// What a transaction's primary key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Decided(Fate),
    Alive,
    Later,
}

impl TxnClient {
    /// Ends a lock if its transaction is decided or its client seems to be dead. Returns whether it is gone.
    ///
    /// # Errors
    /// As all requests.
    pub fn resolve<'a>(&'a self, lock: &'a LockInfo, reader: Timestamp) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let ended = self.end_decided(std::slice::from_ref(lock), reader).await?;
            Ok(matches!(ended, Ended::Committed(_) | Ended::RolledBack))
        })
    }

    /// Ends locks of one transaction, if it is decided or its client seems to be dead. Returns whether they are gone.
    ///
    /// # Errors
    /// As all requests.
    pub fn finish<'a>(&'a self, locks: &'a [LockInfo]) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            Ok(matches!(self.end_decided(locks, Timestamp(0)).await?, Ended::Committed(_) | Ended::RolledBack))
        })
    }

    /// Ends locks of one transaction, if it is decided or its client seems to be dead. Returns what became of them.
    /// `reader` is the start of a transaction whose reads the locks' must commit after, or 0.
    ///
    /// # Errors
    /// As all requests.
    pub fn end_decided<'a>(&'a self, locks: &'a [LockInfo], reader: Timestamp) -> BoxFuture<'a, Result<Ended>> {
        Box::pin(async move {
            let Some(first) = locks.first() else { return Ok(Ended::RolledBack) };
            let now = self.timestamp().await?;
            let start = Timestamp(first.lock_version);
            // The primary key of a young transaction may be locked after these.
            let are_old = locks.iter().all(|lock| has_expired(lock, now));
            let fate = self.fate(&first.primary_lock, start, reader, (now, are_old)).await?;
            let fate = match fate {
                Status::Decided(fate) => fate,
                Status::Alive => return Ok(Ended::Alive),
                Status::Later => return Ok(Ended::Later),
            };
            for lock in locks {
                self.end_lock(&lock.key, start, fate.unwrap_or_default()).await?;
            }
            Ok(fate.map_or(Ended::RolledBack, Ended::Committed))
        })
    }

    /// Ends the lock of a transaction whose client is known to be dead, however long the lock would last. Returns
    /// whether it is gone.
    ///
    /// # Errors
    /// As all requests.
    pub fn end<'a>(&'a self, lock: &'a LockInfo) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let start = Timestamp(lock.lock_version);
            let fate = self.fate(&lock.primary_lock, start, Timestamp(0), (Timestamp::MAX, true)).await?;
            let Status::Decided(fate) = fate else { return Ok(false) };
            self.end_lock(&lock.key, start, fate.unwrap_or_default()).await?;
            Ok(true)
        })
    }

    /// Decides this client's own transaction, of which it does not know whether it has committed.
    ///
    /// # Errors
    /// As all requests.
    pub(super) async fn find_out(&self, primary: &Bytes, start: Timestamp) -> Result<Fate> {
        match self.fate(primary, start, Timestamp(0), (Timestamp::MAX, true)).await? {
            Status::Decided(fate) => Ok(fate),
            Status::Alive | Status::Later => Err(Error::Unknown("the transaction is not decided".into())),
        }
    }

    /// Asks a transaction's primary key for its fate at the time `now`. `ends`: whether it is rolled back if its
    /// primary key knows nothing of it.
    async fn fate(
        &self,
        primary: &Bytes,
        start: Timestamp,
        caller: Timestamp,
        (now, ends): (Timestamp, bool),
    ) -> Result<Status> {
        let mut sync = false;
        loop {
            let request = CheckTxnStatusRequest {
                primary_key: primary.clone(),
                lock_ts: start.0,
                caller_start_ts: caller.0,
                current_ts: now.0,
                rollback_if_not_exist: ends,
                force_sync_commit: sync,
                verify_is_primary: true,
                ..CheckTxnStatusRequest::default()
            };
            let reply = self.status(request).await?;
            if reply.error.is_some() {
                return Ok(Status::Alive);
            }
            if reply.lock_ttl == 0 {
                let commit = Timestamp(reply.commit_version);
                return Ok(Status::Decided((commit.0 != 0).then_some(commit)));
            }
            let is_later = reply.action() == Action::MinCommitTsPushed && caller.0 != 0;
            let lives = if is_later { Status::Later } else { Status::Alive };
            let Some(lock) = reply.lock_info.filter(|lock| lock.use_async_commit && !sync) else { return Ok(lives) };
            if !has_expired(&lock, now) {
                return Ok(lives);
            }
            // Its locks decide.
            let mut commit = Timestamp(lock.min_commit_ts);
            let mut undecided = false;
            for found in self.secondaries(lock.secondaries.clone(), start).await? {
                if found.error.is_some() {
                    return Ok(Status::Alive);
                }
                if found.commit_ts != 0 {
                    return Ok(Status::Decided(Some(Timestamp(found.commit_ts))));
                }
                if found.locks.is_empty() {
                    return Ok(Status::Decided(None));
                }
                // A lock of two phases among them: the request fell back, the primary key decides.
                undecided |= found.locks.iter().any(|lock| !lock.use_async_commit);
                commit = found.locks.iter().fold(commit, |most, lock| most.max(Timestamp(lock.min_commit_ts)));
            }
            if !undecided {
                return self.decide(primary, start, commit).await.map(Status::Decided);
            }
            sync = true;
        }
    }

    /// Commits the primary key of an async commit all of whose locks stand.
    async fn decide(&self, primary: &Bytes, start: Timestamp, commit: Timestamp) -> Result<Fate> {
        self.end_lock(primary, start, commit).await?;
        Ok(Some(commit))
    }
}

/// Returns whether a lock's time to live is over at `now`.
pub fn has_expired(lock: &LockInfo, now: Timestamp) -> bool {
    Timestamp(lock.lock_version).physical_ms().saturating_add(lock.lock_ttl) < now.physical_ms()
}
