//! How large ranges are, with the values that are in blob files.
//!
//! RocksDB estimates the bytes of a range in tables and memtables. For blob files it only offers to share their bytes
//! among ranges in proportion to the tables' bytes. Where some ranges have small values and others large ones, that
//! gives the bytes of the large values to the ranges with the small ones. So a range is looked at instead: its keys are
//! counted without reading their values, which costs microseconds for each, and some values are read for their length.
//! A range of many keys is looked at in pieces of equal bytes in the tables, in each of them from its start. The result
//! is kept until the range or the blob files have changed by a sixteenth.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use librocksdb_sys as ffi;
use rocksdb::{AsColumnFamilyRef as _, AsRawPtr as _};

use super::error::said;
use super::reads::{ReadOptions, look_up};
use super::{Inner, LIVE_BLOB_BYTES, LIVE_BLOB_GARBAGE_BYTES};
use crate::engine::{Cf, Cursor, CursorOptions, key_at};
use crate::types::Result;
use crate::types::limits::{
    PROFILE_KEYS_MAX, PROFILE_PIECE_KEYS_MAX, PROFILE_PIECES_MAX, PROFILE_READ_BYTES_FULL, PROFILE_SAMPLES_MAX,
    PROFILE_USES_MAX, PROFILES_MAX,
};

/// The values of a range that are in blob files.
#[derive(Clone, Debug, Default)]
struct Profile {
    end: Bytes,
    /// Bytes of the range in tables, and of the column family in blob files, when it was made.
    made_at: (u64, u64),
    uses: u32,
    /// Ascending keys, each with the bytes of the values before it.
    marks: Vec<(Bytes, u64)>,
    bytes: u64,
}

impl Profile {
    /// Returns whether the range includes `end` as its own end or before it.
    fn covers(&self, end: &[u8]) -> bool {
        self.end.is_empty() || (!end.is_empty() && end <= &self.end[..])
    }

    /// Returns the bytes of the values before `end`.
    fn before(&self, end: &[u8]) -> u64 {
        if end == &self.end[..] {
            return self.bytes;
        }
        let at = self.marks.partition_point(|(key, _)| &key[..] < end);
        self.marks.get(at).map_or(self.bytes, |(_, bytes)| *bytes)
    }

    /// Returns whether neither of two sizes has changed much.
    fn is_fresh(&self, now: (u64, u64)) -> bool {
        let near = |then: u64, now: u64| then.abs_diff(now) <= then / 16;
        near(self.made_at.0, now.0) && near(self.made_at.1, now.1)
    }
}

/// Profiles that were made, by column family and start.
#[derive(Debug, Default)]
pub(super) struct Profiles(Mutex<BTreeMap<(Cf, Bytes), Profile>>);

/// What a look at some keys found.
struct Look {
    /// How many values are in blob files.
    separated: u64,
    /// Some of their keys at equal distances, each with the number of those before it.
    samples: Vec<(Bytes, u64)>,
    /// The first key that was not looked at; `None` if the end was reached.
    stopped_at: Option<Bytes>,
}

/// Counts the values in blob files from `start` to `end`, among at most `keys_max` keys.
fn look(cursor: &mut dyn Cursor, start: &[u8], end: &[u8], keys_max: usize, samples_max: usize) -> Result<Look> {
    let mut look = Look { separated: 0, samples: Vec::new(), stopped_at: None };
    let (mut keys, mut distance) = (0, 1);
    let mut found = cursor.seek(start)?;
    while let Some((key, value)) = cursor.pair().filter(|(key, _)| found && (end.is_empty() || *key < end)) {
        if keys == keys_max {
            look.stopped_at = Some(Bytes::copy_from_slice(key));
            break;
        }
        keys += 1;
        if value.is_empty() {
            if look.samples.len() == samples_max {
                distance *= 2;
                look.samples.retain(|(_, before)| before.is_multiple_of(distance));
            }
            if look.separated.is_multiple_of(distance) {
                look.samples.push((Bytes::copy_from_slice(key), look.separated));
            }
            look.separated += 1;
        }
        found = cursor.next()?;
    }
    Ok(look)
}

impl Inner {
    /// Estimates the bytes of a range, in files and in memory.
    pub(super) fn bytes(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        let flags = ffi::rocksdb_size_approximation_flags_include_memtable
            | ffi::rocksdb_size_approximation_flags_include_files;
        let tables = self.table_bytes(cf, start, end, flags)?;
        if !cf.separates() || is_empty(start, end) {
            return Ok(tables);
        }
        let blobs = self.property(cf, LIVE_BLOB_BYTES)?;
        if blobs == 0 {
            return Ok(tables);
        }
        if start.is_empty() && end.is_empty() {
            // Of everything the size is known, with the garbage.
            return Ok(tables + blobs);
        }
        let garbage = self.property(cf, LIVE_BLOB_GARBAGE_BYTES)?;
        Ok(tables + self.separated_bytes(cf, start, end, blobs.saturating_sub(garbage))?)
    }

    /// Estimates the bytes of a range without those in blob files, in what the flags say.
    pub(super) fn table_bytes(&self, cf: Cf, start: &[u8], end: &[u8], flags: u32) -> Result<u64> {
        // Keys that start with 64 bytes of 0xff may be missed by an estimate.
        let end = if end.is_empty() { &[0xff; 64] } else { end };
        if start >= end {
            return Ok(0);
        }
        let mut bytes = 0;
        let mut error = ptr::null_mut();
        // SAFETY: the database and the handle live as long as `self`; the call reads one range, writes one size, and
        // sets `error` to null or to a string that `said` frees.
        unsafe {
            ffi::rocksdb_approximate_sizes_cf_with_flags(
                self.db.as_raw_ptr(),
                self.cf(cf).inner(),
                1,
                &start.as_ptr().cast(),
                &start.len(),
                &end.as_ptr().cast(),
                &end.len(),
                flags as u8,
                &mut bytes,
                &mut error,
            );
        }
        said(error).map(|()| bytes)
    }

    fn file_bytes(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        self.table_bytes(cf, start, end, ffi::rocksdb_size_approximation_flags_include_files)
    }

    /// Estimates the bytes of a range's values in blob files, which hold `live_bytes` that are not garbage.
    fn separated_bytes(&self, cf: Cf, start: &[u8], end: &[u8], live_bytes: u64) -> Result<u64> {
        let id = (cf, Bytes::copy_from_slice(start));
        let known = {
            let mut profiles = self.profiles.0.lock().unwrap_or_else(PoisonError::into_inner);
            let covering = profiles.get_mut(&id).filter(|profile| profile.covers(end));
            covering.map(|profile| {
                profile.uses += u32::from(profile.end == end);
                profile.clone()
            })
        };
        if let Some(profile) = known
            && profile.uses < PROFILE_USES_MAX
            && profile.is_fresh((self.file_bytes(cf, start, &profile.end)?, live_bytes))
        {
            return Ok(profile.before(end));
        }
        let profile = self.profile(cf, start, end, live_bytes)?;
        let bytes = profile.bytes;
        let mut profiles = self.profiles.0.lock().unwrap_or_else(PoisonError::into_inner);
        if profiles.len() >= PROFILES_MAX {
            profiles.clear();
        }
        profiles.insert(id, profile);
        Ok(bytes)
    }

    /// Looks at a range.
    fn profile(&self, cf: Cf, start: &[u8], end: &[u8], live_bytes: u64) -> Result<Profile> {
        let whole_bytes = self.file_bytes(cf, start, end)?;
        let mut profile = Profile { end: Bytes::copy_from_slice(end), ..Profile::default() };
        profile.made_at = (whole_bytes, live_bytes);
        let how = CursorOptions { fill_cache: false, ..CursorOptions::keys_only() };
        let mut cursor = self.cursor(cf, (start, end), how, ReadOptions::new(None));
        let all = look(&mut *cursor, start, end, PROFILE_KEYS_MAX, PROFILE_SAMPLES_MAX)?;
        if all.stopped_at.is_none() {
            profile.bytes = self.add_up(cf, &all, &mut profile.marks)?;
            return Ok(profile);
        }
        let mut from = Bytes::copy_from_slice(start);
        for piece in 1..=PROFILE_PIECES_MAX as u64 {
            let target = whole_bytes / PROFILE_PIECES_MAX as u64 * piece;
            let before = |key: &[u8]| self.file_bytes(cf, start, key);
            let until = match piece == PROFILE_PIECES_MAX as u64 {
                true => Bytes::copy_from_slice(end),
                false => key_at(&mut *cursor, start, target, before)?.unwrap_or_default(),
            };
            let is_last = piece == PROFILE_PIECES_MAX as u64;
            if !is_last && until <= from {
                continue;
            }
            let samples_max = PROFILE_SAMPLES_MAX / PROFILE_PIECES_MAX;
            let part = look(&mut *cursor, &from, &until, PROFILE_PIECE_KEYS_MAX, samples_max)?;
            let seen = self.add_up(cf, &part, &mut Vec::new())?;
            profile.marks.push((from.clone(), profile.bytes));
            profile.bytes += match &part.stopped_at {
                None => seen,
                Some(key) => {
                    // The part that was looked at stands for the whole piece.
                    let looked_at = self.file_bytes(cf, &from, key)?.max(super::options::BLOCK_BYTES as u64);
                    let piece = self.file_bytes(cf, &from, &until)?.max(looked_at);
                    (u128::from(seen) * u128::from(piece) / u128::from(looked_at)) as u64
                }
            };
            from = until;
        }
        Ok(profile)
    }

    /// Returns the bytes of the values that a look found, from the lengths of the samples, and adds the samples' keys
    /// to the marks.
    fn add_up(&self, cf: Cf, look: &Look, marks: &mut Vec<(Bytes, u64)>) -> Result<u64> {
        let options = ReadOptions::new(None).without_caching();
        let mut lengths = vec![None; look.samples.len()];
        let (mut read, mut count) = (0, 0);
        // Spread over the range, because the last ones may not be read.
        for at in (0..4).flat_map(|first| (first..look.samples.len()).step_by(4)) {
            if read >= PROFILE_READ_BYTES_FULL {
                break;
            }
            // A key that was deleted meanwhile has no value.
            let length = look_up(&self.db, self.cf(cf), &look.samples[at].0, &options, |value| value.len() as u64)?;
            let length = length.flatten().unwrap_or(0);
            lengths[at] = Some(length);
            (read, count) = (read + length, count + 1);
        }
        let mean = read / count.max(1);
        let mut bytes = 0;
        for (at, (key, before)) in look.samples.iter().enumerate() {
            marks.push((key.clone(), bytes));
            let next = look.samples.get(at + 1).map_or(look.separated, |(_, before)| *before);
            bytes += lengths[at].unwrap_or(mean) * (next - before);
        }
        Ok(bytes)
    }
}

fn is_empty(start: &[u8], end: &[u8]) -> bool {
    !end.is_empty() && start >= end
}
