//! # client: how nodes and tools speak to a cluster
//!
//! Nodes ask the placement driver, the command line asks the placement driver and the stores, and the simulator's
//! workload uses the same [`RawClient`] and [`TxnClient`]. The client runs in both worlds, over
//! [`crate::rt::net::Channel`].
//!
//! ```text
//!    get, put, cas, scan …                      tso, get_region, heartbeat …
//!         |                                              |
//!   +-----v-----+  key -> region, leader   +-------------v------------+
//!   | RawClient |------------------------->| PdClient                 |
//!   |           |   RegionCache (pure)     |  members, leader, tso    |
//!   +-----------+   Backoff (pure)         +--------------------------+
//!         |  store -> address                            |
//!   +-----v----------------------------------------------v-----+
//!   | Channels: one connection for each address              |
//!   +----------------------------------------------------------+
//! ```
//!
//! Keys, values and deadlines come **in**. Answers go **out**, or an [`Error`] that says whether the request may have
//! had an effect. All random numbers come from a generator that the caller seeds, and all times from the caller's
//! clock. Calls return boxed futures, so that programs do not compile the clients again
//! ([`crate::docs::code_compiled_once`]).
//!
//! **Never**: a definite error for a write that may have happened ([`Error::Unknown`] is for that), a second attempt at
//! a compare-and-swap whose first attempt may have happened, a call without a deadline, an answer from another cluster.

pub mod backoff;
pub mod channels;
pub mod error;
pub mod pd;
pub mod raw;
pub mod region_cache;
pub mod space;
pub mod txn;

pub use channels::Channels;
pub use error::{Error, Result};
pub use pd::PdClient;
pub use raw::{Cas, GoOn, PeerChoice, RawClient, RawOptions};
pub use space::Space;
pub use txn::{Abort, CommitBy, Ended, Failed, Snapshot, Txn, TxnClient, TxnOptions, Why};
