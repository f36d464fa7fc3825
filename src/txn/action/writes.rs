//! What an action wants to be written.

use bytes::Bytes;

use crate::codec::lock::{self, Lock, LockKind, SHORT_VALUE_BYTES};
use crate::codec::record::{self, Record, RecordKind};
use crate::codec::txn_key;
use crate::engine::Cf;
use crate::mvcc::Reader;
use crate::types::{Result, Timestamp};

use super::Key;

/// One change: the key of a column family gets a value, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The column family.
    pub cf: Cf,
    /// The key in it.
    pub key: Bytes,
    /// Its new value; `None` removes it.
    pub value: Option<Bytes>,
}

/// The changes of one request, which happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    changes: Vec<Write>,
    released: Vec<(Key, Timestamp)>,
    oldest: Option<Timestamp>,
}

/// What a request does and answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided<R> {
    /// What is written before the reply is true.
    pub writes: Writes,
    /// The reply.
    pub reply: R,
}

impl<R> Decided<R> {
    /// Returns a reply that needs no write.
    pub fn reply(reply: R) -> Decided<R> {
        Decided { writes: Writes::default(), reply }
    }
}

impl Writes {
    /// Returns whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the changes, in order.
    pub fn changes(&self) -> &[Write] {
        &self.changes
    }

    /// Notes that the transaction which began at `start` gets a lock or a record where it had none.
    pub fn begins(&mut self, start: Timestamp) {
        if crate::mutant!("gc.lock-below-the-floor") {
            return;
        }
        self.oldest = Some(self.oldest.map_or(start, |oldest| oldest.min(start)));
    }

    /// Returns the start timestamp of the oldest transaction that gets a lock or a record where it had none.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.oldest
    }

    /// Returns the changes, and the keys that are not locked any more with the start timestamp of who had locked them.
    pub fn into_parts(self) -> (Vec<Write>, Vec<(Key, Timestamp)>) {
        (self.changes, self.released)
    }

    fn push(&mut self, cf: Cf, key: Bytes, value: Option<Bytes>) {
        self.changes.push(Write { cf, key, value });
    }

    /// Sets a lock.
    pub fn lock(&mut self, key: &Key, lock: &Lock) {
        self.push(Cf::TxnLock, key.encoded.clone(), Some(lock::encode(lock)));
    }

    /// Returns the lock of the transaction that began at `start`, or else another one of the key, after these changes.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    pub fn lock_of(&self, reader: &Reader<'_>, key: &Key, start: Timestamp) -> Result<Option<Lock>> {
        // The changes of a key stand together: those of another transaction at the same key were made just now.
        let mut same_key = self.changes.iter().rev().take_while(|change| change.key.starts_with(&key.encoded));
        let changed = same_key.find(|change| change.cf == Cf::TxnLock && change.key == key.encoded);
        match changed {
            Some(change) => Ok(change.value.clone().map(lock::decode).transpose()?.map(|lock| lock.seen_by(start))),
            None => reader.lock_of(&key.encoded, start),
        }
    }

    /// Removes a lock. Others that share the key stay.
    pub fn unlock(&mut self, key: &Key, lock: &Lock) {
        if let Some(rest) = lock.rest().filter(|_| !crate::mutant!("txn.shared-lock-ends-all")) {
            crate::reach!("txn.shared-lock-leaves-others");
            return self.lock(key, &rest);
        }
        self.push(Cf::TxnLock, key.encoded.clone(), None);
        self.released.push((key.clone(), lock.start));
    }

    /// Sets a record at a commit timestamp.
    pub fn record(&mut self, key: &Key, commit: Timestamp, record: &Record) {
        self.push(Cf::TxnWrite, txn_key::versioned(&key.encoded, commit), Some(record::encode(record)));
    }

    /// Removes the record at a commit timestamp.
    pub fn forget_record(&mut self, key: &Key, commit: Timestamp) {
        self.push(Cf::TxnWrite, txn_key::versioned(&key.encoded, commit), None);
    }

    /// Sets the value that the transaction which began at `start` writes. Returns it if it is short enough for the lock
    /// or record.
    pub fn value(&mut self, key: &Key, start: Timestamp, value: &Bytes) -> Option<Bytes> {
        if value.len() <= SHORT_VALUE_BYTES {
            return Some(value.clone());
        }
        self.push(Cf::TxnDefault, txn_key::versioned(&key.encoded, start), Some(value.clone()));
        None
    }

    /// Removes the value of the transaction that began at `start`.
    pub fn forget_value(&mut self, key: &Key, start: Timestamp) {
        if !crate::mutant!("txn.flush-leaves-values") {
            self.push(Cf::TxnDefault, txn_key::versioned(&key.encoded, start), None);
        }
    }

    /// Ends a prewrite's lock, or a pessimistic one, with its record at `commit`.
    pub fn commit(&mut self, key: &Key, lock: &Lock, commit: Timestamp) {
        self.commit_at_once(key, lock, commit);
        self.unlock(key, lock);
    }

    /// Writes the record of a lock that never stood in the engine.
    pub fn commit_at_once(&mut self, key: &Key, lock: &Lock, commit: Timestamp) {
        let kind = match lock.kind {
            LockKind::Put => Some(RecordKind::Put),
            LockKind::Delete => Some(RecordKind::Delete),
            LockKind::Lock => Some(RecordKind::Lock),
            LockKind::Pessimistic if crate::mutant!("txn.commit-pessimistic-lock-as-record") => Some(RecordKind::Lock),
            LockKind::Pessimistic => None,
        };
        if let Some(kind) = kind {
            let covers = lock.rollbacks.contains(&commit) && !crate::mutant!("txn.commit-covers-rollback");
            let short_value = lock.short_value.clone();
            let record =
                Record { short_value, overlapped: covers, source: lock.source, ..Record::new(kind, lock.start) };
            self.record(key, commit, &record);
        }
    }

    /// Ends a lock of a transaction that is rolled back: its value goes too. The record is [`Writes::rollback`]'s.
    pub fn give_up(&mut self, key: &Key, lock: &Lock) {
        if lock.kind == LockKind::Put && lock.short_value.is_none() {
            self.push(Cf::TxnDefault, txn_key::versioned(&key.encoded, lock.start), None);
        }
        self.unlock(key, lock);
    }

    /// Writes the rollback of the transaction that began at `start`. `protected` says whether it must last: others may
    /// rely on it; `drops` whether an unprotected one below is dropped. `foreign` is the lock of another transaction
    /// that stays.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    pub fn rollback(
        &mut self,
        reader: &Reader<'_>,
        key: &Key,
        start: Timestamp,
        (drops, protected): (bool, bool),
        foreign: Option<Lock>,
    ) -> Result<()> {
        if crate::mutant!("txn.rollback-no-trace") {
            return Ok(());
        }
        match reader.newest(&key.encoded, start)? {
            // The place of the record has the commit record of another transaction.
            Some((commit, record)) if commit == start && record.start != start => {
                if protected && !record.overlapped {
                    crate::reach!("txn.rollback-at-a-commit");
                    self.record(key, commit, &Record { overlapped: true, ..record });
                }
                return Ok(());
            }
            Some((commit, record)) if commit < start && drops => {
                let drops = record.may_collapse() || crate::mutant!("txn.rollback-collapses-protected");
                if drops && record.kind == RecordKind::Rollback {
                    self.forget_record(key, commit);
                }
            }
            _ => {}
        }
        self.record(key, start, &Record::rollback(start, protected));
        // An async commit may take place exactly here: its record must keep this rollback.
        if let Some(mut lock) = foreign.filter(|lock| protected && lock.is_async() && lock.min_commit <= start)
            && !lock.rollbacks.contains(&start)
        {
            crate::reach!("txn.rollback-under-an-async-lock");
            lock.rollbacks.push(start);
            self.lock(key, &lock);
        }
        Ok(())
    }
}
