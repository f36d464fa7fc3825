//! # action: what every transactional request does, as a function of a snapshot
//!
//! ```text
//!   request + Reader (a snapshot) ──▶ Decided: Writes + reply          one file a request
//! ```
//! Each file has one request of the protocol. A key error is part of a reply; an error of the engine is an error. Every
//! decision is a step of a golden script in `scripts`; src/docs/transactions.md has the reasons.
//!
//! **Never**: something written beside an error (but a flush writes the keys that others have not locked); a decision
//! about a key that the snapshot does not show; a clock.

pub mod error;
pub mod flush;
mod key;
pub mod lock_keys;
pub mod locks;
pub mod page;
pub mod prewrite;
pub mod read;
pub mod resolve;
pub mod rollback;
pub mod settle;
pub mod status;
#[cfg(test)]
mod tests;
mod writes;

pub use key::{Key, keys, not_twice};
pub use writes::{Decided, Write, Writes};

/// The planted bugs of this module and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("txn.read-no-lock-check", "a read does not look at locks"),
    ("txn.read-max-skips-async", "a read of the newest version passes locks of async commits at their primary"),
    ("txn.scan-skips-locked", "a scan leaves out locked keys"),
    ("txn.prewrite-no-newer-check", "a prewrite does not look for newer versions"),
    ("txn.prewrite-ignores-own-rollback", "a prewrite that comes after its rollback succeeds"),
    ("txn.prewrite-retry-commits-again", "a repeated prewrite does not see that its transaction has committed"),
    ("txn.prewrite-m-without-plus-one", "an async commit may take place at the timestamp of a read"),
    ("txn.prewrite-fallback-half-async", "a request that falls back to two phases leaves locks of an async commit"),
    ("txn.prewrite-skip-hides-rollback", "a prewrite of a key that was not locked does not look for its rollback"),
    ("txn.flush-ignores-generation", "a late flush replaces what a later one has written"),
    ("txn.flush-leaves-values", "the value of an earlier flush stays although the key has another one"),
    ("txn.one-pc-skips-conflict", "a one-phase commit does not look for newer versions"),
    ("txn.one-pc-beside-locked-key", "a one-phase commit writes the keys that are not locked"),
    ("txn.commit-ignores-min-commit", "a commit below the lock's smallest commit timestamp succeeds"),
    (
        "txn.commit-replaces-a-record",
        "a commit at the commit timestamp of the version that its lock was forced over replaces it",
    ),
    ("txn.commit-refuses-its-own-record", "a lock that came after its own transaction's commit is never ended"),
    ("txn.commit-covers-rollback", "a commit forgets a rollback at its timestamp"),
    ("txn.commit-pessimistic-lock-as-record", "the commit of a pessimistic lock leaves a record"),
    ("txn.rollback-no-trace", "a rollback leaves no record"),
    ("txn.rollback-collapses-protected", "a rollback drops the protected one below it"),
    ("txn.status-ignores-ttl", "a live transaction is rolled back by others"),
    ("txn.status-rolls-back-async", "an expired async commit is rolled back without a look at its other keys"),
    ("txn.status-no-primary-check", "a lock that names another primary decides its transaction's fate"),
    ("txn.secondary-leaves-nothing", "the check of an absent secondary lock leaves no rollback"),
    ("txn.resolve-foreign-lock", "resolving one transaction ends another's lock"),
    ("txn.scan-misses-the-last-lock", "a scan that ends at its limit does not look whether its last key is locked"),
    ("txn.heartbeat-shortens", "a heartbeat shortens a lock's life"),
    ("txn.wait-ends-with-the-lock", "a request that has waited locks the key at the timestamp of before"),
    ("txn.lock-ignores-newer", "a pessimistic lock does not look for newer versions"),
    ("gc.lock-below-the-floor", "a transaction may begin below the floor"),
    ("txn.shared-lock-ends-all", "the end of one of the locks that share a key ends the others"),
    ("txn.shared-lock-lets-writers-in", "a key that is locked in shared mode is written by others"),
    ("txn.shared-lock-never-closes", "transactions go on to share a key although another waits to write it"),
    ("txn.lock-force-over-rollback", "a pessimistic lock that is taken by force ignores its transaction's rollback"),
];
