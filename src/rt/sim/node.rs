//! The simulated machines: what belongs to each, and what its present life is.

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
    pub(super) life: Mutex<Life>,
}

/// What changes when a node is killed, paused or started.
pub(super) struct Life {
    /// Which life of the node this is, from 1.
    pub(super) epoch: u64,
    pub(super) alive: bool,
    /// Since when all its tasks stand still (ghost nanoseconds).
    pub(super) paused_since: Option<u64>,
    pub(super) tasks: madsim::runtime::NodeHandle,
    pub(super) cpu_factor: f64,
    cpu_draws: u64,
    /// What is added to either side of long work, ns.
    pub(super) long_ns: u64,
    /// What a blocking read from the disk takes, ns.
    pub(super) read_ns: u64,
    /// How long the task that runs has blocked its thread, ns.
    blocked_ns: u64,
}

impl Life {
    /// The first life of a node, whose tasks run under `tasks`.
    pub(super) fn first(tasks: madsim::runtime::NodeHandle) -> Life {
        Life {
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
        self.life.lock().unwrap().alive
    }

    pub(super) fn paused_since(&self) -> Option<u64> {
        self.life.lock().unwrap().paused_since
    }

    pub(super) fn epoch(&self) -> u64 {
        self.life.lock().unwrap().epoch
    }

    /// What is added to either side of long work here, ns.
    pub(super) fn long_ns(&self) -> u64 {
        self.life.lock().unwrap().long_ns
    }

    /// The task that runs reads from the disk and blocks its thread for as long as that takes.
    pub(super) fn block_for_read(&self) {
        let mut life = self.life.lock().unwrap();
        life.blocked_ns += life.read_ns;
    }

    /// How long the task that runs has blocked its thread since the last call, ns.
    pub(super) fn take_blocked_ns(&self) -> u64 {
        std::mem::take(&mut self.life.lock().unwrap().blocked_ns)
    }

    /// Starts a task of this node's present life, from anywhere.
    pub(super) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let tasks = self.life.lock().unwrap().tasks.clone();
        JoinHandle::wrap(tasks.spawn(future))
    }

    /// The time that a piece of blocking work takes here.
    pub(super) fn charge_cpu_ns(&self, seed: u64) -> u64 {
        let mut life = self.life.lock().unwrap();
        life.cpu_draws += 1;
        let bits = draw::at(seed, "cpu", self.id, 0, life.cpu_draws);
        let nanos = 2_000 + draw::long_tail(bits, 6_000);
        (nanos as f64 * life.cpu_factor) as u64
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

    /// All numbers, ascending.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.by_id.lock().unwrap().keys().copied().collect()
    }

    /// The number of the node whose task is running; 0 for the simulator itself.
    pub(super) fn current_id(&self) -> u64 {
        let task = madsim::plugin::node();
        self.by_task.lock().unwrap().get(&task).copied().unwrap_or(0)
    }
}
