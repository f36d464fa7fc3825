//! A snapshot on its way into a group: at most one.

use crate::raft::output::Output;
use crate::replica::snapshot::Pair;

/// Where it stands.
#[derive(Debug, Default)]
pub enum Install {
    /// There is none.
    #[default]
    Idle,
    /// Raft has taken the message; this is the data that goes with it, until the group's next output.
    Pending(Vec<Pair>),
    /// The engine is writing it. The group's output that has it waits for that, and everything after it, too.
    Running(Box<Output>),
}

impl Install {
    /// Raft has taken a snapshot's message.
    ///
    /// # Panics
    /// If another one is on its way: the caller drops the second.
    pub fn begin(&mut self, pairs: Vec<Pair>) {
        assert!(matches!(self, Install::Idle), "one snapshot at a time");
        *self = Install::Pending(pairs);
    }

    /// Whether there is none.
    pub fn is_idle(&self) -> bool {
        matches!(self, Install::Idle)
    }

    /// The engine begins to write it, for this output; its data.
    pub fn run(&mut self, output: Output) -> Option<Vec<Pair>> {
        match std::mem::replace(self, Install::Running(Box::new(output))) {
            Install::Pending(pairs) => Some(pairs),
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
