//! Scans: what a transaction sees of a range of keys.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::codec::lock::{self, Lock};
use crate::codec::record::{self, RecordKind};
use crate::codec::txn_key;
use crate::engine::{Cf, Cursor};
use crate::types::{Result, Timestamp};

use super::reader::Reader;

/// How many records of one key are stepped over before a seek.
const STEPS: usize = 8;
/// The length from which values are not stepped over.
const LARGE_BYTES: usize = 4 << 10;

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
pub enum Scanned<'a> {
    /// A value, and when it was committed.
    Value(Timestamp, &'a [u8]),
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
pub fn scan(reader: &Reader<'_>, scan: &Scan, visit: &mut dyn FnMut(&[u8], Scanned<'_>) -> Result<Next>) -> Result<()> {
    let mut writes = Keys::new(reader, Cf::TxnWrite, scan)?;
    let mut locks = if scan.with_locks { Some(Keys::new(reader, Cf::TxnLock, scan)?) } else { None };
    let mut values = Values::new(reader, scan);
    loop {
        // Which of the two comes first in the direction of the scan.
        let order = match (locks.as_ref().and_then(Keys::current), writes.current()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(lock), Some(write)) if scan.reverse => write.cmp(lock),
            (Some(lock), Some(write)) => lock.cmp(write),
        };
        let mut looks = true;
        if let Some(locks) = locks.as_mut().filter(|_| order.is_le()) {
            let lock = lock::decode(Bytes::copy_from_slice(locks.stored()))?;
            // Shared locks announce no change.
            let next =
                if lock.is_shared() { Next::LookBehind } else { visit(&locks.key, Scanned::Locked(Box::new(lock)))? };
            match next {
                Next::More => looks = false,
                Next::LookBehind => {}
                Next::Stop => return Ok(()),
            }
            locks.next_key()?;
        }
        if order.is_ge() {
            let visible = if looks { writes.visible(scan.at)? } else { None };
            if let Some((commit, start)) = visible {
                let value = match record::decode_ref(writes.stored())?.short_value {
                    _ if !scan.with_values => &[],
                    Some(value) => value,
                    None => values.get(&writes.key, start)?,
                };
                if visit(&writes.key, Scanned::Value(commit, value))? == Next::Stop {
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
    /// The current encoded key, while there is one.
    key: Vec<u8>,
    has_key: bool,
    /// Whether the cursor was moved away from where the key was found.
    sought: bool,
}

impl<'a, 'r> Keys<'a, 'r> {
    fn new(reader: &'r Reader<'a>, cf: Cf, scan: &Scan) -> Result<Keys<'a, 'r>> {
        let key_of = if cf == Cf::TxnWrite { key_of_version } else { key_of_lock };
        let cursor = reader.cursor(cf, &scan.start, &scan.end)?;
        let (key, has_key) = (Vec::new(), false);
        let mut keys = Keys { reader, cursor, reverse: scan.reverse, key_of, key, has_key, sought: false };
        let found = if scan.reverse { keys.cursor.seek_last()? } else { keys.cursor.seek(&scan.start)? };
        keys.stand(found)?;
        Ok(keys)
    }

    /// Takes over the key under the cursor.
    fn stand(&mut self, found: bool) -> Result<()> {
        let found = self.reader.moved(&*self.cursor, found);
        self.sought = false;
        let pair = self.cursor.pair().filter(|_| found);
        self.has_key = pair.is_some();
        if let Some((key, _)) = pair {
            self.key.clear();
            self.key.extend_from_slice((self.key_of)(key)?);
        }
        Ok(())
    }

    fn current(&self) -> Option<&[u8]> {
        self.has_key.then_some(&self.key)
    }

    /// Returns the value under the cursor.
    fn stored(&self) -> &[u8] {
        self.cursor.pair().map_or(&[], |(_, value)| value)
    }

    /// Moves to the next key, wherever among the current one's versions the cursor is.
    fn next_key(&mut self) -> Result<()> {
        if !self.has_key {
            return Ok(());
        }
        // Downwards the cursor may have passed the key's versions on the way to a visible one.
        let steps = if self.reverse && self.sought { 0 } else { STEPS };
        for _ in 0..steps {
            let is_at_key = match self.cursor.pair() {
                Some((at, _)) => (self.key_of)(at)? == self.key,
                None => return self.seek_next(),
            };
            if !is_at_key {
                return self.stand(true);
            }
            let found = if self.reverse { self.cursor.back()? } else { self.cursor.next()? };
            if !found {
                return self.stand(false);
            }
        }
        self.seek_next()
    }

    fn seek_next(&mut self) -> Result<()> {
        let found = if self.reverse {
            self.cursor.seek_before(&self.key)?
        } else {
            // Above the oldest version that a key can have.
            self.cursor.seek(&[&txn_key::versioned(&self.key, Timestamp(0))[..], &[0]].concat())?
        };
        self.stand(found)
    }
}

impl Keys<'_, '_> {
    /// Moves to the put that is visible at a timestamp in the current key's versions. Returns when it was committed and
    /// when its transaction began, or `None` if there is none: then the cursor is among the versions or behind them.
    fn visible(&mut self, at: Timestamp) -> Result<Option<(Timestamp, Timestamp)>> {
        if !self.has_key {
            return Ok(None);
        }
        // Upwards the cursor stands on the newest version, downwards on the oldest.
        self.sought = true;
        let mut found = match self.reverse {
            true => self.cursor.seek(&txn_key::versioned(&self.key, at))?,
            false => self.newest_upwards(at)?,
        };
        while self.reader.moved(&*self.cursor, found) {
            let (stored, value) = self.cursor.pair().expect("a move that found a pair");
            let (of, commit) = txn_key::version_of(stored)?;
            if of != self.key {
                break;
            }
            let record = record::decode_ref(value)?;
            match record.kind {
                RecordKind::Put => return Ok(Some((commit, record.start))),
                RecordKind::Delete => break,
                RecordKind::Lock | RecordKind::Rollback => found = self.cursor.next()?,
            }
        }
        Ok(None)
    }

    /// Moves from the newest version of a key to the newest at or below a timestamp.
    fn newest_upwards(&mut self, at: Timestamp) -> Result<bool> {
        for _ in 0..STEPS {
            let Some((stored, _)) = self.cursor.pair() else { return Ok(false) };
            let (of, commit) = txn_key::version_of(stored)?;
            if of != self.key || commit <= at {
                return Ok(true);
            }
            if !self.cursor.next()? {
                return Ok(false);
            }
        }
        self.cursor.seek(&txn_key::versioned(&self.key, at))
    }
}

/// The values that are stored apart from their records. A scan asks for them in its direction, so the next one is
/// mostly near the last.
struct Values<'a, 'r> {
    reader: &'r Reader<'a>,
    scan: &'r Scan,
    /// Whether one was looked up.
    is_begun: bool,
    /// From the second value on: a scan that needs only one does without.
    cursor: Option<Box<dyn Cursor + 'a>>,
    /// The key that is looked for.
    wanted: Vec<u8>,
    /// A value that was found without the cursor.
    found: Bytes,
    /// How many pairs are stepped over before a seek: few after a seek was needed, none after a large value, because a
    /// step may read an older one of that size from its file.
    steps: usize,
}

impl<'a, 'r> Values<'a, 'r> {
    fn new(reader: &'r Reader<'a>, scan: &'r Scan) -> Values<'a, 'r> {
        let found = Bytes::new();
        Values { reader, scan, is_begun: false, cursor: None, wanted: Vec::new(), found, steps: STEPS }
    }

    /// Returns the value that the transaction which began at `start` wrote to a key.
    fn get(&mut self, key: &[u8], start: Timestamp) -> Result<&[u8]> {
        if std::mem::replace(&mut self.is_begun, true) {
            self.wanted.clear();
            self.wanted.extend_from_slice(key);
            self.wanted.extend_from_slice(&(!start.0).to_be_bytes());
            let found = self.near()?;
            let cursor = self.cursor.as_deref().filter(|cursor| self.reader.moved(*cursor, found));
            if let Some((_, value)) = cursor.and_then(Cursor::pair).filter(|(stored, _)| *stored == self.wanted) {
                if value.len() >= LARGE_BYTES {
                    self.steps = 0;
                }
                return Ok(value);
            }
        }
        self.found = if self.reader.needs_disk() { Bytes::new() } else { self.reader.value_of(key, start, None)? };
        Ok(&self.found)
    }

    /// Moves the cursor to the wanted key, or to the next one.
    fn near(&mut self) -> Result<bool> {
        let Some(cursor) = &mut self.cursor else {
            let cursor = self.reader.cursor(Cf::TxnDefault, &self.scan.start, &self.scan.end)?;
            return self.cursor.insert(cursor).seek(&self.wanted);
        };
        for _ in 0..self.steps {
            let Some((at, _)) = cursor.pair() else { break };
            let is_before = if self.scan.reverse { *at > self.wanted[..] } else { *at < self.wanted[..] };
            if !is_before {
                self.steps = STEPS;
                return Ok(true);
            }
            let is_moved = if self.scan.reverse { cursor.back()? } else { cursor.next()? };
            if !is_moved {
                break;
            }
        }
        if cursor.pair().is_some_and(|(at, _)| at == self.wanted) {
            self.steps = STEPS;
            return Ok(true);
        }
        self.steps = 1;
        cursor.seek(&self.wanted)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a scan finds what single reads find, in both directions, whatever other versions and values are beside the
    //! wanted ones. Method: random histories of a few keys in the simulated engine, short values, long and large ones.
    use proptest::prelude::*;

    use super::*;
    use crate::codec::record::Record;
    use crate::engine::{KvEngine, SimEngine, SimStorage, WriteBatch};

    /// A version: its key, what was done, and the length of its value.
    fn version() -> impl Strategy<Value = (u8, RecordKind, usize)> {
        let kinds = [RecordKind::Put, RecordKind::Put, RecordKind::Delete, RecordKind::Lock, RecordKind::Rollback];
        (0u8..6, proptest::sample::select(kinds.to_vec()), proptest::sample::select(vec![3usize, 300, LARGE_BYTES]))
    }

    fn key(n: u8) -> Bytes {
        txn_key::encode(&[b'k', n])
    }

    /// Returns an engine with the versions, the n-th of a transaction that began at 2n + 1 and committed at 2n + 2.
    fn engine(versions: &[(u8, RecordKind, usize)]) -> SimEngine {
        let engine = SimEngine::open(&SimStorage::new()).expect("an engine");
        let mut batch = WriteBatch::default();
        for (n, (at, kind, len)) in versions.iter().enumerate() {
            let (start, commit) = (Timestamp(2 * n as u64 + 1), Timestamp(2 * n as u64 + 2));
            let mut record = Record::new(*kind, start);
            let commit = if *kind == RecordKind::Rollback { start } else { commit };
            if *kind == RecordKind::Put {
                let value = Bytes::from(vec![n as u8; *len]);
                if *len < 256 {
                    record.short_value = Some(value);
                } else {
                    batch.put(Cf::TxnDefault, txn_key::versioned(&key(*at), start), value);
                }
            }
            batch.put(Cf::TxnWrite, txn_key::versioned(&key(*at), commit), record::encode(&record));
        }
        engine.write(&batch).expect("the engine works");
        engine
    }

    proptest! {
        #[test]
        fn finds_what_single_reads_find(
            versions in proptest::collection::vec(version(), 0..60),
            (low, high) in (0u8..7, 0u8..7),
            at in 0u64..130,
            reverse in any::<bool>(),
        ) {
            let engine = engine(&versions);
            let reader = Reader::new(&engine);
            let (start, end, at) = (key(low), key(high), Timestamp(at));
            let asked = Scan { start, end, reverse, at, with_values: true, with_locks: true };
            let mut found = Vec::new();
            scan(&reader, &asked, &mut |key, what| {
                let Scanned::Value(commit, value) = what else { panic!("nothing is locked") };
                found.push((Bytes::copy_from_slice(key), commit, Bytes::copy_from_slice(value)));
                Ok(Next::More)
            })
            .expect("the engine works");
            let single = |n| {
                let value = reader.value(&key(n), at).expect("the engine works");
                value.map(|(commit, value)| (key(n), commit, value))
            };
            let mut wanted: Vec<_> = (low..high).filter_map(single).collect();
            if reverse {
                wanted.reverse();
            }
            prop_assert_eq!(found, wanted);
        }
    }
}
