//! # region: the replicated state machine of a data region
//!
//! ```text
//!   RegionCommand (header: epoch, term; write | compare-and-swap | collect | split | peers | merge | marks)
//!        | apply, in log order, on every replica alike
//!        v
//!   changes to the region's column families + RegionReply (for the proposer's response) + Effect (for this store)
//! ```
//!
//! **In** come commands that the leader has checked against the region as it knew it; **out** go changes and a reply.
//! The epoch, and with it the region's boundaries, may change between proposal and apply, so it is checked again here.
//! Compare-and-swap is decided at apply: commands are applied one after the other, so it needs no latch and is ordered
//! with every other write to the region.
//!
//! Expired values are deleted ([`ttl`]); which of them is decided at apply as well. How far back transactional data go
//! is part of the state ([`marks`]).
//!
//! **Never**: reading a clock (the command carries the proposer's time), a key outside the region, a reply that depends
//! on the replica, an error for an unknown command (every replica refuses it in the same way; otherwise a leader of a
//! newer version could stop this node for good).

pub mod command;
pub mod machine;
pub mod marks;
pub mod members;
pub mod merge;
pub mod split;
pub mod ttl;

pub use machine::RegionMachine;

/// The planted bugs of this module and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("region.cas-ignores-expected", "compare-and-swap writes whatever the old value is"),
    ("region.stale-epoch-accepted", "a command of an older epoch is applied"),
    ("region.delete-range-off-by-one", "a range's end is deleted too"),
    ("region.batch-drops-last", "a batch of puts loses its last pair"),
    ("region.cas-reads-stale", "compare-and-swap does not see expiry"),
    ("region.split-keeps-version", "the pieces of a region have the version that the region had"),
    ("region.members-keep-conf-ver", "a change of a region's peers leaves its configuration version as it is"),
    ("region.merging-applies", "a frozen region goes on applying commands"),
    ("region.rollback-after-seal", "a region that its target may still take over goes on as before"),
    ("region.commit-at-any-epoch", "a target takes over a source at another epoch than that for which it froze"),
    ("region.merge-version-low", "a region that took over another one may have a lower version than that"),
    ("region.list-not-inherited", "a region that takes over another one forgets what that had taken over"),
    ("region.floor-not-at-apply", "a transaction that begins below the region's floor leaves a lock all the same"),
    ("region.marks-not-merged", "a region that takes over another one forgets how far back that went"),
    ("region.marks-not-inherited", "a region that is split off begins without the marks of its parent"),
    ("region.ttl-collects-live", "values are collected that have not expired"),
    ("region.ttl-collects-overwritten", "a value is collected that was written after its key was found expired"),
];

#[cfg(test)]
mod tests;
