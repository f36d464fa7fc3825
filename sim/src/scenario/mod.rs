//! # scenario: the programs of a run
//!
//! | scenario | what runs |
//! |---|---|
//! | [`cluster`] | the whole store under a plan: clients, faults, all oracles |
//! | [`bare_raft`] | raft-rs groups without the store: a digest that differs there is the simulator's fault |
//! | `membership_tests` | unit tests: nodes that move, get a new disk or are members of another cluster |
//! | `log_crash_tests` | unit tests: the raft log alone under power losses |
//!
//! **In** come a seed and [`report::Options`]; **out** goes a [`report::Outcome`]. **Never**: two runs of one seed that
//! differ.

pub mod bare_raft;
pub mod cluster;
pub mod leak;
#[cfg(test)]
mod log_crash_tests;
#[cfg(test)]
mod membership_tests;
pub mod report;
