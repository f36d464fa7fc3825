//! What comes in: requests of the key-value service, bounded while they arrive.
//!
//! ```text
//!   a unary call:  frame header -> over the limit? -> the rest is read and dropped -> the reply says "too large"
//!   a stream:      frame header -> a long message? -> its commands one by one: short ones are kept, of a long one a note
//!   both:          bytes are counted as they arrive; when the node has no room the same happens, and the reply says "busy"
//! ```
//! A message that is too long is an error of its protocol, at once, which clients show: gRPC's own (OUT_OF_RANGE,
//! RESOURCE_EXHAUSTED) is one of the transport to them, which they answer by closing the connection and sending it all again. It is
//! read to its end, so that every client sees the reply, whether it looks for one before it has sent all or not.
//!
//! **Never**: more memory for a request than [`REQUEST_BYTES_MAX`](crate::types::limits::REQUEST_BYTES_MAX) and what
//! surrounds it; a stream that ends because of one command.

pub(super) mod frame;
pub(super) mod quota;
pub(super) mod refusal;
pub(super) mod stream;
#[cfg(test)]
mod tests;
pub(super) mod unary;
