//! # codec: stored formats
//!
//! Values come **in**, bytes go **out**, and the reverse. All formats are big endian, so they are the same on every
//! machine. **Never**: a decoder that trusts its input, or a format that changes without a version.

pub mod bytes;
mod fields;
pub mod keyspace;
pub mod lock;
pub mod raw;
pub mod record;
pub mod text;
pub mod txn_key;
