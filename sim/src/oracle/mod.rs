//! # oracles: the checks that decide whether a run was correct
//!
//! | name | property | file | looks at |
//! |---|---|---|---|
//! | `election-safety`, `log-matching`, `leader-completeness`, `state-machine-safety`, `commit-permanence`, `persistence`, `quorum-durability`, `lease-reads`, `snapshots-in-a-row` | raft's safety properties | [`raft`] | probe events, as they happen |
//! | `lease` | at most one peer of a group serves without a quorum | [`lease`] | probe events and the nodes' clocks |
//! | `ranges` | at most one peer serves a key, ranges of one store do not overlap | [`ranges`] | probe events and the nodes' clocks |
//! | `births` | a newborn region gets a leader almost at once | [`births`] | probe events and the faults |
//! | `timestamps` | timestamps are unique, increase, and respect real time | [`tso`] | probe events, then the clients' timestamps |
//! | `pause` | regions accept writes soon after a loss | [`pause`] | probe events and the faults |
//! | `lanes` | a lane keeps running while its engine blocks writers or readers | [`lanes`] | probe events and the faults |
//! | `leaders` | a slow store does not move other stores' leaders | [`leaders`] | probe events and the faults |
//! | `loads` | loads are reported once, splits by load divide it, load spreads over the stores and stays spread | [`hot`] | probe events, the end of some runs |
//! | `settings` | settings that were changed are in force, paused schedulers make no orders, drained stores lead nothing, weights and replacements have their effect | [`settings`] | probe events, PD's responses |
//! | `limits` | a store gets and gives away no more replicas a minute than its limits allow | [`limits`] | probe events, PD's responses |
//! | `appends` | a message with entries is bounded in bytes | [`appends`] | probe events |
//! | `fetches` | old entries in flight to a store are bounded in bytes | [`fetches`] | probe events |
//! | `rounds` | a lane checks for messages within a bounded time | [`rounds`] | probe events |
//! | `losses` | a store that is told that it lost entries stops | [`losses`] | probe events |
//! | `runs` | a process on a copy of a data directory is ignored | [`runs`] | probe events |
//! | `strays` | messages from or to non-members are ignored | [`strays`] | probe events |
//! | `room` | writes that add data are refused while little disk space is left, and with very little no leader stays | [`room`] | probe events, the faults and the disks |
//! | `collection` | values are collected by the placement driver's time, not ahead of the store's own clock | [`collection`] | probe events |
//! | `regions` | every key is in one region, epochs grow | [`region`] | the nodes' durable images, PD's responses |
//! | `replica-agreement` | replicas hold the same data; at rest every region has its voters and nothing else | [`state`] | the nodes' durable images |
//! | `linearizability` | every key is a register | [`reads`], `armilla_check` | probe events, then the clients' history |
//! | `durability` | acknowledged writes survive | [`durability`] | the clients' history and a final read of all keys |
//! | `scan` | a scan shows each region at one moment | [`scan`] | the clients' history |
//! | `ttl` | values expire on time and not earlier | [`ttl`] | the clients' history and the wall clocks |
//! | `transactions` | snapshot isolation, atomicity, real time | [`txn`] | the clients' transactions and the records at the end |
//! | `transactions` | answers about one transaction never contradict each other, locks last, circles of waits stood | `crate::workload::protocol` | each answer to a single request |
//! | `bounds` | the log's files stay bounded, and an idle store holds nothing pending | [`bounds`] | the disks, the stores' statistics |
//! | `sizes` | the placement driver learns the regions' sizes | [`sizes`] | the nodes' images, PD's responses, in every eighth seed |
//! | `sleep` | regions without requests sleep with equal replicas, and wake when a node dies | [`sleep`] | probe events, the scenario |
//! | `liveness` | the cluster recovers after healing | [`liveness`] | the clients' history, the scenario |
//! | `query`, `families`, `bad-requests` | JSON queries are answered correctly, column families do not mix, invalid requests are refused | `crate::workload` | the requesting client |
//! | `start`, `stop`, `health`, `routing`, `panic` | nodes start, do not stop without a reason, report their health, name leaders | `crate::cluster`, `crate::scenario` | the nodes |
//!
//! **In** come facts with true times (the simulator's own clock, which no node can read); **out** goes at most one
//! [`Violation`]. **Never**: an oracle that relies on the store's own opinion of what is correct.

pub mod appends;
pub mod births;
pub mod bounds;
pub mod collection;
pub mod durability;
pub mod fetches;
pub mod hot;
pub mod lanes;
pub mod leaders;
pub mod lease;
pub mod limits;
pub mod liveness;
pub mod losses;
pub mod pause;
pub mod raft;
pub mod ranges;
pub mod reads;
pub mod region;
pub mod removed;
pub mod room;
pub mod rounds;
pub mod runs;
pub mod scan;
pub mod settings;
pub mod sizes;
pub mod sleep;
pub mod state;
pub mod strays;
pub mod tso;
pub mod ttl;
pub mod txn;

use std::fmt;

/// A property that a run has violated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The oracle's name, from the table in the module's documentation.
    pub oracle: &'static str,
    /// What happened, in one line.
    pub what: String,
    /// When it happened (true time, ns).
    pub at: u64,
    /// The node on which it happened; 0 if it concerns no particular node.
    pub node: u64,
}

impl Violation {
    /// Creates a violation.
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
