//! The installation of a snapshot in a group: at most one at a time.

use crate::raft::output::Output;
use crate::replica::snapshot::Arrived;

/// The state of an installation; `A` is the data that arrived.
#[derive(Debug, Default)]
pub enum Install<A = Arrived> {
    /// No snapshot is being installed.
    #[default]
    Idle,
    /// Raft has accepted the message. Its data is kept here until the group's next output.
    Pending(A),
    /// The engine is ingesting the data. The group's output with the snapshot waits for that, and so does everything
    /// after it.
    Running(Box<Output>),
}

impl<A> Install<A> {
    /// Begins an installation, after raft has accepted the snapshot's message.
    ///
    /// # Panics
    /// If an installation is in progress: the caller must drop the second snapshot.
    pub fn begin(&mut self, arrived: A) {
        assert!(matches!(self, Install::Idle), "one snapshot at a time");
        *self = Install::Pending(arrived);
    }

    /// Returns whether no installation is in progress.
    pub fn is_idle(&self) -> bool {
        matches!(self, Install::Idle)
    }

    /// Keeps `output` while the engine ingests the data. Returns the data, or `None` if there is none.
    pub fn run(&mut self, output: Output) -> Option<A> {
        match std::mem::replace(self, Install::Running(Box::new(output))) {
            Install::Pending(arrived) => Some(arrived),
            Install::Idle | Install::Running(_) => None,
        }
    }

    /// Ends the installation and returns the output that waited for it.
    pub fn end(&mut self) -> Option<Output> {
        match std::mem::take(self) {
            Install::Running(output) => Some(*output),
            Install::Idle | Install::Pending(_) => None,
        }
    }
}
