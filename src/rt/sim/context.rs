//! What every part of the simulated world is given: the seed, the time with its queue, and the record of what happens. It knows
//! neither the nodes nor the network nor the disks, which all build on it.

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
    /// The real (ghost) time, ns since the world began.
    pub(super) fn now_ns(&self) -> u64 {
        self.queue.now_ns()
    }

    /// Completes at a real (ghost) instant.
    pub(super) fn timer(&self, at_ns: u64) -> Timer {
        Timer::new(self.queue.clone(), at_ns)
    }

    /// Records what happens on a node now.
    pub(super) fn record(&self, node: u64, what: What<'_>) {
        self.probe.record(self.now_ns(), node, what);
    }

    /// Records that the simulator does something to a node now; 0 for the network.
    pub(super) fn fault(&self, node: u64, what: &str) {
        self.record(node, What::Fault(what));
    }
}
