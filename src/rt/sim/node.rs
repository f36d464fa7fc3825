//! The simulated machines: their parts, and the state of their current incarnation.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};

use madsim::task::NodeId;

use super::clock::SimClock;
use super::disk::SimDisk;
use super::draw;
use super::task::JoinHandle;

/// One simulated machine.
pub(super) struct Node {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) addr: String,
    pub(super) seed: u64,
    pub(super) task_id: NodeId,
    pub(super) clock: Arc<SimClock>,
    pub(super) disk: SimDisk,
    pub(super) incarnation: Mutex<Incarnation>,
}

/// The state that changes when a node is killed, paused or started.
pub(super) struct Incarnation {
    /// The number of the current incarnation, from 1.
    pub(super) epoch: u64,
    pub(super) alive: bool,
    /// Since when all its tasks are paused (ns of true time).
    pub(super) paused_since: Option<u64>,
    pub(super) tasks: madsim::runtime::NodeHandle,
    pub(super) cpu_factor: f64,
    cpu_draws: u64,
    /// Nanoseconds added before and after the effect of long work.
    pub(super) long_ns: u64,
    /// What a blocking read from the disk takes, ns.
    pub(super) read_ns: u64,
    /// How long the task that runs has blocked its thread, ns.
    blocked_ns: u64,
}

impl Incarnation {
    /// Returns the state of a node's first incarnation, whose tasks run under `tasks`.
    pub(super) fn first(tasks: madsim::runtime::NodeHandle) -> Incarnation {
        Incarnation {
            epoch: 1,
            alive: true,
            paused_since: None,
            tasks,
            cpu_factor: 1.0,
            cpu_draws: 0,
            long_ns: 0,
            read_ns: 0,
            blocked_ns: 0,
        }
    }
}

impl Node {
    pub(super) fn is_alive(&self) -> bool {
        self.incarnation.lock().unwrap().alive
    }

    pub(super) fn paused_since(&self) -> Option<u64> {
        self.incarnation.lock().unwrap().paused_since
    }

    pub(super) fn epoch(&self) -> u64 {
        self.incarnation.lock().unwrap().epoch
    }

    /// Returns the nanoseconds added before and after the effect of long work on this node.
    pub(super) fn long_ns(&self) -> u64 {
        self.incarnation.lock().unwrap().long_ns
    }

    /// Records that the running task reads from the disk, which blocks its thread for the node's read time.
    pub(super) fn block_for_read(&self) {
        let mut incarnation = self.incarnation.lock().unwrap();
        incarnation.blocked_ns += incarnation.read_ns;
    }

    /// Returns for how long the running task has blocked its thread since the last call, in nanoseconds.
    pub(super) fn take_blocked_ns(&self) -> u64 {
        std::mem::take(&mut self.incarnation.lock().unwrap().blocked_ns)
    }

    /// Starts a task of this node's current incarnation, from anywhere.
    pub(super) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let tasks = self.incarnation.lock().unwrap().tasks.clone();
        JoinHandle::wrap(tasks.spawn(future))
    }

    /// Draws how long one unit of blocking work takes on this node, in nanoseconds.
    pub(super) fn charge_cpu_ns(&self, seed: u64) -> u64 {
        let mut incarnation = self.incarnation.lock().unwrap();
        incarnation.cpu_draws += 1;
        let bits = draw::at(seed, "cpu", self.id, 0, incarnation.cpu_draws);
        let nanos = 2_000 + draw::long_tail(bits, 6_000);
        (nanos as f64 * incarnation.cpu_factor) as u64
    }
}

/// The nodes of a world, by number.
#[derive(Default)]
pub(super) struct Nodes {
    by_id: Mutex<BTreeMap<u64, Arc<Node>>>,
    by_task: Mutex<BTreeMap<NodeId, u64>>,
}

impl Nodes {
    /// Adds a node.
    ///
    /// # Panics
    /// If its number is taken.
    pub(super) fn add(&self, node: Arc<Node>) {
        let id = node.id;
        self.by_task.lock().unwrap().insert(node.task_id, id);
        let before = self.by_id.lock().unwrap().insert(id, node);
        assert!(before.is_none(), "node {id} exists");
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Node>> {
        self.by_id.lock().unwrap().get(&id).cloned()
    }

    /// Returns all node numbers, ascending.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.by_id.lock().unwrap().keys().copied().collect()
    }

    /// Returns the number of the node whose task is running; 0 for the simulator itself.
    pub(super) fn current_id(&self) -> u64 {
        let task = madsim::plugin::node();
        self.by_task.lock().unwrap().get(&task).copied().unwrap_or(0)
    }
}
