//! # txn: transactions over the regions of one store
//!
//! ```text
//!   service ──▶ Txn ── reads:  raise max_ts ▶ locks in memory ▶ snapshot ▶ action::read
//!                  │            (by another peer: the leader does the first two, or has told a safe time: `elsewhere`)
//!                  └── writes: latches ▶ snapshot + fence ▶ action ▶ (locks in memory) ▶ write(fence) ▶ verdict
//!                                                                                            │
//!                              waiters of released keys, latches, locks in memory ◀──────────┘
//! ```
//! Requests of the protocol come **in**, with the region that they name; replies go **out** once what they say is
//! replicated. Which lock, record or value a request leaves is decided in [`action`], without waiting; everything that
//! waits is in `scheduler` and `reads`.
//!
//! **Never**: a commit at or below the timestamp of a read that did not see it; two requests that decide about one key
//! at the same time; a latch that is released before it is known whether the write happened.

pub mod action;
mod circles;
mod deadlock;
mod elsewhere;
mod keeper;
mod latches;
mod memory;
mod others;
mod parked;
mod ranges;
mod reads;
mod scheduler;
mod waiting;

pub(crate) use keeper::{Keeper, KeeperOptions};
pub use others::Others;
pub use reads::Reads;
pub use scheduler::{Options, Txn};

/// The planted bugs of this module and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("txn.read-raise-after-locks", "a read looks for locks in memory before it raises max_ts"),
    ("txn.read-snapshot-before-locks", "a read takes its snapshot before it looks for locks in memory"),
    ("txn.prewrite-insert-does-not-raise", "a prewrite that relies on a key's absence does not raise max_ts"),
    ("txn.rollback-no-raise", "a rollback does not raise max_ts to its start timestamp"),
    ("txn.latch-released-early", "a request's latches are released before it is known whether its write happened"),
    ("txn.fence-term-unchecked", "a write is applied although another leader may have written since its snapshot"),
    ("txn.memory-dropped-before-apply", "locks in memory fall before the locks that they stand for are applied"),
    ("txn.memory-min-commit-outside", "the smallest commit timestamp is fixed before the locks stand in memory"),
    ("txn.max-ts-not-synced", "a new leader commits below reads that an earlier one has served"),
    ("txn.follower-read-unraised", "a leader that another store asks about a read does not raise max_ts for it"),
    ("txn.follower-read-ignores-memory", "a read elsewhere does not wait for locks in the leader's memory"),
    ("txn.safe-time-unraised", "a safe time is told without raising max_ts to it"),
    ("txn.safe-time-ignores-memory", "a safe time is above locks in memory that may commit below it"),
    ("txn.wait-lost-wakeup", "a released key wakes nobody"),
    ("txn.waiters-keep-their-holder", "those who wait for a key are not told that another transaction has it now"),
    ("txn.late-waiters-are-woken", "a released key's turn is passed on to those who wait for a later lock"),
    ("txn.wait-ends-without-a-look", "a wait that ends in vain names the lock that stood when it began"),
    ("gc.before-locks-are-ended", "a region is reported as cleared while it still has locks below the floor"),
    ("gc.waits-by-another-clock", "a store takes a time of the placement driver's clock for one of its own"),
    ("gc.read-below-the-floor", "a read below the floor is served from what is left"),
    (
        "txn.circles-not-reported",
        "transactions that wait for each other on several stores wait until their time is over",
    ),
    ("txn.wait-deadlock-undetected", "transactions that wait for each other wait until their time is over"),
];
