//! Intake: bounds the memory of requests to the key-value service while they arrive.
//!
//! ```text
//!   a unary call:  frame header -> over the limit? -> the rest is read and dropped -> the reply says "too large"
//!   a stream:      frame header -> a long message? -> each command: a short one is kept, a long one becomes a note
//!   both:          bytes are counted on arrival; if the node has no room, the same happens, and the reply says "busy"
//! ```
//! A request that is too long gets an error of the key-value protocol at once, which clients show. Clients would take
//! gRPC's own errors (OUT_OF_RANGE, RESOURCE_EXHAUSTED) for errors of the transport, close the connection and send
//! everything again. The request is read to its end, so that every client sees the reply, even one that sends
//! everything before it reads.
//!
//! **Never**: more memory for a request than [`REQUEST_BYTES_MAX`](crate::types::limits::REQUEST_BYTES_MAX) and its
//! framing; a stream that ends because of one command.

pub(super) mod frame;
pub(super) mod quota;
pub(super) mod refusal;
pub(super) mod stream;
#[cfg(test)]
mod tests;
pub(super) mod unary;
