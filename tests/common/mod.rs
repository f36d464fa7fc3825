//! Helpers for tests of real processes: [`Cluster`] starts, kills and restarts `armilla start` on free loopback ports
//! in a temporary directory; [`converse`] runs a client that is a separate program; [`Wire`] is a client that tries
//! every operation once and returns what is known of its outcome.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod processes;
mod program;
mod storm;
mod wire;

pub use processes::{
    Cluster, Finished, Written, binary, free_port, http, node_command, run, run_with_input, wait_until,
};
pub use program::{Conversation, converse, kill_leader, starts};
pub use storm::Storm;
pub use wire::{Outcome, Wire};
