//! # client: how one party of the cluster speaks to another
//!
//! Nodes ask the placement driver, the command line asks both, the simulator's workload uses the very same [`RawClient`].
//! It runs in both worlds, over [`crate::rt::net::Channel`].
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
//!   | Channels: one connection an address                      |
//!   +----------------------------------------------------------+
//! ```
//!
//! **In** come keys, values and deadlines; **out** go answers, or an [`Error`] that says whether the request may have had an
//! effect. Every random draw comes from a generator that the caller seeds, every moment from the caller's clock.
//!
//! **Never**: a definite error for a write that may have happened ([`Error::Unknown`] is for that), a second attempt at a
//! compare-and-swap whose first may have happened, a call without a deadline, an answer of another cluster.

pub mod backoff;
pub mod channels;
pub mod error;
pub mod pd;
pub mod raw;
pub mod region_cache;

pub use channels::Channels;
pub use error::{Error, Result};
pub use pd::PdClient;
pub use raw::{Cas, GoOn, PeerChoice, RawClient, RawOptions};
