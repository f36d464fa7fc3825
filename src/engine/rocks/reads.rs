//! Reads of RocksDB, through its C interface: the `rocksdb` crate has no option for cursors that leave large values
//! where they are.
//!
//! Pointers that several threads share are in an [`AtomicPtr`], although they never change: a plain pointer cannot be
//! shared.

use std::ffi::c_char;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicPtr, Ordering};

use bytes::Bytes;
use librocksdb_sys as ffi;
use rocksdb::{AsColumnFamilyRef as _, AsRawPtr as _, ColumnFamily, DB};

use super::error::{Refusal, refusal};
use crate::engine::{Bounds, Cached, Cursor, CursorOptions};
use crate::types::Result;

/// The database at one position of the write sequence.
pub(super) struct Position<'a> {
    db: &'a DB,
    /// Any thread may use and release it.
    snapshot: AtomicPtr<ffi::rocksdb_snapshot_t>,
}

impl<'a> Position<'a> {
    /// Returns the present position.
    pub fn new(db: &'a DB) -> Position<'a> {
        // SAFETY: the database outlives the position, which releases the snapshot when it is dropped.
        let snapshot = unsafe { ffi::rocksdb_create_snapshot(db.as_raw_ptr()) };
        Position { db, snapshot: AtomicPtr::new(snapshot.cast_mut()) }
    }

    fn raw(&self) -> *const ffi::rocksdb_snapshot_t {
        self.snapshot.load(Ordering::Relaxed)
    }

    /// Returns the number of the last write that is visible.
    pub fn sequence_number(&self) -> u64 {
        // SAFETY: the snapshot is live.
        unsafe { ffi::rocksdb_snapshot_get_sequence_number(self.raw()) }
    }
}

impl Drop for Position<'_> {
    fn drop(&mut self) {
        // SAFETY: the snapshot belongs to this database and is released once.
        unsafe { ffi::rocksdb_release_snapshot(self.db.as_raw_ptr(), self.raw()) }
    }
}

/// Options of reads. The holder keeps the position that they name.
pub(super) struct ReadOptions {
    /// Not changed once they are shared. Any thread may free them.
    options: AtomicPtr<ffi::rocksdb_readoptions_t>,
    /// RocksDB keeps pointers into these keys.
    bounds: Option<Bounds>,
}

impl ReadOptions {
    /// Returns the options of reads at a position; `None` is the current state.
    pub fn new(at: Option<&Position<'_>>) -> ReadOptions {
        // SAFETY: the call has no precondition; the options are freed when this is dropped.
        let options = unsafe { ffi::rocksdb_readoptions_create() };
        if let Some(at) = at {
            // SAFETY: both are live.
            unsafe { ffi::rocksdb_readoptions_set_snapshot(options, at.raw()) };
        }
        ReadOptions { options: AtomicPtr::new(options), bounds: None }
    }

    fn raw(&self) -> *mut ffi::rocksdb_readoptions_t {
        self.options.load(Ordering::Relaxed)
    }

    /// Forbids to wait for the disk.
    pub fn in_memory(self) -> ReadOptions {
        const BLOCK_CACHE: i32 = 1;
        // SAFETY: the options are live, and the call sets one number in them.
        unsafe { ffi::rocksdb_readoptions_set_read_tier(self.raw(), BLOCK_CACHE) };
        self
    }

    /// Leaves the cache of values as it is.
    pub fn without_caching(self) -> ReadOptions {
        // SAFETY: the options are live, and the call sets one number in them.
        unsafe { ffi::rocksdb_readoptions_set_fill_cache(self.raw(), 0) };
        self
    }

    fn of_cursor(mut self, bounds: Bounds, how: CursorOptions) -> ReadOptions {
        let raw = self.raw();
        // SAFETY: the options are live. The keys are owned by `self`, which moves them with their bytes in place and
        // drops them after the options.
        unsafe {
            ffi::rocksdb_readoptions_set_fill_cache(raw, u8::from(how.fill_cache));
            ffi::rocksdb_readoptions_set_allow_unprepared_value(raw, u8::from(how.keys_only));
            if how.read_ahead_bytes > 0 {
                ffi::rocksdb_readoptions_set_readahead_size(raw, how.read_ahead_bytes);
            }
            if !bounds.end.is_empty() {
                ffi::rocksdb_readoptions_set_iterate_upper_bound(raw, bounds.end.as_ptr().cast(), bounds.end.len());
            }
            if !bounds.start.is_empty() {
                let (start, length) = (bounds.start.as_ptr().cast(), bounds.start.len());
                ffi::rocksdb_readoptions_set_iterate_lower_bound(raw, start, length);
            }
        }
        self.bounds = Some(bounds);
        if how.may_wait { self } else { self.in_memory() }
    }
}

impl Drop for ReadOptions {
    fn drop(&mut self) {
        // SAFETY: the options are live and freed once.
        unsafe { ffi::rocksdb_readoptions_destroy(self.raw()) }
    }
}

/// Looks a key up, and calls `read` with its value. [`Cached::OnDisk`] if the options forbid to wait and the value is
/// not in memory.
pub(super) fn look_up<T>(
    db: &DB,
    cf: &ColumnFamily,
    key: &[u8],
    options: &ReadOptions,
    read: impl FnOnce(&[u8]) -> T,
) -> Result<Option<Option<T>>> {
    let mut error = ptr::null_mut();
    // SAFETY: the database, the handle and the options are live; the call reads the key and sets `error` to null or to
    // a string that `refusal` frees.
    let found = unsafe {
        let (start, length) = (key.as_ptr().cast(), key.len());
        ffi::rocksdb_get_pinned_cf(db.as_raw_ptr(), options.raw(), cf.inner(), start, length, &mut error)
    };
    match refusal(error) {
        None if found.is_null() => Ok(Some(None)),
        None => {
            let mut length = 0;
            // SAFETY: the slice is live, and its bytes do not move or change before it is destroyed.
            let value = unsafe { bytes(ffi::rocksdb_pinnableslice_value(found, &mut length), length) };
            let value = read(value);
            // SAFETY: the slice is live and destroyed once.
            unsafe { ffi::rocksdb_pinnableslice_destroy(found) };
            Ok(Some(Some(value)))
        }
        Some(Refusal::WouldWait) => Ok(None),
        Some(Refusal::Failed(error)) => Err(error),
    }
}

/// Returns the bytes at a pointer of RocksDB.
///
/// # Safety
/// `length` bytes are readable at `start`, unless it is 0, and stay so for the lifetime of the result.
unsafe fn bytes<'a>(start: *const c_char, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(start.cast(), length) }
}

/// An iterator of RocksDB, with the options that it points to.
struct Iterator<'a> {
    raw: NonNull<ffi::rocksdb_iterator_t>,
    _options: ReadOptions,
    _db: PhantomData<&'a DB>,
}

impl Iterator<'_> {
    fn valid(&self) -> bool {
        // SAFETY: the iterator is live.
        unsafe { ffi::rocksdb_iter_valid(self.raw.as_ptr()) != 0 }
    }

    fn pair(&self) -> Option<(&[u8], &[u8])> {
        if !self.valid() {
            return None;
        }
        let (mut key_length, mut value_length) = (0, 0);
        // SAFETY: the iterator has a position. Its key and value stay where they are until it moves, which takes
        // exclusive access.
        unsafe {
            let key = ffi::rocksdb_iter_key(self.raw.as_ptr(), &mut key_length);
            let value = ffi::rocksdb_iter_value(self.raw.as_ptr(), &mut value_length);
            Some((bytes(key, key_length), bytes(value, value_length)))
        }
    }

    fn status(&self) -> Option<Refusal> {
        let mut error = ptr::null_mut();
        // SAFETY: the iterator is live; the call sets `error` to null or to a string that `refusal` frees.
        unsafe { ffi::rocksdb_iter_get_error(self.raw.as_ptr(), &mut error) };
        refusal(error)
    }

    fn seek(&mut self, key: &[u8]) {
        // SAFETY: the iterator is live, and the call reads the key.
        unsafe { ffi::rocksdb_iter_seek(self.raw.as_ptr(), key.as_ptr().cast(), key.len()) }
    }

    fn seek_before(&mut self, key: &[u8]) {
        // SAFETY: the iterator is live, and the call reads the key.
        unsafe { ffi::rocksdb_iter_seek_for_prev(self.raw.as_ptr(), key.as_ptr().cast(), key.len()) }
        if self.pair().is_some_and(|(found, _)| found == key) {
            self.back();
        }
    }

    fn seek_last(&mut self) {
        // SAFETY: the iterator is live.
        unsafe { ffi::rocksdb_iter_seek_to_last(self.raw.as_ptr()) }
    }

    fn next(&mut self) {
        // SAFETY: the iterator is live, and the caller checked that it has a position.
        unsafe { ffi::rocksdb_iter_next(self.raw.as_ptr()) }
    }

    fn back(&mut self) {
        // SAFETY: the iterator is live, and the caller checked that it has a position.
        unsafe { ffi::rocksdb_iter_prev(self.raw.as_ptr()) }
    }
}

impl Drop for Iterator<'_> {
    fn drop(&mut self) {
        // SAFETY: the iterator is live and destroyed once, before its options.
        unsafe { ffi::rocksdb_iter_destroy(self.raw.as_ptr()) }
    }
}

/// The cursor of RocksDB; see [`Cursor`].
pub(super) struct RocksCursor<'a> {
    /// `None` if the bounds are empty.
    iterator: Option<Iterator<'a>>,
    bounds: Bounds,
    /// Whether the last move would have had to read from the disk.
    needs_disk: bool,
}

impl<'a> RocksCursor<'a> {
    /// Returns a cursor that is confined to `bounds`.
    pub fn new(
        db: &'a DB,
        cf: &'a ColumnFamily,
        bounds: Bounds,
        how: CursorOptions,
        options: ReadOptions,
    ) -> RocksCursor<'a> {
        let open = || {
            let options = options.of_cursor(bounds.clone(), how);
            // SAFETY: the database and the handle live as long as the cursor, and the options as long as the iterator.
            let raw = unsafe { ffi::rocksdb_create_iterator_cf(db.as_raw_ptr(), options.raw(), cf.inner()) };
            let raw = NonNull::new(raw).expect("RocksDB allocates its iterators or aborts");
            Iterator { raw, _options: options, _db: PhantomData }
        };
        // RocksDB does not define the behaviour of bounds that exclude each other.
        RocksCursor { iterator: (!bounds.is_empty()).then(open), bounds, needs_disk: false }
    }

    fn go(&mut self, to: impl FnOnce(&mut Iterator<'a>, &Bounds)) -> Result<bool> {
        let Some(iterator) = &mut self.iterator else { return Ok(false) };
        self.needs_disk = false;
        to(iterator, &self.bounds);
        if iterator.valid() {
            return Ok(true);
        }
        match iterator.status() {
            Some(Refusal::WouldWait) => self.needs_disk = true,
            Some(Refusal::Failed(error)) => return Err(error),
            None => {}
        }
        Ok(false)
    }

    fn is_somewhere(&self) -> bool {
        self.iterator.as_ref().is_some_and(Iterator::valid)
    }
}

impl Cursor for RocksCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<bool> {
        self.go(|iterator, bounds| iterator.seek(key.max(&bounds.start)))
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<bool> {
        if self.bounds.are_below(key) {
            return self.seek_last();
        }
        self.go(|iterator, _| iterator.seek_before(key))
    }

    fn seek_last(&mut self) -> Result<bool> {
        self.go(|iterator, _| iterator.seek_last())
    }

    fn next(&mut self) -> Result<bool> {
        if self.is_somewhere() { self.go(|iterator, _| iterator.next()) } else { Ok(false) }
    }

    fn back(&mut self) -> Result<bool> {
        if self.is_somewhere() { self.go(|iterator, _| iterator.back()) } else { Ok(false) }
    }

    fn pair(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.as_ref().and_then(Iterator::pair)
    }

    fn needs_disk(&self) -> bool {
        self.needs_disk
    }
}

/// Returns what [`look_up`] found as a value from memory.
pub(super) fn cached(found: Option<Option<Bytes>>) -> Cached {
    found.map_or(Cached::OnDisk, Cached::Known)
}
