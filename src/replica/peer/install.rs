//! A snapshot on its way into a group: at most one.

use crate::raft::output::Output;
use crate::replica::snapshot::Arrived;

/// Where it stands; `A` is what has arrived.
#[derive(Debug, Default)]
pub enum Install<A = Arrived> {
    /// There is none.
    #[default]
    Idle,
    /// Raft has taken the message; this is the data that goes with it, until the group's next output.
    Pending(A),
    /// The engine is taking it in. The group's output that has it waits for that, and everything after it, too.
    Running(Box<Output>),
}

impl<A> Install<A> {
    /// Raft has taken a snapshot's message.
    ///
    /// # Panics
    /// If another one is on its way: the caller drops the second.
    pub fn begin(&mut self, arrived: A) {
        assert!(matches!(self, Install::Idle), "one snapshot at a time");
        *self = Install::Pending(arrived);
    }

    /// Whether there is none.
    pub fn is_idle(&self) -> bool {
        matches!(self, Install::Idle)
    }

    /// The engine begins to take it in, for this output; its data.
    pub fn run(&mut self, output: Output) -> Option<A> {
        match std::mem::replace(self, Install::Running(Box::new(output))) {
            Install::Pending(arrived) => Some(arrived),
            Install::Idle | Install::Running(_) => None,
        }
    }

    /// The engine has it: the output that waited.
    pub fn end(&mut self) -> Option<Output> {
        match std::mem::take(self) {
            Install::Running(output) => Some(*output),
            Install::Idle | Install::Pending(_) => None,
        }
    }
}
