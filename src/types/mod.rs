//! # types: the words every room shares
//!
//! Ids, keys, region descriptors, timestamps, limits, and errors sorted by what the caller should do. Pure data: **in** come
//! protocol messages, **out** go questions answered about them. **Never**: a clock, a file, a socket, or a limit that is
//! written anywhere but in [`limits`].

pub mod error;
pub mod limits;
pub mod region;
pub mod timestamp;

pub use error::{Error, Result};
pub use region::{GroupId, Region};
pub use timestamp::Timestamp;

/// A key as clients write it.
pub type Key = bytes::Bytes;
