//! The simulated disk: files that remember what was synced.
//!
//! Sectors of 512 bytes are written whole. Readers see a write at once, but it is durable only after [`File::sync`]. A
//! name that is created, renamed or removed is durable only after [`Disk::sync_dir`] of its directory (a directory's
//! own name is also made durable when a file in it is, as journalling file systems do). A killed process loses nothing;
//! a power loss ([`SimDisk::crash`]) decides for each unsynced sector whether it was kept, lost, left at an earlier
//! version or, beyond the old end of the file, torn or filled with garbage; the length may have grown without the data.

mod image;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

pub use self::image::CrashMode;
use self::image::Image;
use super::context::Context;
use super::draw;
use super::probe::{What, hash_bytes};
use crate::rt::rng::{Rng, hash_label};

/// A file, shared by its names and its open handles.
type Inode = Arc<Mutex<Image>>;

/// A change of names that is not durable yet.
#[derive(Clone)]
enum NameOp {
    Create { path: PathBuf, inode: Inode },
    Rename { from: PathBuf, to: PathBuf, inode: Inode },
    Remove { path: PathBuf },
    Dir { path: PathBuf },
}

impl NameOp {
    /// Returns the directory whose sync makes the change durable.
    fn directory(&self) -> &Path {
        let path = match self {
            NameOp::Create { path, .. } | NameOp::Remove { path } | NameOp::Dir { path } => path,
            NameOp::Rename { to, .. } => to,
        };
        parent(path)
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Names, as readers see them or as the device holds them.
#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, Inode>,
    dirs: BTreeSet<PathBuf>,
}

impl Names {
    fn apply(&mut self, op: &NameOp) {
        match op {
            NameOp::Create { path, inode } => {
                self.files.insert(path.clone(), inode.clone());
            }
            NameOp::Rename { from, to, inode } => {
                // The old name may already belong to another file.
                if self.files.get(from).is_some_and(|held| Arc::ptr_eq(held, inode)) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), inode.clone());
            }
            NameOp::Remove { path } => {
                self.files.remove(path);
            }
            NameOp::Dir { path } => {
                self.dirs.insert(path.clone());
            }
        }
    }

    fn has_dir(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || path == Path::new("/") || path == Path::new(".") || self.dirs.contains(path)
    }
}

/// Capacity and speed of a simulated disk.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// Capacity in bytes.
    pub capacity_bytes: u64,
    /// Mean time of a call that only touches the page cache, in nanoseconds.
    pub cached_ns: u64,
    /// Mean time of a sync, in nanoseconds, without the transfer.
    pub sync_ns: u64,
    /// Bytes per second that a sync writes.
    pub bandwidth: u64,
}

impl Default for DiskConfig {
    fn default() -> DiskConfig {
        DiskConfig { capacity_bytes: 100 << 30, cached_ns: 3_000, sync_ns: 250_000, bandwidth: 300_000_000 }
    }
}

/// A call of the file system, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each names a method
pub enum DiskCall {
    Open,
    Create,
    List,
    Rename,
    Remove,
    SyncDir,
    Read,
    Write,
    SetLen,
}

/// A call that will fail.
struct FailingCall {
    call: DiskCall,
    /// How many more calls of its kind until it fails, the failing one included.
    left: u32,
    error: i32,
}

/// A future write that will be short.
struct ShortWrite {
    /// The number of writes until then, including it.
    left: u32,
    /// The part that is written, thousandths.
    permille: u32,
    /// The error that it returns; `None`: the rest is written later.
    error: Option<i32>,
}

struct State {
    config: DiskConfig,
    epoch: u64,
    next_file: u64,
    names: Names,
    durable: Names,
    pending: Vec<NameOp>,
    failing_syncs: u32,
    /// The call that will fail, if any.
    failing_call: Option<FailingCall>,
    short_write: Option<ShortWrite>,
    full: bool,
    /// Bytes taken by others (see [`SimDisk::leave`]).
    taken: u64,
    slow: f64,
    /// When the last of the calls made so far will have returned, ns of true time.
    calls_end_ns: u64,
    stalled_until_ns: u64,
    busy_until_ns: u64,
    draws: u64,
}

impl State {
    fn new() -> State {
        State {
            config: DiskConfig::default(),
            epoch: 1,
            next_file: 1,
            names: Names::default(),
            durable: Names::default(),
            pending: Vec::new(),
            failing_syncs: 0,
            failing_call: None,
            short_write: None,
            full: false,
            taken: 0,
            slow: 1.0,
            calls_end_ns: 0,
            stalled_until_ns: 0,
            busy_until_ns: 0,
            draws: 0,
        }
    }

    fn used(&self) -> u64 {
        self.names.files.values().map(|inode| inode.lock().unwrap().len()).sum()
    }

    /// Returns how many bytes files may still grow by. Disks too large for a run to fill are not counted.
    fn room(&self) -> u64 {
        let capacity = self.config.capacity_bytes;
        if self.full {
            0
        } else if capacity > COUNTED_BYTES_MAX {
            u64::MAX
        } else {
            capacity.saturating_sub(self.used() + self.taken)
        }
    }

    /// Counts a call, and returns an error if it is the one that the simulator chose.
    fn call(&mut self, call: DiskCall) -> io::Result<()> {
        let Some(failing) = self.failing_call.as_mut().filter(|failing| failing.call == call) else { return Ok(()) };
        failing.left -= 1;
        if failing.left > 0 {
            return Ok(());
        }
        let error = failing.error;
        self.failing_call = None;
        Err(io::Error::from_raw_os_error(error))
    }

    /// Counts a write of `len` bytes. Returns, if it is to be short, the bytes to write first and the error after them.
    fn shorten(&mut self, len: usize) -> Option<(usize, Option<i32>)> {
        let short = self.short_write.as_mut()?;
        short.left -= 1;
        if short.left > 0 {
            return None;
        }
        let ShortWrite { permille, error, .. } = self.short_write.take()?;
        crate::reach!("disk.short-write");
        Some((len * permille as usize / 1000, error))
    }

    fn change(&mut self, op: NameOp) {
        self.names.apply(&op);
        self.pending.push(op);
    }

    /// Makes those pending changes durable for which `choose` returns `true`, in their order.
    fn settle(&mut self, mut choose: impl FnMut(&NameOp) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        for op in pending {
            if choose(&op) {
                self.durable.apply(&op);
            } else {
                self.pending.push(op);
            }
        }
    }

    /// Makes a directory and its ancestors durable.
    fn settle_dirs(&mut self, path: &Path) {
        self.settle(|op| matches!(op, NameOp::Dir { path: made } if path.starts_with(made)));
    }
}

struct Cell {
    /// Where time is charged and operations are recorded; `None` for a copy made for inspection.
    context: Option<Arc<Context>>,
    node: u64,
    state: Mutex<State>,
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn record(&self, op: &'static str, file: u64, offset: u64, len: u64, hash: u64) {
        if let Some(context) = &self.context {
            context.record(self.node, What::Disk { op, file, offset, len, hash });
        }
    }
}

/// The simulator's control over one node's disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    cell: Arc<Cell>,
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimDisk(node {})", self.cell.node)
    }
}

impl SimDisk {
    pub(super) fn of_node(context: &Arc<Context>, node: u64) -> SimDisk {
        SimDisk { cell: Arc::new(Cell { context: Some(context.clone()), node, state: Mutex::new(State::new()) }) }
    }

    /// Returns a handle to the disk for the node's current incarnation.
    pub fn disk(&self) -> Disk {
        Disk { cell: self.cell.clone(), epoch: self.cell.lock().epoch }
    }

    /// Makes handles that were opened before fail from now on, because the node was killed.
    pub(super) fn next_epoch(&self) {
        self.cell.lock().epoch += 1;
    }

    /// Sets the disk's capacity and speed.
    pub fn set_config(&self, config: DiskConfig) {
        self.cell.lock().config = config;
    }

    /// Makes the next sync fail with EIO and silently drops what it should have written: a later sync succeeds without
    /// it, as on Linux.
    pub fn fail_next_sync(&self) {
        self.cell.lock().failing_syncs += 1;
    }

    /// Makes the `nth` call (from 1) of this kind fail with an error of the operating system, without any effect.
    pub fn fail_call(&self, call: DiskCall, nth: u32, error: i32) {
        self.cell.lock().failing_call = Some(FailingCall { call, left: nth.max(1), error });
    }

    /// Makes the `nth` write (from 1) store `permille` thousandths of its bytes and then fail with `error`. Without an
    /// error it writes the rest some time later, as a program that got a short count must.
    pub fn shorten_write(&self, nth: u32, permille: u32, error: Option<i32>) {
        self.cell.lock().short_write = Some(ShortWrite { left: nth.max(1), permille, error });
    }

    /// Returns whether a sync or another call is going to fail.
    pub fn is_failing(&self) -> bool {
        let state = self.cell.lock();
        let short = state.short_write.as_ref().is_some_and(|short| short.error.is_some());
        state.failing_syncs > 0 || state.failing_call.is_some() || short
    }

    /// Simulates other users of the disk who take so much space that only `bytes` are left now; `None` frees that space
    /// again. Only affects disks small enough to be filled, see [`DiskConfig::capacity_bytes`].
    pub fn leave(&self, bytes: Option<u64>) {
        let mut state = self.cell.lock();
        let free = state.config.capacity_bytes.saturating_sub(state.used());
        state.taken = bytes.map_or(0, |bytes| free.saturating_sub(bytes));
    }

    /// Returns the available bytes.
    pub fn available(&self) -> u64 {
        let state = self.cell.lock();
        if state.full { 0 } else { state.config.capacity_bytes.saturating_sub(state.used() + state.taken) }
    }

    /// Sets whether everything that needs more space fails with `StorageFull`.
    pub fn set_full(&self, full: bool) {
        self.cell.lock().full = full;
    }

    /// Returns when all calls made so far will have returned (ns of true time), however slow the disk was when they
    /// were made.
    pub fn calls_end_ns(&self) -> u64 {
        self.cell.lock().calls_end_ns
    }

    /// Multiplies the time of every operation by `factor`.
    ///
    /// # Panics
    /// If `factor` is not positive.
    pub fn set_slow(&self, factor: f64) {
        assert!(factor > 0.0, "a disk takes time");
        self.cell.lock().slow = factor;
    }

    /// Delays every operation that reaches the device until `duration` has passed.
    pub fn stall(&self, duration: Duration) {
        let now = self.cell.context.as_ref().map_or(0, |context| context.now_ns());
        let mut state = self.cell.lock();
        state.stalled_until_ns = state.stalled_until_ns.max(now + duration.as_nanos() as u64);
    }

    /// Empties the disk, as if it had been replaced. The node should be down.
    pub fn wipe(&self) {
        let mut state = self.cell.lock();
        let epoch = state.epoch + 1;
        let (config, draws, next_file) = (state.config.clone(), state.draws, state.next_file);
        *state = State { epoch, config, draws, next_file, ..State::new() };
    }

    /// Exchanges the contents of two nodes' disks. Both nodes should be down.
    pub fn swap(&self, other: &SimDisk) {
        assert!(!Arc::ptr_eq(&self.cell, &other.cell), "two disks are swapped, not one with itself");
        let (mut a, mut b) = (self.cell.lock(), other.cell.lock());
        let (a, b) = (&mut *a, &mut *b);
        std::mem::swap(&mut a.names, &mut b.names);
        std::mem::swap(&mut a.durable, &mut b.durable);
        std::mem::swap(&mut a.pending, &mut b.pending);
        let next_file = a.next_file.max(b.next_file);
        (a.next_file, b.next_file) = (next_file, next_file);
        a.epoch += 1;
        b.epoch += 1;
    }

    /// Simulates a power loss: decides what is left of unsynced data and names. See [`CrashMode::Random`].
    pub fn crash(&self, rng: &mut Rng) {
        self.crash_with(rng, CrashMode::Random);
    }

    /// Simulates a power loss after which `mode` decides about unsynced data.
    pub fn crash_with(&self, rng: &mut Rng, mode: CrashMode) {
        let mut state = self.cell.lock();
        let state = &mut *state;
        state.epoch += 1;
        match mode {
            CrashMode::LoseAll => {}
            CrashMode::KeepAll => state.settle(|_| true),
            // A journalling file system keeps a prefix of the changes; others keep any subset.
            CrashMode::Random if rng.chance(0.5) => {
                let mut left = rng.below(state.pending.len() as u64 + 1);
                state.settle(|_| {
                    let keep = left > 0;
                    left = left.saturating_sub(1);
                    keep
                });
            }
            CrashMode::Random => state.settle(|_| rng.chance(0.5)),
        }
        state.pending.clear();
        // Files in a lost directory are lost with it.
        let dirs = state.durable.dirs.clone();
        let reachable = |path: &Path| {
            path.ancestors().skip(1).all(|up| Names { files: BTreeMap::new(), dirs: dirs.clone() }.has_dir(up))
        };
        state.durable.files.retain(|path, _| reachable(path));
        state.names = state.durable.clone();
        for inode in state.names.files.values() {
            inode.lock().unwrap().crash(rng, mode);
        }
    }

    /// Returns a copy of what would be left if the power failed now and nothing unsynced had been written, for
    /// inspection without simulated time passing.
    pub fn durable_copy(&self) -> SimDisk {
        let state = self.cell.lock();
        let mut copy = State::new();
        copy.next_file = state.next_file;
        copy.names.dirs.clone_from(&state.durable.dirs);
        for (path, inode) in &state.durable.files {
            let image = inode.lock().unwrap().durable();
            copy.names.files.insert(path.clone(), Arc::new(Mutex::new(image)));
        }
        copy.durable = copy.names.clone();
        SimDisk { cell: Arc::new(Cell { context: None, node: self.cell.node, state: Mutex::new(copy) }) }
    }

    /// Returns all files and their lengths, as a reader sees them now.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.cell.lock();
        state.names.files.iter().map(|(path, inode)| (path.clone(), inode.lock().unwrap().len())).collect()
    }

    /// Returns a file's contents as a reader sees them now.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.cell.lock();
        let image = state.names.files.get(path)?.lock().unwrap();
        image.read(0, image.len() as usize)
    }

    /// Flips one bit at rest. Returns `false` if there is no such byte.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> bool {
        let state = self.cell.lock();
        state.names.files.get(path).is_some_and(|inode| inode.lock().unwrap().flip_bit(offset, bit))
    }

    /// Makes the sector at `offset` unreadable (EIO) until it is written again. Returns `false` if there is no such
    /// file.
    pub fn break_sector(&self, path: &Path, offset: u64) -> bool {
        let state = self.cell.lock();
        let Some(inode) = state.names.files.get(path) else { return false };
        inode.lock().unwrap().break_sector(offset / image::SECTOR);
        true
    }

    /// Returns how many bytes are written but not synced.
    pub fn unsynced_bytes(&self) -> u64 {
        let state = self.cell.lock();
        state.names.files.values().map(|inode| inode.lock().unwrap().dirty_bytes()).sum()
    }
}

/// One node's file system.
#[derive(Clone)]
pub struct Disk {
    cell: Arc<Cell>,
    epoch: u64,
}

/// An open file. Clones share it.
#[derive(Clone)]
pub struct File {
    disk: Disk,
    inode: Inode,
    id: u64,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk(node {})", self.cell.node)
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "File(node {} number {})", self.disk.cell.node, self.id)
    }
}

/// The operating system's EIO.
fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file or directory", path.display()))
}

/// Larger disks never become full through writes: their usage is not counted.
const COUNTED_BYTES_MAX: u64 = 1 << 30;

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on the simulated device")
}

fn path_hash(path: &Path) -> u64 {
    hash_label(0, &path.to_string_lossy())
}

impl Disk {
    /// Returns the state if this handle belongs to the node's current incarnation.
    fn live(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.cell.lock();
        if state.epoch != self.epoch {
            return Err(io::Error::other("the node was killed; this handle is of an earlier incarnation"));
        }
        Ok(state)
    }

    /// Waits for the duration of a call that only touches memory.
    async fn cached(&self) -> io::Result<()> {
        let Some(context) = &self.cell.context else { return self.live().map(drop) };
        let until = {
            let mut state = self.live()?;
            state.draws += 1;
            let bits = draw::at(context.seed, "disk", self.cell.node, 0, state.draws);
            let nanos = draw::long_tail(bits, state.config.cached_ns) as f64 * state.slow;
            context.now_ns() + nanos as u64
        };
        context.timer(until).await;
        self.live().map(drop)
    }

    /// Waits for the duration of a call that sends `bytes` to the device.
    async fn device(&self, bytes: u64) -> io::Result<()> {
        let Some(context) = &self.cell.context else { return self.live().map(drop) };
        let until = {
            let mut state = self.live()?;
            state.draws += 1;
            let bits = draw::at(context.seed, "disk", self.cell.node, 1, state.draws);
            let latency = (state.config.sync_ns / 3 + draw::long_tail(bits, state.config.sync_ns * 2 / 3)) as f64;
            let transfer = (u128::from(bytes) * 1_000_000_000 / u128::from(state.config.bandwidth)) as f64;
            let start = context.now_ns().max(state.busy_until_ns).max(state.stalled_until_ns);
            state.busy_until_ns = start + (transfer * state.slow) as u64;
            let end = state.busy_until_ns + (latency * state.slow) as u64;
            state.calls_end_ns = state.calls_end_ns.max(end);
            end
        };
        loop {
            let until = until.max(self.live()?.stalled_until_ns);
            context.timer(until).await;
            if self.live()?.stalled_until_ns <= context.now_ns() {
                return Ok(());
            }
        }
    }

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if the file does not exist.
    pub async fn open(&self, path: &Path) -> io::Result<File> {
        self.cached().await?;
        let mut state = self.live()?;
        state.call(DiskCall::Open)?;
        let inode = state.names.files.get(path).cloned().ok_or_else(|| not_found(path))?;
        let id = inode.lock().unwrap().id;
        Ok(File { disk: self.clone(), inode, id })
    }

    /// Creates a file, which must not exist yet. Its name is durable only after [`Disk::sync_dir`] of its directory.
    ///
    /// # Errors
    /// `AlreadyExists` if the file exists, `NotFound` if its directory does not, `StorageFull`.
    pub async fn create(&self, path: &Path) -> io::Result<File> {
        self.cached().await?;
        let (inode, id) = {
            let mut state = self.live()?;
            state.call(DiskCall::Create)?;
            if !state.names.has_dir(parent(path)) {
                return Err(not_found(parent(path)));
            }
            if state.names.files.contains_key(path) || state.names.dirs.contains(path) {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", path.display())));
            }
            if state.full {
                return Err(full());
            }
            let id = state.next_file;
            state.next_file += 1;
            let inode = Arc::new(Mutex::new(Image::new(id)));
            state.change(NameOp::Create { path: path.to_owned(), inode: inode.clone() });
            (inode, id)
        };
        self.cell.record("create", id, 0, 0, path_hash(path));
        Ok(File { disk: self.clone(), inode, id })
    }

    /// Creates a directory and any missing parents.
    ///
    /// # Errors
    /// `AlreadyExists` if a file has that name.
    pub async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.cached().await?;
        let mut state = self.live()?;
        let mut missing: Vec<&Path> = path.ancestors().filter(|up| !state.names.has_dir(up)).collect();
        missing.reverse();
        for up in missing {
            if state.names.files.contains_key(up) {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is a file", up.display())));
            }
            state.change(NameOp::Dir { path: up.to_owned() });
        }
        Ok(())
    }

    /// Returns the names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory.
    pub async fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.cached().await?;
        let mut state = self.live()?;
        state.call(DiskCall::List)?;
        if !state.names.has_dir(path) {
            return Err(not_found(path));
        }
        let inside = state.names.files.keys().chain(&state.names.dirs).filter(|name| parent(name) == path);
        let mut names: Vec<String> =
            inside.filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Renames a file, replacing any file at the new name. Durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `NotFound` if the file, or the new name's directory, does not exist.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.cached().await?;
        {
            let mut state = self.live()?;
            state.call(DiskCall::Rename)?;
            let inode = state.names.files.get(from).cloned().ok_or_else(|| not_found(from))?;
            if !state.names.has_dir(parent(to)) {
                return Err(not_found(parent(to)));
            }
            state.change(NameOp::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        }
        self.cell.record("rename", path_hash(from), 0, 0, path_hash(to));
        Ok(())
    }

    /// Removes a file. Durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `NotFound` if the file does not exist.
    pub async fn remove(&self, path: &Path) -> io::Result<()> {
        self.cached().await?;
        {
            let mut state = self.live()?;
            state.call(DiskCall::Remove)?;
            if !state.names.files.contains_key(path) {
                return Err(not_found(path));
            }
            state.change(NameOp::Remove { path: path.to_owned() });
        }
        self.cell.record("remove", path_hash(path), 0, 0, 0);
        Ok(())
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// EIO when the simulator injects it; the names are then as uncertain as before.
    pub async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let pending = {
            let mut state = self.live()?;
            state.call(DiskCall::SyncDir)?;
            if !state.names.has_dir(path) {
                return Err(not_found(path));
            }
            state.pending.len()
        };
        self.device(0).await?;
        self.cell.record("sync_dir", path_hash(path), 0, 0, pending as u64);
        let mut state = self.live()?;
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            return Err(eio());
        }
        state.settle_dirs(path);
        state.settle(|op| op.directory() == path);
        Ok(())
    }

    /// Returns the capacity and the available space of the file system that holds `path`, in bytes.
    ///
    /// # Errors
    /// Only if the node was killed.
    pub async fn space(&self, _path: &Path) -> io::Result<(u64, u64)> {
        self.cached().await?;
        let state = self.live()?;
        let capacity = state.config.capacity_bytes;
        let available = if state.full { 0 } else { capacity.saturating_sub(state.used() + state.taken) };
        Ok((capacity, available))
    }
}

impl File {
    /// Reads `len` bytes at `offset`; fewer if the file ends first.
    ///
    /// # Errors
    /// EIO on a broken sector.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.disk.cached().await?;
        self.disk.live()?.call(DiskCall::Read)?;
        let data = self.inode.lock().unwrap().read(offset, len).ok_or_else(eio)?;
        Ok(Bytes::from(data))
    }

    /// Writes all of `data` at `offset`, growing the file if necessary. Not durable before [`File::sync`].
    ///
    /// # Errors
    /// `StorageFull`, or the error of an injected short write; a part may have been written.
    pub async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        let shortened = self.disk.live()?.shorten(data.len());
        let Some((first, error)) = shortened else { return self.write_once(offset, data).await };
        self.write_once(offset, data.slice(..first)).await?;
        match error {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => self.write_once(offset + first as u64, data.slice(first..)).await,
        }
    }

    async fn write_once(&self, offset: u64, data: Bytes) -> io::Result<()> {
        {
            let mut state = self.disk.live()?;
            state.call(DiskCall::Write)?;
            let room = state.room();
            drop(state);
            let mut image = self.inode.lock().unwrap();
            if (offset + data.len() as u64).saturating_sub(image.len()) > room {
                return Err(full());
            }
            image.write(offset, &data);
        }
        self.disk.cell.record("write", self.id, offset, data.len() as u64, hash_bytes(&data));
        self.disk.cached().await
    }

    /// Makes everything written before the call durable, including the file's length.
    ///
    /// # Errors
    /// EIO when the simulator injects it: data written since the last success is lost at the next power loss, whatever
    /// later syncs report.
    pub async fn sync(&self) -> io::Result<()> {
        let (point, bytes) = {
            let _live = self.disk.live()?;
            let image = self.inode.lock().unwrap();
            (image.sync_point(), image.dirty_bytes())
        };
        self.disk.device(bytes).await?;
        self.disk.cell.record("sync", self.id, 0, bytes, point);
        let mut state = self.disk.live()?;
        let mut image = self.inode.lock().unwrap();
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            image.sync_failed();
            return Err(eio());
        }
        image.synced(point);
        Ok(())
    }

    /// Returns the file's length in bytes.
    ///
    /// # Errors
    /// Only if the node was killed.
    pub async fn len(&self) -> io::Result<u64> {
        let _live = self.disk.live()?;
        Ok(self.inode.lock().unwrap().len())
    }

    /// Truncates the file, or extends it with zeros.
    ///
    /// # Errors
    /// `StorageFull`.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        {
            let mut state = self.disk.live()?;
            state.call(DiskCall::SetLen)?;
            let room = state.room();
            drop(state);
            let mut image = self.inode.lock().unwrap();
            if len.saturating_sub(image.len()) > room {
                return Err(full());
            }
            image.set_len(len);
        }
        self.disk.cell.record("set_len", self.id, 0, len, 0);
        self.disk.cached().await
    }

    /// Makes the file at least `len` bytes long, with disk space allocated for all of it.
    ///
    /// # Errors
    /// `StorageFull`.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        let long_enough = self.inode.lock().unwrap().len() >= len;
        if long_enough { Ok(()) } else { self.set_len(len).await }
    }
}
