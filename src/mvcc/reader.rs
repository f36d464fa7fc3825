//! Point reads: the lock of a key, its records, its values.

use std::cell::Cell;

use bytes::Bytes;

use crate::codec::lock::{self, Lock};
use crate::codec::record::{self, Record, RecordKind};
use crate::codec::txn_key;
use crate::engine::{Cached, Cf, Cursor, CursorOptions, Read};
use crate::types::{Error, Result, Timestamp};

/// Reads transactional keys from one snapshot. Keys are given in their encoded form.
///
/// A reader in memory ([`Reader::in_memory`]) does not wait for the disk: where it would have to, it finds nothing and
/// says so ([`Reader::needs_disk`]); the caller must then discard everything it read.
pub struct Reader<'a> {
    read: &'a dyn Read,
    options: CursorOptions,
    /// Nothing is read, and no transaction begins, below this.
    floor: Timestamp,
    /// Records of transactions that began below this may be gone.
    collected: Timestamp,
    needs_disk: Cell<bool>,
}

/// What a transaction did to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It committed at this timestamp.
    Committed(Timestamp, Record),
    /// It was rolled back.
    RolledBack,
    /// There is no record of it. If another transaction committed at its start timestamp, that one's record, which has
    /// the place where a rollback would stand.
    Unknown(Option<Record>),
    /// There is no record of it, but there may have been one: history that far back was removed.
    Forgotten,
}

impl<'a> Reader<'a> {
    /// Creates a reader that may wait for the disk.
    pub fn new(read: &'a dyn Read) -> Reader<'a> {
        Reader {
            read,
            options: CursorOptions::default(),
            floor: Timestamp(0),
            collected: Timestamp(0),
            needs_disk: Cell::new(false),
        }
    }

    /// Creates a reader that does not wait for the disk.
    pub fn in_memory(read: &'a dyn Read) -> Reader<'a> {
        Reader { options: CursorOptions::in_memory(), ..Reader::new(read) }
    }

    /// Returns the reader of a region whose history begins at `floor`, and of which records of transactions that began
    /// below `collected` may be gone.
    #[must_use]
    pub fn under(self, floor: Timestamp, collected: Timestamp) -> Reader<'a> {
        Reader { floor, collected, ..self }
    }

    /// Returns the timestamp below which nothing is read and no transaction begins.
    pub fn floor(&self) -> Timestamp {
        self.floor
    }

    /// Returns whether records of the transaction that began at `start` may have been removed.
    fn is_forgotten(&self, start: Timestamp) -> bool {
        start < self.collected && !crate::mutant!("gc.collected-unchecked")
    }

    /// Returns whether something was not in memory, so that nothing of what was read counts.
    pub fn needs_disk(&self) -> bool {
        self.needs_disk.get()
    }

    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>> {
        if self.options.may_wait {
            return self.read.get(cf, key);
        }
        match self.read.get_cached(cf, key)? {
            Cached::Known(value) => Ok(value),
            Cached::OnDisk => {
                self.needs_disk.set(true);
                Ok(None)
            }
        }
    }

    /// Returns a cursor over a range of a column family.
    pub(super) fn cursor(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<Box<dyn Cursor + 'a>> {
        self.read.cursor(cf, start, end, self.options)
    }

    /// Passes on the result of a cursor's move.
    pub(super) fn moved(&self, cursor: &dyn Cursor, found: bool) -> bool {
        if !found && cursor.needs_disk() {
            self.needs_disk.set(true);
        }
        found
    }

    /// Returns the lock of a key that announces a change: one that is not shared.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`], as for all reads.
    pub fn lock(&self, key: &[u8]) -> Result<Option<Lock>> {
        Ok(self.any_lock(key)?.filter(|lock| !lock.is_shared()))
    }

    /// Returns the lock of the transaction that began at `start`, or else another one of the key.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    pub fn lock_of(&self, key: &[u8], start: Timestamp) -> Result<Option<Lock>> {
        Ok(self.any_lock(key)?.map(|lock| lock.seen_by(start)))
    }

    /// Returns the lock of a key, or the oldest one if they are shared.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    pub fn any_lock(&self, key: &[u8]) -> Result<Option<Lock>> {
        self.get(Cf::TxnLock, key)?.map(lock::decode).transpose()
    }

    /// Returns whether some key of a range is locked.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    pub fn has_lock(&self, start: &[u8], end: &[u8]) -> Result<bool> {
        let mut cursor = self.cursor(Cf::TxnLock, start, end)?;
        let found = cursor.seek(start)?;
        Ok(self.moved(&*cursor, found))
    }

    /// Returns the records of a key, the newest first, beginning at or below a timestamp.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    pub fn versions(&self, key: &[u8], from: Timestamp) -> Result<Versions<'a, '_>> {
        let start = txn_key::versioned(key, from);
        // All zeros is the oldest version's own key; nothing is between it and this end.
        let end = [&txn_key::versioned(key, Timestamp(0))[..], &[0]].concat();
        let cursor = self.cursor(Cf::TxnWrite, &start, &end)?;
        Ok(Versions { reader: self, cursor, next: Some(start) })
    }

    /// Returns the newest record at or below a timestamp, with its commit timestamp.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    pub fn newest(&self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Record)>> {
        self.versions(key, at)?.next()
    }

    /// Returns the newest change of a key at or below a timestamp: a put or a delete.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    pub fn newest_change(&self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Record)>> {
        let mut versions = self.versions(key, at)?;
        while let Some((commit, record)) = versions.next()? {
            if record.is_change() {
                return Ok(Some((commit, record)));
            }
        }
        Ok(None)
    }

    /// Returns the value of a key at a timestamp and when it was committed; locks are not looked at.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    pub fn value(&self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Bytes)>> {
        match self.newest_change(key, at)? {
            Some((commit, record)) if record.kind == RecordKind::Put => {
                Ok(Some((commit, self.value_of(key, record.start, record.short_value)?)))
            }
            _ => Ok(None),
        }
    }

    /// Returns the value that a transaction wrote: the short one of its lock or record, or the one that is apart.
    ///
    /// # Errors
    /// As [`Reader::lock`]; [`Error::Corruption`] if there is none.
    pub fn value_of(&self, key: &[u8], start: Timestamp, short: Option<Bytes>) -> Result<Bytes> {
        if let Some(value) = short {
            return Ok(value);
        }
        match self.get(Cf::TxnDefault, &txn_key::versioned(key, start))? {
            Some(value) => Ok(value),
            None if self.needs_disk() => Ok(Bytes::new()),
            None => Err(Error::Corruption(format!("the transaction that began at {start} has lost its value"))),
        }
    }

    /// Returns what the transaction that began at `start` did to a key.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    pub fn fate(&self, key: &[u8], start: Timestamp) -> Result<Fate> {
        let mut versions = self.versions(key, Timestamp::MAX)?;
        while let Some((commit, record)) = versions.next()?.filter(|(commit, _)| *commit >= start) {
            if record.start == start {
                return Ok(match record.kind {
                    RecordKind::Rollback => Fate::RolledBack,
                    _ => Fate::Committed(commit, record),
                });
            }
            if commit == start {
                return Ok(if record.overlapped { Fate::RolledBack } else { self.unknown(start, Some(record)) });
            }
        }
        Ok(self.unknown(start, None))
    }

    fn unknown(&self, start: Timestamp, record: Option<Record>) -> Fate {
        if self.is_forgotten(start) {
            crate::reach!("mvcc.fate-forgotten");
            return Fate::Forgotten;
        }
        Fate::Unknown(record)
    }
}

/// The records of one key, the newest first.
pub struct Versions<'a, 'r> {
    reader: &'r Reader<'a>,
    cursor: Box<dyn Cursor + 'a>,
    /// Where to begin, before the first move.
    next: Option<Bytes>,
}

impl Versions<'_, '_> {
    /// Returns the next record and its commit timestamp.
    ///
    /// # Errors
    /// As [`Reader::lock`].
    #[allow(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<(Timestamp, Record)>> {
        let found = match self.next.take() {
            Some(start) => self.cursor.seek(&start)?,
            None => self.cursor.next()?,
        };
        if !self.reader.moved(&*self.cursor, found) {
            return Ok(None);
        }
        let (key, value) = self.cursor.pair().expect("a move that found a pair");
        let (_, commit) = txn_key::version_of(key)?;
        Ok(Some((commit, record::decode(value)?)))
    }
}
