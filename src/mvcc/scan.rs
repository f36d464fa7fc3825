//! Scans: what a transaction sees of a range of keys.

use bytes::Bytes;

use crate::codec::lock::{self, Lock};
use crate::codec::record::{self, Record, RecordKind};
use crate::codec::txn_key;
use crate::engine::{Cf, Cursor};
use crate::types::{Result, Timestamp};

use super::reader::Reader;

/// How many records of one key are stepped over before a seek.
const STEPS: usize = 8;

/// A range to scan, in encoded keys: `[start, end)`, an empty end is plus infinity.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The first key.
    pub start: Bytes,
    /// The end.
    pub end: Bytes,
    /// Whether to go downwards from the end.
    pub reverse: bool,
    /// The timestamp to read at.
    pub at: Timestamp,
    /// Whether values are wanted.
    pub with_values: bool,
    /// Whether locks count; with read committed they do not.
    pub with_locks: bool,
}

/// A key of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A value, and when it was committed.
    Value(Timestamp, Bytes),
    /// A lock that the visitor must judge: its answer says whether the scan looks behind it.
    Locked(Box<Lock>),
}

/// What the caller makes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on with the next key.
    More,
    /// The lock does not hide the key's value: give it too.
    LookBehind,
    /// End the scan.
    Stop,
}

/// Visits every key of a range that has a lock or a visible value, in order. A locked key is given with its lock first,
/// and with its value only if the visitor asks for it.
///
/// # Errors
/// [`crate::types::Error::Corruption`] or [`crate::types::Error::Io`], also of the visitor.
pub fn scan(reader: &Reader<'_>, scan: &Scan, visit: &mut dyn FnMut(&[u8], Scanned) -> Result<Next>) -> Result<()> {
    let mut writes = Keys::new(reader, Cf::TxnWrite, scan)?;
    let mut locks = if scan.with_locks { Some(Keys::new(reader, Cf::TxnLock, scan)?) } else { None };
    loop {
        let locked = match &mut locks {
            Some(locks) => locks.current(),
            None => None,
        };
        let key = match (locked, writes.current()) {
            (None, None) => return Ok(()),
            (Some(one), None) | (None, Some(one)) => one,
            (Some(lock), Some(write)) if scan.reverse => lock.max(write),
            (Some(lock), Some(write)) => lock.min(write),
        };
        let mut looks = true;
        if let Some(locks) = &mut locks
            && locks.current().as_ref() == Some(&key)
        {
            let lock = lock::decode(locks.value())?;
            match visit(&key, Scanned::Locked(Box::new(lock)))? {
                Next::More => looks = false,
                Next::LookBehind => {}
                Next::Stop => return Ok(()),
            }
            locks.next_key()?;
        }
        if writes.current().as_ref() == Some(&key) {
            let visible = if looks { writes.visible(scan.at)? } else { None };
            if let Some((commit, record)) = visible {
                let value = match scan.with_values {
                    true => reader.value_of(&key, record.start, record.short_value)?,
                    false => Bytes::new(),
                };
                if visit(&key, Scanned::Value(commit, value))? == Next::Stop {
                    return Ok(());
                }
            }
            writes.next_key()?;
        }
        if reader.needs_disk() {
            return Ok(());
        }
    }
}

fn key_of_version(key: &[u8]) -> Result<&[u8]> {
    Ok(txn_key::version_of(key)?.0)
}

fn key_of_lock(key: &[u8]) -> Result<&[u8]> {
    Ok(key)
}

/// A cursor that stands on one key after another, in the direction of the scan.
struct Keys<'a, 'r> {
    reader: &'r Reader<'a>,
    cursor: Box<dyn Cursor + 'a>,
    reverse: bool,
    /// The encoded key in a pair's key.
    key_of: fn(&[u8]) -> Result<&[u8]>,
    current: Option<Bytes>,
    /// Whether the cursor was moved away from where the key was found.
    sought: bool,
}

impl<'a, 'r> Keys<'a, 'r> {
    fn new(reader: &'r Reader<'a>, cf: Cf, scan: &Scan) -> Result<Keys<'a, 'r>> {
        let key_of = if cf == Cf::TxnWrite { key_of_version } else { key_of_lock };
        let cursor = reader.cursor(cf, &scan.start, &scan.end)?;
        let mut keys = Keys { reader, cursor, reverse: scan.reverse, key_of, current: None, sought: false };
        let found = if scan.reverse { keys.cursor.seek_last()? } else { keys.cursor.seek(&scan.start)? };
        keys.stand(found)?;
        Ok(keys)
    }

    /// Takes over the key under the cursor.
    fn stand(&mut self, found: bool) -> Result<()> {
        let found = self.reader.moved(&*self.cursor, found);
        self.sought = false;
        self.current = match self.cursor.pair().filter(|_| found) {
            Some((key, _)) => Some(Bytes::copy_from_slice((self.key_of)(key)?)),
            None => None,
        };
        Ok(())
    }

    fn current(&self) -> Option<Bytes> {
        self.current.clone()
    }

    fn value(&self) -> Bytes {
        self.cursor.pair().map_or_else(Bytes::new, |(_, value)| Bytes::copy_from_slice(value))
    }

    /// Moves to the next key, wherever among the current one's versions the cursor is.
    fn next_key(&mut self) -> Result<()> {
        let Some(key) = self.current.take() else { return Ok(()) };
        // Downwards the cursor may have passed the key's versions on the way to a visible one.
        let steps = if self.reverse && self.sought { 0 } else { STEPS };
        for _ in 0..steps {
            let is_at_key = match self.cursor.pair() {
                Some((at, _)) => (self.key_of)(at)? == key,
                None => return self.seek_next(&key),
            };
            if !is_at_key {
                return self.stand(true);
            }
            let found = if self.reverse { self.cursor.back()? } else { self.cursor.next()? };
            if !found {
                return self.stand(false);
            }
        }
        self.seek_next(&key)
    }

    fn seek_next(&mut self, key: &[u8]) -> Result<()> {
        let found = if self.reverse {
            self.cursor.seek_before(key)?
        } else {
            // Above the oldest version that a key can have.
            self.cursor.seek(&[&txn_key::versioned(key, Timestamp(0))[..], &[0]].concat())?
        };
        self.stand(found)
    }
}

impl Keys<'_, '_> {
    /// Returns the put that is visible at a timestamp in the current key's versions. Leaves the cursor among them or
    /// behind them.
    fn visible(&mut self, at: Timestamp) -> Result<Option<(Timestamp, Record)>> {
        let Some(key) = self.current() else { return Ok(None) };
        // Upwards the cursor stands on the newest version, downwards on the oldest.
        self.sought = true;
        let mut found = match self.reverse {
            true => self.cursor.seek(&txn_key::versioned(&key, at))?,
            false => self.newest_upwards(&key, at)?,
        };
        while self.reader.moved(&*self.cursor, found) {
            let (stored, value) = self.cursor.pair().expect("a move that found a pair");
            let (of, commit) = txn_key::version_of(stored)?;
            if of != key {
                break;
            }
            let record = record::decode(Bytes::copy_from_slice(value))?;
            match record.kind {
                RecordKind::Put => return Ok(Some((commit, record))),
                RecordKind::Delete => break,
                RecordKind::Lock | RecordKind::Rollback => found = self.cursor.next()?,
            }
        }
        Ok(None)
    }

    /// Moves from the newest version of a key to the newest at or below a timestamp.
    fn newest_upwards(&mut self, key: &[u8], at: Timestamp) -> Result<bool> {
        for _ in 0..STEPS {
            let Some((stored, _)) = self.cursor.pair() else { return Ok(false) };
            let (of, commit) = txn_key::version_of(stored)?;
            if of != key || commit <= at {
                return Ok(true);
            }
            if !self.cursor.next()? {
                return Ok(false);
            }
        }
        self.cursor.seek(&txn_key::versioned(key, at))
    }
}
