//! # types: the vocabulary that all modules share
//!
//! Ids, keys, region descriptors, timestamps, limits, and errors grouped by what the caller should do. Pure data:
//! protocol messages come **in**, answers to questions about them go **out**. **Never**: a clock, a file, a socket, or
//! a limit on resources that is declared anywhere but in [`limits`].

pub mod api;
pub mod error;
pub mod limits;
pub mod load;
pub mod region;
pub mod run;
pub mod timestamp;
pub mod version;

pub use api::Api;
pub use error::{Error, Result};
pub use region::{GroupId, Region};
pub use timestamp::Timestamp;

/// The name by which a node identifies itself in the header of its own requests to the placement driver
/// (`caller_component`). A node without a placement driver member forwards its callers' questions to other nodes, but
/// not another node's: two such nodes would ask each other forever.
pub const NODE_CALLER: &str = "armilla-node";

/// A key as clients write it.
pub type Key = bytes::Bytes;
