//! # types: the words every room shares
//!
//! Ids, keys, region descriptors, timestamps, limits, and errors sorted by what the caller should do. Pure data: **in** come
//! protocol messages, **out** go questions answered about them. **Never**: a clock, a file, a socket, or a maximum of
//! what may be taken up that is written anywhere but in [`limits`].

pub mod error;
pub mod limits;
pub mod region;
pub mod run;
pub mod timestamp;
pub mod version;

pub use error::{Error, Result};
pub use region::{GroupId, Region};
pub use timestamp::Timestamp;

/// How a node names itself in the header of its own requests to the placement driver (`caller_component`). A node without a
/// member asks others on behalf of its callers, but never for another node: two such nodes would ask each other without end.
pub const NODE_CALLER: &str = "armilla-node";

/// A key as clients write it.
pub type Key = bytes::Bytes;
