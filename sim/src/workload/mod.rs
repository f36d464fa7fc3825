//! # workload: the clients of the store and their observations
//!
//! ```text
//!   raw ──── calls ────> client ──> the store        query, bad_requests ──> the store
//!                          └──> history ──> oracles       └──> judge the responses at once
//! ```
//! **In** come the plan's workload and the machines; **out** go the history of calls with their true times, and
//! violations that only the client concerned can detect. **Never**: a workload client that knows more of the store than
//! an address, except for an [`insider`].

pub mod bad_requests;
pub mod client;
pub mod families;
pub mod history;
pub mod insider;
pub mod protocol;
pub mod query;
pub mod raw;
pub mod txn;
pub mod txn_barrier;
pub mod txn_ranges;
pub mod txn_stale;
