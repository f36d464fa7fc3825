//! Plans: pure functions from what is known of the cluster to orders for its stores.

pub mod leader;
