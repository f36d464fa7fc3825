//! # oracles: the checks that decide whether a run was correct
//!
//! ```text
//!   probe events, as they happen -> raft (O1, O3), lease (O1), reads (H1), tso (O5)   \
//!   the same, and the faults     -> pause (regions that take no writes, orders)         \
//!   the nodes' durable images    -> state (O4), durability (O3)                        >  the first Violation ends the run
//!   what PD says                 -> region (O2)                                       /
//!   the clients' history         -> armilla_check (H1), ttl (H1), scan (H8), liveness
//!   answers of queries over JSON -> crate::queries (H9)
//! ```
//! **In** come facts with ghost times (the simulator's own clock, which no node can read); **out** goes at most one
//! [`Violation`]. **Never**: an oracle that looks at the store's own opinion of what is correct.

pub mod durability;
pub mod lease;
pub mod liveness;
pub mod pause;
pub mod raft;
pub mod reads;
pub mod region;
pub mod scan;
pub mod state;
pub mod tso;
pub mod ttl;

use std::fmt;

/// Something happened that must never happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The oracle's short name: O1, O2, O3, O4, O5, H1, H8, H9, live, pause, …
    pub oracle: &'static str,
    /// What happened, in one line.
    pub what: String,
    /// When (ghost clock, ns).
    pub at: u64,
    /// On which node (0: on none in particular).
    pub node: u64,
}

impl Violation {
    /// A violation.
    pub fn new(oracle: &'static str, at: u64, node: u64, what: impl Into<String>) -> Violation {
        Violation { oracle, what: what.into(), at, node }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FAIL {} {} t={:.3}s", self.oracle, self.what, self.at as f64 / 1e9)?;
        if self.node != 0 {
            write!(f, " node {}", self.node)?;
        }
        Ok(())
    }
}
