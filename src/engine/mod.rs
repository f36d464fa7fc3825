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
//! ```
//!
//! **In** come write batches over a few column families; **out** go snapshots, point reads and ordered iteration.
//!
//! **The durability contract.** Writes form one sequence. After a crash the engine holds the effect of a *prefix* of that
//! sequence, all column families at the same point, and the prefix includes every write that completed before the last
//! successful [`KvEngine::flush`] began. Nothing more: what was written after may be there up to any point, or not. The raft
//! log is the write-ahead log; the applied index of each group lies in [`Cf::Meta`] in the same batches, so that the log can
//! be replayed from wherever the engine stands.
//!
//! **Never**: a batch half there, two column families at different points, a later write without an earlier one, a flush that
//! reports success for data that is not durable.

#[cfg(not(madsim))]
mod rocks;
mod sim;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt::Debug;

use bytes::Bytes;

use crate::types::Result;

#[cfg(not(madsim))]
pub use rocks::{RocksEngine, RocksOptions, RocksSnapshot};
pub use sim::{Crash, SimEngine, SimHome, SimSnapshot, Summary};

/// The engine of this world.
#[cfg(not(madsim))]
pub type Engine = RocksEngine;
/// The engine of this world.
#[cfg(madsim)]
pub type Engine = SimEngine;

/// Where the engine of this world keeps its data: what survives a crash of the process.
#[cfg(not(madsim))]
pub type EngineHome = RocksOptions;
/// Where the engine of this world keeps its data: what survives a crash of the process.
#[cfg(madsim)]
pub type EngineHome = SimHome;

/// Opens the engine of this world.
///
/// # Errors
/// [`crate::types::Error::Io`] if it cannot be read or another process uses it, [`crate::types::Error::Corruption`] if it is
/// damaged, [`crate::types::Error::Invalid`] if a newer version wrote it.
pub fn open(home: &EngineHome) -> Result<Engine> {
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
    /// Group states (descriptor, applied index), store identity.
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
    /// The region that holds the key: snapshots, sizes, hashes and borders are of all of these together.
    Regions,
}

/// Every column family: its name in the engine's files, and whose data it holds. RocksDB always has a column family "default": ours
/// with the least traffic.
const FAMILIES: [(Cf, &str, Owner); 5] = [
    (Cf::Meta, "default", Owner::Store),
    (Cf::Pd, "pd", Owner::Pd),
    (Cf::RawDefault, "raw_default", Owner::Regions),
    (Cf::RawLock, "raw_lock", Owner::Regions),
    (Cf::RawWrite, "raw_write", Owner::Regions),
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

    /// Those with regions' data, in order of their numbers.
    pub fn all_of_regions() -> impl Iterator<Item = Cf> {
        Cf::ALL.into_iter().filter(|cf| cf.of_regions())
    }

    /// The column family of that number.
    pub fn from_number(number: u32) -> Option<Cf> {
        Cf::ALL.into_iter().find(|cf| *cf as u32 == number)
    }
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

/// Reads: of a snapshot, or of the engine as it stands.
pub trait Read {
    /// The value of a key.
    ///
    /// # Errors
    /// [`crate::types::Error::Corruption`] or [`crate::types::Error::Io`].
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>>;

    /// Visits the pairs of `[start, end)` upwards (an empty `end` is plus infinity) until the visitor stops.
    ///
    /// # Errors
    /// [`crate::types::Error::Corruption`] or [`crate::types::Error::Io`].
    fn scan(&self, cf: Cf, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()>;

    /// Visits the pairs of `[start, end)` downwards, from the largest, until the visitor stops.
    ///
    /// # Errors
    /// [`crate::types::Error::Corruption`] or [`crate::types::Error::Io`].
    fn scan_reverse(
        &self,
        cf: Cf,
        start: &[u8],
        end: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<()>;
}

/// A store of ordered pairs, with the durability contract at the head of this room. Clones share it.
pub trait KvEngine: Read + Clone + Debug + Send + Sync + 'static {
    /// A frozen view.
    type Snapshot: Read + Send + Sync + 'static;

    /// Applies a batch: atomic, visible to every later read, not durable.
    ///
    /// # Errors
    /// [`crate::types::Error::Io`]; the batch may or may not be there, and the store must stop.
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
    /// [`crate::types::Error::Io`]; durability is as it was before, and the store must stop.
    fn flush(&self) -> Result<()>;

    /// Estimated bytes that `[start, end)` takes on disk and in memory.
    ///
    /// # Errors
    /// [`crate::types::Error::Io`].
    fn approximate_bytes(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64>;

    /// Estimated number of keys in `[start, end)`. No scan: from what the engine keeps count of, so that versions and deletions
    /// that compaction has not dropped yet may be in it.
    ///
    /// # Errors
    /// [`crate::types::Error::Io`].
    fn approximate_keys(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64>;
}
