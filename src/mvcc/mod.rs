//! # mvcc: versions of transactional keys
//!
//! ```text
//!   txn/action ──▶ Reader: lock, newest record at or below a timestamp, own record, value
//!   txn reads  ──▶ scan: visible values of a range, upwards or downwards
//!                    │
//!                  engine::Read (a snapshot)
//! ```
//! A snapshot of the engine comes **in**; locks, records and values go **out**. Pure: no waiting but for the snapshot's
//! disk, no clock. **Never**: a value without its record, a record of another key, a version above the timestamp that
//! was asked for.

mod reader;
mod scan;

pub use reader::{Fate, Reader, Versions};
pub use scan::{Next, Scan, Scanned, scan};
