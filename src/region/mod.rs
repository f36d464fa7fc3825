//! # region: the replicated state machine of a data region
//!
//! ```text
//!   RegionCommand (header: epoch, term; write | compare-and-swap | collect)
//!        | apply, in log order, on every replica alike
//!        v
//!   changes of the regions' column families + RegionReply (what the proposer answers with) + Effect (what this store is told)
//! ```
//!
//! **In** come commands that the leader has checked against the region as it knew it; **out** go changes and a reply. What may
//! have changed between proposal and apply (the epoch, hence the boundaries) is checked again here. Compare-and-swap is decided
//! here too: apply is one after the other, so no latch is needed and every write of the region is ordered with it.
//!
//! What has expired is deleted ([`ttl`]), decided here as well.
//!
//! **Never**: a clock (the proposer's is in the command), a key outside the region, an answer that depends on the replica, an
//! error for a command that cannot be understood (it is refused, on every replica alike, or a newer version's leader would stop
//! this node for good).

pub mod command;
pub mod machine;
pub mod ttl;

pub use machine::RegionMachine;

/// The planted bugs of this room and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("region.cas-ignores-expected", "compare-and-swap writes whatever the old value is"),
    ("region.stale-epoch-accepted", "a command of an older epoch is applied"),
    ("region.delete-range-off-by-one", "a range's end is deleted too"),
    ("region.batch-drops-last", "a batch of puts loses its last pair"),
    ("region.cas-reads-stale", "compare-and-swap does not see expiry"),
    ("region.ttl-collects-live", "values are collected that have not expired"),
    ("region.ttl-collects-overwritten", "a value is collected that was written after its key was found expired"),
];

#[cfg(test)]
mod tests;
