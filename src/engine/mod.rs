//! # engine: ordered key-value pairs that survive, up to the last flush
//!
//! ```text
//!   apply (one WriteBatch for many regions and entries)      reads
//!        | write: atomic, visible at once, NOT durable         | snapshot: a frozen view
//!        v                                                     v
//!   +----------------------------------------------------------------+
//!   |  KvEngine: RocksDB (real world)  |  SimEngine (simulator)       |
//!   +----------------------------------------------------------------+
//!        | flush: everything written before it is durable, all column families at one point
//!        | stager, ingest: whole ranges are replaced by files that were written beside the engine
//! ```
//!
//! **In** come write batches and sorted files over a few column families; **out** go snapshots, point reads and ordered iteration.
//!
//! **The durability contract.** Writes form one sequence. After a crash the engine holds the effect of a *prefix* of that
//! sequence, all column families at the same point, and the prefix includes every write that completed before the last
//! successful [`KvEngine::flush`] began. Nothing more: what was written after may be there up to any point, or not. The raft
//! log is the write-ahead log; the applied index of each group lies in [`Cf::Meta`] in the same batches, so that the log can
//! be replayed from wherever the engine stands.
//!
//! **Ingests.** A [`Stager`] writes sorted pairs into files beside the engine. [`KvEngine::ingest`] removes ranges, takes the
//! files in and applies a batch: one element of the sequence of writes, and durable with everything before it when the call
//! returns. A crash during the call leaves the engine before it or after it. Reads and snapshots taken during the call see
//! the engine as it was before, in all column families, until they see all of it; writes wait meanwhile. Files that were
//! never ingested are removed when they are dropped, and at the next open after a crash.
//!
//! **Never**: a batch or an ingest half there, two column families at different points, a later write without an earlier one, a
//! flush or an ingest that reports success for data that is not durable.

#[cfg(not(madsim))]
mod rocks;
mod sim;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt::Debug;

use bytes::Bytes;

use crate::types::{Error, Result};

#[cfg(not(madsim))]
pub use rocks::{RocksEngine, RocksOptions, RocksSnapshot, RocksStaged, RocksStager};
pub use sim::{ColdReads, Crash, SimEngine, SimSnapshot, SimStaged, SimStager, SimStorage, StagingFault, Summary};

/// The planted bugs of this room and what each breaks.
pub const MUTANTS: &[(&str, &str)] =
    &[("engine.ingest-without-meta", "an ingest makes its files durable apart from the batch that belongs to them")];

/// The engine of this world.
#[cfg(not(madsim))]
pub type Engine = RocksEngine;
/// The engine of this world.
#[cfg(madsim)]
pub type Engine = SimEngine;

/// Where the engine of this world keeps its data: what survives a crash of the process.
#[cfg(not(madsim))]
pub type EngineStorage = RocksOptions;
/// Where the engine of this world keeps its data: what survives a crash of the process.
#[cfg(madsim)]
pub type EngineStorage = SimStorage;

/// Opens the engine of this world.
///
/// # Errors
/// [`Error::Io`] if it cannot be read or another process uses it, [`Error::Corruption`] if it is
/// damaged, [`Error::Invalid`] if a newer version wrote it.
pub fn open(home: &EngineStorage) -> Result<Engine> {
    #[cfg(not(madsim))]
    return RocksEngine::open(home.clone());
    #[cfg(madsim)]
    return SimEngine::open(home);
}

/// Figures of the engine, by name; the simulated one has none.
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
    /// Group states (descriptor, applied index), promises, and which runs of other stores were heard.
    Meta = 0,
    /// The placement driver's state.
    Pd = 1,
    /// Raw data, the request's `cf` absent or "default".
    RawDefault = 2,
    /// Raw data, the request's `cf` "lock".
    RawLock = 3,
    /// Raw data, the request's `cf` "write".
    RawWrite = 4,
}

/// Whose data a column family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The store itself.
    Store,
    /// The placement driver's group.
    Pd,
    /// The region that holds the key: snapshots, sizes, hashes and boundaries are of all of these together.
    Regions,
}

/// Every column family: its name in the engine's files, whose data it holds, and how many bytes a reader of much of it asks the disk for
/// at once. RocksDB always has a column family "default": ours with the least traffic.
const FAMILIES: [(Cf, &str, Owner, usize); 5] = [
    (Cf::Meta, "default", Owner::Store, 64 << 10),
    (Cf::Pd, "pd", Owner::Pd, 64 << 10),
    (Cf::RawDefault, "raw_default", Owner::Regions, 1 << 20),
    // Few pairs as a rule: what is read ahead would be other regions'.
    (Cf::RawLock, "raw_lock", Owner::Regions, 64 << 10),
    (Cf::RawWrite, "raw_write", Owner::Regions, 1 << 20),
];

impl Cf {
    /// All of them, in order of their numbers.
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
    /// Those that hold clients' raw data.
    pub const RAW: [Cf; 3] = [Cf::RawDefault, Cf::RawLock, Cf::RawWrite];

    /// The name in the engine's files.
    pub fn name(self) -> &'static str {
        FAMILIES[self as usize].1
    }

    /// Whether regions' data is in it.
    pub fn of_regions(self) -> bool {
        FAMILIES[self as usize].2 == Owner::Regions
    }

    /// Bytes that a reader of much asks the disk for at once.
    fn read_ahead_bytes(self) -> usize {
        FAMILIES[self as usize].3
    }

    /// Those with regions' data, in order of their numbers.
    pub fn all_of_regions() -> impl Iterator<Item = Cf> {
        Cf::ALL.into_iter().filter(|cf| cf.of_regions())
    }

    /// The column family of that number.
    pub fn from_number(number: u32) -> Option<Cf> {
        Cf::ALL.into_iter().find(|cf| *cf as u32 == number)
    }
}

/// A range of a column family: `[start, end)`, an empty end is plus infinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CfRange {
    /// The column family.
    pub cf: Cf,
    /// First key.
    pub start: Bytes,
    /// First key beyond.
    pub end: Bytes,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put(Cf, Bytes, Bytes),
    /// Removes a key.
    Delete(Cf, Bytes),
    /// Removes the keys in `[start, end)`; an empty end is plus infinity.
    DeleteRange(Cf, Bytes, Bytes),
}

/// Changes that happen together or not at all, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    ops: Vec<Op>,
    bytes: usize,
}

impl WriteBatch {
    /// No changes.
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
    /// The changes, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// How many changes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
    /// Forgets the changes, keeps the memory.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.bytes = 0;
    }
}

/// What a visitor of a scan wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The next pair.
    More,
    /// No more.
    Stop,
}

/// What can be said of a key without the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// Its value, or that it has none.
    Known(Option<Bytes>),
    /// Nothing: [`Read::get`] has to be asked, by a thread that may wait for the disk.
    OnDisk,
}

/// Reads: of a snapshot, or of the engine as it stands.
pub trait Read {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`].
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>>;

    /// The value of a key, if that is known in memory. Never waits for the disk.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`].
    fn get_cached(&self, cf: Cf, key: &[u8]) -> Result<Cached>;

    /// A cursor over the pairs of `[start, end)` (an empty `end` is plus infinity), before the first of them. It sees the column family
    /// as it stood when it was made.
    ///
    /// # Errors
    /// [`Error::Io`] of an engine that was closed.
    fn cursor(&self, cf: Cf, start: &[u8], end: &[u8], options: CursorOptions) -> Result<Box<dyn Cursor + '_>>;

    /// As [`Read::cursor`], over the pairs whose keys begin with `prefix`.
    ///
    /// # Errors
    /// As [`Read::cursor`].
    fn prefix_cursor(&self, cf: Cf, prefix: &[u8], options: CursorOptions) -> Result<Box<dyn Cursor + '_>> {
        self.cursor(cf, prefix, &behind_prefix(prefix), options)
    }

    /// Visits the pairs of `[start, end)` upwards (an empty `end` is plus infinity) until the visitor stops. The visitor may write, and
    /// does not see what it writes.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`].
    fn scan(&self, cf: Cf, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        upwards(&mut *self.cursor(cf, start, end, CursorOptions::default())?, start, visit)
    }

    /// As [`Read::scan`], for a reader of much that will not come again: see [`CursorOptions::once`].
    ///
    /// # Errors
    /// As [`Read::scan`].
    fn scan_once(&self, cf: Cf, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        upwards(&mut *self.cursor(cf, start, end, CursorOptions::once(cf))?, start, visit)
    }

    /// As [`Read::scan`], or [`Read::scan_reverse`], without ever waiting for the disk: false if that is not possible. Pairs that were
    /// visited until then are to be forgotten.
    ///
    /// # Errors
    /// As [`Read::scan`].
    fn scan_in_memory(
        &self,
        cf: Cf,
        (start, end): (&[u8], &[u8]),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<bool> {
        let mut cursor = self.cursor(cf, start, end, CursorOptions::in_memory())?;
        if reverse {
            downwards(&mut *cursor, visit)?;
        } else {
            upwards(&mut *cursor, start, visit)?;
        }
        Ok(!cursor.needs_disk())
    }

    /// Visits the pairs of `[start, end)` downwards, from the largest, until the visitor stops.
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

/// `[start, end)`; an empty end is plus infinity.
#[derive(Clone, Debug)]
struct Bounds {
    start: Bytes,
    end: Bytes,
}

impl Bounds {
    /// Whether no key lies within.
    fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }

    /// Whether all keys within are smaller than `key`.
    fn are_below(&self, key: &[u8]) -> bool {
        !self.end.is_empty() && self.end <= key
    }
}

/// How a cursor reads; the default is like what others read: it is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorOptions {
    /// Whether what it reads from the disk is kept in memory, where it takes the place of what others read.
    pub fill_cache: bool,
    /// Bytes that it asks the disk for at once; 0: as the engine sees fit.
    pub read_ahead_bytes: usize,
    /// Whether it may wait for the disk; if not, it goes nowhere where it would have to ([`Cursor::needs_disk`]).
    pub may_wait: bool,
}

impl Default for CursorOptions {
    fn default() -> CursorOptions {
        CursorOptions { fill_cache: true, read_ahead_bytes: 0, may_wait: true }
    }
}

impl CursorOptions {
    /// What it reads of a family is much and will not be read again: it does not take the place of what others read often, and is read
    /// ahead.
    pub fn once(cf: Cf) -> CursorOptions {
        CursorOptions { fill_cache: false, read_ahead_bytes: cf.read_ahead_bytes(), may_wait: true }
    }

    /// It never waits for the disk.
    pub fn in_memory() -> CursorOptions {
        CursorOptions { may_wait: false, ..CursorOptions::default() }
    }
}

/// The first key behind all that begin with `prefix`; empty, which is plus infinity, if there is none.
fn behind_prefix(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX).map_or(0, |last| last + 1);
    let mut behind = prefix[..kept].to_vec();
    if let Some(last) = behind.last_mut() {
        *last += 1;
    }
    behind
}

/// A place among the pairs of a column family, within bounds that it cannot leave. Each move says whether there is a pair; a move that
/// finds none leaves the cursor nowhere, from where only a `seek` leads back.
pub trait Cursor {
    /// To the first pair whose key is `key` or larger.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`].
    fn seek(&mut self, key: &[u8]) -> Result<bool>;

    /// To the last pair whose key is smaller than `key`.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    fn seek_before(&mut self, key: &[u8]) -> Result<bool>;

    /// To the last pair.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    fn seek_last(&mut self) -> Result<bool>;

    /// To the next larger key.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    fn next(&mut self) -> Result<bool>;

    /// To the next smaller key.
    ///
    /// # Errors
    /// As [`Cursor::seek`].
    fn back(&mut self) -> Result<bool>;

    /// Key and value where it is; nothing if it is nowhere.
    fn pair(&self) -> Option<(&[u8], &[u8])>;

    /// Whether the last move found nothing because it would have had to wait for the disk; only of one that does not wait
    /// ([`CursorOptions::in_memory`]).
    fn needs_disk(&self) -> bool {
        false
    }
}

/// Writes sorted pairs into files beside the engine, for [`KvEngine::ingest`]. Holds at most 16 MiB in memory, one pair's length
/// aside, however much is written. Dropped before it is finished, it removes its files.
pub trait Stager: Send + 'static {
    /// The files.
    type Staged;

    /// Adds a pair. Its key must lie behind those that the column family was given before. Blocks.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the key does not; [`Error::Io`]. The stager is of no more use.
    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<()>;

    /// Makes the files durable. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`]; the files are removed.
    fn finish(self) -> Result<Self::Staged>;
}

/// Whether a key lies behind the last one that a column family's files were given.
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

/// A store of ordered pairs, with the durability contract at the head of this room. Clones share it.
pub trait KvEngine: Read + Clone + Debug + Send + Sync + 'static {
    /// A frozen view.
    type Snapshot: Read + Clone + Send + Sync + 'static;
    /// Files that a stager has finished. Dropped, they are removed (what was ingested stays).
    type Staged: Debug + Send + 'static;
    /// Writes such files.
    type Stager: Stager<Staged = Self::Staged>;

    /// Applies a batch: atomic, visible to every later read, not durable.
    ///
    /// # Errors
    /// [`Error::Io`]; the batch may or may not be there, and the store must stop.
    fn write(&self, batch: &WriteBatch) -> Result<()>;

    /// As [`KvEngine::write`], but only if that does not have to wait for the engine's background work. False: it would have to, and
    /// nothing was written.
    ///
    /// # Errors
    /// As [`KvEngine::write`].
    fn try_write(&self, batch: &WriteBatch) -> Result<bool>;

    /// As [`KvEngine::write`], by a thread that may wait. False: the engine does not block threads and cannot write yet, ask again
    /// (the simulated one).
    ///
    /// # Errors
    /// As [`KvEngine::write`].
    fn write_waiting(&self, batch: &WriteBatch) -> Result<bool>;

    /// A view that no later write changes.
    fn snapshot(&self) -> Self::Snapshot;

    /// Makes everything written before this call durable, all column families at one point. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`]; durability is as it was before, and the store must stop.
    fn flush(&self) -> Result<()>;

    /// Begins to write files beside the engine. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn stager(&self) -> Result<Self::Stager>;

    /// Removes `ranges`, takes in the pairs of `files` and applies `meta`: atomic, in this order, and durable together with
    /// everything written before. Blocks; see the head of this room for what others see and may do meanwhile. False: the engine
    /// does not block threads and cannot write yet, ask again (the simulated one).
    ///
    /// # Errors
    /// [`Error::Invalid`] if the files are another engine's: nothing happened. [`Error::Io`]: it may or
    /// may not have happened, and the store must stop.
    fn ingest(&self, ranges: &[CfRange], files: &Self::Staged, meta: &WriteBatch) -> Result<bool>;

    /// Estimated bytes that `[start, end)` takes on disk and in memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn approximate_bytes(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64>;

    /// Estimated number of keys in `[start, end)`. No scan: from what the engine keeps count of, so that versions and deletions
    /// that compaction has not dropped yet may be in it.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn approximate_keys(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64>;
}
