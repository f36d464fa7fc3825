//! # engine: ordered key-value pairs, durable up to the last flush
//!
//! ```text
//!   apply (one WriteBatch for many regions and entries)      reads
//!        | write: atomic, visible at once, NOT durable         | snapshot: a frozen view
//!        v                                                     v
//!   +----------------------------------------------------------------+
//!   |  KvEngine: RocksDB (real world)  |  SimEngine (simulator)       |
//!   +----------------------------------------------------------------+
//!        | flush: makes everything written before it durable, all column families at the same point
//!        | stager, ingest: replaces whole ranges by files that were written separately
//! ```
//!
//! **In** come write batches and sorted files over a few column families; **out** go snapshots, point reads and ordered
//! iteration.
//!
//! **The durability contract.** Writes form one sequence. After a crash the engine holds the effect of a *prefix* of
//! that sequence, all column families at the same point, and the prefix includes every write that completed before the
//! last successful [`KvEngine::flush`] began. Nothing more is guaranteed: any number of the later writes may have
//! survived. The raft log is the write-ahead log; each batch also writes the applied index of its groups to
//! [`Cf::Meta`], so the log can be replayed from whatever point the engine has reached.
//!
//! **Ingests.** A [`Stager`] writes sorted pairs into files beside the engine. [`KvEngine::ingest`] removes ranges,
//! adds the files' pairs and applies a batch. All of this is one element of the sequence of writes, and it is durable,
//! with everything before it, when the call returns. After a crash during the call, all of the ingest has happened or
//! none of it. Reads and snapshots taken during the call see either none of the ingest or all of it, in all column
//! families; writes wait until it is done. Files that are never ingested are removed when they are dropped or, after a
//! crash, when the engine is opened again.
//!
//! **Never**: a partial batch or ingest, two column families at different points, a later write without an earlier one,
//! a flush or an ingest that reports success for data that is not durable.

mod bisect;
#[cfg(not(madsim))]
mod rocks;
mod sim;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt::Debug;

use bytes::Bytes;

use crate::types::{Error, Result};

pub use bisect::key_at;
#[cfg(not(madsim))]
pub use rocks::{RocksEngine, RocksOptions, RocksSnapshot, RocksStaged, RocksStager};
pub use sim::{ColdReads, Crash, SimEngine, SimSnapshot, SimStaged, SimStager, SimStorage, StagingFault, Summary};

/// The planted bugs of this module and what each breaks.
pub const MUTANTS: &[(&str, &str)] =
    &[("engine.ingest-without-meta", "an ingest makes its files durable apart from the batch that belongs to them")];

/// The engine of this build: RocksDB.
#[cfg(not(madsim))]
pub type Engine = RocksEngine;
/// The engine of this build: the simulated one.
#[cfg(madsim)]
pub type Engine = SimEngine;

/// Where the engine of this build keeps its data, which survives a crash of the process.
#[cfg(not(madsim))]
pub type EngineStorage = RocksOptions;
/// Where the engine of this build keeps its data, which survives a crash of the process.
#[cfg(madsim)]
pub type EngineStorage = SimStorage;

/// Opens the engine of this build.
///
/// # Errors
/// [`Error::Io`] if its files cannot be read or another process uses them, [`Error::Corruption`] if they are damaged,
/// [`Error::Invalid`] if a newer version wrote them.
pub fn open(storage: &EngineStorage) -> Result<Engine> {
    #[cfg(not(madsim))]
    return RocksEngine::open(storage.clone());
    #[cfg(madsim)]
    return SimEngine::open(storage);
}

/// Returns the engine's statistics by name. The simulated engine has none.
pub fn figures(engine: &Engine) -> std::collections::BTreeMap<&'static str, u64> {
    #[cfg(not(madsim))]
    return engine.stats().into_iter().collect();
    #[cfg(madsim)]
    {
        let _ = engine;
        std::collections::BTreeMap::new()
    }
}

/// Column families. The discriminants are on disk and on the wire: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cf {
    /// Group states (descriptor, applied index), promises, and the newest known run of each other store.
    Meta = 0,
    /// The placement driver's state.
    Pd = 1,
    /// Raw data of requests whose `cf` is absent or "default".
    RawDefault = 2,
    /// Raw data of requests whose `cf` is "lock".
    RawLock = 3,
    /// Raw data of requests whose `cf` is "write".
    RawWrite = 4,
    /// Values of transactional keys that do not fit into their record, by key and start timestamp.
    TxnDefault = 5,
    /// Locks of transactional keys, by key.
    TxnLock = 6,
    /// Commit records of transactional keys, by key and commit timestamp.
    TxnWrite = 7,
}

/// The owner of the data in a column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The store itself.
    Store,
    /// The placement driver's group.
    Pd,
    /// The region that contains the key. A region's snapshots, sizes, hashes and split keys cover all of these
    /// families.
    Regions,
}

/// Where the large values of a column family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LargeValues {
    /// With their keys.
    Inline,
    /// Apart from their keys, in RocksDB's blob files: src/docs/large-values-in-blob-files.md.
    Separate,
}

/// Every column family: its name in the engine's files, the owner of its data, how many bytes a long scan of it reads
/// from the disk at once, and where its large values are. RocksDB always has a column family "default", so the one with
/// the least traffic is called that.
const FAMILIES: [(Cf, &str, Owner, usize, LargeValues); 8] = [
    (Cf::Meta, "default", Owner::Store, 64 << 10, LargeValues::Inline),
    (Cf::Pd, "pd", Owner::Pd, 64 << 10, LargeValues::Inline),
    (Cf::RawDefault, "raw_default", Owner::Regions, 1 << 20, LargeValues::Separate),
    // It usually holds few pairs, so a longer read-ahead would mostly fetch other regions' data.
    (Cf::RawLock, "raw_lock", Owner::Regions, 64 << 10, LargeValues::Inline),
    (Cf::RawWrite, "raw_write", Owner::Regions, 1 << 20, LargeValues::Inline),
    (Cf::TxnDefault, "txn_default", Owner::Regions, 1 << 20, LargeValues::Separate),
    (Cf::TxnLock, "txn_lock", Owner::Regions, 64 << 10, LargeValues::Inline),
    (Cf::TxnWrite, "txn_write", Owner::Regions, 1 << 20, LargeValues::Inline),
];

impl Cf {
    /// All column families, in the order of their numbers.
    pub const ALL: [Cf; FAMILIES.len()] = {
        let mut all = [Cf::Meta; FAMILIES.len()];
        let mut at = 0;
        while at < all.len() {
            assert!(FAMILIES[at].0 as usize == at, "the table is in order of the numbers");
            all[at] = FAMILIES[at].0;
            at += 1;
        }
        all
    };
    /// The column families that hold clients' raw data.
    pub const RAW: [Cf; 3] = [Cf::RawDefault, Cf::RawLock, Cf::RawWrite];
    /// The column families that hold transactional data.
    pub const TXN: [Cf; 3] = [Cf::TxnDefault, Cf::TxnLock, Cf::TxnWrite];

    /// Returns the name in the engine's files.
    pub fn name(self) -> &'static str {
        FAMILIES[self as usize].1
    }

    /// Returns whether the column family holds regions' data.
    pub fn of_regions(self) -> bool {
        FAMILIES[self as usize].2 == Owner::Regions
    }

    /// Returns whether large values are apart from their keys.
    #[cfg_attr(madsim, allow(dead_code, reason = "the simulated engine has no files of large values"))]
    fn separates(self) -> bool {
        FAMILIES[self as usize].4 == LargeValues::Separate
    }

    /// Returns how many bytes a long scan reads from the disk at once.
    fn read_ahead_bytes(self) -> usize {
        FAMILIES[self as usize].3
    }

    /// Returns the column families that hold regions' data, in the order of their numbers.
    pub fn all_of_regions() -> impl Iterator<Item = Cf> {
        Cf::ALL.into_iter().filter(|cf| cf.of_regions())
    }

    /// Returns the column family with this number.
    pub fn from_number(number: u32) -> Option<Cf> {
        Cf::ALL.into_iter().find(|cf| *cf as u32 == number)
    }
}

/// A range of a column family, `[start, end)`; an empty end is plus infinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CfRange {
    /// The column family.
    pub cf: Cf,
    /// The first key.
    pub start: Bytes,
    /// The end (exclusive).
    pub end: Bytes,
}

/// One change of a [`WriteBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put(Cf, Bytes, Bytes),
    /// Removes a key.
    Delete(Cf, Bytes),
    /// Removes the keys in `[start, end)`; an empty end is plus infinity.
    DeleteRange(Cf, Bytes, Bytes),
}

/// Changes that are applied atomically, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    ops: Vec<Op>,
    bytes: usize,
}

impl WriteBatch {
    /// Creates an empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }
    /// Sets a key.
    pub fn put(&mut self, cf: Cf, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.ops.push(Op::Put(cf, key, value));
    }
    /// Removes a key.
    pub fn delete(&mut self, cf: Cf, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.ops.push(Op::Delete(cf, key));
    }
    /// Removes the keys in `[start, end)`; an empty `end` is plus infinity.
    pub fn delete_range(&mut self, cf: Cf, start: impl Into<Bytes>, end: impl Into<Bytes>) {
        let (start, end) = (start.into(), end.into());
        self.bytes += start.len() + end.len();
        self.ops.push(Op::DeleteRange(cf, start, end));
    }
    /// Adds a change.
    pub(crate) fn push(&mut self, op: Op) {
        match op {
            Op::Put(cf, key, value) => self.put(cf, key, value),
            Op::Delete(cf, key) => self.delete(cf, key),
            Op::DeleteRange(cf, start, end) => self.delete_range(cf, start, end),
        }
    }
    /// Returns the changes, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
    /// Returns the length of all keys and values, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Returns the number of changes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }
    /// Returns whether the batch has no changes.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
    /// Removes all changes but keeps the allocated memory.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.bytes = 0;
    }
}

/// Whether a scan continues after a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Continue with the next pair.
    More,
    /// End the scan.
    Stop,
}

/// The result of looking a key up in memory only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// The key's value, or `None` if it has none.
    Known(Option<Bytes>),
    /// The value is not in memory: call [`Read::get`], from a thread that may wait for the disk.
    OnDisk,
}

/// Reads from a snapshot or from the engine's current state.
pub trait Read {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`].
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>>;

    /// Returns the value of a key if it is in memory. Never waits for the disk.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`].
    fn get_cached(&self, cf: Cf, key: &[u8]) -> Result<Cached>;

    /// Returns a cursor over the pairs in `[start, end)` (an empty `end` is plus infinity), positioned before the first
    /// one. It sees the column family as it was when the cursor was created.
    ///
    /// # Errors
    /// [`Error::Io`] if the engine was closed.
    fn cursor(&self, cf: Cf, start: &[u8], end: &[u8], options: CursorOptions) -> Result<Box<dyn Cursor + '_>>;

    /// Like [`Read::cursor`], over the pairs whose keys start with `prefix`.
    ///
    /// # Errors
    /// As [`Read::cursor`].
    fn prefix_cursor(&self, cf: Cf, prefix: &[u8], options: CursorOptions) -> Result<Box<dyn Cursor + '_>> {
        self.cursor(cf, prefix, &behind_prefix(prefix), options)
    }

    /// Visits the pairs in `[start, end)` (an empty `end` is plus infinity) in ascending order until the visitor stops.
    /// The visitor may write; the scan does not see its writes.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`].
    fn scan(&self, cf: Cf, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        upwards(&mut *self.cursor(cf, start, end, CursorOptions::default())?, start, visit)
    }

    /// Like [`Read::scan`], for a long scan of data that will not be read again soon: see [`CursorOptions::once`].
    ///
    /// # Errors
    /// As [`Read::scan`].
    fn scan_once(&self, cf: Cf, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        upwards(&mut *self.cursor(cf, start, end, CursorOptions::once(cf))?, start, visit)
    }

    /// Like [`Read::scan`] or, with `reverse`, [`Read::scan_reverse`], with the options of the cursor. Returns false if
    /// the options forbid to wait for the disk and it is needed; the caller must then discard the pairs that were
    /// visited.
    ///
    /// # Errors
    /// As [`Read::scan`].
    fn scan_with(
        &self,
        cf: Cf,
        (start, end): (&[u8], &[u8]),
        reverse: bool,
        options: CursorOptions,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<bool> {
        let mut cursor = self.cursor(cf, start, end, options)?;
        if reverse {
            downwards(&mut *cursor, visit)?;
        } else {
            upwards(&mut *cursor, start, visit)?;
        }
        Ok(!cursor.needs_disk())
    }

    /// Returns whether every value that a cursor over keys only ([`CursorOptions::keys_only`]) leaves out ends with a
    /// zero byte, as raw values without an expiry do. Never waits for the disk unless `may_wait`, and returns false if
    /// it would have to. Only snapshots know: without one, another value could be written after this call.
    ///
    /// # Errors
    /// As [`Read::get`].
    fn left_out_are_plain(&self, may_wait: bool) -> Result<bool> {
        let _ = may_wait;
        Ok(false)
    }

    /// Visits the pairs in `[start, end)` in descending order until the visitor stops.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`].
    fn scan_reverse(
        &self,
        cf: Cf,
        start: &[u8],
        end: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<()> {
        downwards(&mut *self.cursor(cf, start, end, CursorOptions::default())?, visit)
    }
}

fn downwards(cursor: &mut dyn Cursor, visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
    let mut found = cursor.seek_last()?;
    while let Some((key, value)) = cursor.pair().filter(|_| found) {
        if visit(key, value) == Visit::Stop {
            break;
        }
        found = cursor.back()?;
    }
    Ok(())
}

fn upwards(cursor: &mut dyn Cursor, start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
    let mut found = cursor.seek(start)?;
    while let Some((key, value)) = cursor.pair().filter(|_| found) {
        if visit(key, value) == Visit::Stop {
            break;
        }
        found = cursor.next()?;
    }
    Ok(())
}

/// A range of keys, `[start, end)`; an empty end is plus infinity.
#[derive(Clone, Debug)]
struct Bounds {
    start: Bytes,
    end: Bytes,
}

impl Bounds {
    /// Returns whether no key is within the bounds.
    fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }

    /// Returns whether all keys within the bounds are smaller than `key`.
    fn are_below(&self, key: &[u8]) -> bool {
        !self.end.is_empty() && self.end <= key
    }
}

/// How a cursor reads. By default the engine caches the data that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorOptions {
    /// Whether data read from the disk is cached, which may evict data that others read.
    pub fill_cache: bool,
    /// How many bytes to read from the disk at once; 0 lets the engine choose.
    pub read_ahead_bytes: usize,
    /// Whether the cursor may wait for the disk. If not, a move that would have to wait fails ([`Cursor::needs_disk`]).
    pub may_wait: bool,
    /// Whether the caller needs keys only. The cursor then has an empty value where a value is stored apart from its
    /// key.
    pub keys_only: bool,
}

impl Default for CursorOptions {
    fn default() -> CursorOptions {
        CursorOptions { fill_cache: true, read_ahead_bytes: 0, may_wait: true, keys_only: false }
    }
}

impl CursorOptions {
    /// Returns the options for a long scan of data that will not be read again soon: it is read ahead, and it does not
    /// evict data that is read often.
    pub fn once(cf: Cf) -> CursorOptions {
        CursorOptions { fill_cache: false, read_ahead_bytes: cf.read_ahead_bytes(), ..CursorOptions::default() }
    }

    /// Returns the options for a cursor whose values are not needed.
    pub fn keys_only() -> CursorOptions {
        CursorOptions { keys_only: true, ..CursorOptions::default() }
    }

    /// Returns the options for a cursor that never waits for the disk.
    pub fn in_memory() -> CursorOptions {
        CursorOptions { may_wait: false, ..CursorOptions::default() }
    }
}

/// Returns the first key after all keys that start with `prefix`, or an empty key (plus infinity) if there is none.
fn behind_prefix(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX).map_or(0, |last| last + 1);
    let mut behind = prefix[..kept].to_vec();
    if let Some(last) = behind.last_mut() {
        *last += 1;
    }
    behind
}

/// A position among the pairs of a column family, within fixed bounds. Each move returns whether it found a pair. After
/// a move that found none the cursor has no position, and only a `seek` gives it one again.
pub trait Cursor {
    /// Moves to the first pair whose key is `key` or larger.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`].
    fn seek(&mut self, key: &[u8]) -> Result<bool>;

    /// Moves to the last pair whose key is smaller than `key`.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    fn seek_before(&mut self, key: &[u8]) -> Result<bool>;

    /// Moves to the last pair.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    fn seek_last(&mut self) -> Result<bool>;

    /// Moves to the next larger key.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    fn next(&mut self) -> Result<bool>;

    /// Moves to the next smaller key.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    fn back(&mut self) -> Result<bool>;

    /// Returns the key and the value at the position, or `None` if there is no position. The value may be empty where
    /// only keys are needed ([`CursorOptions::keys_only`]).
    fn pair(&self) -> Option<(&[u8], &[u8])>;

    /// Returns whether the last move failed because it would have had to wait for the disk. Only a cursor that must not
    /// wait ([`CursorOptions::in_memory`]) returns true.
    fn needs_disk(&self) -> bool {
        false
    }
}

/// Writes sorted pairs into files beside the engine, for [`KvEngine::ingest`]. Holds at most 16 MiB in memory plus the
/// length of one pair, however much is written. If it is dropped before it is finished, it removes its files.
pub trait Stager: Send + 'static {
    /// The finished files.
    type Staged;

    /// Adds a pair, whose key must be larger than all keys added to the column family before. Blocks.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the key is not larger; [`Error::Io`]. The stager cannot be used after an error.
    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<()>;

    /// Makes the files durable. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`]; the files are removed.
    fn finish(self) -> Result<Self::Staged>;
}

/// Checks that a key is larger than the last one added to the column family's files.
fn in_order(cf: Cf, last: Option<&[u8]>, key: &[u8]) -> Result<()> {
    match last {
        Some(last) if last >= key => Err(Error::Invalid(format!(
            "a key of {} was staged out of order: {} after {}",
            cf.name(),
            key.escape_ascii(),
            last.escape_ascii()
        ))),
        _ => Ok(()),
    }
}

/// A store of ordered pairs with the durability contract described in the module's documentation. Clones share it.
pub trait KvEngine: Read + Clone + Debug + Send + Sync + 'static {
    /// A frozen view.
    type Snapshot: Read + Clone + Send + Sync + 'static;
    /// Files that a stager has finished. Dropping them removes the files; pairs that were ingested stay.
    type Staged: Debug + Send + 'static;
    /// The writer of such files.
    type Stager: Stager<Staged = Self::Staged>;

    /// Applies a batch: atomic, visible to every later read, not durable.
    ///
    /// # Errors
    /// [`Error::Io`]: the batch may or may not have been applied, and the store must stop.
    fn write(&self, batch: &WriteBatch) -> Result<()>;

    /// Like [`KvEngine::write`], but never waits for the engine's background work. Returns false if it would have to
    /// wait; nothing was written then.
    ///
    /// # Errors
    /// As [`KvEngine::write`].
    fn try_write(&self, batch: &WriteBatch) -> Result<bool>;

    /// Like [`KvEngine::write`], for a thread that may wait. The simulated engine does not block threads: it returns
    /// false while it cannot write, and the caller tries again.
    ///
    /// # Errors
    /// As [`KvEngine::write`].
    fn write_waiting(&self, batch: &WriteBatch) -> Result<bool>;

    /// Returns a view that no later write changes.
    fn snapshot(&self) -> Self::Snapshot;

    /// Makes everything written before this call durable, all column families at the same point. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`]: nothing more than before is known to be durable, and the store must stop.
    fn flush(&self) -> Result<()>;

    /// Starts to write files beside the engine. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn stager(&self) -> Result<Self::Stager>;

    /// Removes `ranges`, adds the pairs of `files` and applies `meta`, atomically and in this order, and makes this and
    /// everything written before durable. Blocks; the module's documentation describes concurrent reads and writes. The
    /// simulated engine does not block threads: it returns false while it cannot write, and the caller tries again.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the files are another engine's; nothing has changed. [`Error::Io`]: the ingest may or may
    /// not have happened, and the store must stop.
    fn ingest(&self, ranges: &[CfRange], files: &Self::Staged, meta: &WriteBatch) -> Result<bool>;

    /// Estimates how many bytes `[start, end)` takes on disk and in memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn approximate_bytes(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64>;

    /// Estimates the number of keys in `[start, end)` from the engine's own counters, without a scan. The estimate may
    /// include old versions and deletions that compaction has not dropped yet.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn approximate_keys(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64>;
}
