//! Frees the blobs of deleted ranges.
//!
//! RocksDB notices that a blob is garbage when a compaction drops the key that refers to it, and deletes a blob file
//! once all of it is garbage. Tables that refer to blobs are small, so after the deletion of a range it might take very
//! long until compaction meets its keys by itself. Therefore a thread compacts the ranges that were deleted, some time
//! after the first of them, so that several are done at once. It leaves other ranges alone; what is left of blob files
//! that they share is moved when half of the oldest files is garbage (`rocks/options.rs`).
//!
//! The ranges are not remembered over a restart: then RocksDB's own compactions free them, after 30 days at the latest.

use std::ptr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use librocksdb_sys as ffi;
use rocksdb::{AsColumnFamilyRef as _, AsRawPtr as _, DB};

use crate::engine::{Cf, Op, WriteBatch};
use crate::types::limits::RECLAIM_RANGES_MAX;
use crate::types::{Error, Result};

/// A range of a column family; an empty end is plus infinity.
type Range = (Cf, Bytes, Bytes);

/// The thread that frees blobs, which ends when this is dropped.
pub(super) struct Reclaim {
    shared: Arc<Shared>,
    db: Arc<DB>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    deleted: Vec<Range>,
    stopping: bool,
}

impl Reclaim {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::Io`] if the operating system cannot create it.
    pub fn start(db: Arc<DB>, after: Duration) -> Result<Reclaim> {
        let shared = Arc::new(Shared::default());
        let (its_shared, its_db) = (shared.clone(), db.clone());
        let thread = thread::Builder::new().name("reclaim".into()).spawn(move || run(&its_shared, &its_db, after));
        let thread = thread.map_err(|error| Error::Io(format!("cannot start the engine's thread: {error}")))?;
        Ok(Reclaim { shared, db, thread: Some(thread) })
    }

    /// Notes the ranges that a batch deleted.
    pub fn note(&self, batch: &WriteBatch) {
        for op in batch.ops() {
            let Op::DeleteRange(cf, start, end) = op else { continue };
            if !cf.separates() || (!end.is_empty() && start >= end) {
                continue;
            }
            let mut state = self.shared.lock();
            state.deleted.push((*cf, start.clone(), end.clone()));
            if state.deleted.len() > RECLAIM_RANGES_MAX {
                state.deleted = joined(std::mem::take(&mut state.deleted));
            }
            if state.deleted.len() > RECLAIM_RANGES_MAX {
                // Too many apart from each other: RocksDB's own compactions will meet this one.
                state.deleted.pop();
            }
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Reclaim {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        // SAFETY: the database is live. The call ends the compaction that the thread may be waiting for.
        unsafe { ffi::rocksdb_disable_manual_compaction(self.db.as_raw_ptr()) };
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sorts ranges, and makes one of those that overlap or touch.
fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort();
    let mut out: Vec<Range> = Vec::new();
    for (cf, start, end) in ranges {
        match out.last_mut() {
            Some((last_cf, _, last)) if *last_cf == cf && (last.is_empty() || start <= *last) => {
                if !last.is_empty() && (end.is_empty() || end > *last) {
                    *last = end;
                }
            }
            _ => out.push((cf, start, end)),
        }
    }
    out
}

fn run(shared: &Shared, db: &DB, after: Duration) {
    loop {
        let mut state = shared.lock();
        while state.deleted.is_empty() && !state.stopping {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let waited = shared.changed.wait_timeout_while(state, after, |state| !state.stopping);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.stopping {
            return;
        }
        let ranges = joined(std::mem::take(&mut state.deleted));
        drop(state);
        for (cf, start, end) in ranges {
            if shared.lock().stopping {
                return;
            }
            compact(db, cf, &start, &end);
        }
    }
}

/// Compacts a range, if there are blobs. Errors stop the engine at its next write or flush.
fn compact(db: &DB, cf: Cf, start: &[u8], end: &[u8]) {
    let handle = db.cf_handle(cf.name()).expect("every column family was opened");
    if !matches!(db.property_int_value_cf(handle, super::LIVE_BLOB_BYTES), Ok(Some(1..))) {
        return;
    }
    let key = |key: &[u8]| if key.is_empty() { ptr::null() } else { key.as_ptr().cast() };
    // SAFETY: the options are created, used and destroyed here; the database and the handle are live; the call reads
    // the keys, of which a null pointer stands for an open end.
    unsafe {
        let options = ffi::rocksdb_compactoptions_create();
        ffi::rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0);
        // Otherwise its flush could wait without limit.
        ffi::rocksdb_compactoptions_set_allow_write_stall(options, 1);
        let (start, start_length, end, end_length) = (key(start), start.len(), key(end), end.len());
        ffi::rocksdb_compact_range_cf_opt(
            db.as_raw_ptr(),
            handle.inner(),
            options,
            start,
            start_length,
            end,
            end_length,
        );
        ffi::rocksdb_compactoptions_destroy(options);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_meet_become_one() {
        let of =
            |cf, start: &str, end: &str| (cf, Bytes::copy_from_slice(start.as_bytes()), Bytes::from(end.to_owned()));
        let (raw, lock) = (Cf::RawDefault, Cf::RawLock);
        let ranges =
            vec![of(raw, "m", "n"), of(raw, "a", "c"), of(raw, "c", "d"), of(lock, "b", "c"), of(raw, "b", "bb")];
        assert_eq!(joined(ranges), [of(raw, "a", "d"), of(raw, "m", "n"), of(lock, "b", "c")]);
        let ranges = vec![of(raw, "x", "y"), of(raw, "m", ""), of(raw, "a", "b")];
        assert_eq!(joined(ranges), [of(raw, "a", "b"), of(raw, "m", "")]);
    }
}
