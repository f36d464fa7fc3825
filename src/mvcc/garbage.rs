//! Old versions: which records and values of a key nothing can read any more.
//!
//! A snapshot and a safe point come **in**; keys of records and values to be removed go **out**. Nothing reads below
//! the safe point, and no transaction that began below it will write another lock. **Never**: the newest change of a
//! key at or below the safe point, unless that is a deletion below which nothing is left; a record without its value;
//! the trace of a rollback at the safe point itself, whose transaction may still come.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::codec::record::{self, Record, RecordKind};
use crate::codec::txn_key;
use crate::engine::{Cf, Read, Visit};
use crate::types::limits::{
    COLLECT_KEY_BYTES_FULL, COLLECT_KEYS_MAX, COLLECT_LOOK_BYTES_FULL, COLLECT_LOOKS_MAX, COLLECT_VERSIONS_MAX,
};
use crate::types::{Result, Timestamp};

use super::reader::Reader;

/// What may be removed of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Records, the newest first.
    pub records: Vec<(Timestamp, Record)>,
    /// Whether there is more, above these records.
    pub is_cut: bool,
}

/// How one record stands to the safe point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It may be read, or says what became of a transaction that may still ask.
    Kept,
    /// Nothing needs it.
    Garbage,
    /// It is a deletion that only hides older versions.
    Hides,
}

/// Judges the records of a key one by one, the newest first.
#[derive(Debug)]
struct Judge {
    safe: Timestamp,
    /// Whether the change that is visible at the safe point was seen.
    has_change: bool,
}

impl Judge {
    fn new(safe: Timestamp) -> Judge {
        Judge { safe, has_change: false }
    }

    fn next(&mut self, commit: Timestamp, record: &Record) -> Part {
        if commit > self.safe {
            return Part::Kept;
        }
        let newest = record.is_change() && !self.has_change;
        self.has_change |= record.is_change();
        // The transaction that began at the safe point is not below it, and was rolled back.
        let is_trace = record.overlapped || record.kind == RecordKind::Rollback;
        if commit == self.safe && is_trace && !crate::mutant!("gc.rollback-at-the-safe-point") {
            crate::reach!("mvcc.rollback-at-the-safe-point");
            return Part::Kept;
        }
        match (newest, record.kind) {
            (true, RecordKind::Put) if !crate::mutant!("gc.removes-what-is-read") => Part::Kept,
            (true, RecordKind::Delete) => Part::Hides,
            _ => Part::Garbage,
        }
    }
}

/// Returns what may be removed of a key: at most `limit` records, the oldest ones. What hides older versions comes
/// last.
///
/// # Errors
/// As all reads.
pub fn of_key(reader: &Reader<'_>, key: &[u8], safe: Timestamp, limit: usize) -> Result<Removal> {
    let mut judge = Judge::new(safe);
    let (mut records, mut hides, mut is_cut) = (VecDeque::new(), None, false);
    let mut versions = reader.versions(key, safe)?;
    let mut keeps_below = false;
    while let Some((commit, record)) = versions.next()? {
        match judge.next(commit, &record) {
            // Above the deletion it does not matter: such a record is a trace, not a version.
            Part::Kept => keeps_below |= hides.is_some() && record.is_change(),
            Part::Hides => hides = Some((commit, record)),
            Part::Garbage => {
                records.push_back((commit, record));
                if records.len() > limit {
                    records.pop_front();
                    is_cut = true;
                }
            }
        }
    }
    let first = crate::mutant!("gc.deletion-first");
    if first && hides.is_some() && records.len() >= limit {
        records.pop_front();
        is_cut = true;
    }
    if let Some((commit, record)) = hides.filter(|_| first || (!is_cut && !keeps_below)) {
        if records.len() < limit {
            let above = records.iter().take_while(|(other, _)| *other > commit).count();
            records.insert(above, (commit, record));
        } else {
            is_cut = true;
        }
    }
    Ok(Removal { records: records.into(), is_cut })
}

/// The result of a look at a part of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys of which something may be removed, or may be: that is decided again when it is done.
    pub keys: Vec<Bytes>,
    /// Whether there is a key with more than a single value: some of it may be removed once the safe point has moved.
    pub has_old: bool,
    /// Where the next look begins; `None` if the end was reached.
    pub next: Option<Bytes>,
}

/// Looks for keys with old versions in `[start, end)` (encoded keys), until the end or until a limit is reached.
///
/// # Errors
/// As all reads.
pub fn page(read: &dyn Read, start: &[u8], end: &[u8], safe: Timestamp) -> Result<Page> {
    let (mut page, mut looks, mut bytes, mut key_bytes, mut failed) = (Page::default(), 0, 0, 0, None);
    let mut current: Option<(Bytes, Judge)> = None;
    read.scan(Cf::TxnWrite, start, end, &mut |stored, value| {
        let decoded = txn_key::version_of(stored).and_then(|(key, commit)| Ok((key, commit, record::decode(value)?)));
        let (key, commit, record) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                failed = Some(error);
                return Visit::Stop;
            }
        };
        let full = looks >= COLLECT_LOOKS_MAX
            || bytes >= COLLECT_LOOK_BYTES_FULL
            || (looks > 0 && crate::buggify!("mvcc.short-look"));
        let same = current.as_ref().is_some_and(|(known, _)| known == key);
        if full && same {
            // The rest of this key's versions is looked at when it is collected.
            if page.keys.last().is_none_or(|last| last != key) {
                page.keys.push(Bytes::copy_from_slice(key));
            }
            page.next = Some([&txn_key::versioned(key, Timestamp(0))[..], &[0]].concat().into());
            return Visit::Stop;
        }
        if !same {
            if full || page.keys.len() >= COLLECT_KEYS_MAX || key_bytes >= COLLECT_KEY_BYTES_FULL {
                page.next = Some(Bytes::copy_from_slice(key));
                return Visit::Stop;
            }
            current = Some((Bytes::copy_from_slice(key), Judge::new(safe)));
        }
        let (_, judge) = current.as_mut().expect("it was set above");
        page.has_old |= same || record.kind != RecordKind::Put;
        if judge.next(commit, &record) != Part::Kept && page.keys.last().is_none_or(|last| last != key) {
            key_bytes += key.len();
            page.keys.push(Bytes::copy_from_slice(key));
        }
        looks += 1;
        bytes += stored.len() + value.len();
        Visit::More
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(page),
    }
}

/// What is to be removed of some keys in one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Column families and keys.
    pub removed: Vec<(Cf, Bytes)>,
    /// The records among them, with their keys, for those who check.
    pub records: Vec<(Bytes, Timestamp, Record)>,
    /// Whether there is more.
    pub is_cut: bool,
}

/// Returns what is to be removed of keys, within the limits of a command.
///
/// # Errors
/// As all reads.
pub fn batch(reader: &Reader<'_>, keys: &[Bytes], safe: Timestamp) -> Result<Batch> {
    let (mut batch, mut bytes) = (Batch::default(), 0);
    for key in keys {
        // A record and its value are removed by their keys.
        let each = 2 * (key.len() + txn_key::TIMESTAMP_BYTES);
        let fits = COLLECT_KEY_BYTES_FULL.saturating_sub(bytes).div_ceil(each);
        let most = if crate::buggify!("mvcc.small-batch") { 2 } else { COLLECT_VERSIONS_MAX };
        let room = fits.min(most.saturating_sub(batch.records.len()));
        if room == 0 {
            batch.is_cut = true;
            break;
        }
        let removal = of_key(reader, key, safe, room)?;
        batch.is_cut |= removal.is_cut;
        bytes += each * removal.records.len();
        for (commit, record) in removal.records {
            batch.removed.push((Cf::TxnWrite, txn_key::versioned(key, commit)));
            let has_value = record.kind == RecordKind::Put && record.short_value.is_none();
            if has_value && !crate::mutant!("gc.leaves-values") {
                batch.removed.push((Cf::TxnDefault, txn_key::versioned(key, record.start)));
            }
            batch.records.push((key.clone(), commit, record));
        }
    }
    Ok(batch)
}
