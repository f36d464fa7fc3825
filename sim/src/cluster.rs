//! The nodes of a run: built by the same `Node::start` as the binary's, killed and started again by the nemesis.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use armilla::engine::SimHome;
use armilla::node::{Config, Node, NodeEnv};
use armilla::replica::Handle;
use armilla::rt::rng::Rng;
use armilla::rt::sim::{DiskConfig, LinkConfig, NodeHandle, World};
use armilla::rt::sync::Notify;

use crate::oracle::Violation;
use crate::oracle::state::Image;
use crate::plan::{Knobs, Plan, key};
use crate::watch::Watch;

/// Client machines have the numbers from here on.
pub const CLIENT_BASE: u64 = 100;

/// One store's machine.
pub struct Machine {
    /// The simulator's handle.
    pub handle: NodeHandle,
    /// What its engine keeps.
    pub home: SimHome,
    config: Config,
    /// A fault that lets a store stop (a failed fsync, a full disk) struck it in its present life.
    excused: bool,
    /// A sync of the disk or a flush of the engine is going to fail, and has not yet.
    armed: bool,
    /// Its disk is full.
    full: bool,
    /// Its process stands still.
    paused: bool,
    /// Why its process ended by itself while it was coming up, if it did.
    failed: Option<String>,
    /// Its process is up, or coming up.
    up: bool,
    /// The front of its replicas, once its process has come up.
    pub front: Option<Handle>,
    /// Told when its process is to hand over and end.
    stop: Arc<Notify>,
    /// How often it was started.
    pub starts: u64,
}

impl Machine {
    /// Whether a sync or flush of this machine is going to fail.
    pub fn is_armed(&self) -> bool {
        self.armed
    }
}

/// All machines. Clones share them.
#[derive(Clone)]
pub struct Cluster {
    world: World,
    watch: Watch,
    machines: Arc<Mutex<BTreeMap<u64, Machine>>>,
    addresses: Arc<Vec<String>>,
}

fn name(id: u64) -> String {
    format!("n{id}")
}

fn address(id: u64) -> String {
    format!("n{id}:20160")
}

/// How links are when nothing is wrong.
pub fn link(knobs: &Knobs) -> LinkConfig {
    LinkConfig { latency_us_min: knobs.link_us / 2, latency_us_mean: knobs.link_us / 2, ..LinkConfig::default() }
}

fn config(plan: &Plan, id: u64) -> Config {
    let stores = u64::from(plan.topology.stores);
    let knobs = &plan.knobs;
    let mut config = Config {
        name: name(id),
        data_dir: PathBuf::from("/data"),
        addr: address(id),
        initial_cluster: (1..=stores).map(|n| (name(n), address(n))).collect(),
        pd_members: stores.min(3) as usize,
        replicas: stores as usize,
        split_keys: plan
            .topology
            .splits
            .iter()
            .map(|&split| String::from_utf8_lossy(&key(split)).into_owned())
            .collect(),
        ..Config::default()
    };
    config.raft.tick_ms = knobs.tick_ms;
    config.raft.heartbeat_ticks = knobs.heartbeat_ticks as usize;
    config.raft.election_ticks = knobs.election_ticks as usize;
    config.raft.log_segment_kib = knobs.segment_kib;
    config.raft.log_soft_max_kib = 4 * knobs.segment_kib;
    config.raft.log_keep_entries = knobs.log_keep;
    config.raft.log_lag_entries_max = knobs.log_lag;
    config.raft.flush_kib = knobs.flush_kib;
    config.raft.flush_interval_ms = knobs.flush_ms;
    config.raft.snapshot_chunk_kib = knobs.snapshot_chunk_kib;
    config.raft.pack_kib_max = knobs.pack_kib;
    config.raft.letters_max = knobs.letters;
    config.raft.appends_inflight_max = knobs.inflight;
    config.ttl.collect_interval_ms = knobs.ttl_collect_ms;
    config.ttl.collect_grace_ms = knobs.ttl_grace_ms;
    config.pd.store_heartbeat_ms = knobs.pd_heartbeat_ms;
    config.pd.store_alive_ms = 5 * knobs.pd_heartbeat_ms;
    config
}

impl Cluster {
    /// Makes the machines. Nothing runs yet.
    pub fn new(world: &World, watch: &Watch, plan: &Plan) -> Cluster {
        let mut machines = BTreeMap::new();
        for id in 1..=u64::from(plan.topology.stores) {
            let handle = world.node(id, &name(id), &address(id));
            handle.disk().set_config(DiskConfig { sync_ns: plan.knobs.fsync_us * 1000, ..DiskConfig::default() });
            let config = config(plan, id);
            config.validate().unwrap_or_else(|e| panic!("the plan's knobs do not make a node: {e}"));
            let machine = Machine {
                handle,
                home: SimHome::new(),
                config,
                excused: false,
                armed: false,
                full: false,
                paused: false,
                failed: None,
                up: false,
                front: None,
                stop: Arc::default(),
                starts: 0,
            };
            machines.insert(id, machine);
        }
        world.net().set_all(link(&plan.knobs));
        let addresses = machines.keys().map(|&id| address(id)).collect();
        Cluster {
            world: world.clone(),
            watch: watch.clone(),
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

    /// Starts a machine's process, unless it runs.
    pub fn start(&self, id: u64) {
        let (handle, home, config, stop) = {
            let mut machines = self.lock();
            let machine = machines.get_mut(&id).expect("machines are never taken away");
            if std::mem::replace(&mut machine.up, true) {
                return;
            }
            machine.excused = machine.armed || machine.full;
            machine.failed = None;
            machine.starts += 1;
            machine.stop = Arc::default();
            (machine.handle.clone(), machine.home.clone(), machine.config.clone(), machine.stop.clone())
        };
        self.watch.with(|heard| heard.poisoned.remove(&id));
        let env = handle.env();
        let (cluster, world) = (self.clone(), self.world.clone());
        handle.spawn(async move {
            match Node::start(NodeEnv { rt: env, engine: home }, config).await {
                Ok(node) => {
                    cluster.with(id, |machine| machine.front = Some(node.handle().clone()));
                    // The node lives as long as this task.
                    stop.notified().await;
                    node.drain().await;
                    node.stop().await;
                    cluster.ended(id);
                }
                Err(error) => {
                    let excused = cluster.with(id, |machine| {
                        machine.failed = Some(error.to_string());
                        machine.excused
                    });
                    if !excused {
                        let what = format!("the node does not start: {error}");
                        cluster.watch.report(Violation::new("start", world.now_ns(), id, what));
                    }
                }
            }
        });
    }

    /// Tells a machine's process to end, as SIGTERM does. Its node hands over and stops; [`Cluster::crash`] clears the rest away.
    pub fn stop(&self, id: u64) {
        self.with(id, |machine| {
            // A node that stops is no store that stopped without a reason.
            machine.excused = true;
            machine.stop.notify_one();
        });
        let now_ns = self.world.now_ns();
        self.watch.with(|heard| heard.pauses.stop(now_ns));
    }

    /// A machine's process has ended.
    fn ended(&self, id: u64) {
        let now_ns = self.world.now_ns();
        if let Err(violation) = self.watch.with(|heard| heard.pauses.ended(now_ns, id)) {
            self.watch.report(violation);
        }
    }

    /// Kills a machine's process. With `power`, unsynced data is kept, lost or torn; without, only what the process had in
    /// memory is lost.
    pub fn crash(&self, id: u64, power: bool, rng: &mut Rng) {
        let (handle, home) = self.with(id, |machine| {
            machine.up = false;
            machine.paused = false;
            machine.front = None;
            (machine.handle.clone(), machine.home.clone())
        });
        handle.kill();
        self.ended(id);
        if power {
            handle.crash_disk(rng);
        }
        home.crash(&mut |bound| rng.below(bound));
    }

    /// Replaces a dead machine's disk by an empty one.
    pub fn wipe(&self, id: u64) {
        self.with(id, |machine| {
            machine.handle.disk().wipe();
            machine.home.wipe();
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
            let change = paused != machine.paused && (machine.up || !paused);
            if change {
                machine.paused = paused;
            }
            change.then(|| machine.handle.clone())
        });
        match change {
            Some(handle) if paused => handle.pause(),
            Some(handle) => handle.resume(),
            None => {}
        }
    }

    /// A fault that lets this machine's store stop has struck.
    pub fn excuse(&self, id: u64) {
        self.with(id, |machine| machine.excused = true);
    }

    /// The next sync or flush of this machine is going to fail.
    pub fn arm(&self, id: u64) {
        self.with(id, |machine| {
            machine.excused = true;
            machine.armed = true;
        });
    }

    /// Starts again what stopped with an excuse, as an operator's supervisor would. Its unsynced data is lost.
    pub fn supervise(&self, rng: &mut Rng) {
        for id in self.ids() {
            let poisoned = self.watch.with(|heard| heard.poisoned.get(&id).cloned());
            let again = self.with(id, |machine| {
                let why = poisoned.or_else(|| machine.failed.clone()).filter(|_| machine.up && machine.excused);
                let again = why.is_some() && !machine.full;
                // The injected failure has struck if it is what the store stopped for; it strikes once. Until the machine is
                // started again it counts as armed, so that no second one is injected into a store that has stopped.
                let struck = |why: &String| why.contains("Input/output error") || why.contains("injected");
                if again && why.as_ref().is_some_and(struck) {
                    machine.armed = false;
                }
                again
            });
            if again {
                self.crash(id, true, rng);
                self.start(id);
            }
        }
    }

    /// Whether the machine's process is up.
    pub fn is_up(&self, id: u64) -> bool {
        self.with(id, |machine| machine.up)
    }

    /// The first node whose store stopped serving without a reason.
    pub fn stopped_without_reason(&self) -> Option<(u64, String)> {
        let poisoned = self.watch.with(|heard| heard.poisoned.clone());
        poisoned.into_iter().find(|(id, _)| self.with(*id, |machine| machine.up && !machine.excused))
    }

    /// What the nodes' engines hold now.
    ///
    /// # Errors
    /// O4, when one does not decode.
    pub fn images(&self) -> Result<Vec<Image>, Violation> {
        let at = self.world.now_ns();
        self.lock().iter().map(|(&id, machine)| Image::read(id, &machine.home, at)).collect()
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
