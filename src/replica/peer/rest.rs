//! Whether a peer sleeps.

use std::collections::{BTreeMap, BTreeSet};

/// What changes when something happens in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub term: u64,
    pub last_index: u64,
    /// Reads under a lease, and after asking a quorum.
    pub reads: (u64, u64),
}

/// Whether a peer sleeps. Times are of the node's clock, in nanoseconds.
#[derive(Debug)]
pub enum Rest {
    /// Nothing has happened since this time.
    Awake { since_ns: u64, seen: Seen },
    /// A leader has asked the others whether they may sleep, too.
    Asking {
        since_ns: u64,
        /// The peers that have not consented yet.
        waits: BTreeSet<u64>,
        /// Those that have, with the nonces of their stores' runs.
        agreed: BTreeMap<u64, u64>,
        /// Peers whose stores are silent.
        absent: Vec<u64>,
    },
    /// A leader sleeps, until this time at the latest.
    Leading { due_ns: u64 },
    /// A follower sleeps, until this time at the latest, while this lane of its leader's store is alive.
    Following { store: u64, lane: usize, due_ns: u64 },
}

impl Rest {
    /// Returns the state of a peer in which something happens at this time.
    pub fn awake(now_ns: u64) -> Rest {
        Rest::Awake { since_ns: now_ns, seen: Seen::default() }
    }

    /// Returns whether the peer sleeps.
    pub fn is_sleep(&self) -> bool {
        matches!(self, Rest::Leading { .. } | Rest::Following { .. })
    }
}
