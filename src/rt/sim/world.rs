//! The simulated world: its nodes, and the simulator's handles on them.

use std::cell::RefCell;
use std::future::Future;
use std::sync::{Arc, Mutex};

use madsim::runtime::Handle;

use super::clock::{Clock, SimClock};
use super::context::Context;
use super::disk::SimDisk;
use super::net::{self, Net, Network, SimNet};
use super::node::{Incarnation, Node, Nodes};
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

/// Returns the world of this thread, if there is one.
fn current() -> Option<Arc<Inner>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// Returns the node whose task is running, and its world.
pub(super) fn current_node() -> Option<(Arc<Inner>, Arc<Node>)> {
    let world = current()?;
    let node = world.nodes.get(world.nodes.current_id())?;
    Some((world, node))
}

/// Reports a fact of the protocol, from any task of the world; without a world the event is dropped.
pub fn emit(event: Event) {
    if let Some(world) = current() {
        world.context.record(world.nodes.current_id(), What::Event(&event));
    }
}

/// The simulated world of this process. Create one inside madsim's runtime, then its nodes. Clones share it.
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

/// How often ended tasks are purged (madsim keeps a weak pointer to each until it is asked to count them).
const PRUNE_EVERY_NS: u64 = 5_000_000_000;

impl World {
    /// Creates a world whose every draw follows from `seed`.
    ///
    /// # Panics
    /// If called outside madsim's runtime.
    pub fn new(seed: u64) -> World {
        shim::install();
        let time = madsim::time::TimeHandle::current();
        let context = Arc::new(Context { seed, queue: Arc::new(EventQueue::new(time)), probe: Probe::new() });
        let nodes = Arc::new(Nodes::default());
        let network = Arc::new(Network::new(context.clone(), nodes.clone()));
        let inner = Arc::new(Inner { context, nodes, network, handle: Handle::current() });
        CURRENT.with(|current| *current.borrow_mut() = Some(inner.clone()));
        // A world is never dropped: the destructors of what its nodes left behind would run outside their runtime, or
        // their events would be recorded by the next world of this thread.
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

    /// Returns the world of this thread.
    pub fn current() -> Option<World> {
        current().map(|inner| World { net: SimNet::new(inner.network.clone()), inner })
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.inner.context.seed
    }

    /// Creates a node, which is alive but does not run anything yet. It will listen on `addr` (`host:port`), whose host
    /// part is the node's own.
    ///
    /// # Panics
    /// If the number or the host is taken, or the number is zero (which stands for the simulator).
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
            incarnation: Mutex::new(Incarnation::first(tasks)),
        });
        self.inner.nodes.add(node.clone());
        self.inner.network.add_host(addr, id);
        NodeHandle { world: self.inner.clone(), node }
    }

    /// Returns a node that was created before.
    pub fn get(&self, id: u64) -> Option<NodeHandle> {
        self.inner.nodes.get(id).map(|node| NodeHandle { world: self.inner.clone(), node })
    }

    /// Returns the true time: simulated nanoseconds since the world was created, which no node can observe.
    pub fn now_ns(&self) -> u64 {
        self.inner.context.now_ns()
    }

    /// Completes at `at_ns` of true time; for the simulator's own tasks.
    pub async fn sleep_until(&self, at_ns: u64) {
        self.inner.context.timer(at_ns).await;
    }

    /// Completes after `nanos` nanoseconds of true time.
    pub async fn sleep_ns(&self, nanos: u64) {
        self.sleep_until(self.now_ns() + nanos).await;
    }

    /// Returns the simulator's control over the network.
    pub fn net(&self) -> &SimNet {
        &self.net
    }

    /// Returns the probe: the running digest, the sinks and the trace.
    pub fn probe(&self) -> &Probe {
        &self.inner.context.probe
    }
}

/// The simulator's handle to one node.
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
    /// Returns the node's number.
    pub fn id(&self) -> u64 {
        self.node.id
    }

    /// Returns the node's name.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Returns the address on which the node listens.
    pub fn addr(&self) -> &str {
        &self.node.addr
    }

    /// Returns the environment for the node's process: a new clock epoch, and handles that belong to the current
    /// incarnation. Starts a new incarnation if the node was killed.
    pub fn env(&self) -> Env {
        let epoch = {
            let mut incarnation = self.node.incarnation.lock().unwrap();
            incarnation.alive = true;
            incarnation.epoch
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

    /// Returns whether the node is alive: created, or given an [`Env`], since the last kill.
    pub fn is_alive(&self) -> bool {
        self.node.is_alive()
    }

    /// Returns the number of the node's current incarnation, from 1.
    pub fn epoch(&self) -> u64 {
        self.node.epoch()
    }

    /// Kills the node's process: its tasks are dropped and never run again, its listeners close, the handles of this
    /// incarnation fail, and its peers' connections break a moment later. This does not decide what the disk keeps of
    /// unsynced data: a process that dies loses none of it. For a power loss, call [`NodeHandle::crash_disk`] next.
    pub fn kill(&self) {
        // No lock of this module is held while madsim works: madsim drops futures, whose destructors call back into
        // this module. Paused tasks are resumed first, because madsim would drop them in place, under its own lock.
        let task_id = self.node.task_id;
        if self.node.incarnation.lock().unwrap().paused_since.take().is_some() {
            self.world.handle.resume(task_id);
        }
        self.world.handle.kill(task_id);
        // Creates a fresh set of tasks at once, so that the next incarnation can start whenever the simulator wants.
        self.world.handle.restart(task_id);
        let fresh = self.world.handle.get_node(task_id).expect("the node exists");
        let stale = {
            let mut incarnation = self.node.incarnation.lock().unwrap();
            incarnation.alive = false;
            incarnation.epoch += 1;
            std::mem::replace(&mut incarnation.tasks, fresh)
        };
        drop(stale);
        self.node.disk.next_epoch();
        net::node_down(&self.world.network, &self.node);
        self.world.context.fault(self.node.id, "kill");
    }

    /// Cuts the machine's power: like [`NodeHandle::kill`] and [`NodeHandle::crash_disk`], but connections are not
    /// closed: calls and streams to and from the node hang until keepalive closes them. New connections are refused at
    /// once, or answered by the next incarnation.
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

    /// Pauses all tasks of the node (a stopped process, a virtual machine that is being moved). Its clocks keep
    /// running.
    pub fn pause(&self) {
        let now = self.world.context.now_ns();
        {
            let mut incarnation = self.node.incarnation.lock().unwrap();
            if incarnation.paused_since.is_some() || !incarnation.alive {
                return;
            }
            incarnation.paused_since = Some(now);
            self.world.handle.pause(self.node.task_id);
        }
        net::suspect_node(&self.world.network, self.node.id);
        self.world.context.fault(self.node.id, "pause");
    }

    /// Resumes a paused node.
    pub fn resume(&self) {
        {
            let mut incarnation = self.node.incarnation.lock().unwrap();
            if incarnation.paused_since.take().is_none() {
                return;
            }
            self.world.handle.resume(self.node.task_id);
        }
        self.world.context.fault(self.node.id, "resume");
    }

    /// Returns the node's clocks.
    pub fn clock(&self) -> &SimClock {
        &self.node.clock
    }

    /// Returns the node's disk.
    pub fn disk(&self) -> &SimDisk {
        &self.node.disk
    }

    /// Adds `nanos` before and after the effect of long blocking work on this node (a flush, the installation of a
    /// snapshot).
    pub fn set_long_work_ns(&self, nanos: u64) {
        self.node.incarnation.lock().unwrap().long_ns = nanos;
    }

    /// Makes blocking reads from the disk take so long on this node, ns.
    pub fn set_read_ns(&self, nanos: u64) {
        self.node.incarnation.lock().unwrap().read_ns = nanos;
    }

    /// Records that the running task makes a blocking read from this node's disk. A lane does nothing else for as long
    /// as that takes ([`NodeHandle::set_read_ns`]), and blocking work takes that much longer.
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
        self.node.incarnation.lock().unwrap().cpu_factor = factor;
    }
}
