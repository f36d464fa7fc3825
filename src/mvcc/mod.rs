//! # mvcc: versions of transactional keys
//!
//! ```text
//!   txn/action ──▶ Reader: lock, newest record at or below a timestamp, own record, value
//!   txn reads  ──▶ scan: visible values of a range, upwards or downwards
//!   txn keeper ──▶ garbage: what nothing can read any more
//!                    │
//!                  engine::Read (a snapshot)
//! ```
//! A snapshot of the engine comes **in**; locks, records and values go **out**. Pure: no waiting but for the snapshot's
//! disk, no clock. **Never**: a value without its record, a record of another key, a version above the timestamp that
//! was asked for.

pub mod garbage;
mod reader;
mod scan;

pub use reader::{Fate, Reader, Versions};
pub use scan::{Next, Scan, Scanned, scan};

/// The planted bugs of this module and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("gc.removes-what-is-read", "the newest version at the safe point is removed"),
    ("gc.deletion-first", "a deletion is removed before the versions that it hides"),
    ("gc.rollback-at-the-safe-point", "the trace of a transaction that was rolled back at the safe point is removed"),
    ("gc.collected-unchecked", "a transaction whose records may be gone is told that it never was"),
    ("gc.leaves-values", "the values of removed records stay"),
];
