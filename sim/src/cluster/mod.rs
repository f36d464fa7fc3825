//! # cluster: the nodes of a run
//!
//! The nodes are built by the same `Node::start` as the binary's. Faults and a supervisor kill them and start them
//! again; [`monitor`] receives the events that they report.
//!
//! **In** come configurations and commands (start, stop, crash); **out** go the machines' handles and the images of
//! their engines. **Never**: a store that stops, unnoticed, without a fault that excuses it.

pub mod monitor;
pub mod operations;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use armilla::engine::{ColdReads, SimStorage, StagingFault};
use armilla::node::{Config, Node, NodeEnv};
use armilla::replica::Handle;
use armilla::rt::disk::Disk;
use armilla::rt::rng::Rng;
use armilla::rt::sim::{DiskCall, DiskConfig, LinkConfig, NodeHandle, SimDisk, World};
use armilla::rt::sync::Notify;
use armilla::types::Error;

use crate::oracle::Violation;
use crate::oracle::state::Image;
use monitor::Monitor;

/// Client machines are numbered from here.
pub const CLIENT_BASE: u64 = 100;

/// How a machine's process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Only the contents of the process's memory are lost; its peers notice at once.
    Killed,
    /// The machine loses its power: unsynced data is kept, lost or torn. Its peers notice at once all the same, as when
    /// a switch answers on the machine's behalf.
    PowerLoss,
    /// The machine loses its power and its peers are not notified: their connections hang until keepalive closes them.
    PowerOff,
}

/// A part of a store's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The engine's data.
    Engine,
    /// The raft log.
    Log,
    /// Everything written since a copy was made.
    Newest,
    /// A few bits or sectors of the raft log.
    Bits,
}

impl Part {
    /// Text of the error with which a store that lost this part refuses to start.
    fn refusal(self) -> &'static str {
        match self {
            Part::Engine => "the engine's data was lost",
            Part::Log => "the raft log in",
            Part::Newest => "copies of its data directory",
            Part::Bits => "raft log:",
        }
    }
}

/// An injected failure that has not struck yet. It strikes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    No,
    /// A sync of the disk fails. Survives restarts.
    Disk,
    /// A flush of the engine fails, or its opening. A crash disarms it.
    Engine,
}

/// A machine's process.
enum Process {
    /// The process does not run.
    Down,
    /// The process runs or is starting.
    Up(Box<Incarnation>),
}

/// One incarnation of a process, from its start to its end.
#[derive(Default)]
struct Incarnation {
    /// A fault has struck that permits the store to stop: a failed fsync, a full disk or a request to stop.
    excused: bool,
    /// The process is suspended.
    paused: bool,
    /// Handle of the node's replicas, once it has started.
    handle: Option<Handle>,
    /// Why the process ended by itself while it was starting.
    failed: Option<String>,
    /// Notified when the process should hand over its leaders and end.
    stop: Arc<Notify>,
}

/// One store's machine.
pub struct Machine {
    /// The simulator's handle.
    pub handle: NodeHandle,
    /// The engine's storage, which outlives the process.
    pub home: SimStorage,
    config: Config,
    process: Process,
    /// The injected failure that has not struck yet.
    armed: Armed,
    /// The part of its data that the store has lost: it must refuse to start, or stop as soon as it learns of it.
    lost: Option<Part>,
    /// Contents to write to the identity file before the next start; `None` keeps the file on the disk.
    identity: Option<Vec<u8>>,
    /// The placement driver may have removed the store, which then must say so and stop.
    may_be_removed: bool,
    /// Whether that was so when its disk was replaced: until its new store is known, the old one is taken for it.
    was_removable: bool,
    /// A copy of the disk and of the engine's data.
    copy: Option<(SimDisk, SimStorage)>,
    /// The disk is full.
    full: bool,
    /// The node whose data directory and engine storage the machine has instead of its own, so that its store must
    /// refuse to start.
    swapped_with: Option<u64>,
    /// The store's data was replaced by an empty disk.
    pub wiped: bool,
    /// How many times the process was started.
    pub starts: u64,
}

impl Machine {
    /// Returns whether an injected failure has not struck yet.
    pub fn is_armed(&self) -> bool {
        self.armed != Armed::No
    }

    /// Returns whether a failure may be injected: the process runs with its own data, and no failure is injected yet.
    pub fn takes_a_failure(&self) -> bool {
        self.incarnation().is_some() && !self.is_armed() && self.swapped_with.is_none()
    }

    /// Returns whether the machine has the data of another one.
    pub fn is_swapped(&self) -> bool {
        self.swapped_with.is_some()
    }

    /// Returns whether the machine has its own data, and all of it.
    fn is_whole(&self) -> bool {
        self.lost.is_none() && self.copy.is_none() && self.identity.is_none() && self.swapped_with.is_none()
    }

    /// Returns whether the placement driver may have removed the machine's store, or the one before its disk was
    /// replaced.
    pub fn may_have_been_removed(&self) -> bool {
        self.may_be_removed || self.was_removable
    }

    /// Returns the handle of the node's replicas, if the process has started.
    pub fn replicas(&self) -> Option<Handle> {
        self.incarnation().and_then(|incarnation| incarnation.handle.clone())
    }

    /// Returns whether the node uses the newest version of the protocol.
    pub fn is_newest(&self) -> bool {
        self.config.pd.protocol_max == 0
    }

    /// Returns the sizes of the raft log's files in bytes: their sum, and the longest.
    pub fn log_bytes(&self) -> (u64, u64) {
        let directory = self.config.data_dir.join("raft");
        let files = self.handle.disk().files();
        let lengths = files.iter().filter(|(path, _)| path.parent() == Some(&directory)).map(|(_, len)| *len);
        (lengths.clone().sum(), lengths.max().unwrap_or(0))
    }

    fn incarnation(&self) -> Option<&Incarnation> {
        match &self.process {
            Process::Down => None,
            Process::Up(incarnation) => Some(incarnation),
        }
    }

    fn incarnation_mut(&mut self) -> Option<&mut Incarnation> {
        match &mut self.process {
            Process::Down => None,
            Process::Up(incarnation) => Some(incarnation),
        }
    }

    /// Returns whether the store has lost a part of its data and `why` is the error that it must report for it.
    fn must_say(&self, why: &str) -> bool {
        // An error about the store's own data leads to a replaced disk, see [`Cluster::supervise`]; an error about the
        // data of another node does not.
        let also = |part: Part| match part {
            Part::Newest => "an older copy",
            // The log alone does not show it if all groups had left the store.
            Part::Engine => "its engine and raft log were lost",
            Part::Log | Part::Bits => part.refusal(),
        };
        let says = |part: Part| why.contains(part.refusal()) || why.contains(also(part));
        let removed =
            self.may_be_removed && (why.contains("is a tombstone") || why.contains("was removed from the cluster"));
        removed || self.lost.is_some_and(says)
    }

    /// Returns whether the process runs and is permitted to stop.
    fn is_excused(&self) -> bool {
        self.incarnation().is_some_and(|incarnation| incarnation.excused)
    }
}

/// The configuration from which the machines are made.
pub struct Setup {
    /// The configuration of each node.
    pub configs: Vec<Config>,
    /// Mean duration of an fsync, microseconds.
    pub fsync_us: u64,
    /// Size of each disk, MiB; 0: too large to be filled.
    pub disk_mib: u64,
    /// The links without faults.
    pub link: LinkConfig,
}

/// All machines. Clones share them.
#[derive(Clone)]
pub struct Cluster {
    world: World,
    monitor: Monitor,
    machines: Arc<Mutex<BTreeMap<u64, Machine>>>,
    addresses: Arc<Vec<String>>,
}

/// File name of a node's identity in its data directory.
const IDENTITY: &str = "IDENT";

/// Replaces a file's contents and syncs it.
async fn write_file(disk: &Disk, path: &Path, content: Vec<u8>) -> std::io::Result<()> {
    let file = disk.open(path).await?;
    file.set_len(content.len() as u64).await?;
    file.write_at(0, content.into()).await?;
    file.sync().await
}

/// Removes all files of a directory and syncs it.
async fn remove_files(disk: &Disk, directory: &Path) -> std::io::Result<()> {
    for name in disk.list(directory).await? {
        disk.remove(&directory.join(name)).await?;
    }
    disk.sync_dir(directory).await
}

/// The machine as its engine knows it.
struct Reads(NodeHandle);

impl ColdReads for Reads {
    fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    fn wait(&self) {
        self.0.block_for_read();
    }
}

impl Cluster {
    /// Creates the machines, numbered from 1. No process runs yet.
    pub fn new(world: &World, monitor: &Monitor, setup: Setup) -> Cluster {
        let addresses = setup.configs.iter().map(|config| config.addr.clone()).collect();
        let mut machines = BTreeMap::new();
        for (id, config) in (1..).zip(setup.configs) {
            let handle = world.node(id, &config.name, &config.addr);
            let mut disk = DiskConfig { sync_ns: setup.fsync_us * 1000, ..DiskConfig::default() };
            if setup.disk_mib > 0 {
                disk.capacity_bytes = setup.disk_mib << 20;
            }
            handle.disk().set_config(disk);
            config.validate().unwrap_or_else(|e| panic!("the plan's knobs do not make a node: {e}"));
            let home = SimStorage::new();
            home.set_cold_reads(Arc::new(Reads(handle.clone())));
            let machine = Machine {
                handle,
                home,
                config,
                process: Process::Down,
                armed: Armed::No,
                lost: None,
                may_be_removed: false,
                was_removable: false,
                copy: None,
                identity: None,
                swapped_with: None,
                full: false,
                wiped: false,
                starts: 0,
            };
            machines.insert(id, machine);
        }
        world.net().set_all(setup.link);
        Cluster {
            world: world.clone(),
            monitor: monitor.clone(),
            machines: Arc::new(Mutex::new(machines)),
            addresses: Arc::new(addresses),
        }
    }

    /// Returns the addresses on which the nodes listen.
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.to_vec()
    }

    /// Returns the nodes' numbers.
    pub fn ids(&self) -> Vec<u64> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Machine>> {
        self.machines.lock().expect("nothing panics while holding it")
    }

    /// Calls `act` with one machine.
    pub fn with<T>(&self, id: u64, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(self.lock().get_mut(&id).expect("machines are never taken away"))
    }

    /// Calls `act` with a machine's current incarnation, if its process runs.
    fn with_incarnation(&self, id: u64, act: impl FnOnce(&mut Incarnation)) {
        self.with(id, |machine| {
            if let Some(incarnation) = machine.incarnation_mut() {
                act(incarnation);
            }
        });
    }

    /// Starts a machine's process if it does not run.
    pub fn start(&self, id: u64) {
        let (handle, home, config, stop) = {
            let mut machines = self.lock();
            let machine = machines.get_mut(&id).expect("machines are never taken away");
            if machine.incarnation().is_some() {
                return;
            }
            let excused = machine.is_armed() || machine.full;
            let incarnation = Incarnation { excused, ..Incarnation::default() };
            let stop = incarnation.stop.clone();
            machine.process = Process::Up(Box::new(incarnation));
            machine.handle.clock().set_frozen(false);
            machine.starts += 1;
            (machine.handle.clone(), machine.home.clone(), machine.config.clone(), stop)
        };
        self.monitor.with(|observed| observed.poisoned.remove(&id));
        let env = handle.env();
        let (cluster, world) = (self.clone(), self.world.clone());
        handle.spawn(async move {
            let log = config.data_dir.join("raft");
            let started = match cluster.with(id, |machine| machine.lost) {
                Some(Part::Log) => remove_files(&env.disk, &log).await,
                _ => Ok(()),
            };
            let started = match (started, cluster.with(id, |machine| machine.identity.take())) {
                (Ok(()), Some(identity)) => write_file(&env.disk, &config.data_dir.join(IDENTITY), identity).await,
                (started, _) => started,
            };
            let started = match started {
                Ok(()) => Node::start(NodeEnv { rt: env, engine: home }, config).await,
                Err(error) => Err(error.into()),
            };
            match started {
                Ok(node) => {
                    cluster.with_incarnation(id, |incarnation| incarnation.handle = Some(node.handle().clone()));
                    // A store without groups has acknowledged nothing, so it has nothing to lose.
                    let lost = cluster.with(id, |machine| machine.lost).filter(|_| !node.handle().views().is_empty());
                    if let Some(part) = lost.filter(|part| !matches!(part, Part::Newest | Part::Bits)) {
                        let what = format!("the node started although its {part:?} was lost");
                        cluster.monitor.report(Violation::new("start", world.now_ns(), id, what));
                    }
                    if let Some(other) = cluster.with(id, |machine| machine.swapped_with) {
                        let what = format!("the node started with the data directory of node {other}");
                        cluster.monitor.report(Violation::new("start", world.now_ns(), id, what));
                    }
                    // The node lives as long as this task.
                    stop.notified().await;
                    node.drain().await;
                    node.stop().await;
                    cluster.ended(id);
                }
                Err(error) => {
                    let why = error.to_string();
                    cluster.with_incarnation(id, |incarnation| incarnation.failed = Some(why.clone()));
                    if !cluster.refuses_rightly(id, &why) {
                        let what = format!("the node does not start: {error}");
                        cluster.monitor.report(Violation::new("start", world.now_ns(), id, what));
                    }
                }
            }
        });
    }

    /// Returns whether a machine's store may refuse to start with the error `why`.
    fn refuses_rightly(&self, id: u64, why: &str) -> bool {
        let (may, swapped_with) =
            self.with(id, |machine| (machine.is_excused() || machine.must_say(why), machine.swapped_with));
        let names = |other: u64| {
            let other = self.with(other, |machine| machine.config.name.clone());
            why.contains("the data directory") && why.contains(&format!("is that of node `{other}`"))
        };
        may || swapped_with.is_some_and(names)
    }

    /// Asks a machine's process to end, as SIGTERM does. Its node hands over its leaders and stops; [`Cluster::crash`]
    /// removes the rest.
    pub fn stop(&self, id: u64) {
        self.with_incarnation(id, |incarnation| {
            // The store is about to stop because it was asked to.
            incarnation.excused = true;
            incarnation.stop.notify_one();
        });
        let now_ns = self.world.now_ns();
        self.monitor.with(|observed| {
            observed.pauses.stop(now_ns);
            observed.moved.judge(now_ns, None);
            observed.births.judge(now_ns, false);
        });
    }

    /// Records that a machine's process has ended.
    fn ended(&self, id: u64) {
        let now_ns = self.world.now_ns();
        if let Err(violation) = self.monitor.with(|observed| observed.pauses.ended(now_ns, id)) {
            self.monitor.report(violation);
        }
    }

    /// Kills a machine's process.
    pub fn crash(&self, id: u64, death: Death, rng: &mut Rng) {
        let (handle, home) = self.with(id, |machine| {
            machine.process = Process::Down;
            if machine.armed == Armed::Engine {
                machine.armed = Armed::No;
            }
            (machine.handle.clone(), machine.home.clone())
        });
        match death {
            Death::Killed => handle.kill(),
            Death::PowerLoss => {
                handle.kill();
                handle.crash_disk(rng);
            }
            Death::PowerOff => handle.power_off(rng),
        }
        self.ended(id);
        home.crash(&mut |bound| rng.below(bound));
    }

    /// Replaces a dead machine's disk with an empty one.
    pub fn wipe(&self, id: u64) {
        self.with(id, |machine| {
            machine.handle.disk().wipe();
            machine.home.wipe();
            machine.lost = None;
            machine.was_removable |= machine.may_be_removed;
            machine.may_be_removed = false;
            machine.wiped = true;
        });
    }

    /// Removes a part of a dead machine's data. Its store must refuse to start; the supervisor then replaces the rest
    /// with an empty disk, as an operator would.
    pub fn lose(&self, id: u64, part: Part) {
        self.with(id, |machine| {
            // The log's files are removed right before the next start, because removing them takes simulated time.
            if part == Part::Engine {
                machine.home.wipe();
            }
            machine.lost = Some(part);
        });
    }

    /// Records that the placement driver may remove the machine's store.
    pub fn may_be_removed(&self, id: u64) {
        self.with(id, |machine| machine.may_be_removed = true);
    }

    /// Gives two dead machines each other's data, or their own again. Returns false if the data of one is not complete.
    pub fn swap_disks(&self, a: u64, b: u64) -> bool {
        let (a, b) = (a.min(b), a.max(b));
        let mut machines = self.lock();
        let swapped = |id: u64| machines.get(&id).and_then(|machine| machine.swapped_with);
        let back = swapped(a) == Some(b) && swapped(b) == Some(a);
        if a == b || (!back && [a, b].iter().any(|id| machines.get(id).is_none_or(|machine| !machine.is_whole()))) {
            return false;
        }
        let mut both = machines.iter_mut().filter(|(id, _)| [a, b].contains(*id)).map(|(_, machine)| machine);
        let (Some(left), Some(right)) = (both.next(), both.next()) else { return false };
        left.handle.disk().swap(right.handle.disk());
        std::mem::swap(&mut left.home, &mut right.home);
        (left.swapped_with, right.swapped_with) = if back { (None, None) } else { (Some(b), Some(a)) };
        true
    }

    /// Changes a dead machine's settings, as an operator edits its configuration file.
    ///
    /// # Panics
    /// Panics if the settings are not valid.
    pub fn reconfigure(&self, id: u64, changes: &toml::Table) {
        self.with(id, |machine| {
            let changed = machine.config.overlaid(changes, "the settings of a fault");
            machine.config = changed.unwrap_or_else(|why| panic!("{why}"));
        });
    }

    /// Copies a dead machine's disk, as a backup does.
    pub fn keep_copy(&self, id: u64) {
        self.with(id, |machine| {
            machine.copy = Some((machine.handle.disk().durable_copy(), machine.home.durable_copy()));
        });
    }

    /// Replaces a dead machine's disk with the copy, which keeps its old identity (`identity`) or gets the present one.
    pub fn bring_copy_back(&self, id: u64, identity: bool) {
        self.with(id, |machine| {
            let Some((disk, home)) = machine.copy.take() else { return };
            if !identity {
                machine.identity = machine.handle.disk().contents(&machine.config.data_dir.join(IDENTITY));
            }
            machine.handle.disk().swap(&disk);
            machine.home = home;
            machine.lost = Some(Part::Newest);
        });
    }

    /// Makes writes that need more space fail, or succeed again.
    pub fn set_full(&self, id: u64, full: bool) {
        self.with(id, |machine| {
            machine.handle.disk().set_full(full);
            machine.full = full;
        });
    }

    /// Suspends or resumes a machine's process, if it is up.
    pub fn set_paused(&self, id: u64, paused: bool) {
        let change = self.with(id, |machine| {
            let incarnation = machine.incarnation_mut().filter(|incarnation| incarnation.paused != paused)?;
            incarnation.paused = paused;
            Some(machine.handle.clone())
        });
        match change {
            Some(handle) if paused => handle.pause(),
            Some(handle) => handle.resume(),
            None => {}
        }
    }

    /// Records that a fault has struck which permits this machine's store to stop.
    pub fn excuse(&self, id: u64) {
        self.with_incarnation(id, |incarnation| incarnation.excused = true);
    }

    /// Makes the next sync of this machine's disk fail.
    pub fn fail_next_sync(&self, id: u64) {
        self.with(id, |machine| machine.handle.disk().fail_next_sync());
        self.arm(id, Armed::Disk);
    }

    /// Makes the `nth` file system call of this kind on this machine fail with `error`.
    pub fn fail_call(&self, id: u64, (call, nth): (DiskCall, u32), error: i32) {
        self.with(id, |machine| machine.handle.disk().fail_call(call, nth, error));
        self.arm(id, Armed::Disk);
    }

    /// Makes a write of this machine's disk short. With an `error`, it fails after its first part.
    pub fn shorten_write(&self, id: u64, nth: u32, permille: u32, error: Option<i32>) {
        self.with(id, |machine| machine.handle.disk().shorten_write(nth, permille, error));
        if error.is_some() {
            self.arm(id, Armed::Disk);
        }
    }

    /// Damages a machine's raft log in its older files: flips bits or makes sectors unreadable. Durable records behind
    /// the damage prove that the store once had these. Returns false if the log is too short.
    pub fn damage_log(&self, id: u64, rng: &mut Rng) -> bool {
        self.with(id, |machine| {
            let directory = machine.config.data_dir.join("raft");
            let disk = machine.handle.disk().clone();
            let mut files = disk.files();
            files.retain(|(path, _)| path.parent() == Some(&directory) && path.extension() == Some("log".as_ref()));
            // The file names count up. Only the last file's end, and the part of it that a start copies, may prove that
            // some records existed.
            let old = files.len().saturating_sub(2);
            if old == 0 {
                return false;
            }
            for _ in 0..rng.between(1, 3) {
                let (path, len) = &files[rng.below(old as u64) as usize];
                let offset = rng.below((*len).max(1));
                if rng.chance(0.5) {
                    disk.flip_bit(path, offset, rng.below(8) as u8);
                } else {
                    disk.break_sector(path, offset);
                }
            }
            machine.lost = Some(Part::Bits);
            true
        })
    }

    /// Makes the next flush of this machine's engine fail.
    pub fn fail_next_flush(&self, id: u64) {
        self.with(id, |machine| machine.home.fail_next_flush());
        self.arm(id, Armed::Engine);
    }

    /// Makes the next files that this machine stages fail as `fault` says. A file that cannot be written is refused and
    /// the store continues; a damaged file may stop it.
    pub fn set_staging_fault(&self, id: u64, fault: StagingFault) {
        self.with(id, |machine| machine.home.set_staging_fault(Some(fault)));
        if fault == StagingFault::Damages {
            self.arm(id, Armed::Engine);
        }
    }

    /// Clears the staging fault if it has not struck yet.
    pub fn end_staging_fault(&self, id: u64) {
        self.with(id, |machine| {
            if machine.home.has_staging_fault() {
                machine.home.set_staging_fault(None);
                if machine.armed == Armed::Engine {
                    machine.armed = Armed::No;
                }
            }
        });
    }

    /// Makes the next opening of a dead machine's engine fail.
    pub fn fail_next_open(&self, id: u64) {
        let error = Error::Io("the engine does not open: injected".to_owned());
        self.with(id, |machine| machine.home.fail_next_open(error));
        self.arm(id, Armed::Engine);
    }

    fn arm(&self, id: u64, armed: Armed) {
        self.with(id, |machine| {
            machine.armed = armed;
            if let Some(incarnation) = machine.incarnation_mut() {
                incarnation.excused = true;
            }
        });
    }

    /// Restarts each process that stopped with an excuse, as an operator's supervisor would. Its unsynced data is lost.
    pub fn supervise(&self, rng: &mut Rng) {
        for id in self.ids() {
            let poisoned = self.monitor.with(|observed| observed.poisoned.get(&id).cloned());
            let replace = self.with(id, |machine| {
                let stopped = machine
                    .incarnation()
                    .and_then(|incarnation| poisoned.clone().or_else(|| incarnation.failed.clone()));
                stopped.is_some_and(|why| machine.must_say(&why)) && !machine.full
            });
            if replace {
                self.crash(id, Death::Killed, rng);
                self.wipe(id);
                self.start(id);
                continue;
            }
            let again = self.with(id, |machine| {
                let incarnation = machine.incarnation().filter(|incarnation| incarnation.excused);
                let why = incarnation.and_then(|incarnation| poisoned.or_else(|| incarnation.failed.clone()));
                let again = why.is_some() && !machine.full;
                // The injected failure has struck if it is the reason why the store stopped. It counts as armed until
                // the machine is started again, so that no second one is injected into a store that has stopped.
                let says = ["Input/output error", "Too many open files", "o space left", "injected"];
                let struck = |why: &String| says.iter().any(|word| why.contains(word));
                if again && why.as_ref().is_some_and(struck) {
                    machine.armed = Armed::No;
                }
                again
            });
            self.with(id, |machine| {
                // The failure has struck and the store survived it.
                let running = machine.incarnation().is_some_and(|incarnation| incarnation.handle.is_some());
                if machine.armed == Armed::Disk && running && !again && !machine.handle.disk().is_failing() {
                    machine.armed = Armed::No;
                }
            });
            if again {
                self.crash(id, Death::PowerLoss, rng);
                self.start(id);
            }
        }
    }

    /// Returns whether the machine's process is up.
    pub fn is_up(&self, id: u64) -> bool {
        self.with(id, |machine| machine.incarnation().is_some())
    }

    /// Returns the first node whose store stopped serving without an excuse, and why it stopped.
    pub fn stopped_without_reason(&self) -> Option<(u64, String)> {
        let poisoned = self.monitor.with(|observed| observed.poisoned.clone());
        let excused = |machine: &Machine, why: &str| machine.is_excused() || machine.must_say(why);
        let unexpected =
            |id: u64, why: &str| self.with(id, |machine| machine.incarnation().is_some() && !excused(machine, why));
        poisoned.into_iter().find(|(id, why)| unexpected(*id, why))
    }

    /// Reads the current contents of the nodes' engines, also of swapped ones.
    ///
    /// # Errors
    /// Fails if an engine's contents do not decode.
    pub fn images(&self) -> Result<Vec<Image>, Violation> {
        let at = self.world.now_ns();
        let image = |(id, machine): (&u64, &Machine)| {
            let image = Image::read(machine.swapped_with.unwrap_or(*id), &machine.home, at)?;
            // A process that has died and one that was started again may both lack what was not durable.
            let life = 2 * machine.starts + u64::from(machine.incarnation().is_some());
            // A machine may have the disk of another one.
            let life = life * CLIENT_BASE + id;
            Ok(Image { life, ..image })
        };
        self.lock().iter().map(image).collect()
    }

    /// Returns how many times processes were started.
    pub fn starts(&self) -> u64 {
        self.lock().values().map(|machine| machine.starts).sum()
    }

    /// Returns the machine of client `number`, which is created at the first call.
    pub fn client_machine(&self, number: u32) -> NodeHandle {
        let id = CLIENT_BASE + u64::from(number);
        self.world.node(id, &format!("c{number}"), &format!("c{number}:1"))
    }
}
