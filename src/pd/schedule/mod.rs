//! Scheduling: pure functions from the known state of the cluster to orders for its stores.

pub mod leader;
