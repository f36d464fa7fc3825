//! # codec: stored formats
//!
//! Values come **in**, bytes go **out**, and the reverse. All formats are big endian, so they are the same on every
//! machine. **Never**: a decoder that trusts its input, or a format that changes without a version.

pub mod bytes;
pub mod raw;
pub mod text;
