//! The simulator's engine: an ordered map in memory with the *weakest* behaviour that the contract allows.
//!
//! ```text
//!   durable: the map at the last flush  --+--  unflushed: the batches since, in order  -->  current: the map now
//!                                         |
//!   crash:  durable + the first n of the unflushed batches, n drawn from 0..=all; the rest is lost
//! ```
//!
//! **In** comes a [`SimStorage`] (the disk that survives a crash of the process; the simulated node owns it), **out**
//! goes a [`SimEngine`]. It simulates these faults:
//! - a crash keeps any prefix at or after the last flush or ingest, and loses staged files ([`SimStorage::crash`]);
//! - a staged file cannot be written or is damaged ([`SimStorage::set_staging_fault`]);
//! - a flush or an ingest fails and the engine stops ([`SimStorage::fail_next_flush`]);
//! - the disk is replaced by an empty one ([`SimStorage::wipe`]);
//! - a key is not in memory and its reader waits for the disk ([`SimStorage::set_cold_reads`]).
//!
//! It simulates neither bit rot nor torn files: RocksDB's checksums turn those into [`Error::Corruption`] or a refusal
//! to open, which [`SimStorage::fail_next_open`] simulates. RocksDB may also flush on its own at any moment; the free
//! choice of the prefix covers that.
//!
//! **Never**: a handle from before a crash that changes the storage or sees later writes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;

pub use super::tree::Summary;
use super::tree::{Tree, mix};
use super::{Bounds, Cached, Cf, CfRange, Cursor, CursorOptions, KvEngine, Op, Read, Stager, Visit, WriteBatch};
use crate::types::{Error, Result};

/// When the unflushed batches exceed this many bytes, their older half becomes durable, as in RocksDB when its
/// memtables are full.
const UNFLUSHED_BYTES_MAX: usize = 64 << 20;

/// How long a key stays in memory after it was last read, ns. Longer than any fault that the simulator can
/// place between the read that fetches a key and the next one.
const WARM_NS: u64 = 30_000_000_000;

/// The machine whose disk serves reads of keys that are not in memory.
pub trait ColdReads: Send + Sync {
    /// Returns the time, ns.
    fn now_ns(&self) -> u64;
    /// Waits for as long as a read from the disk takes.
    fn wait(&self);
}

/// One map for each column family, at one point of the write sequence.
#[derive(Clone, Default)]
struct Image([Tree; Cf::ALL.len()]);

impl Image {
    fn tree(&self, cf: Cf) -> &Tree {
        &self.0[cf as usize]
    }

    fn apply(&mut self, batch: &WriteBatch) {
        for op in batch.ops() {
            match op {
                Op::Put(cf, key, value) => self.0[*cf as usize].put(key, value),
                Op::Delete(cf, key) => self.0[*cf as usize].delete(key),
                Op::DeleteRange(cf, start, end) => self.0[*cf as usize].delete_range(start, end),
            }
        }
    }
}

/// A fault of staged files, which happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagingFault {
    /// A call fails after this many calls have succeeded.
    Fails(u32),
    /// The next finished files are damaged, which the engine detects when it ingests them.
    Damages,
}

#[derive(Default)]
struct State {
    /// Counts crashes and wipes. A handle is valid only in the epoch in which it was opened.
    epoch: u64,
    /// Stands for the LOCK file of the real engine: alive while the engine is open.
    lock: Weak<()>,
    current: Image,
    durable: Image,
    unflushed: VecDeque<WriteBatch>,
    unflushed_bytes: usize,
    /// The number of stagers and staged files that have not been dropped.
    staged: usize,
    /// The pending fault of staged files.
    staging: Option<StagingFault>,
    fail_next_open: Option<Error>,
    fail_next_flush: bool,
    ignore_flushes: bool,
    /// Whether writes would have to wait.
    stalled: bool,
    /// Why the open engine refuses writes.
    stopped: Option<String>,
    /// The machine on which reads from the disk take time, if there is one.
    cold_reads: Option<Arc<dyn ColdReads>>,
    /// Cold keys that are in memory, and until when (ns).
    warm: BTreeMap<(Cf, Bytes), u64>,
}

impl State {
    fn make_durable(&mut self, batches: usize) {
        for batch in self.unflushed.drain(..batches) {
            self.unflushed_bytes -= batch.bytes();
            self.durable.apply(&batch);
        }
    }

    fn make_all_durable(&mut self) {
        self.durable = self.current.clone();
        self.unflushed.clear();
        self.unflushed_bytes = 0;
    }

    fn push(&mut self, batch: &WriteBatch) {
        self.current.apply(batch);
        self.unflushed.push_back(batch.clone());
        self.unflushed_bytes += batch.bytes();
    }

    fn now_ns(&self) -> u64 {
        self.cold_reads.as_ref().map_or(0, |machine| machine.now_ns())
    }

    /// Returns whether reading the key needs the disk.
    fn is_on_disk(&self, cf: Cf, key: &[u8]) -> bool {
        let is_cold_again = |until_ns: &u64| self.now_ns() > *until_ns;
        is_cold(key) && self.warm.get(&(cf, Bytes::copy_from_slice(key))).is_none_or(is_cold_again)
    }

    /// Fails if a failing flush was requested; the engine then refuses further writes.
    fn fail_flush(&mut self, what: &str) -> Result<()> {
        if !std::mem::take(&mut self.fail_next_flush) {
            return Ok(());
        }
        let why = format!("{what} failed: injected");
        self.stopped = Some(why.clone());
        Err(Error::Io(why))
    }

    fn fail_staging(&mut self) -> Result<()> {
        match &mut self.staging {
            Some(StagingFault::Fails(0)) => {
                self.staging = None;
                Err(Error::Io("a staged file: Input/output error, injected".into()))
            }
            Some(StagingFault::Fails(left)) => {
                *left -= 1;
                Ok(())
            }
            Some(StagingFault::Damages) | None => Ok(()),
        }
    }

    fn restart(&mut self) {
        self.epoch += 1;
        self.staged = 0;
        self.staging = None;
        self.lock = Weak::new();
        self.unflushed.clear();
        self.unflushed_bytes = 0;
        self.fail_next_open = None;
        self.fail_next_flush = false;
        self.stalled = false;
        self.stopped = None;
        self.warm.clear();
    }
}

/// The data directory of a simulated process, which survives its crashes. Clones share the directory.
#[derive(Clone, Default)]
pub struct SimStorage {
    state: Arc<Mutex<State>>,
}

/// The effect of a crash on the unflushed batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The number of batches that no flush had made durable.
    pub unflushed: usize,
    /// How many of them survived, counted from the oldest.
    pub kept: usize,
}

impl SimStorage {
    /// Creates an empty data directory.
    pub fn new() -> SimStorage {
        SimStorage::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the lock")
    }

    /// Crashes the process: a prefix of the write sequence survives, which ends at or after the last flush. One crash
    /// in four keeps no unflushed batch, one in four keeps all of them, the others keep a uniformly drawn number.
    /// `draw(n)` returns a number below `n`. Handles opened before the crash can no longer change anything.
    pub fn crash(&self, draw: &mut dyn FnMut(u64) -> u64) -> Crash {
        let unflushed = self.unflushed();
        let kept = match draw(4) {
            0 => 0,
            1 => unflushed,
            _ => draw(unflushed as u64 + 1) as usize,
        };
        self.crash_keeping(kept)
    }

    /// Crashes the process; the first `kept` unflushed batches survive.
    ///
    /// # Panics
    /// If there are fewer unflushed batches.
    pub fn crash_keeping(&self, kept: usize) -> Crash {
        let mut state = self.state();
        let unflushed = state.unflushed.len();
        assert!(kept <= unflushed, "{kept} of {unflushed} unflushed batches");
        state.make_durable(kept);
        state.current = state.durable.clone();
        state.restart();
        Crash { unflushed, kept }
    }

    /// Returns how many batches no flush has made durable.
    pub fn unflushed(&self) -> usize {
        self.state().unflushed.len()
    }

    /// Returns the number of stagers and staged files that have not been dropped.
    pub fn staged(&self) -> usize {
        self.state().staged
    }

    /// Sets the fault of staged files, which happens once, or clears it (`None`). A crash clears it as well.
    pub fn set_staging_fault(&self, fault: Option<StagingFault>) {
        self.state().staging = fault;
    }

    /// Returns whether a fault of staged files is still pending.
    pub fn has_staging_fault(&self) -> bool {
        self.state().staging.is_some()
    }

    /// Makes the next [`KvEngine::flush`] or [`KvEngine::ingest`] fail. The engine then refuses writes until it is
    /// opened again after a crash.
    pub fn fail_next_flush(&self) {
        self.state().fail_next_flush = true;
    }

    /// Makes the next [`SimEngine::open`] fail with this error (damaged files, for example). A crash clears it.
    pub fn fail_next_open(&self, error: Error) {
        self.state().fail_next_open = Some(error);
    }

    /// Sets whether writes would have to wait for background work from now on. A crash clears it.
    pub fn stall(&self, stalled: bool) {
        self.state().stalled = stalled;
    }

    /// From now on, reads of keys that are not in memory wait for this machine's disk.
    pub fn set_cold_reads(&self, machine: Arc<dyn ColdReads>) {
        self.state().cold_reads = Some(machine);
    }

    /// Sets whether flushes report success without making anything durable: a planted bug for the zoo.
    pub fn ignore_flushes(&self, ignore: bool) {
        self.state().ignore_flushes = ignore;
    }

    /// Replaces the disk by an empty one. Handles opened before can no longer change anything.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.current = Image::default();
        state.durable = Image::default();
        state.restart();
    }

    /// Returns the present content, flushed or not, for oracles.
    pub fn view(&self) -> SimSnapshot {
        SimSnapshot { image: Ok(self.state().current.clone()), _lock: None }
    }

    /// Returns a copy of the directory that contains only what is certainly durable.
    pub fn durable_copy(&self) -> SimStorage {
        let (durable, cold_reads) = {
            let state = self.state();
            (state.durable.clone(), state.cold_reads.clone())
        };
        let state = State { current: durable.clone(), durable, cold_reads, ..State::default() };
        SimStorage { state: Arc::new(Mutex::new(state)) }
    }

    /// Returns a hash of the present pairs in these ranges (an empty end is plus infinity), flushed or not. Equal
    /// content has equal hashes on every platform. Needs no scan.
    pub fn content_hash(&self, ranges: &[(Cf, &[u8], &[u8])]) -> u64 {
        self.view().content_hash(ranges)
    }
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let pairs: u64 = state.current.0.iter().map(|tree| tree.summary(&[], &[]).pairs).sum();
        f.debug_struct("SimStorage")
            .field("epoch", &state.epoch)
            .field("pairs", &pairs)
            .field("unflushed", &state.unflushed.len())
            .finish()
    }
}

/// An open [`SimStorage`]. Clones share it. While a clone or a snapshot exists and no crash has happened, the storage
/// cannot be opened again.
#[derive(Clone)]
pub struct SimEngine {
    storage: SimStorage,
    epoch: u64,
    lock: Arc<()>,
}

impl SimEngine {
    /// Opens the storage.
    ///
    /// # Errors
    /// [`Error::Io`] if it is already open, or the error set by [`SimStorage::fail_next_open`].
    pub fn open(storage: &SimStorage) -> Result<SimEngine> {
        let mut state = storage.state();
        if let Some(error) = state.fail_next_open.take() {
            return Err(error);
        }
        if state.lock.strong_count() > 0 {
            return Err(Error::Io("another process uses this data directory".into()));
        }
        let lock = Arc::new(());
        state.lock = Arc::downgrade(&lock);
        state.stopped = None;
        Ok(SimEngine { storage: storage.clone(), epoch: state.epoch, lock })
    }

    /// Returns the storage's state, if no crash has ended this handle's process.
    fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.storage.state();
        if state.epoch != self.epoch {
            return Err(Error::Stopped("the process of this engine has crashed".into()));
        }
        Ok(state)
    }

    fn writable(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state()?;
        match &state.stopped {
            Some(why) => Err(Error::Stopped(why.clone())),
            None => Ok(state),
        }
    }
}

impl fmt::Debug for SimEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimEngine").field("epoch", &self.epoch).field("storage", &self.storage).finish()
    }
}

/// Returns whether a key is not in memory until it is read: in the simulator, about every fourth key.
fn is_cold(key: &[u8]) -> bool {
    crate::rt::probe::LISTENING && key.iter().fold(0, |hash, byte| mix(hash ^ u64::from(*byte))).is_multiple_of(4)
}

impl Read for SimEngine {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>> {
        let mut state = self.state()?;
        let found = state.current.tree(cf).get(key).cloned();
        if !is_cold(key) {
            return Ok(found);
        }
        let waits = state.is_on_disk(cf, key);
        // A read of a key that is in memory keeps it there, as caches do.
        let until_ns = state.now_ns() + WARM_NS;
        state.warm.insert((cf, Bytes::copy_from_slice(key)), until_ns);
        let machine = state.cold_reads.clone().filter(|_| waits);
        drop(state);
        if let Some(machine) = machine {
            machine.wait();
        }
        Ok(found)
    }

    fn get_cached(&self, cf: Cf, key: &[u8]) -> Result<Cached> {
        let state = self.state()?;
        if state.is_on_disk(cf, key) {
            return Ok(Cached::OnDisk);
        }
        Ok(Cached::Known(state.current.tree(cf).get(key).cloned()))
    }

    fn cursor(&self, cf: Cf, start: &[u8], end: &[u8], options: CursorOptions) -> Result<Box<dyn Cursor + '_>> {
        Ok(Box::new(SimCursor::new(self.state()?.current.tree(cf).clone(), start, end, options)))
    }

    // Faster than a lookup for each pair.
    fn scan(&self, cf: Cf, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        // The scan needs its own view: the visitor may write, and the scan must not see its writes.
        let tree = self.state()?.current.tree(cf).clone();
        tree.scan(start, end, visit);
        Ok(())
    }
}

impl KvEngine for SimEngine {
    type Snapshot = SimSnapshot;
    type Staged = SimStaged;
    type Stager = SimStager;

    fn write(&self, batch: &WriteBatch) -> Result<()> {
        let mut state = self.writable()?;
        if batch.is_empty() {
            return Ok(());
        }
        state.push(batch);
        if state.unflushed_bytes > UNFLUSHED_BYTES_MAX || crate::buggify!("engine.flush-by-itself") {
            let half = state.unflushed.len().div_ceil(2);
            state.make_durable(half);
        }
        Ok(())
    }

    fn try_write(&self, batch: &WriteBatch) -> Result<bool> {
        let stalled = self.writable()?.stalled || crate::buggify!("engine.write-must-wait");
        if stalled { Ok(false) } else { self.write(batch).map(|()| true) }
    }

    fn write_waiting(&self, batch: &WriteBatch) -> Result<bool> {
        self.try_write(batch)
    }

    fn snapshot(&self) -> SimSnapshot {
        let image = self.state().map(|state| state.current.clone());
        SimSnapshot { image, _lock: Some(self.lock.clone()) }
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.writable()?;
        state.fail_flush("flush")?;
        if !state.ignore_flushes {
            state.make_all_durable();
        }
        Ok(())
    }

    fn stager(&self) -> Result<SimStager> {
        let mut state = self.writable()?;
        state.staged += 1;
        drop(state);
        let files =
            SimStaged { storage: self.storage.clone(), epoch: self.epoch, pairs: WriteBatch::new(), damaged: false };
        Ok(SimStager { files, last: Default::default() })
    }

    fn ingest(&self, ranges: &[CfRange], files: &SimStaged, meta: &WriteBatch) -> Result<bool> {
        let mut state = self.writable()?;
        if files.epoch != state.epoch || !Arc::ptr_eq(&files.storage.state, &self.storage.state) {
            return Err(Error::Invalid("the staged files are those of another engine".into()));
        }
        if state.stalled || crate::buggify!("engine.ingest-must-wait") {
            return Ok(false);
        }
        if files.damaged {
            crate::reach!("engine.damaged-file-found");
            return Err(Error::Corruption("a staged file does not have its checksum: injected".into()));
        }
        state.fail_flush("ingest")?;
        let mut batch = WriteBatch::new();
        for CfRange { cf, start, end } in ranges {
            batch.delete_range(*cf, start.clone(), end.clone());
        }
        let apart = crate::mutant!("engine.ingest-without-meta");
        let meta_ops = if apart { &[] } else { meta.ops() };
        files.pairs.ops().iter().chain(meta_ops).for_each(|op| batch.push(op.clone()));
        state.push(&batch);
        if !state.ignore_flushes && !crate::mutant!("replica.snapshot-not-flushed") {
            state.make_all_durable();
        }
        if apart {
            state.push(meta);
        }
        Ok(true)
    }

    fn approximate_bytes(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        Ok(self.state()?.current.tree(cf).summary(start, end).bytes)
    }

    /// Exact in this engine.
    fn approximate_keys(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        Ok(self.state()?.current.tree(cf).summary(start, end).pairs)
    }
}

/// Collects pairs for an ingest into a [`SimEngine`].
#[derive(Debug)]
pub struct SimStager {
    files: SimStaged,
    last: [Option<Bytes>; Cf::ALL.len()],
}

impl Stager for SimStager {
    type Staged = SimStaged;

    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<()> {
        super::in_order(cf, self.last[cf as usize].as_deref(), key)?;
        self.files.storage.state().fail_staging()?;
        let key = Bytes::copy_from_slice(key);
        self.last[cf as usize] = Some(key.clone());
        self.files.pairs.put(cf, key, Bytes::copy_from_slice(value));
        Ok(())
    }

    fn finish(mut self) -> Result<SimStaged> {
        let mut state = self.files.storage.state();
        state.fail_staging()?;
        let damages = state.staging.take_if(|fault| *fault == StagingFault::Damages).is_some();
        drop(state);
        self.files.damaged = damages;
        Ok(self.files)
    }
}

/// The pairs that a [`SimStager`] collected. A crash loses them.
pub struct SimStaged {
    storage: SimStorage,
    epoch: u64,
    pairs: WriteBatch,
    damaged: bool,
}

impl fmt::Debug for SimStaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStaged").field("epoch", &self.epoch).field("pairs", &self.pairs.len()).finish()
    }
}

impl Drop for SimStaged {
    fn drop(&mut self) {
        let mut state = self.storage.state();
        if state.epoch == self.epoch {
            state.staged -= 1;
        }
    }
}

/// A frozen view of a [`SimEngine`] or [`SimStorage`]. It outlives a crash. Every read fails if it was taken from the
/// handle of a crashed process.
#[derive(Clone)]
pub struct SimSnapshot {
    image: Result<Image>,
    _lock: Option<Arc<()>>,
}

impl SimSnapshot {
    fn tree(&self, cf: Cf) -> Result<&Tree> {
        self.image.as_ref().map(|image| image.tree(cf)).map_err(Clone::clone)
    }

    /// Returns the count, bytes and hash of the pairs in `[start, end)`; an empty `end` is plus infinity. Needs no
    /// scan.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the snapshot was taken from the handle of a crashed process.
    pub fn summary(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<Summary> {
        Ok(self.tree(cf)?.summary(start, end))
    }

    /// Returns a hash of the pairs in these ranges; see [`SimStorage::content_hash`].
    ///
    /// # Panics
    /// If the snapshot was taken from the handle of a crashed process.
    pub fn content_hash(&self, ranges: &[(Cf, &[u8], &[u8])]) -> u64 {
        ranges.iter().fold(0, |hash, (cf, start, end)| {
            let summary = self.summary(*cf, start, end).expect("a snapshot of a live engine");
            mix(hash ^ mix(*cf as u64 + 1)).wrapping_add(mix(summary.hash ^ summary.pairs))
        })
    }
}

impl fmt::Debug for SimSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSnapshot").field("live", &self.image.is_ok()).finish_non_exhaustive()
    }
}

impl Read for SimSnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.tree(cf)?.get(key).cloned())
    }

    fn get_cached(&self, cf: Cf, key: &[u8]) -> Result<Cached> {
        if is_cold(key) { Ok(Cached::OnDisk) } else { self.get(cf, key).map(Cached::Known) }
    }

    fn cursor(&self, cf: Cf, start: &[u8], end: &[u8], options: CursorOptions) -> Result<Box<dyn Cursor + '_>> {
        Ok(Box::new(SimCursor::new(self.tree(cf)?.clone(), start, end, options)))
    }

    fn scan(&self, cf: Cf, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        self.tree(cf)?.scan(start, end, visit);
        Ok(())
    }
}

/// The simulated [`Cursor`]. Each move looks its position up in the cursor's own copy of the tree.
struct SimCursor {
    tree: Tree,
    bounds: Bounds,
    at: Option<(Bytes, Bytes)>,
    may_wait: bool,
    needs_disk: bool,
}

impl SimCursor {
    fn new(tree: Tree, start: &[u8], end: &[u8], options: CursorOptions) -> SimCursor {
        let bounds = Bounds { start: Bytes::copy_from_slice(start), end: Bytes::copy_from_slice(end) };
        SimCursor { tree, bounds, at: None, may_wait: options.may_wait, needs_disk: false }
    }

    /// Moves to the pair that was found, unless that needs the disk and the cursor must not wait.
    fn go(&mut self, found: Option<(Bytes, Bytes)>) -> Result<bool> {
        self.needs_disk = !self.may_wait && found.as_ref().is_some_and(|(key, _)| is_cold(key));
        self.at = found.filter(|_| !self.needs_disk);
        Ok(self.at.is_some())
    }

    /// Moves to the first pair at or after `start`.
    fn first(&mut self, start: &[u8]) -> Result<bool> {
        let mut found = None;
        if !self.bounds.is_empty() {
            self.tree.scan(start.max(&self.bounds.start), &self.bounds.end, &mut |key, value| {
                found = Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                Visit::Stop
            });
        }
        self.go(found)
    }

    /// Moves to the last pair before `end`; an empty `end` is plus infinity.
    fn last(&mut self, end: &[u8]) -> Result<bool> {
        let mut found = None;
        if !self.bounds.is_empty() {
            self.tree.scan_reverse(&self.bounds.start, end, &mut |key, value| {
                found = Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                Visit::Stop
            });
        }
        self.go(found)
    }
}

impl Cursor for SimCursor {
    fn seek(&mut self, key: &[u8]) -> Result<bool> {
        self.first(key)
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<bool> {
        if self.bounds.are_below(key) {
            return self.seek_last();
        }
        if key <= &self.bounds.start[..] {
            self.at = None;
            return Ok(false);
        }
        self.last(key)
    }

    fn seek_last(&mut self) -> Result<bool> {
        let end = self.bounds.end.clone();
        self.last(&end)
    }

    fn next(&mut self) -> Result<bool> {
        let Some((key, _)) = self.at.take() else { return Ok(false) };
        self.first(&[&key[..], &[0]].concat())
    }

    fn back(&mut self) -> Result<bool> {
        let Some((key, _)) = self.at.take() else { return Ok(false) };
        // Nothing precedes the empty key, and an empty end would be plus infinity.
        if key.is_empty() { Ok(false) } else { self.last(&key) }
    }

    fn pair(&self) -> Option<(&[u8], &[u8])> {
        self.at.as_ref().map(|(key, value)| (&key[..], &value[..]))
    }

    fn needs_disk(&self) -> bool {
        self.needs_disk
    }
}
