//! # codec: bytes on disk
//!
//! **In** come values, **out** go bytes and back. Formats are big endian, the same on every machine. **Never**: a decode that
//! trusts its input, or a format that changes without a version.

pub mod bytes;
pub mod raw;
pub mod text;
