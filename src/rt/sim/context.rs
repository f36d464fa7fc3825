//! The context that all parts of the simulated world share: the seed, the time with its event queue, and the record of
//! events. It does not know the nodes, the network or the disks, which all build on it.

use std::sync::Arc;

use super::probe::{Probe, What};
use super::queue::{EventQueue, Timer};

/// The part of a world that all other parts share.
pub(super) struct Context {
    pub(super) seed: u64,
    pub(super) queue: Arc<EventQueue>,
    pub(super) probe: Probe,
}

impl Context {
    /// Returns the true time, in nanoseconds since the world was created.
    pub(super) fn now_ns(&self) -> u64 {
        self.queue.now_ns()
    }

    /// Returns a timer that completes at `at_ns` of true time.
    pub(super) fn timer(&self, at_ns: u64) -> Timer {
        Timer::new(self.queue.clone(), at_ns)
    }

    /// Records that something happens on a node now.
    pub(super) fn record(&self, node: u64, what: What<'_>) {
        self.probe.record(self.now_ns(), node, what);
    }

    /// Records that the simulator injects a fault on a node now; node 0 stands for the network.
    pub(super) fn fault(&self, node: u64, what: &str) {
        self.record(node, What::Fault(what));
    }
}
