//! # cluster: the nodes of a run
//!
//! Built by the same `Node::start` as the binary's; killed and started again by faults and by a supervisor. [`monitor`] hears what
//! they report.
//!
//! **In** come configurations and orders (start, stop, crash); **out** go handles of machines and the images of their engines.
//! **Never**: a store that stops without a fault that excuses it, unnoticed.

pub mod monitor;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use armilla::engine::{SimStorage, StagingFault};
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

/// Client machines have the numbers from here on.
pub const CLIENT_BASE: u64 = 100;

/// How a machine's process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Only what the process had in memory is lost; its peers hear of it at once.
    Killed,
    /// The machine loses its power: unsynced data is kept, lost or torn. Its peers hear of it at once all the same, as when a
    /// switch answers for it.
    PowerLoss,
    /// The same, and nobody tells its peers: their connections hang until keepalive gives them up.
    PowerOff,
}

/// A part of a store's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The engine's data.
    Engine,
    /// The raft log.
    Log,
    /// What was written since a copy was made.
    Newest,
    /// Some bits or sectors of the raft log.
    Bits,
}

impl Part {
    /// What a store says that lost this part and refuses to start.
    fn refusal(self) -> &'static str {
        match self {
            Part::Engine => "the engine's data was lost",
            Part::Log => "the raft log in",
            Part::Newest => "copies of its data directory",
            Part::Bits => "raft log:",
        }
    }
}

/// A failure that is going to strike, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    No,
    /// A sync of the disk. Stays so over restarts.
    Disk,
    /// A flush of the engine, or its opening. A crash forgets it.
    Engine,
}

/// A machine's process.
enum Process {
    /// It does not run.
    Down,
    /// It runs, or is coming up.
    Up(Life),
}

/// A process from its start to its end.
#[derive(Default)]
struct Life {
    /// A fault has struck that lets the store stop (a failed fsync, a full disk, an order to stop).
    excused: bool,
    /// It stands still.
    paused: bool,
    /// The handle of its replicas, once it has come up.
    handle: Option<Handle>,
    /// Why it ended by itself while it was coming up.
    failed: Option<String>,
    /// Told when it is to hand over and end.
    stop: Arc<Notify>,
}

/// One store's machine.
pub struct Machine {
    /// The simulator's handle.
    pub handle: NodeHandle,
    /// What its engine keeps.
    pub home: SimStorage,
    config: Config,
    process: Process,
    /// What is going to fail, and has not yet.
    armed: Armed,
    /// What its store has lost: it must refuse to start, or stop as soon as it is told.
    lost: Option<Part>,
    /// What its identity's file must hold at the next start, if it is not to be that of the disk.
    identity: Option<Vec<u8>>,
    /// A copy of its disk and of its engine's data.
    copy: Option<(SimDisk, SimStorage)>,
    /// Its disk is full.
    full: bool,
    /// The node whose data directory and engine it has instead of its own: its store must refuse to start.
    swapped_with: Option<u64>,
    /// Its store's data was replaced by nothing.
    pub wiped: bool,
    /// How often it was started.
    pub starts: u64,
}

impl Machine {
    /// Whether a sync or flush of this machine is going to fail.
    pub fn is_armed(&self) -> bool {
        self.armed != Armed::No
    }

    /// Whether a failure may be made to strike it: its process is up with its own data, and none is going to strike already.
    pub fn takes_a_failure(&self) -> bool {
        self.life().is_some() && !self.is_armed() && self.swapped_with.is_none()
    }

    /// Whether it has the data of another machine.
    pub fn is_swapped(&self) -> bool {
        self.swapped_with.is_some()
    }

    /// Whether its data is all there and its own.
    fn is_whole(&self) -> bool {
        self.lost.is_none() && self.copy.is_none() && self.identity.is_none() && self.swapped_with.is_none()
    }

    /// The handle of its replicas, if its process has come up.
    pub fn replicas(&self) -> Option<Handle> {
        self.life().and_then(|life| life.handle.clone())
    }

    /// Bytes of its raft log's files: all together, and of the longest.
    pub fn log_bytes(&self) -> (u64, u64) {
        let directory = self.config.data_dir.join("raft");
        let files = self.handle.disk().files();
        let lengths = files.iter().filter(|(path, _)| path.parent() == Some(&directory)).map(|(_, len)| *len);
        (lengths.clone().sum(), lengths.max().unwrap_or(0))
    }

    fn life(&self) -> Option<&Life> {
        match &self.process {
            Process::Down => None,
            Process::Up(life) => Some(life),
        }
    }

    fn life_mut(&mut self) -> Option<&mut Life> {
        match &mut self.process {
            Process::Down => None,
            Process::Up(life) => Some(life),
        }
    }

    /// Whether it has lost a part of its data and this is what it must say of it.
    fn must_say(&self, why: &str) -> bool {
        // What it says of its own data is acted upon by replacing the disk, see [`Cluster::supervise`]; not so with another's.
        let says = |part: Part| why.contains(part.refusal()) || (part == Part::Newest && why.contains("an older copy"));
        self.lost.is_some_and(says)
    }

    /// Whether its process runs and has an excuse to stop.
    fn is_excused(&self) -> bool {
        self.life().is_some_and(|life| life.excused)
    }
}

/// What the machines are made from.
pub struct Setup {
    /// A node's configuration each.
    pub configs: Vec<Config>,
    /// Mean duration of an fsync, microseconds.
    pub fsync_us: u64,
    /// How large each disk is, MiB; 0: too large to be filled.
    pub disk_mib: u64,
    /// How links are when nothing is wrong.
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

/// The name of a node's identity in its data directory.
const IDENTITY: &str = "IDENT";

/// Replaces a file, for good.
async fn write_file(disk: &Disk, path: &Path, content: Vec<u8>) -> std::io::Result<()> {
    let file = disk.open(path).await?;
    file.set_len(content.len() as u64).await?;
    file.write_at(0, content.into()).await?;
    file.sync().await
}

/// Removes all files of a directory, for good.
async fn remove_files(disk: &Disk, directory: &Path) -> std::io::Result<()> {
    for name in disk.list(directory).await? {
        disk.remove(&directory.join(name)).await?;
    }
    disk.sync_dir(directory).await
}

impl Cluster {
    /// Makes the machines, numbered from 1. Nothing runs yet.
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
            let machine = Machine {
                handle,
                home: SimStorage::new(),
                config,
                process: Process::Down,
                armed: Armed::No,
                lost: None,
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

    /// Where the nodes listen.
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.to_vec()
    }

    /// The nodes' numbers.
    pub fn ids(&self) -> Vec<u64> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Machine>> {
        self.machines.lock().expect("nothing panics while holding it")
    }

    /// Looks at, or does something to, one machine.
    pub fn with<T>(&self, id: u64, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(self.lock().get_mut(&id).expect("machines are never taken away"))
    }

    /// Does something to a machine's process, if it runs.
    fn with_life(&self, id: u64, act: impl FnOnce(&mut Life)) {
        self.with(id, |machine| {
            if let Some(life) = machine.life_mut() {
                act(life);
            }
        });
    }

    /// Starts a machine's process, unless it runs.
    pub fn start(&self, id: u64) {
        let (handle, home, config, stop) = {
            let mut machines = self.lock();
            let machine = machines.get_mut(&id).expect("machines are never taken away");
            if machine.life().is_some() {
                return;
            }
            let excused = machine.is_armed() || machine.full;
            let life = Life { excused, ..Life::default() };
            let stop = life.stop.clone();
            machine.process = Process::Up(life);
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
                    cluster.with_life(id, |life| life.handle = Some(node.handle().clone()));
                    let lost = cluster.with(id, |machine| machine.lost);
                    if let Some(part) = lost.filter(|part| !matches!(part, Part::Newest | Part::Bits)) {
                        let what = format!("the node starts without its {part:?}: what it had promised is forgotten");
                        cluster.monitor.report(Violation::new("start", world.now_ns(), id, what));
                    }
                    if let Some(other) = cluster.with(id, |machine| machine.swapped_with) {
                        let what = format!("the node starts with the data directory of node {other}");
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
                    cluster.with_life(id, |life| life.failed = Some(why.clone()));
                    if !cluster.refuses_rightly(id, &why) {
                        let what = format!("the node does not start: {error}");
                        cluster.monitor.report(Violation::new("start", world.now_ns(), id, what));
                    }
                }
            }
        });
    }

    /// Whether this is what a machine's store may say when it does not start.
    fn refuses_rightly(&self, id: u64, why: &str) -> bool {
        let (may, swapped_with) =
            self.with(id, |machine| (machine.is_excused() || machine.must_say(why), machine.swapped_with));
        let names = |other: u64| {
            let other = self.with(other, |machine| machine.config.name.clone());
            why.contains("the data directory") && why.contains(&format!("is that of node `{other}`"))
        };
        may || swapped_with.is_some_and(names)
    }

    /// Tells a machine's process to end, as SIGTERM does. Its node hands over and stops; [`Cluster::crash`] clears the rest away.
    pub fn stop(&self, id: u64) {
        self.with_life(id, |life| {
            // A node that stops is no store that stopped without a reason.
            life.excused = true;
            life.stop.notify_one();
        });
        let now_ns = self.world.now_ns();
        self.monitor.with(|observed| observed.pauses.stop(now_ns));
    }

    /// A machine's process has ended.
    fn ended(&self, id: u64) {
        let now_ns = self.world.now_ns();
        if let Err(violation) = self.monitor.with(|observed| observed.pauses.ended(now_ns, id)) {
            self.monitor.report(violation);
        }
    }

    /// Ends a machine's process.
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

    /// Replaces a dead machine's disk by an empty one.
    pub fn wipe(&self, id: u64) {
        self.with(id, |machine| {
            machine.handle.disk().wipe();
            machine.home.wipe();
            machine.lost = None;
            machine.wiped = true;
        });
    }

    /// Takes a part of a dead machine's data away. Its store must refuse to start; the supervisor then replaces the rest by an
    /// empty disk, as an operator would.
    pub fn lose(&self, id: u64, part: Part) {
        self.with(id, |machine| {
            // The log's files are removed right before the next start, because the disk lets nothing be removed at once.
            if part == Part::Engine {
                machine.home.wipe();
            }
            machine.lost = Some(part);
        });
    }

    /// Gives two dead machines each other's data, or their own again. False if that of one is not whole.
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

    /// Changes a dead machine's settings, as an operator edits its file.
    ///
    /// # Panics
    /// If they do not fit.
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

    /// Puts the copy in the place of a dead machine's disk, with the old identity or with the present one.
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

    /// Makes writes that need more space fail, or lets them through again.
    pub fn set_full(&self, id: u64, full: bool) {
        self.with(id, |machine| {
            machine.handle.disk().set_full(full);
            machine.full = full;
        });
    }

    /// Stops a machine's process where it is, if it is up, or lets it go on.
    pub fn set_paused(&self, id: u64, paused: bool) {
        let change = self.with(id, |machine| {
            let life = machine.life_mut().filter(|life| life.paused != paused)?;
            life.paused = paused;
            Some(machine.handle.clone())
        });
        match change {
            Some(handle) if paused => handle.pause(),
            Some(handle) => handle.resume(),
            None => {}
        }
    }

    /// A fault that lets this machine's store stop has struck.
    pub fn excuse(&self, id: u64) {
        self.with_life(id, |life| life.excused = true);
    }

    /// Makes the next sync of this machine's disk fail.
    pub fn fail_next_sync(&self, id: u64) {
        self.with(id, |machine| machine.handle.disk().fail_next_sync());
        self.arm(id, Armed::Disk);
    }

    /// Makes a call of this machine's file system fail.
    pub fn fail_call(&self, id: u64, (call, nth): (DiskCall, u32), error: i32) {
        self.with(id, |machine| machine.handle.disk().fail_call(call, nth, error));
        self.arm(id, Armed::Disk);
    }

    /// Makes a write of this machine's disk short. It fails after its first part if there is an error to tell.
    pub fn shorten_write(&self, id: u64, nth: u32, permille: u32, error: Option<i32>) {
        self.with(id, |machine| machine.handle.disk().shorten_write(nth, permille, error));
        if error.is_some() {
            self.arm(id, Armed::Disk);
        }
    }

    /// Damages a machine's raft log where it was written some time ago: flips bits, or makes sectors unreadable. What surely is durable
    /// behind it vouches for it. False if the log is too short for that.
    pub fn damage_log(&self, id: u64, rng: &mut Rng) -> bool {
        self.with(id, |machine| {
            let directory = machine.config.data_dir.join("raft");
            let disk = machine.handle.disk().clone();
            let mut files = disk.files();
            files.retain(|(path, _)| path.parent() == Some(&directory) && path.extension() == Some("log".as_ref()));
            // The names count up. The last file's end, and what a start copies of it, may be all that is known of some records.
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

    /// Something happens to the next files that this machine stages. One that cannot be written is refused, and the store goes on; a
    /// damaged one may stop it.
    pub fn set_staging_fault(&self, id: u64, fault: StagingFault) {
        self.with(id, |machine| machine.home.set_staging_fault(Some(fault)));
        if fault == StagingFault::Damages {
            self.arm(id, Armed::Engine);
        }
    }

    /// Nothing happens to staged files any more, if it has not yet.
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

    /// Makes the next start of a dead machine's engine fail.
    pub fn fail_next_open(&self, id: u64) {
        let error = Error::Io("the engine does not open: injected".to_owned());
        self.with(id, |machine| machine.home.fail_next_open(error));
        self.arm(id, Armed::Engine);
    }

    fn arm(&self, id: u64, armed: Armed) {
        self.with(id, |machine| {
            machine.armed = armed;
            if let Some(life) = machine.life_mut() {
                life.excused = true;
            }
        });
    }

    /// Starts again what stopped with an excuse, as an operator's supervisor would. Its unsynced data is lost.
    pub fn supervise(&self, rng: &mut Rng) {
        for id in self.ids() {
            let poisoned = self.monitor.with(|observed| observed.poisoned.get(&id).cloned());
            let replace = self.with(id, |machine| {
                let stopped = machine.life().and_then(|life| poisoned.clone().or_else(|| life.failed.clone()));
                stopped.is_some_and(|why| machine.must_say(&why)) && !machine.full
            });
            if replace {
                self.crash(id, Death::Killed, rng);
                self.wipe(id);
                self.start(id);
                continue;
            }
            let again = self.with(id, |machine| {
                let life = machine.life().filter(|life| life.excused);
                let why = life.and_then(|life| poisoned.or_else(|| life.failed.clone()));
                let again = why.is_some() && !machine.full;
                // The injected failure has struck if it is what the store stopped for; it strikes once. Until the machine is
                // started again it counts as armed, so that no second one is injected into a store that has stopped.
                let says = ["Input/output error", "Too many open files", "o space left", "injected"];
                let struck = |why: &String| says.iter().any(|word| why.contains(word));
                if again && why.as_ref().is_some_and(struck) {
                    machine.armed = Armed::No;
                }
                again
            });
            self.with(id, |machine| {
                // It has struck, and the store bore it.
                let running = machine.life().is_some_and(|life| life.handle.is_some());
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

    /// Whether the machine's process is up.
    pub fn is_up(&self, id: u64) -> bool {
        self.with(id, |machine| machine.life().is_some())
    }

    /// The first node whose store stopped serving without a reason.
    pub fn stopped_without_reason(&self) -> Option<(u64, String)> {
        let poisoned = self.monitor.with(|observed| observed.poisoned.clone());
        let excused = |machine: &Machine, why: &str| machine.is_excused() || machine.must_say(why);
        let unexpected =
            |id: u64, why: &str| self.with(id, |machine| machine.life().is_some() && !excused(machine, why));
        poisoned.into_iter().find(|(id, why)| unexpected(*id, why))
    }

    /// What the nodes' engines hold now, wherever their disks are.
    ///
    /// # Errors
    /// When one does not decode.
    pub fn images(&self) -> Result<Vec<Image>, Violation> {
        let at = self.world.now_ns();
        let image =
            |(id, machine): (&u64, &Machine)| Image::read(machine.swapped_with.unwrap_or(*id), &machine.home, at);
        self.lock().iter().map(image).collect()
    }

    /// How often processes were started.
    pub fn starts(&self) -> u64 {
        self.lock().values().map(|machine| machine.starts).sum()
    }

    /// A client's machine.
    pub fn client_machine(&self, number: u32) -> NodeHandle {
        let id = CLIENT_BASE + u64::from(number);
        self.world.node(id, &format!("c{number}"), &format!("c{number}:1"))
    }
}
