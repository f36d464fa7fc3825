//! The whole store under plans, clients, faults and oracles.

use crate::report::{Options, Outcome};

/// Runs one seed inside the world that the child has made.
pub async fn run(seed: u64, _options: &Options) -> Outcome {
    crate::ground::run(seed, None).await
}
