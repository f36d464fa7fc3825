//! # oracles: the checks that decide whether a run was correct
//!
//! | name | property | file | looks at |
//! |---|---|---|---|
//! | `election-safety`, `log-matching`, `leader-completeness`, `state-machine-safety`, `commit-permanence`, `persistence`, `quorum-durability`, `lease-reads`, `snapshots-in-a-row` | what raft promises | [`raft`] | probe events, as they happen |
//! | `lease` | one peer of a group serves without a quorum | [`lease`] | probe events and the nodes' clocks |
//! | `timestamps` | unique, increasing, in real time | [`tso`] | probe events, then what clients were given |
//! | `pause` | regions take writes soon after a loss | [`pause`] | probe events and the faults |
//! | `lanes` | a lane goes on while its engine stalls | [`lanes`] | probe events and the faults |
//! | `leaders` | a slow store costs no other its leaders | [`leaders`] | probe events and the faults |
//! | `appends` | a message of entries is bounded in bytes | [`appends`] | probe events |
//! | `fetches` | old entries on their way to a store are bounded in bytes | [`fetches`] | probe events |
//! | `drops` | what was dropped is sent before what follows it | [`drops`] | probe events |
//! | `rounds` | a lane looks for messages after a bounded time | [`rounds`] | probe events |
//! | `losses` | a store that is told that it lost entries stops | [`losses`] | probe events |
//! | `runs` | a copy of a data directory is not listened to | [`runs`] | probe events |
//! | `strays` | nor a peer that is no member | [`strays`] | probe events |
//! | `room` | what adds data is refused while there is little room, and nothing is led with hardly any | [`room`] | probe events, the faults and the disks |
//! | `collection` | values are collected by the placement driver's time, not ahead of the store's own | [`collection`] | probe events |
//! | `regions` | every key is in one region, epochs grow | [`region`] | the nodes' durable images, PD's answers |
//! | `replica-agreement` | replicas hold the same data | [`state`] | the nodes' durable images |
//! | `linearizability` | every key is a register | [`reads`], `armilla_check` | probe events, then the clients' history |
//! | `durability` | what was acknowledged is there | [`durability`] | the clients' history and a last read of all keys |
//! | `scan` | one region shows one moment | [`scan`] | the clients' history |
//! | `ttl` | values expire when they must, not before | [`ttl`] | the clients' history and the wall clocks |
//! | `bounds` | the log's files stay bounded, nothing is held at rest | [`bounds`] | the disks, the stores' figures |
//! | `sizes` | the placement driver learns how large regions are | [`sizes`] | the nodes' images, PD's answers, in every eighth seed |
//! | `liveness` | all is well again after healing | [`liveness`] | the clients' history, the scenario |
//! | `query`, `families`, `bad-requests` | answers over JSON are right, families do not mix, wrong requests are refused | `crate::workload` | the asking client |
//! | `start`, `stop`, `health`, `routing`, `panic` | nodes start, do not stop without a reason, tell their health, name leaders | `crate::cluster`, `crate::scenario` | the nodes |
//!
//! **In** come facts with true times (the simulator's own clock, which no node can read); **out** goes at most one
//! [`Violation`]. **Never**: an oracle that looks at the store's own opinion of what is correct.

pub mod appends;
pub mod bounds;
pub mod collection;
pub mod drops;
pub mod durability;
pub mod fetches;
pub mod lanes;
pub mod leaders;
pub mod lease;
pub mod liveness;
pub mod losses;
pub mod pause;
pub mod raft;
pub mod reads;
pub mod region;
pub mod room;
pub mod rounds;
pub mod runs;
pub mod scan;
pub mod sizes;
pub mod state;
pub mod strays;
pub mod tso;
pub mod ttl;

use std::fmt;

/// Something happened that must never happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property that does not hold, see the table above.
    pub oracle: &'static str,
    /// What happened, in one line.
    pub what: String,
    /// When (true time, ns).
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
