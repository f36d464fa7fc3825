//! The simulated world: its nodes, and the simulator's handles on them.

use std::cell::RefCell;
use std::future::Future;
use std::sync::{Arc, Mutex};

use madsim::runtime::Handle;

use super::clock::{Clock, SimClock};
use super::context::Context;
use super::disk::SimDisk;
use super::net::{self, Net, Network, SimNet};
use super::node::{Life, Node, Nodes};
use super::probe::{Probe, What};
use super::queue::{EventQueue, Pump};
use super::shim;
use super::task::JoinHandle;
use crate::rt::Env;
use crate::rt::event::Event;
use crate::rt::rng;

/// The parts of a world.
pub(super) struct Inner {
    pub(super) context: Arc<Context>,
    nodes: Arc<Nodes>,
    network: Arc<Network>,
    handle: Handle,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Inner>>> = const { RefCell::new(None) };
}

/// The world of this thread, if there is one.
fn current() -> Option<Arc<Inner>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// The node whose task is running.
pub(super) fn current_node() -> Option<(Arc<Inner>, Arc<Node>)> {
    let world = current()?;
    let node = world.nodes.get(world.nodes.current_id())?;
    Some((world, node))
}

/// Reports a fact of the protocol, from any task of the world; without a world it is lost.
pub fn emit(event: Event) {
    if let Some(world) = current() {
        world.context.record(world.nodes.current_id(), What::Event(&event));
    }
}

/// The simulated world of this process: make one inside madsim's runtime, then its nodes. Clones share it.
#[derive(Clone)]
pub struct World {
    pub(super) inner: Arc<Inner>,
    net: SimNet,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World(seed {})", self.inner.context.seed)
    }
}

/// How often the tasks that ended are forgotten (madsim keeps a weak pointer of each until it is asked to count them).
const PRUNE_EVERY_NS: u64 = 5_000_000_000;

impl World {
    /// A world whose every draw follows from `seed`.
    ///
    /// # Panics
    /// Outside madsim's runtime.
    pub fn new(seed: u64) -> World {
        shim::install();
        let time = madsim::time::TimeHandle::current();
        let context = Arc::new(Context { seed, queue: Arc::new(EventQueue::new(time)), probe: Probe::new() });
        let nodes = Arc::new(Nodes::default());
        let network = Arc::new(Network::new(context.clone(), nodes.clone()));
        let inner = Arc::new(Inner { context, nodes, network, handle: Handle::current() });
        CURRENT.with(|current| *current.borrow_mut() = Some(inner.clone()));
        // A world is never dropped: the destructors of what its nodes left behind would run outside their runtime, or be heard
        // by the next world of this thread.
        std::mem::forget(inner.clone());
        madsim::task::spawn(Pump(inner.context.queue.clone()));
        let pruner = inner.clone();
        madsim::task::spawn(async move {
            loop {
                let next = pruner.context.now_ns() + PRUNE_EVERY_NS;
                pruner.context.timer(next).await;
                pruner.handle.metrics().num_tasks();
            }
        });
        World { net: SimNet::new(inner.network.clone()), inner }
    }

    /// The world of this thread.
    pub fn current() -> Option<World> {
        current().map(|inner| World { net: SimNet::new(inner.network.clone()), inner })
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.inner.context.seed
    }

    /// Creates a node, which is alive but runs nothing yet. `addr` (`host:port`) is where it will listen; its host part is the node's own.
    ///
    /// # Panics
    /// If the number or the host is taken, or the number is zero (that is the simulator).
    pub fn node(&self, id: u64, name: &str, addr: &str) -> NodeHandle {
        assert!(id != 0, "node 0 is the simulator");
        let tasks = self.inner.handle.create_node().name(name).build();
        let seed = rng::hash_label(self.inner.context.seed ^ rng::mix(id), "node");
        let node = Arc::new(Node {
            id,
            name: name.to_owned(),
            addr: addr.to_owned(),
            seed,
            task_id: tasks.id(),
            clock: Arc::new(SimClock::new(madsim::time::TimeHandle::current())),
            disk: SimDisk::of_node(&self.inner.context, id),
            life: Mutex::new(Life::first(tasks)),
        });
        self.inner.nodes.add(node.clone());
        self.inner.network.add_host(addr, id);
        NodeHandle { world: self.inner.clone(), node }
    }

    /// A node that was created before.
    pub fn get(&self, id: u64) -> Option<NodeHandle> {
        self.inner.nodes.get(id).map(|node| NodeHandle { world: self.inner.clone(), node })
    }

    /// Simulated nanoseconds since the world began: the ghost clock, which no node can see.
    pub fn now_ns(&self) -> u64 {
        self.inner.context.now_ns()
    }

    /// Completes at a ghost instant; for the simulator's own tasks.
    pub async fn sleep_until(&self, at_ns: u64) {
        self.inner.context.timer(at_ns).await;
    }

    /// Completes after so many nanoseconds of true time.
    pub async fn sleep_ns(&self, nanos: u64) {
        self.sleep_until(self.now_ns() + nanos).await;
    }

    /// The network.
    pub fn net(&self) -> &SimNet {
        &self.net
    }

    /// The running digest, the sinks and the trace.
    pub fn probe(&self) -> &Probe {
        &self.inner.context.probe
    }
}

/// The simulator's handle on one node.
#[derive(Clone)]
pub struct NodeHandle {
    world: Arc<Inner>,
    node: Arc<Node>,
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeHandle({} {})", self.node.id, self.node.name)
    }
}

impl NodeHandle {
    /// The node's number.
    pub fn id(&self) -> u64 {
        self.node.id
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Where the node listens.
    pub fn addr(&self) -> &str {
        &self.node.addr
    }

    /// What the node's process is given: a new clock epoch and handles of its present life. Begins a new life if the node was killed.
    pub fn env(&self) -> Env {
        let epoch = {
            let mut life = self.node.life.lock().unwrap();
            life.alive = true;
            life.epoch
        };
        Env {
            clock: Clock::new(self.world.context.queue.clone(), self.node.id, self.node.clock.clone()),
            net: Net::new(self.world.network.clone(), self.node.clone(), epoch),
            disk: self.node.disk.disk(),
            seed: rng::mix(self.node.seed ^ epoch),
        }
    }

    /// Starts a task on the node.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.node.spawn(future)
    }

    /// Whether the node has a life: created or given an [`Env`] since the last kill.
    pub fn is_alive(&self) -> bool {
        self.node.is_alive()
    }

    /// How many lives the node has begun.
    pub fn epoch(&self) -> u64 {
        self.node.epoch()
    }

    /// Kills the node's process: its tasks are dropped and never run again, its listeners close, its handles of this life fail, its
    /// peers' connections break a moment later. What the disk keeps of unsynced data is not decided here: a process that
    /// dies loses none of it; for a power loss call [`NodeHandle::crash_disk`] next.
    pub fn kill(&self) {
        // No lock of ours is held while madsim works: it drops futures, and their destructors come back here. Paused tasks are let
        // loose first, because madsim would drop them in place, under its own lock.
        let task_id = self.node.task_id;
        if self.node.life.lock().unwrap().paused_since.take().is_some() {
            self.world.handle.resume(task_id);
        }
        self.world.handle.kill(task_id);
        // A fresh set of tasks at once, so that the next life can begin whenever the simulator wants.
        self.world.handle.restart(task_id);
        let fresh = self.world.handle.get_node(task_id).expect("the node exists");
        let stale = {
            let mut life = self.node.life.lock().unwrap();
            life.alive = false;
            life.epoch += 1;
            std::mem::replace(&mut life.tasks, fresh)
        };
        drop(stale);
        self.node.disk.next_epoch();
        net::node_down(&self.world.network, &self.node);
        self.world.context.fault(self.node.id, "kill");
    }

    /// The machine loses its power: as [`NodeHandle::kill`] and [`NodeHandle::crash_disk`], but nobody says farewell to the peers: calls and
    /// streams to and from the node hang until keepalive gives them up. New connections are refused at once, or answered by the next life.
    pub fn power_off(&self, rng: &mut rng::Rng) {
        net::vanish(&self.world.network, self.node.id);
        self.kill();
        self.crash_disk(rng);
    }

    /// Decides what the power loss left of unsynced data; see [`SimDisk::crash`].
    pub fn crash_disk(&self, rng: &mut rng::Rng) {
        self.node.disk.crash(rng);
        self.world.context.fault(self.node.id, "crash_disk");
    }

    /// Stops all tasks of the node where they are (a stopped process, a virtual machine that is being moved). Its clocks run on.
    pub fn pause(&self) {
        let now = self.world.context.now_ns();
        {
            let mut life = self.node.life.lock().unwrap();
            if life.paused_since.is_some() || !life.alive {
                return;
            }
            life.paused_since = Some(now);
            self.world.handle.pause(self.node.task_id);
        }
        net::suspect_node(&self.world.network, self.node.id);
        self.world.context.fault(self.node.id, "pause");
    }

    /// Lets a paused node run again.
    pub fn resume(&self) {
        {
            let mut life = self.node.life.lock().unwrap();
            if life.paused_since.take().is_none() {
                return;
            }
            self.world.handle.resume(self.node.task_id);
        }
        self.world.context.fault(self.node.id, "resume");
    }

    /// The node's clocks.
    pub fn clock(&self) -> &SimClock {
        &self.node.clock
    }

    /// The node's disk.
    pub fn disk(&self) -> &SimDisk {
        &self.node.disk
    }

    /// Makes long blocking work on this node (a flush, the install of a snapshot) take so much longer, before its effect and after it.
    pub fn set_long_work_ns(&self, nanos: u64) {
        self.node.life.lock().unwrap().long_ns = nanos;
    }

    /// Makes blocking reads from the disk take so long on this node, ns.
    pub fn set_read_ns(&self, nanos: u64) {
        self.node.life.lock().unwrap().read_ns = nanos;
    }

    /// The task that runs makes a blocking read from this node's disk: a lane does nothing else for as long as that takes
    /// ([`NodeHandle::set_read_ns`]), and blocking work takes so much longer.
    pub fn block_for_read(&self) {
        self.node.block_for_read();
    }

    /// The real (ghost) time, ns since the world began.
    pub fn now_ns(&self) -> u64 {
        self.world.context.now_ns()
    }

    /// Makes blocking work on this node take `factor` times as long.
    ///
    /// # Panics
    /// If `factor` is not positive.
    pub fn set_cpu_factor(&self, factor: f64) {
        assert!(factor > 0.0, "work takes time");
        self.node.life.lock().unwrap().cpu_factor = factor;
    }
}
