//! A snapshot on its way into a group: at most one.

use crate::replica::snapshot::Pair;

/// Where it stands.
#[derive(Debug, Default)]
pub enum Install {
    /// There is none.
    #[default]
    Idle,
    /// Raft has taken the message; this is the data that goes with it, until the group's next output.
    Pending(Vec<Pair>),
}

impl Install {
    /// Raft has taken a snapshot's message.
    ///
    /// # Panics
    /// If another one is on its way: the caller drops the second.
    pub fn begin(&mut self, pairs: Vec<Pair>) {
        assert!(!self.is_pending(), "one snapshot at a time");
        *self = Install::Pending(pairs);
    }

    /// Whether one is on its way.
    pub fn is_pending(&self) -> bool {
        matches!(self, Install::Pending(_))
    }

    /// Its data, for the output that installs it.
    pub fn take(&mut self) -> Option<Vec<Pair>> {
        match std::mem::take(self) {
            Install::Idle => None,
            Install::Pending(pairs) => Some(pairs),
        }
    }
}
