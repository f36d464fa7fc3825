//! # scenario: what a run consists of
//!
//! | scenario | what runs |
//! |---|---|
//! | [`cluster`] | the whole store under a plan: clients, faults, all oracles |
//! | [`bare_raft`] | raft-rs groups without the store: what a digest that differs there shows is the simulator's fault |
//! | `membership_tests` | nodes that move, come back with a new disk or belong elsewhere; by hand, as unit tests |
//! | `log_crash_tests` | the raft log alone against power losses; as unit tests |
//!
//! **In** come a seed and [`report::Options`]; **out** goes a [`report::Outcome`]. **Never**: two runs of one seed that differ.

pub mod bare_raft;
pub mod cluster;
pub mod leak;
#[cfg(test)]
mod log_crash_tests;
#[cfg(test)]
mod membership_tests;
pub mod report;
