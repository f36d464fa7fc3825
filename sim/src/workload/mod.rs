//! # workload: what clients do to the store, and what they see
//!
//! ```text
//!   raw ──── calls ────> client ──> the store        query, bad_requests ──> the store
//!                          └──> history ──> oracles       └──> judge their answers at once
//! ```
//! **In** come the plan's workload and the machines; **out** go the history of calls with their true times, and violations that
//! only the asking client can know. **Never**: a client that knows more of the store than an address.

pub mod bad_requests;
pub mod client;
pub mod families;
pub mod history;
pub mod insider;
pub mod query;
pub mod raw;
